#pragma once

#include <string>

#include "options.hpp"

namespace paceline::doctor {

/// `paceline doctor --node`. Returns the exit code.
[[nodiscard]] int serve_as_node(const DoctorOptions& options);
/// A name for a participant in what several machines do together, that no other has.
[[nodiscard]] std::string new_participant(const std::string& node);

}  // namespace paceline::doctor
