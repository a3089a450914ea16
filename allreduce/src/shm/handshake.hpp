#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../abort_signal.hpp"
#include "../tcp/socket.hpp"
#include "../topology.hpp"
#include "../wire.hpp"
#include "memory.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::shm {

/// A fresh abstract socket of this process, by whose name its node's other ranks find it. Abstract names
/// live in no file system and vanish with the process.
struct LocalListener {
  UniqueFd socket;
  std::string name;
};
[[nodiscard]] Result<LocalListener> listen_locally();

/// Sockets between the ranks of a node, over which they pass each other the descriptors of memory.
class Handshake {
 public:
  /// Connects to the local ranks below this one and accepts those above, checks that all belong to the same
  /// user. Two ranks that claim one node and can't do this are an error that says so.
  [[nodiscard]] static Result<Handshake> connect(const Layout& layout, const LocalListener& listener,
                                                 const std::vector<wire::Hello>& roster,
                                                 const tcp::Patience& patience);

  /// Gives every local peer `memory` (by its descriptor) and maps theirs; by local index, own place empty.
  /// Collective over the node; all must bring the same size.
  [[nodiscard]] Result<std::vector<Memory>> exchange(const UniqueFd& descriptor, std::size_t bytes,
                                                     const tcp::Patience& patience);

  /// The process of the rank with this local index, as this process sees it.
  [[nodiscard]] int process_id(int index) const { return process_ids_[static_cast<std::size_t>(index)]; }
  /// Whether the process of the rank with this local index has ended; waits up to `at_most` for it.
  [[nodiscard]] bool has_ended(int index, Duration at_most) const;

 private:
  std::vector<UniqueFd> peers_;      // by local index, own place empty
  std::vector<UniqueFd> processes_;  // pidfds of the same, where they are other processes
  std::vector<int> process_ids_;
  std::vector<int> ranks_;  // of the same, for messages
};

}  // namespace paceline::shm
