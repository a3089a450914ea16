#include "step_log.hpp"

#include <algorithm>

namespace paceline {
namespace {

constexpr Duration interval = std::chrono::milliseconds(100);
constexpr std::size_t most_at_once = 256;  // well within a message

}  // namespace

void StepLog::add(StepFigures figures) {
  steps_.push_back(std::move(figures));
}

void StepLog::acknowledge(std::int64_t step) {
  while (!steps_.empty() && steps_.front().step <= step) {
    steps_.pop_front();
    if (sent_ > 0) --sent_;
  }
}

void StepLog::report(bool reports) {
  reports_ = reports;
  sent_ = 0;
}

Status StepLog::send_some() {
  if (clock_.now() - sent_at_ < interval) return {};
  return send_all();
}

Status StepLog::send_all() {
  sent_at_ = clock_.now();
  while (reports_ && sent_ < steps_.size()) {
    const std::size_t count = std::min(most_at_once, steps_.size() - sent_);
    const auto begin = steps_.begin() + static_cast<std::ptrdiff_t>(sent_);
    PACELINE_TRY(link_.send(StepsMessage{{begin, begin + static_cast<std::ptrdiff_t>(count)}}));
    sent_ += count;
  }
  return {};
}

}  // namespace paceline
