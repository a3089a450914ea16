#pragma once

#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::bench {

/// Runs a program to its end and gives what it wrote. An error where it ends with another status than 0, with
/// the last line that it wrote.
[[nodiscard]] Result<std::string> output_of(const std::vector<std::string>& arguments);

/// This program itself.
[[nodiscard]] std::string own_program();

/// A file that was built or copied next to the peers' programs.
[[nodiscard]] std::string peer_file(const std::string& name);

}  // namespace paceline::bench
