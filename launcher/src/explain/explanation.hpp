#pragma once

#include <optional>
#include <string>
#include <vector>

#include "elastic/decision_record.hpp"
#include "seeing/run_events.hpp"

namespace paceline {

/// Something that happened to a run's ranks, and of a decision all that is recorded.
struct ExplainedEvent {
  RunEvent event;
  std::optional<DecisionRecord> decision;
  std::string fault;  ///< of a decision whose line can't be read: why
};

/// Why a run had the ranks and shares that it had: of all its terms, oldest first.
struct Explanation {
  std::string run;  ///< name, for people
  std::vector<ExplainedEvent> events;
  std::int64_t left_out = 0;  ///< older events, of too many
};
/// From the journals in a run directory. Lines that can't be read are passed over, but for decisions.
[[nodiscard]] Result<Explanation> read_explanation(const std::string& run_dir);

/// What deciding again came to.
struct ReplayedDecisions {
  std::int64_t same = 0;
  std::vector<std::string> different;  ///< a sentence for each
};
[[nodiscard]] ReplayedDecisions replay(const Explanation& explanation);

/// For people: events with the time of day, decisions with a table of candidates. The newest `last`; 0: all.
[[nodiscard]] std::string explanation_text(const Explanation& explanation, std::int64_t last);
/// For programs: one JSON object. `replayed` null: that was not asked for.
[[nodiscard]] std::string explanation_json(const Explanation& explanation, std::int64_t last,
                                           const ReplayedDecisions* replayed);

}  // namespace paceline
