#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// What a step's time depends on: ranks, the nodes that they are spread over evenly, and the global batch.
struct JobSize {
  std::int64_t ranks = 1;
  std::int64_t nodes = 1;
  std::int64_t samples_per_step = 1;
  friend auto operator<=>(const JobSize&, const JobSize&) = default;
};
/// "4 ranks on 2 nodes, 256 samples a step"
[[nodiscard]] std::string describe(const JobSize& size);
/// An error: less than one of anything, more nodes than ranks, or numbers beyond all reason.
[[nodiscard]] Status check_size(const JobSize& size);

/// How long a step takes by its coefficients, all finite and at least 0:
///
///   compute = fixed + per_sample * samples of a rank
///   sync    = [L > 1] (alpha_local + beta_local (L - 2)) + [K > 1] (alpha_node + beta_node (K - 2))
///   step    = rest + (compute^gamma + sync^gamma)^(1 / gamma)
///
/// for K nodes of L ranks: Qiao et al., "Pollux", OSDI 2021, section 3.2, where a job of several nodes has
/// the second half of `sync` alone, by ranks. Here ranks of a node reduce among themselves first, then nodes
/// do.
struct StepLaw {
  double fixed_ms = 0;        ///< of computing, whatever the share
  double ms_per_sample = 0;   ///< of computing
  double rest_ms = 0;         ///< neither computing nor reduction: optimizer, data wait, commit
  double alpha_local_ms = 0;  ///< synchronisation of two ranks of a node
  double beta_local_ms = 0;   ///< more for each further rank of a node
  double alpha_node_ms = 0;   ///< synchronisation of two nodes
  double beta_node_ms = 0;    ///< more for each further node
  double gamma = 1;  ///< 1: nothing is hidden behind computing; 10: nearly all of the shorter part is

  /// `grain_samples`: shares are whole grains, so that the slowest rank's part is rounded up to one.
  [[nodiscard]] double compute_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
  [[nodiscard]] double sync_ms(const JobSize& size) const noexcept;
  /// What computing doesn't hide of it.
  [[nodiscard]] double exposed_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
  [[nodiscard]] double step_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
};

/// A law with the probability that it is the one.
struct WeightedLaw {
  StepLaw law;
  double weight = 0;
};

}  // namespace paceline
