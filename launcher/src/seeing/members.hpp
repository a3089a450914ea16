#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "logs/line.hpp"

namespace paceline {

// How members of one JSON object from outside are taken: what is not there, or is not of the kind that is
// asked for, is nothing.

/// The largest whole number that every reader of JSON holds exactly.
inline constexpr std::int64_t most_json_integer = std::int64_t{1} << 53;

/// The object that a line is; nothing where it is none, or is nested deeper than any of ours.
inline std::optional<nlohmann::json> json_object(std::string_view line) {
  constexpr int most_levels = 16;
  const auto shallow = [](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > most_levels) throw std::length_error("nested too deep");
    return true;
  };
  try {
    nlohmann::json json = nlohmann::json::parse(line, shallow);
    if (json.is_object()) return json;
  } catch (const std::exception&) {  // whatever it is, it is no object of ours
  }
  return std::nullopt;
}

/// A finite number.
inline std::optional<double> number_in(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  const double number = found->get<double>();
  return std::isfinite(number) ? std::optional(number) : std::nullopt;
}

/// A finite number from 0.
inline std::optional<double> amount_in(const nlohmann::json& object, const char* name) {
  const std::optional<double> number = number_in(object, name);
  return number && *number >= 0 ? number : std::nullopt;
}

/// A whole number from `least` to 2^53.
inline std::optional<std::int64_t> integer_in(const nlohmann::json& object, const char* name,
                                              std::int64_t least = 0) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number_integer()) return std::nullopt;
  if (found->is_number_unsigned() && found->get<std::uint64_t>() > std::uint64_t{most_json_integer})
    return std::nullopt;
  const auto integer = found->get<std::int64_t>();
  return integer >= least && integer <= most_json_integer ? std::optional(integer) : std::nullopt;
}

/// Empty where there is none.
inline std::string text_in(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// The same for a terminal: at most so many bytes of it, without what would move a cursor.
inline std::string plain_text_in(const nlohmann::json& object, const char* name,
                                 std::size_t most_bytes = 1000) {
  std::string text = without_control(text_in(object, name).substr(0, most_bytes));
  std::ranges::replace(text, '\t', ' ');
  return text;
}

inline bool flag_in(const nlohmann::json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

}  // namespace paceline
