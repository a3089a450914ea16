#include "schedule.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace paceline {

double learning_rate(const Job& job, const StepPlan& plan, std::int64_t step) {
  const ScheduleSpec& schedule = job.schedule;
  const double warmup =
      schedule.warmup_steps > 0
          ? static_cast<double>(schedule.warmup_steps)
          : std::floor(schedule.warmup_epochs * static_cast<double>(plan.steps_per_epoch()));
  const auto at = static_cast<double>(step);
  double factor = 1;
  if (at < warmup) {
    factor = (at + 1) / (warmup + 1);  // the first step moves too
  } else if (schedule.kind == "cosine") {
    const double last = std::max(static_cast<double>(plan.steps()) - 1 - warmup, 1.0);
    const double progress = std::min((at - warmup) / last, 1.0);
    const double cosine = (1 + std::cos(std::numbers::pi * progress)) / 2;
    factor = schedule.final_factor + (1 - schedule.final_factor) * cosine;
  } else if (schedule.kind == "step") {
    const std::int64_t epoch = step / plan.steps_per_epoch();
    factor = std::pow(schedule.gamma, static_cast<double>(epoch / schedule.step_epochs));
  }
  return job.optimizer.learning_rate * factor;
}

}  // namespace paceline
