#include "audit.hpp"

#include <algorithm>
#include <map>

#include "audit_hashes.hpp"
#include "paceline/base/text.hpp"

// The proof has three parts. Numbers: the steps of the journal are 1, 2, 3, ... Ranges: sorted by their first
// position, the steps of an epoch touch each other and fill it; where one begins after the reach of those
// before it there is a hole, where it begins before, a repeat. Samples: each step's hash is what the samples
// of its positions give.

namespace paceline {
namespace {

/// Numbers that are missing between those that are there.
struct Gap {
  std::int64_t first = 0;
  std::int64_t last = 0;
  bool told = false;  // with the hole that it made
};

struct StepsOfEpoch {
  std::vector<JournalStep> steps;  // that fit into the epoch
  bool ended = false;              // the journal says so
};

std::string span_text(const char* one, std::int64_t first, std::int64_t last) {
  if (first == last) return concat(one, " ", first);
  return concat(one, "s ", first, " to ", last);
}

std::string positions_text(std::int64_t epoch, std::int64_t first, std::int64_t end) {
  return concat(span_text("position", first, end - 1), " of epoch ", epoch);
}

const char* were(std::int64_t count) {
  return count == 1 ? " was" : " were";
}

class Audit {
 public:
  Audit(const Journal& journal, const AuditGround& ground) : journal_(journal), ground_(ground) {
    report_.positions = ground.samples;
  }

  [[nodiscard]] Result<AuditReport> run() {
    take_faults_of_journal();
    check_numbers();
    sort_into_epochs();
    check_epochs();
    tell_other_gaps();
    check_ends();
    PACELINE_TRY(check_consumed());
    return std::move(report_);
  }

 private:
  void take_faults_of_journal();
  void check_numbers();
  void add_gap(std::int64_t before, std::int64_t after);
  void sort_into_epochs();
  [[nodiscard]] bool fits(const JournalStep& step);
  void check_epochs();
  void check_epoch(std::int64_t epoch, StepsOfEpoch& steps, bool finished);
  void tell_hole(std::int64_t epoch, std::int64_t first, std::int64_t end, std::int64_t step_before,
                 std::int64_t step_after);
  void tell_repeat(const JournalStep& step, std::int64_t end, std::int64_t other_step);
  void tell_other_gaps();
  void check_ends();
  [[nodiscard]] Status check_consumed();

  /// How many positions of an epoch the job uses.
  [[nodiscard]] std::int64_t positions_of(std::int64_t epoch) const {
    return epoch == ground_.epochs && ground_.last_epoch > 0 ? ground_.last_epoch : ground_.samples;
  }
  [[nodiscard]] bool completed() const {
    return journal_.end.has_value() && journal_.end->status == "completed";
  }
  /// The number that would follow the last step.
  [[nodiscard]] std::int64_t after_last() const { return last_step_ + 1; }

