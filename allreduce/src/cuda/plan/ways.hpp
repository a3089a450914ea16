#pragma once

#include <array>
#include <string>
#include <vector>

#include "../../operation.hpp"
#include "paceline/cuda.hpp"

namespace paceline::cuda {

inline constexpr std::array all_ways = {Way::one_shot, Way::two_shot, Way::nccl, Way::staged,
                                        Way::hierarchical};

/// A way as it was found on these ranks: equal on all of them.
struct WayFound {
  Way way = Way::automatic;
  std::string why_not;     ///< empty: it can be used
  double latency_s = 0;    ///< of an all_reduce of nothing
  double bytes_per_s = 1;  ///< of the data of a long one
};

/// Latency and bandwidth from the times of a short and a long sum: a straight line through both. Sums whose
/// times are out of order, since something else disturbed them, give the long one's rate.
void fit(WayFound& way, double short_bytes, double short_s, double long_bytes, double long_s);

/// Why `way` can't carry out `call` over `size` ranks on `nodes` nodes, whatever the machines; empty if it
/// can.
[[nodiscard]] std::string objection(Way way, const Descriptor& call, int nodes);

/// Which way is used for what. A value; equal on all ranks, so that all choose alike.
class WayPlan {
 public:
  WayPlan() = default;
  WayPlan(std::vector<WayFound> found, Way forced, int nodes, int size)
      : found_(std::move(found)), forced_(forced), nodes_(nodes), size_(size) {}

  /// unsupported: no way that can be used here, or that was asked for, can carry it out; says why.
  [[nodiscard]] Result<Way> choose(const Descriptor& call) const;
  [[nodiscard]] double estimate_s(const WayFound& way, double bytes) const;
  [[nodiscard]] std::string describe() const;

 private:
  std::vector<WayFound> found_;
  Way forced_ = Way::automatic;
  int nodes_ = 1;
  int size_ = 1;
};

/// What is left open in `tuning` from PACELINE_DEVICE_WAY and PACELINE_DEVICE_FRAGMENT_BYTES.
/// invalid_argument: they say something else.
[[nodiscard]] Result<DeviceTuning> device_tuning_from_environment(DeviceTuning tuning);

}  // namespace paceline::cuda
