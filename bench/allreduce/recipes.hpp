#pragma once

#include <string>
#include <vector>

#include "allreduce/options.hpp"
#include "allreduce/placement.hpp"
#include "allreduce/process.hpp"

namespace paceline::bench {

/// What a contender's ranks have to be told to find the driver.
struct Meeting {
  int port = 0;
  std::string token;   ///< whoever does not know it is turned away
  std::string folder;  ///< for files; the driver removes it
};

/// How a contender's ranks are started: one command for each of them, or one launcher for all.
struct Recipe {
  std::string contender;
  std::vector<Command> commands;
};

/// Refuses, with the name of the Debian package, a transport that was not built.
[[nodiscard]] Status check_transport(const AllreduceOptions& options);
/// Refuses, with the name of the Debian package, a peer that is not installed or was not built.
[[nodiscard]] Status check_peer(const std::string& peer, const AllreduceOptions& options);

/// `contender` is paceline, probe or a peer.
[[nodiscard]] Result<Recipe> recipe_for(const std::string& contender, const AllreduceOptions& options,
                                        const Placement& placement, const Meeting& meeting);

}  // namespace paceline::bench
