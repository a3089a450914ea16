#include "doctor/check.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "doctor/check_json.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr std::array<State, 4> states = {State::ok, State::warning, State::problem, State::absent};

}  // namespace

Check fine(std::string name, std::string found) {
  return {std::move(name), State::ok, std::move(found)};
}

Check warning(std::string name, std::string found, std::string mend) {
  return {std::move(name), State::warning, std::move(found), std::move(mend)};
}

Check problem(std::string name, std::string found, std::string mend) {
  return {std::move(name), State::problem, std::move(found), std::move(mend)};
}

Check absent(std::string name, std::string found, std::string mend) {
  return {std::move(name), State::absent, std::move(found), std::move(mend)};
}

Check from_advice(std::string name, State state, const Error& error) {
  const std::size_t colon = error.message.rfind(": ");
  if (colon == std::string::npos) return {std::move(name), state, error.message, "look at what it says"};
  return {std::move(name), state, error.message.substr(0, colon), error.message.substr(colon + 2)};
}

std::string to_string(State state) {
  switch (state) {
    case State::ok: return "ok";
    case State::warning: return "warning";
    case State::problem: return "problem";
    case State::absent: return "not there";
  }
  return "";
}

nlohmann::json json_of(const Check& check) {
  return {
      {"name", check.name}, {"state", to_string(check.state)}, {"found", check.found}, {"mend", check.mend}};
}

Check check_of(const nlohmann::json& json) {
  Check check;
  check.name = json.at("name").get<std::string>();
  check.found = json.at("found").get<std::string>();
  check.mend = json.at("mend").get<std::string>();
  const std::string name = json.at("state").get<std::string>();
  const auto* const state = std::ranges::find(states, name, [](State one) { return to_string(one); });
  if (state == states.end()) throw std::invalid_argument(concat("there is no state ", name));
  check.state = *state;
  return check;
}

std::string to_json(const Check& check) {
  return json_of(check).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

Result<Check> parse_check(const std::string& text) {
  try {
    return check_of(nlohmann::json::parse(text));
  } catch (const std::exception& error) {
    return Error{ErrorCode::corrupt, concat("this is no check: ", error.what())};
  }
}

}  // namespace paceline::doctor
