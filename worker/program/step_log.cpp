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

Status StepLog::share(Communicator& communicator, bool takes) {
  std::vector<std::string> texts;  // messages, because those have a most that they can be
  for (std::size_t at = 0; communicator.rank() == 0 && at < steps_.size(); at += most_at_once) {
    const auto begin = steps_.begin() + static_cast<std::ptrdiff_t>(at);
    const auto count = std::min(most_at_once, steps_.size() - at);
    texts.push_back(encode(StepsMessage{{begin, begin + static_cast<std::ptrdiff_t>(count)}}));
  }
  auto count = std::ssize(texts);
  PACELINE_TRY(communicator.broadcast(&count, 1, DataType::i64, 0));
  texts.resize(static_cast<std::size_t>(count));
  if (takes) steps_.clear();
  for (std::string& text : texts) {
    auto size = std::ssize(text);
    PACELINE_TRY(communicator.broadcast(&size, 1, DataType::i64, 0));
    text.resize(static_cast<std::size_t>(size));
    PACELINE_TRY(communicator.broadcast(text.data(), text.size(), DataType::u8, 0));
    if (!takes) continue;
    PACELINE_ASSIGN(WorkerMessage message, decode(text));
    auto* const steps = std::get_if<StepsMessage>(&message);
    if (steps == nullptr) return Error{ErrorCode::corrupt, "rank 0 sent something else than its log"};
    for (StepFigures& figures : steps->steps)
      if (figures.step > acknowledged_) steps_.push_back(std::move(figures));
  }
  return {};
}

void StepLog::acknowledge(std::int64_t step) {
  acknowledged_ = std::max(acknowledged_, step);
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
