#pragma once

#include "doctor/check.hpp"

namespace paceline::doctor {

/// The interface and the ports that jobs would use. `of_several`: this machine is one of those that are to
/// work together, so that it must be reached.
void check_network(bool of_several, const Sink& sink);

}  // namespace paceline::doctor
