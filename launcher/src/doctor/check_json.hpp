#pragma once

// For the files that read or write JSON; the others need not know it.
#include <nlohmann/json.hpp>

#include "doctor/check.hpp"

namespace paceline::doctor {

[[nodiscard]] nlohmann::json json_of(const Check& check);
/// Throws where it is none.
[[nodiscard]] Check check_of(const nlohmann::json& json);

}  // namespace paceline::doctor
