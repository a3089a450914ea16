#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "paceline/train/trainer.hpp"

namespace paceline {

/// The factor on the loss that keeps small gradients in 16 bits from vanishing, and the same on every rank:
/// it follows from the sums of gradients alone. One that follows halves where a gradient is not finite, and
/// doubles after so many steps without that (Micikevicius et al., "Mixed Precision Training", 2018; PyTorch's
/// GradScaler has the same numbers). Powers of two, which change no bit of what isn't at the edge of the
/// range.
class LossScale {
 public:
  explicit LossScale(const LossScaling& rules) : rules_(rules), state_{rules.first, 0} {}

  [[nodiscard]] double value() const noexcept { return state_[factor]; }
  [[nodiscard]] bool follows() const noexcept { return rules_.follows; }
  /// At its least: what isn't finite now never will be.
  [[nodiscard]] bool exhausted() const noexcept { return value() <= least; }

  /// After a step whose gradients were finite, or weren't.
  void observe(bool finite) {
    if (!rules_.follows) return;
    state_[good_steps] = finite ? state_[good_steps] + 1 : 0;
    if (!finite) {
      state_[factor] = std::max(least, state_[factor] / 2);
    } else if (state_[good_steps] >= static_cast<double>(rules_.growth_steps)) {
      state_[factor] = std::min(most, state_[factor] * 2);
      state_[good_steps] = 0;
    }
  }

  /// All of it, for copying out and in.
  [[nodiscard]] std::span<double> state() noexcept { return state_; }

 private:
  static constexpr double least = 1, most = 16'777'216;
  enum : std::size_t { factor, good_steps };
  LossScaling rules_;
  std::array<double, 2> state_;
};

}  // namespace paceline
