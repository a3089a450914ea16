#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "gradient_sums.hpp"
#include "limbs.hpp"
#include "paceline/base/result.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// What ranks add up beside their gradients, as f32: figures, each divided by the global sample count; what
/// is known of how far apart the ranks' gradients are; the limbs of what was consumed; and normalisation
/// statistics.
class FigureTail {
 public:
  static constexpr std::size_t figures = 5 + limb_count;  ///< before the statistics
  /// `places`: `figures` and one for each statistic, that stay.
  explicit FigureTail(std::span<float> places) : places_(places) {}

  void begin(const StepSpec& spec);
  [[nodiscard]] std::span<float> statistics() const { return places_.subspan(figures); }
  void add(const PassFigures& pass);

  /// Every sixteenth step, and not of a rank that has no samples.
  [[nodiscard]] bool wants_spread() const noexcept { return measures_spread() && samples_ > 0; }
  /// `squares`: of this rank's gradients, each of which is b/B of the mean over the rank's b samples.
  void add_spread(double squares);

  /// Of the sums; all but the gradients.
  [[nodiscard]] Result<StepSums> read_out() const;

 private:
  [[nodiscard]] bool measures_spread() const noexcept { return step_ % 16 == 0; }
  [[nodiscard]] std::optional<GradientSpread> spread() const;

  std::span<float> places_;
  std::int64_t step_ = 0, samples_ = 0;
  float scale_ = 1;
};

}  // namespace paceline
