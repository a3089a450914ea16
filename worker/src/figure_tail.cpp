#include "figure_tail.hpp"

#include <algorithm>
#include <cmath>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

enum Place : std::size_t { loss, correct, samples, spread_ranks, spread_mean, consumed };
static_assert(FigureTail::figures == consumed + limb_count);

}  // namespace

void FigureTail::begin(const StepSpec& spec) {
  step_ = spec.step;
  scale_ = static_cast<float>(1.0 / static_cast<double>(spec.global_samples));
  samples_ = 0;
  std::ranges::fill(places_, 0.0F);
  put_limbs(spec.consumed, places_.subspan<consumed, limb_count>());
}

void FigureTail::add(const PassFigures& pass) {
  places_[loss] += pass.loss;
  places_[correct] += static_cast<float>(pass.correct) * scale_;
  places_[samples] += static_cast<float>(pass.samples) * scale_;
  samples_ += pass.samples;
}

void FigureTail::add_spread(double squares) {
  places_[spread_ranks] = 1;
  places_[spread_mean] = static_cast<float>(squares / (static_cast<double>(samples_) * scale_));
}

std::optional<GradientSpread> FigureTail::spread() const {
  if (!measures_spread()) return std::nullopt;
  return GradientSpread{std::llround(places_[spread_ranks]), places_[spread_mean]};
}

Result<StepSums> FigureTail::read_out() const {
  const auto word = sum_of_limbs(places_.subspan<consumed, limb_count>());
  if (!word.has_value())
    return Error{ErrorCode::internal,
                 concat("step ", step_, ": figures that are whole numbers were not summed exactly")};
  StepSums sums;
  sums.statistics = statistics();
  sums.loss = places_[loss];
  sums.accuracy = places_[correct];
  sums.samples = places_[samples];
  sums.consumed = *word;
  sums.spread = spread();
  return sums;
}

}  // namespace paceline
