#include "paceline/sched/gradient_noise.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr double rounding = 0.01;  ///< of norms: gradients may be reduced with few bits

Error refused(const std::string& why) {
  return Error(ErrorCode::invalid_argument, concat("gradient norms ignored: ", why));
}

constexpr const char* few_ranks = "the noise can't be told from the gradient of fewer than two ranks";

bool is_norm(double value) {
  return std::isfinite(value) && value >= 0;
}

Status check(const std::vector<RankGradient>& ranks) {
  if (ranks.size() < 2) return refused(few_ranks);
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    if (ranks[rank].samples < 1)
      return refused(concat("rank ", rank, " has ", ranks[rank].samples, " samples"));
    if (!is_norm(ranks[rank].squared_norm))
      return refused(concat("that of rank ", rank, " is ", ranks[rank].squared_norm));
  }
  return {};
}

}  // namespace

GradientNoise::GradientNoise(double smoothing_steps) noexcept : keep_(std::exp(-1 / smoothing_steps)) {
  PACELINE_ASSERT(smoothing_steps >= 1, "smoothing takes a step at least");
}

Status GradientNoise::observe(const std::vector<RankGradient>& ranks, double squared_norm) {
  PACELINE_TRY(check(ranks));
  std::int64_t batch = 0;
  for (const RankGradient& rank : ranks) batch += rank.samples;
  double mean = 0;
  for (const RankGradient& rank : ranks)
    mean += static_cast<double>(rank.samples) / static_cast<double>(batch) * rank.squared_norm;
  return observe(std::ssize(ranks), batch, mean, squared_norm);
}

Status GradientNoise::observe(std::int64_t ranks, std::int64_t batch, double mean, double squared_norm) {
  if (ranks < 2) return refused(few_ranks);
  if (batch < ranks) return refused(concat(ranks, " ranks cannot have ", batch, " samples"));
  if (!is_norm(mean)) return refused(concat("the ranks' mean is ", mean));
  if (!is_norm(squared_norm)) return refused(concat("the sum's is ", squared_norm));
  if (squared_norm > mean * (1 + rounding))
    return refused(concat("the mean gradient's (", squared_norm, ") is more than the ranks' (", mean,
                          "): they are of different steps, or not of means"));
  const double samples = static_cast<double>(batch);
  const double variance = samples / static_cast<double>(ranks - 1) * std::max(mean - squared_norm, 0.0);
  if (!std::isfinite(variance)) return refused("they are too large to be multiplied");

  const auto follow = [&](double& value, double seen) { value = keep_ * value + (1 - keep_) * seen; };
  follow(weight_, 1);
  follow(variance_, variance);
  follow(squared_gradient_, squared_norm - variance / samples);
  ++steps_;
  return {};
}

double GradientNoise::variance() const noexcept {
  return steps_ == 0 ? 0 : variance_ / weight_;
}

double GradientNoise::squared_gradient() const noexcept {
  return steps_ == 0 ? 0 : squared_gradient_ / weight_;
}

std::optional<double> GradientNoise::noise_scale() const noexcept {
  const double scale = variance_ / squared_gradient_;
  if (steps_ == 0 || squared_gradient_ <= 0 || !std::isfinite(scale)) return std::nullopt;
  return scale;
}

std::optional<double> GradientNoise::efficiency(std::int64_t batch, std::int64_t base_batch) const noexcept {
  PACELINE_ASSERT(batch >= 1 && base_batch >= 1, "a batch has a sample");
  const std::optional<double> scale = noise_scale();
  if (!scale) return std::nullopt;
  return (*scale + static_cast<double>(base_batch)) / (*scale + static_cast<double>(batch));
}

}  // namespace paceline
