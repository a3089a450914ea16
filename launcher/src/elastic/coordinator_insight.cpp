// What a coordinator learns of its job from heartbeats, and what it does about that.
#include <algorithm>

#include "elastic/coordinator_process.hpp"
#include "elastic/decision_record.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr Duration look_interval = std::chrono::milliseconds(100);
constexpr Duration decide_interval = std::chrono::seconds(1);
// Of a worker that is started, until one was measured.
constexpr double usual_lead_s = 5;
constexpr double usual_pause_s = 0.3;

}  // namespace

/// The ranks that train, with what they last said.
std::vector<Insight::Member> CoordinatorProcess::members() const {
  std::vector<Insight::Member> members;
  const Generation generation = coordinator_ ? coordinator_->generation() : nullptr;
  if (generation == nullptr) return members;
  for (const GenerationMember& member : generation->members) {
    Insight::Member& one = members.emplace_back();
    one.worker = member.worker;
    one.rank = std::ssize(members) - 1;
    one.node = roster_.node_of(member.worker);
    const auto found = workers_.find(member.worker);
    if (found == workers_.end()) continue;
    one.heard = found->second.heard;
    one.heartbeat = found->second.heartbeat;
  }
  return members;
}

void CoordinatorProcess::look_at_ranks() {
  if (!coordinator_ || coordinator_->generation() == nullptr || ended_) return;
  const Instant now = clock_.now();
  if (now - ranks_looked_at_ < look_interval) return;
  ranks_looked_at_ = now;
  const Insight::Findings findings = insight_.observe(now, coordinator_->generation()->generation, members());
  for (const StragglerEvent& event : findings.events) note_straggler(event);
  if (!findings.refused.empty())
    log(LogLevel::debug, concat("the efficiency model takes no notice of a measurement: ", findings.refused));
  if (now - decided_at_ < decide_interval) return;
  decided_at_ = now;
  choose_size();
}

void CoordinatorProcess::note_straggler(const StragglerEvent& event) {
  const bool ended = event.kind == StragglerEvent::Kind::ended;
  const double ago_s = to_seconds(clock_.now() - event.since);
  JournalStraggler line;
  line.step = steps();
  line.generation = coordinator_->generation()->generation;
  if (event.suspect) {
    line.worker = event.suspect->worker;
    line.rank = event.suspect->rank;
    line.node = event.suspect->node;
  }
  line.part = name_of(event.part);
  line.cause = name_of(event.cause);
  line.ratio = event.ratio;
  line.since = seconds_since_1970() - ago_s;
  line.ended = ended;
  line.reason = event.sentence;
  if (record_) write_down(record_->add(line));
  const std::string text =
      ended ? event.sentence : concat(event.sentence, ", for ", fixed(ago_s, 1), " s now");
  log(LogLevel::info, text);
  notice(false, text);
}

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
