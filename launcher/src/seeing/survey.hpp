#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "seeing/clocks.hpp"
#include "seeing/run_events.hpp"
#include "seeing/telemetry_files.hpp"
#include "seeing/timeline.hpp"

namespace paceline {

/// Which generations a worker was in, for one whose files don't say that any more.
class Memberships {
 public:
  /// From RUN/generations; a run may have none.
  [[nodiscard]] static Memberships read(const std::string& run_dir);
  struct Membership {
    std::int64_t generation = 0;
    std::int64_t base_step = 0;
    std::int64_t rank = 0;
    std::int64_t ranks = 0;
  };
  /// The newest that begins before `step`; nothing: none.
  [[nodiscard]] std::optional<Membership> at(std::int64_t worker, std::int64_t step) const;

 private:
  std::map<std::int64_t, std::vector<Membership>> by_worker_;  // each by generation
};

/// What is to be known of a worker before its lines are shown.
struct WorkerSurvey {
  TelemetryFiles files;
  std::string node = "?";
  std::int64_t pid = 0;
  std::vector<std::int64_t> ranks;  ///< that it was, each once
  std::int64_t steps = 0;           ///< in the range
  std::int64_t first_step = 0, last_step = 0;
  double begin = 0, end = 0;  ///< of what is shown of it, on its node's clock
};

/// A step of interest, as one generation committed it.
struct SeenCommit {
  std::int64_t generation = 0;
  std::string node;
  double time = 0;  ///< of the node's clock
};

/// What the first reading of all telemetry finds.
struct Survey {
  std::vector<WorkerSurvey> workers;                       ///< those with something to show, by number
  std::map<std::string, CommitTimes> commits;              ///< by node
  std::map<std::int64_t, std::vector<SeenCommit>> marked;  ///< commits of the steps of interest
  std::map<std::int64_t, SeenCommit> began;                ///< generations, when the first rank took part
  std::int64_t unreadable = 0;
};

/// `marked`: the steps of interest.
[[nodiscard]] Result<Survey> survey_telemetry(const std::string& run_dir, const StepRange& range,
                                              const std::set<std::int64_t>& marked);

}  // namespace paceline
