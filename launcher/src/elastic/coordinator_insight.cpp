// What a coordinator learns of its job from heartbeats, and what it does about that.
#include <algorithm>

#include "elastic/coordinator_process.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr Duration look_interval = std::chrono::milliseconds(100);
constexpr Duration decide_interval = std::chrono::seconds(1);

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
  line.part = paceline::name_of(event.part);
  line.cause = paceline::name_of(event.cause);
  line.ratio = event.ratio;
  line.since = seconds_since_1970() - ago_s;
  line.ended = ended;
  line.reason = event.sentence;
  if (record_) write_down(record_->add(line));
  log(LogLevel::info, event.sentence);
  // What nobody is to blame for is for those who look.
  if (event.suspect) notice(false, event.sentence);
}

}  // namespace paceline
