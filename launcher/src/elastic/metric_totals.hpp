#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "elastic/job_snapshot.hpp"

namespace paceline {

/// The sums that a rank has in metrics, in this order.
enum class RankSum : std::size_t {
  steps,
  grains,
  samples,
  data,
  forward,
  backward,
  reduce,
  commit,
  optimizer,
  cpu,
  read,
  wire,
  wire_busy,
  count
};
using RankSums = std::array<double, static_cast<std::size_t>(RankSum::count)>;

struct RankTotal {
  RankSums sums{};
  std::optional<double> gpu_energy_j{};
};
struct NodeTotal {
  double sent_bytes = 0;
  double received_bytes = 0;
  std::optional<double> energy_j{};
};

/// A rank on a node: what has series of its own in metrics.
using RankPlace = std::pair<std::int64_t, std::string>;

/// Sums by rank and node out of workers' own sums. A worker's sums begin with its process; these go on where
/// another worker becomes the same rank on the same node, and never go down: whatever a worker has counted
/// since it was looked at last is added to the rank that it is now. A rank that is gone is left out, and goes
/// on if it comes back. Memory is bounded by the ranks and nodes that are there, and by `most_kept`.
/// Not thread-safe.
class MetricTotals {
 public:
  static constexpr std::size_t most_kept = 4096;  ///< ranks, and nodes, that are gone and remembered

  /// `succeeds`: there was another coordinator, which has counted what workers did before they are seen here.
  explicit MetricTotals(bool succeeds) : succeeds_(succeeds) {}

  void add(const JobSnapshot& snapshot);
  /// Of the last snapshot.
  [[nodiscard]] const std::map<RankPlace, RankTotal>& ranks() const noexcept { return ranks_.present; }
  [[nodiscard]] const std::map<std::string, NodeTotal>& nodes() const noexcept { return nodes_.present; }

 private:
  /// What is there, and what was there once, the oldest first.
  template <class Key, class Total>
  struct Ledger {
    std::map<Key, Total> present{};
    std::map<Key, Total> gone{};
    std::deque<Key> order{};

    Total& open(const Key& key);
    template <class IsThere>
    void close_all_but(IsThere is_there);
  };
  struct Seen {
    RankSums counted{};  // of its sums
    std::optional<double> gpu_energy_j{};
    std::optional<double> node_energy_j{};
    std::int64_t sent_bytes = 0, received_bytes = 0;
  };

  void add_rank(const WorkerSnapshot& worker, Seen& seen);
  void add_nodes(const JobSnapshot& snapshot);

  bool succeeds_;
  std::map<std::int64_t, Seen> seen_{};  // by worker, those of the last snapshot
  Ledger<RankPlace, RankTotal> ranks_{};
  Ledger<std::string, NodeTotal> nodes_{};
};

}  // namespace paceline
