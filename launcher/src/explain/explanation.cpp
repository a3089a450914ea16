#include "explain/explanation.hpp"

#include <algorithm>
#include <limits>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"
#include "seeing/lines.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_events = 100'000;

bool is_explained(EventKind kind) {
  switch (kind) {
    case EventKind::term:
    case EventKind::generation:
    case EventKind::shares:
    case EventKind::straggler:
    case EventKind::decision:
    case EventKind::end: return true;
    case EventKind::epoch:
    case EventKind::evaluation:
    case EventKind::checkpoint: break;
  }
  return false;
}

/// The whole lines of a journal, as far as it counts.
struct Part {
  std::int64_t term = 0;
  std::int64_t bytes = std::numeric_limits<std::int64_t>::max();
};

/// Oldest first. The history says what each later term goes on from.
Result<std::vector<Part>> parts_of(const std::string& run_dir, const EventHistory& history) {
  std::vector<Part> parts;
  for (const EventReader::Seal& seal : history.resumed) parts.push_back({seal.term, seal.bytes});
  PACELINE_ASSIGN(const std::int64_t newest, newest_term(run_dir));
  if (newest > 0) parts.push_back({newest});
  return parts;
}

void drop_oldest(Explanation& explanation) {
  if (explanation.events.size() < 2 * most_events) return;
  const std::size_t surplus = explanation.events.size() - most_events;
  explanation.events.erase(explanation.events.begin(),
                           explanation.events.begin() + static_cast<std::ptrdiff_t>(surplus));
  explanation.left_out += static_cast<std::int64_t>(surplus);
}

void take(std::string_view line, EventReader& reader, Explanation& explanation) {
  std::optional<RunEvent> event = reader.take(line);
  if (!event || !is_explained(event->kind)) return;
  drop_oldest(explanation);
  ExplainedEvent& explained = explanation.events.emplace_back();
  explained.event = std::move(*event);
  if (explained.event.kind != EventKind::decision) return;
  Result<DecisionRecord> decision = parse_decision(line);
  if (decision.ok())
    explained.decision = std::move(*decision);
  else
    explained.fault = decision.error().message;
}

}  // namespace

Result<Explanation> read_explanation(const std::string& run_dir) {
  PACELINE_ASSIGN(const EventHistory history, read_events(run_dir));
  PACELINE_ASSIGN(const std::vector<Part> parts, parts_of(run_dir, history));
  Explanation explanation;
  explanation.run = history.run;
  for (const Part& part : parts) {
    EventReader reader;
    LineFile file(journal_path(run_dir, part.term), part.bytes);
    PACELINE_TRY(file.next([&](std::string_view line) { take(line, reader, explanation); }));
  }
  return explanation;
}

ReplayedDecisions replay(const Explanation& explanation) {
  ReplayedDecisions replayed;
  for (const ExplainedEvent& explained : explanation.events) {
    if (explained.event.kind != EventKind::decision) continue;
    const std::string difference =
        explained.decision ? replay(explained.decision->decision) : explained.fault;
    if (difference.empty())
      ++replayed.same;
    else
      replayed.different.push_back(concat("the decision after step ", explained.event.after_step, " of term ",
                                          explained.event.term, ": ", difference));
  }
  return replayed;
}

}  // namespace paceline
