#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>

#include "paceline/base/result.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

/// One line of ASCII, whatever the texts in it are.
inline std::string dumped(const nlohmann::json& json) {
  return json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

/// What `read` makes of JSON text from outside; it may throw. corrupt: "this is no `what`: ..."
template <class Read>
auto parsed(const std::string& text, const char* what, const Read& read)
    -> Result<std::invoke_result_t<Read, const nlohmann::json&>> {
  try {
    return read(nlohmann::json::parse(text));
  } catch (const std::exception& problem) {
    return Error{ErrorCode::corrupt, concat("this is no ", what, ": ", problem.what())};
  }
}

}  // namespace paceline
