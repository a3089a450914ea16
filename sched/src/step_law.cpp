#include "paceline/sched/step_law.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t most_ranks = 10'000'000;
constexpr std::int64_t most_samples = std::int64_t{1} << 48;

double further(std::int64_t members, double alpha, double beta) noexcept {
  return members < 2 ? 0 : alpha + beta * static_cast<double>(members - 2);
}

}  // namespace

std::string describe(const JobSize& size) {
  return concat(size.ranks, size.ranks == 1 ? " rank on " : " ranks on ", size.nodes,
                size.nodes == 1 ? " node, " : " nodes, ", size.samples_per_step, " samples a step");
}

Status check_size(const JobSize& size) {
  const auto refuse = [&](const char* why) {
    return Error(ErrorCode::invalid_argument, concat(describe(size), ": ", why));
  };
  if (size.ranks < 1 || size.ranks > most_ranks) return refuse("there must be 1 to 10000000 ranks");
  if (size.nodes < 1) return refuse("there must be a node at least");
  if (size.nodes > size.ranks) return refuse("there can't be more nodes than ranks");
  if (size.samples_per_step < 1 || size.samples_per_step > most_samples)
    return refuse("there must be 1 to 2^48 samples a step");
  return {};
}

double slowest_share(const JobSize& size, std::int64_t grain_samples) noexcept {
  const std::int64_t most = grain_samples * size.ranks;
  const std::int64_t grains = (size.samples_per_step + most - 1) / most;
  return static_cast<double>(std::min(grains * grain_samples, size.samples_per_step));
}

double StepLaw::compute_ms(const JobSize& size, std::int64_t grain_samples) const noexcept {
  return fixed_ms + ms_per_sample * slowest_share(size, grain_samples);
}

double StepLaw::sync_ms(const JobSize& size) const noexcept {
  const std::int64_t ranks_per_node = (size.ranks + size.nodes - 1) / size.nodes;
  return further(ranks_per_node, alpha_local_ms, beta_local_ms) +
         further(size.nodes, alpha_node_ms, beta_node_ms);
}

double StepLaw::exposed_ms(const JobSize& size, std::int64_t grain_samples) const noexcept {
  return combined_ms(compute_ms(size, grain_samples), sync_ms(size), gamma) - compute_ms(size, grain_samples);
}

double StepLaw::step_ms(const JobSize& size, std::int64_t grain_samples) const noexcept {
  return rest_ms + combined_ms(compute_ms(size, grain_samples), sync_ms(size), gamma);
}

double combined_ms(double compute_ms, double sync_ms, double gamma) noexcept {
  const double longer = std::max(compute_ms, sync_ms);
  if (longer <= 0) return 0;
  return longer * std::exp(std::log1p(std::pow(std::min(compute_ms, sync_ms) / longer, gamma)) / gamma);
}

}  // namespace paceline
