#pragma once

#include <compare>
#include <cstdint>
#include <string>

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

/// Samples of the rank that has most: shares are as equal as whole grains go.
[[nodiscard]] double slowest_share(const JobSize& size, std::int64_t grain_samples) noexcept;
/// Two parts of a step that overlap: (compute^gamma + sync^gamma)^(1 / gamma), for gamma of at least 1.
[[nodiscard]] double combined_ms(double compute_ms, double sync_ms, double gamma) noexcept;

/// How long a step takes by its coefficients, all finite and at least 0:
///
///   compute = fixed + per_sample * samples of the rank that has most
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

  [[nodiscard]] double compute_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
  [[nodiscard]] double sync_ms(const JobSize& size) const noexcept;
  /// What computing doesn't hide of it.
  [[nodiscard]] double exposed_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
  [[nodiscard]] double step_ms(const JobSize& size, std::int64_t grain_samples = 1) const noexcept;
};

/// One of the laws that explain what was measured.
struct LikelyLaw {
  StepLaw law;
  double form_sigmas = 0;  ///< how far steps are from any such law, in standard deviations of that
};

}  // namespace paceline
