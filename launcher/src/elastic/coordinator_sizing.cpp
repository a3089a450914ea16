// How many ranks a job is to have, where it says what to choose that for.
#include <algorithm>

#include "elastic/coordinator_process.hpp"
#include "elastic/decision_record.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Of a worker that is started, and of a change of ranks, until one was measured.
constexpr double usual_lead_s = 5;
constexpr double usual_pause_s = 0.3;

}  // namespace

/// As it was measured in this job, where it was.
double CoordinatorProcess::lead_s() const {
  return lead_s_.value_or(usual_lead_s);
}

ResizeFacts CoordinatorProcess::resize_facts() {
  const Generation generation = coordinator_->generation();
  ResizeFacts facts;
  facts.ranks = std::ssize(generation->members);
  facts.wish = coordinator_->wish();
  facts.min_ranks = facts_.min_ranks;
  facts.max_ranks = facts_.max_ranks;
  facts.places = roster_.room();
  facts.can_ask = !job_.ranks.grow.empty();
  facts.rank_lead_s = lead_s();
  facts.pause_s = pauses_.last_s() > 0 ? pauses_.last_s() : usual_pause_s;
  facts.step = steps();
  facts.steps_left = plan_.steps() - steps();
  facts.elapsed_s = elapsed_before_s_ + to_seconds(clock_.now() - began_at_);
  facts.changing = coordinator_->state() != Coordinator::State::running || facts.ranks != facts.wish;
  facts.silent_rank = insight_.silent_rank(clock_.now());
  for (const std::int64_t ranks : candidate_sizes(facts.min_ranks, facts.max_ranks, facts.ranks)) {
    const auto forecast = insight_.predict(ranks, roster_.nodes_of_first(ranks));
    if (!forecast) continue;
    const Estimate& step_ms = forecast->step_ms;
    facts.forecasts.push_back({ranks, step_ms.value, step_ms.low, step_ms.high, forecast->visited});
  }
  NodeKind& kind = facts.kinds.emplace_back();
  kind.name = "cpu";
  kind.places = facts.places;
  if (const auto power_w = insight_.power_w()) kind.power_w = *power_w / static_cast<double>(facts.ranks);
  return facts;
}

/// Whether the job should have another size: once a second.
void CoordinatorProcess::choose_size() {
  if (policy_.rules().objective == ResizeObjective::none) return;
  const ResizeDecision decision = policy_.decide(clock_.now(), resize_facts());
  const bool news = !decided_ || is_news(*decided_, decision);
  decided_ = decision;
  if (!news) return;
  if (record_) write_down(record_->add_line(decision_line(decision, steps(), seconds_since_1970())));
  log(LogLevel::info, concat("size: ", decision.reason));
  if (decision.verdict == ResizeVerdict::hold) return;
  const control::Answer answer = resize(decision.target);
  notice(!answer.error().empty(),
         answer.error().empty() ? concat(decision.reason, ": ", answer.text())
                                : concat(decision.reason, ", but that can't be done: ", answer.error()));
}

}  // namespace paceline