  const Journal& journal_;
  const AuditGround& ground_;
  AuditReport report_;
  std::vector<Gap> gaps_;
  std::int64_t last_step_ = 0;  // that was committed, as far as the journal says
  std::map<std::int64_t, StepsOfEpoch> epochs_;
};

void Audit::take_faults_of_journal() {
  for (const JournalFault& fault : journal_.faults)
    report_.faults.add({AuditFaultKind::journal, concat("line ", fault.line, " of ", journal_folder, "/",
                                                        fault.term, ".jsonl can't be used: ", fault.what)});
  report_.faults.count += journal_.fault_count - static_cast<std::int64_t>(journal_.faults.size());
}

void Audit::add_gap(std::int64_t before, std::int64_t after) {
  if (after - before > 1) gaps_.push_back({before + 1, after - 1});
}

void Audit::check_numbers() {
  std::vector<std::int64_t> numbers;
  numbers.reserve(journal_.steps.size());
  for (const JournalStep& step : journal_.steps) {
    if (!numbers.empty() && step.step < numbers.back())
      report_.faults.add({AuditFaultKind::journal,
                          concat("step ", step.step, " stands after step ", numbers.back()), step.step,
                          step.epoch});
    numbers.push_back(step.step);
  }
  std::ranges::sort(numbers);
  for (const std::int64_t number : numbers) {
    if (number == last_step_)
      report_.faults.add(
          {AuditFaultKind::repeat, concat("step ", number, " stands in the journal more than once"), number});
    add_gap(last_step_, number);
    last_step_ = number;
  }
  if (journal_.end.has_value() && journal_.end->steps > last_step_) {
    add_gap(last_step_, journal_.end->steps + 1);
    last_step_ = journal_.end->steps;
  }
}

bool Audit::fits(const JournalStep& step) {
  const std::int64_t end = step.first + step.count;  // both are far below 2^63
  std::string complaint;
  if (step.epoch > ground_.epochs)
    complaint = concat("is of epoch ", step.epoch, ", but the job has ", ground_.epochs);
  else if (end > ground_.samples)
    complaint = concat("used positions to ", end - 1, " of epoch ", step.epoch, ", whose last one is ",
                       ground_.samples - 1);
  if (!complaint.empty()) {
    report_.faults.add({AuditFaultKind::range, concat("step ", step.step, " ", complaint), step.step,
                        step.epoch, step.first, step.count});
    return false;
  }
  const bool whole = step.count == ground_.batch;
  const bool rest = end == ground_.samples && step.count < ground_.batch;
  if (!whole && !rest)
    report_.faults.add({AuditFaultKind::range,
                        concat("step ", step.step, " used ", step.count, " positions, from ", step.first,
                               " of epoch ", step.epoch, ", where the global batch is ", ground_.batch),
                        step.step, step.epoch, step.first, step.count});
  return true;
}

void Audit::sort_into_epochs() {
  for (const JournalStep& step : journal_.steps)
    if (fits(step)) epochs_[step.epoch].steps.push_back(step);
  for (const JournalEpoch& epoch : journal_.epochs)
    if (epoch.epoch <= ground_.epochs) epochs_[epoch.epoch].ended = true;
}

void Audit::check_epochs() {
  std::int64_t before = 0;
  const auto tell_missing = [&](std::int64_t epoch) {
    if (epoch - before > 1)
      report_.faults.add(
          {AuditFaultKind::hole,
           concat("no step of ", span_text("epoch", before + 1, epoch - 1), " is in the journal"), 0,
           before + 1});
    before = epoch;
  };
  for (auto& [epoch, steps] : epochs_) {
    tell_missing(epoch);
    const bool last = epoch == epochs_.rbegin()->first;
    check_epoch(epoch, steps, !last || steps.ended || completed());
  }
  if (completed()) tell_missing(ground_.epochs + 1);
}

/// The sweep over an epoch's ranges.
void Audit::check_epoch(std::int64_t epoch, StepsOfEpoch& epoch_steps, bool finished) {
  std::vector<JournalStep>& steps = epoch_steps.steps;
  std::ranges::stable_sort(steps, {}, &JournalStep::first);
  std::int64_t reach = 0;  // all positions before it are dealt with
  std::int64_t used = 0;
  // Of the step that reaches there. Before an epoch's first step comes the last of the epoch before.
  std::int64_t step_before = 0;
  const auto earlier = epochs_.find(epoch - 1);
  if (earlier != epochs_.end())
    for (const JournalStep& step : earlier->second.steps) step_before = std::max(step_before, step.step);
  for (const JournalStep& step : steps) {
    const std::int64_t end = step.first + step.count;
    if (step.first > reach) tell_hole(epoch, reach, step.first, step_before, step.step);
    if (step.first < reach) tell_repeat(step, std::min(end, reach), step_before);
    used += std::max<std::int64_t>(0, end - std::max(reach, step.first));
    if (end > reach) step_before = step.step;
    reach = std::max(reach, end);
  }
  const auto count = static_cast<std::int64_t>(steps.size());
  const std::int64_t whole = positions_of(epoch);
  if (!finished && reach < whole) {
    report_.unfinished = {epoch, count, used};
    return;
  }
  if (reach < whole) {
    const auto later = epochs_.find(epoch + 1);
    std::int64_t step_after = after_last();
    if (later != epochs_.end())
      for (const JournalStep& step : later->second.steps) step_after = std::min(step_after, step.step);
    tell_hole(epoch, reach, whole, step_before, step_after);
  }
  if (whole < ground_.samples) report_.cut_short = {epoch, count, whole};
  ++report_.epochs;
  report_.steps += count;
  report_.samples += used;
}

void Audit::tell_hole(std::int64_t epoch, std::int64_t first, std::int64_t end, std::int64_t step_before,
                      std::int64_t step_after) {
  std::string reason;
  if (report_.faults.count >= static_cast<std::int64_t>(AuditFaults::most)) {
    ++report_.faults.count;  // nobody will read the reason, and there may be many gaps to look through
    return;
  }
  for (Gap& gap : gaps_) {
    if (gap.first <= step_before || gap.last >= step_after) continue;
    reason += concat(reason.empty() ? "" : ", ", span_text("step", gap.first, gap.last),
                     gap.first == gap.last ? " is" : " are", " missing");
    gap.told = true;
  }
  report_.faults.add({AuditFaultKind::hole,
                      concat(positions_text(epoch, first, end), were(end - first), " never used",
                             reason.empty() ? "" : ": ", reason),
                      0, epoch, first, end - first});
}

void Audit::tell_repeat(const JournalStep& step, std::int64_t end, std::int64_t other_step) {
  const auto [lower, higher] = std::minmax(step.step, other_step);
  report_.faults.add({AuditFaultKind::repeat,
                      concat(positions_text(step.epoch, step.first, end), were(end - step.first),
                             " used more than once: by step ", lower, " and by step ", higher,
                             lower == higher ? " again" : ""),
                      step.step, step.epoch, step.first, end - step.first});
}

void Audit::tell_other_gaps() {
  for (const Gap& gap : gaps_)
    if (!gap.told)
      report_.faults.add({AuditFaultKind::hole,
                          concat(span_text("step", gap.first, gap.last),
                                 gap.first == gap.last ? " is" : " are", " missing from the journal"),
                          gap.first});
}

void Audit::check_ends() {
  for (const JournalEpoch& epoch : journal_.epochs)
    if (epoch.samples != positions_of(epoch.epoch))
      report_.faults.add({AuditFaultKind::journal,
                          concat("epoch ", epoch.epoch, " is said to have used ", epoch.samples,
                                 " samples, where an epoch has ", positions_of(epoch.epoch)),
                          0, epoch.epoch});
  if (journal_.end.has_value() && journal_.end->steps < last_step_)
    report_.faults.add(
        {AuditFaultKind::journal, concat("the run is said to have ended after ", journal_.end->steps,
                                         " steps, but step ", last_step_, " is in the journal")});
}

Status Audit::check_consumed() {
  if (ground_.checksums.empty()) return {};
  report_.compared = true;
  ExpectedHashes hashes(journal_.header.key, ground_);
  for (const auto& [epoch, epoch_steps] : epochs_) {
    for (const JournalStep& step : epoch_steps.steps) {
      if (step.count > ground_.batch) continue;  // a fault already, and as much work as someone made up
      PACELINE_ASSIGN(const std::uint64_t hash, hashes.of(step));
      if (hash == step.consumed) continue;
      report_.faults.add({AuditFaultKind::consumed,
                          concat("step ", step.step, " did not use the samples of its positions, ",
                                 step.first, " to ", step.first + step.count - 1, " of epoch ", epoch,
                                 ": its hash is ", hex_word(step.consumed), ", theirs is ", hex_word(hash)),
                          step.step, epoch, step.first, step.count});
    }
  }
  return {};
}

}  // namespace

std::string_view to_string(AuditFaultKind kind) noexcept {
  switch (kind) {
    case AuditFaultKind::journal: return "journal";
    case AuditFaultKind::job: return "job";
    case AuditFaultKind::dataset: return "dataset";
    case AuditFaultKind::hole: return "hole";
    case AuditFaultKind::repeat: return "repeat";
    case AuditFaultKind::range: return "range";
    case AuditFaultKind::consumed: return "consumed";
  }
  return "unknown";
}

Result<AuditReport> audit(const Journal& journal, const AuditGround& ground) {
  return Audit(journal, ground).run();
}

}  // namespace paceline
