#pragma once

#include <string>

namespace paceline {

/// Which operating-system instance this process runs on.
struct NodeIdentity {
  std::string key;   ///< equal for two processes exactly if they should share memory
  std::string name;  ///< for people
};

/// `by_hand` if given, else PACELINE_NODE, else the host with what tells containers of it apart.
[[nodiscard]] NodeIdentity node_identity(const std::string& by_hand);
/// The host with what tells containers of it apart, whatever it is named.
[[nodiscard]] NodeIdentity host_identity();

}  // namespace paceline
