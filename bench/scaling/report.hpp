#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "allreduce/report.hpp"
#include "scaling/earlier.hpp"
#include "scaling/model.hpp"
#include "scaling/options.hpp"

namespace paceline::bench {

/// All that a run of the benchmark has to say.
struct ScalingReport {
  ScalingOptions options;  ///< settled
  std::string job_name;
  std::string model_name;
  std::int64_t batch = 0;  ///< the job's global batch
  Machine machine;
  std::vector<ScalingRow> rows;
  ScalingModel model;
  std::vector<ShareChange> shares;    ///< of the last round's run with most ranks
  std::optional<EarlierRun> earlier;  ///< --compare
};

/// "mlp on fashion-mnist, 256 samples a step, 1 thread for each rank"
[[nodiscard]] std::string describe(const ScalingReport& report);
/// Tables and sentences for people.
[[nodiscard]] std::string text_of(const ScalingReport& report);
/// docs/benchmarks.md names the keys.
[[nodiscard]] nlohmann::json to_json(const ScalingReport& report);

// What the page says too.

/// "97.3%"
[[nodiscard]] std::string percent(double fraction);
/// Each coefficient of both laws with its error, or why there is none: name, value, and error.
struct Coefficient {
  std::string name;
  std::string value;
  std::string error;
};
[[nodiscard]] std::vector<Coefficient> coefficients_of(const ScalingModel& model);
/// Why a law has none; empty: it has.
[[nodiscard]] std::vector<std::string> what_is_missing(const ScalingModel& model);
/// Of ceilings that may be too high, since their trainings hardly ran at the same time.
[[nodiscard]] std::vector<std::string> doubts_of(const ScalingReport& report);

}  // namespace paceline::bench
