#pragma once

#include <span>
#include <string>

namespace paceline::bench {

/// `paceline bench ...`: does all of its work and its talking. `arguments` are what follows "bench". Gives
/// the exit status: 0 measured, whatever the figures say; 1 something failed or added up wrongly; 2 bad
/// usage, or a peer that is not there; 128 plus the signal that stopped it.
[[nodiscard]] int run(std::span<const std::string> arguments);

}  // namespace paceline::bench
