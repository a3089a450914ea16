#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "resize_ground.hpp"

// What the objectives' choices have in common.

namespace paceline {

/// Sizes of which the expected gains, or ends, differ by a smaller part are as good, and the smaller one is
/// taken.
inline constexpr double resize_tie = 0.005;

/// What is found of a size: that it may be chosen and why, or why not.
struct Finding {
  bool good = false;
  ResizeCause cause = ResizeCause::best;
  std::string why;
};
[[nodiscard]] Finding rejected(ResizeCause cause, std::string why);
/// Writes it down in the candidate.
void note(ScoredSize& size, const Finding& finding);

/// What a choice is made among.
struct Field {
  const ResizeGround& ground;
  std::vector<ScoredSize>& sizes;
  std::int64_t places = 0;
  const ScoredSize& known;  ///< the best that was visited
};

/// What forbids a size, however good it is.
[[nodiscard]] std::optional<Finding> forbidden(const ResizeGround& ground, const ScoredSize& size,
                                               std::int64_t places);
/// The larger number of ranks over the smaller one.
[[nodiscard]] double factor_between(std::int64_t ranks, std::int64_t others);
[[nodiscard]] bool is_present(const ResizeGround& ground, const ScoredSize& size);
/// "samples per second", or what else the objective wants more of.
[[nodiscard]] const char* unit_of(ResizeObjective objective);

/// Whether a resize would be left for leaving a size that was tried.
[[nodiscard]] bool can_come_back(const ResizeGround& ground);
/// Whether nothing is sure of a size, not even that its steps are shorter.
[[nodiscard]] bool is_a_try(const ResizeGround& ground, const ScoredSize& size);
/// Whether a size that is not known may be tried.
[[nodiscard]] Finding explore(const Field& field, const ScoredSize& size);
/// Whether a size surely gains enough and pays; where it isn't sure, whether it may be tried.
[[nodiscard]] Finding pays(const Field& field, const ScoredSize& size);

[[nodiscard]] ResizeChoice stay(const ResizeGround& ground, ResizeCause cause, std::string reason);
[[nodiscard]] ResizeChoice go_to(const ResizeGround& ground, ScoredSize& size, const Finding& finding);

/// throughput, cost and energy: the size from which most is expected, of those that may be chosen.
[[nodiscard]] ResizeChoice choose_best(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                                       std::int64_t places);
/// efficiency: most ranks at the floor, as long as they bring something.
[[nodiscard]] ResizeChoice choose_efficient(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                                            std::int64_t places);
/// deadline: fewest ranks in time.
[[nodiscard]] ResizeChoice choose_in_time(const ResizeGround& ground, std::vector<ScoredSize>& sizes,
                                          std::int64_t places);

}  // namespace paceline
