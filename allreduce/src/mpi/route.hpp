#pragma once

#include <string>

#include "paceline/base/result.hpp"

namespace paceline::mpi {

/// The address of this host on the way to the rest of the world, in numbers.
[[nodiscard]] Result<std::string> address_of_default_route();

}  // namespace paceline::mpi
