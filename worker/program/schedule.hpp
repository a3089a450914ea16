#pragma once

#include <cstdint>

#include "paceline/job/plan.hpp"

namespace paceline {

/// The learning rate of `step` (from 0): linear warm-up, then constant, cosine (Loshchilov and Hutter 2017,
/// without restarts) or steps. A pure function, so that it goes on anywhere.
[[nodiscard]] double learning_rate(const Job& job, const StepPlan& plan, std::int64_t step);

}  // namespace paceline
