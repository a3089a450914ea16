#include "paceline/job/plan.hpp"

#include <algorithm>
#include <numeric>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t grains_per_rank = 16;

std::int64_t divide_up(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace

StepPlan::StepPlan(std::int64_t samples_per_epoch, std::int64_t global_batch, std::int64_t epochs,
                   std::int64_t most_steps)
    : samples_per_epoch_(samples_per_epoch),
      global_batch_(global_batch),
      steps_per_epoch_(divide_up(samples_per_epoch, global_batch)),
      steps_(steps_per_epoch_ * epochs) {
  PACELINE_ASSERT(samples_per_epoch > 0 && global_batch > 0 && epochs > 0 && most_steps >= 0,
                  "a job has samples, a batch and epochs");
  if (most_steps > 0) steps_ = std::min(steps_, most_steps);
}

std::int64_t StepPlan::epochs() const noexcept {
  return divide_up(steps_, steps_per_epoch_);
}

std::int64_t StepPlan::steps_of_epoch(std::int64_t epoch) const noexcept {
  return std::clamp<std::int64_t>(steps_ - epoch * steps_per_epoch_, 0, steps_per_epoch_);
}

bool StepPlan::ends_epoch(std::int64_t step) const noexcept {
  return (step + 1) % steps_per_epoch_ == 0 || step + 1 == steps_;
}

StepRange StepPlan::range(std::int64_t step) const {
  PACELINE_ASSERT(step >= 0 && step < steps(), "step within the job");
  const std::int64_t epoch = step / steps_per_epoch_;
  const std::int64_t first = (step % steps_per_epoch_) * global_batch_;
  return {step, epoch, {first, std::min(global_batch_, samples_per_epoch_ - first)}};
}

Result<Shares> equal_shares(std::int64_t grains, std::int64_t ranks) {
  if (ranks < 1) return Error{ErrorCode::invalid_argument, "a job needs at least one rank"};
  if (grains < ranks)
    return Error{ErrorCode::invalid_argument,
                 concat(ranks, " ranks cannot share ", grains, grains == 1 ? " grain" : " grains",
                        " per step: use fewer ranks, a larger batch.global or a smaller batch.grain")};
  Shares shares(static_cast<std::size_t>(ranks), grains / ranks);
  for (std::int64_t rank = 0; rank < grains % ranks; ++rank) ++shares[static_cast<std::size_t>(rank)];
  return shares;
}

std::int64_t grain_samples(const BatchSpec& batch, std::int64_t most_ranks) {
  if (batch.grain > 0) return batch.grain;
  const std::int64_t wanted = grains_per_rank * std::max<std::int64_t>(most_ranks, 1);
  return std::max<std::int64_t>(1, batch.global / wanted);
}

std::int64_t job_grain(const Job& job, std::int64_t ranks) {
  return grain_samples(job.batch, std::min(job.ranks.max, std::max<std::int64_t>(ranks, 4)));
}

std::int64_t grain_count(std::int64_t samples, std::int64_t grain) {
  return divide_up(samples, grain);
}

PositionRange rank_range(const PositionRange& range, std::int64_t grain, const Shares& shares,
                         std::int64_t rank) {
  PACELINE_ASSERT(rank >= 0 && rank < static_cast<std::int64_t>(shares.size()), "rank within the plan");
  const std::int64_t total = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  const std::int64_t before = std::accumulate(shares.begin(), shares.begin() + rank, std::int64_t{0});
  PACELINE_ASSERT(grain > 0 && total > 0, "a plan has grains");
  const std::int64_t grains = grain_count(range.count, grain);
  // A boundary after `g` of `total` grains, scaled to this step and rounded the same way by everyone.
  const auto boundary = [&](std::int64_t g) {
    return std::min(range.count, (g * grains + total / 2) / total * grain);
  };
  const std::int64_t begin = boundary(before);
  const std::int64_t end = boundary(before + shares[static_cast<std::size_t>(rank)]);
  return {range.first + begin, end - begin};
}

std::vector<PositionRange> passes(const PositionRange& range, std::int64_t micro) {
  std::vector<PositionRange> cut;
  if (range.count == 0) return cut;
  const std::int64_t count = micro > 0 ? divide_up(range.count, micro) : 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = range.count * i / count;
    const std::int64_t end = range.count * (i + 1) / count;
    cut.push_back({range.first + begin, end - begin});
  }
  return cut;
}

std::vector<PositionRange> grain_passes(const PositionRange& range, std::int64_t grain) {
  PACELINE_ASSERT(grain > 0, "a grain has samples");
  std::vector<PositionRange> cut;
  for (std::int64_t at = 0; at < range.count; at += grain)
    cut.push_back({range.first + at, std::min(grain, range.count - at)});
  return cut;
}

}  // namespace paceline
