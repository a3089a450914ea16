#pragma once

#include <string>
#include <string_view>

#include "job_fields.hpp"
#include "job_tree.hpp"

namespace paceline {

/// "`where`: `what`" as an error about what someone wrote.
[[nodiscard]] Error mistake(std::string_view where, const std::string& what);

[[nodiscard]] bool has_control_character(std::string_view text);

/// Puts a value into its field of the job, or says what it must be.
[[nodiscard]] Status assign(const Field& field, const Tree& value, Job& job);

}  // namespace paceline
