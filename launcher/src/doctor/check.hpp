#pragma once

#include <functional>
#include <string>

#include "paceline/base/result.hpp"

namespace paceline::doctor {

enum class State {
  ok,
  warning,  ///< jobs run, but slower, or not in every case
  problem,  ///< jobs fail
  absent    ///< not there, and nothing is wrong with that
};

/// What was looked at on one machine, and what came of it.
struct Check {
  std::string name;  ///< "open files"
  State state = State::ok;
  std::string found;   ///< "256 of at most 4096"
  std::string mend{};  ///< "raise them with `ulimit -n 4096`"; empty where it is ok
  friend bool operator==(const Check&, const Check&) = default;
};

/// Where checks go as soon as they are made.
using Sink = std::function<void(const Check& check)>;

[[nodiscard]] Check fine(std::string name, std::string found);
[[nodiscard]] Check warning(std::string name, std::string found, std::string mend);
[[nodiscard]] Check problem(std::string name, std::string found, std::string mend);
[[nodiscard]] Check absent(std::string name, std::string found, std::string mend);
/// Of an error whose message ends with ": " and what to do about it.
[[nodiscard]] Check from_advice(std::string name, State state, const Error& error);

/// "ok", "warning", "problem", "not there".
[[nodiscard]] std::string to_string(State state);

/// One line, without a line break.
[[nodiscard]] std::string to_json(const Check& check);
/// Any bytes. corrupt.
[[nodiscard]] Result<Check> parse_check(const std::string& text);

}  // namespace paceline::doctor
