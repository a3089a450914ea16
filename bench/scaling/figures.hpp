#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "scaling/run_files.hpp"

namespace paceline::bench {

/// What a training is measured at.
struct TrainingSize {
  std::int64_t ranks = 1;
  std::int64_t batch = 1;  ///< samples of a step, over all ranks
  friend auto operator<=>(const TrainingSize&, const TrainingSize&) = default;
};

/// What one training says of itself.
struct TrainingFigures {
  double step_ms = 0;  ///< median
  double step_p90_ms = 0;
  double exposed_ms = 0;  ///< median wait for the sums after the last backward
  double data_wait_ms = 0;
  std::optional<StepParts> parts{};   ///< means over the ranks, where the run has telemetry
  double slowest_compute_ms = 0;      ///< with parts: forward and backward, of the rank where it is most
  double least_reduce_ms = 0;         ///< with parts: of the rank that waits least
  std::vector<ShareChange> shares{};  ///< that the run went through
};

/// From the summary that `paceline train --json` wrote. An error says what is missing.
[[nodiscard]] Result<TrainingFigures> parse_summary(const std::string& text);
/// The sentence of a run that failed; empty where the summary has none.
[[nodiscard]] std::string failure_in(const std::string& summary);

/// The ranks together, and then as many trainings of one rank side by side, with the same samples each.
struct RoundFigures {
  TrainingFigures together;
  double ceiling_step_ms = 0;
};
/// The time of a step in which trainings that run side by side, with so many samples and so long steps, would
/// do `batch` samples.
[[nodiscard]] double ceiling_step_ms(const std::vector<std::int64_t>& samples,
                                     const std::vector<double>& step_ms, std::int64_t batch);

/// By size, one entry a round: those of one round were taken under the same conditions.
using Measurements = std::map<TrainingSize, std::vector<RoundFigures>>;

/// strong: the job's global batch whatever the ranks; weak: as many samples as that for each rank.
enum class ScalingMode { strong, weak };
[[nodiscard]] const char* name_of(ScalingMode mode);
[[nodiscard]] TrainingSize size_of(ScalingMode mode, std::int64_t ranks, std::int64_t batch);

/// The median of several rounds, the least and the most; or what a model says, and its band.
struct Range {
  double value = 0, low = 0, high = 0;
};
[[nodiscard]] Range range_of(const std::vector<double>& values);

struct ScalingRow {
  ScalingMode mode = ScalingMode::strong;
  TrainingSize size;
  bool simulated = false;  ///< what the model says, not what was measured
  Range step_ms;
  Range samples_per_second;
  Range efficiency;  ///< of a rank's throughput at the least ranks measured
  // Measured rows alone:
  std::vector<double> step_ms_by_round{};
  Range ceiling_step_ms{};
  Range fraction_of_ceiling{};
  Range ceiling_efficiency{};  ///< what `efficiency` would be at the ceiling
  double exposed_ms = 0;
  std::optional<StepParts> parts{};
  std::optional<Range> predicted_step_ms{};  ///< by the model, of this size
  std::optional<Range> predicted_efficiency{};
  std::optional<Range> foretold_step_ms{};  ///< by the model, without this size
};

/// The rows of `ranks` (ascending) at `batch`, from the rounds of their sizes. Ratios are taken within each
/// round, and only then over the rounds.
[[nodiscard]] std::vector<ScalingRow> rows_of(ScalingMode mode, const std::vector<std::int64_t>& ranks,
                                              std::int64_t batch, const Measurements& measurements);

}  // namespace paceline::bench
