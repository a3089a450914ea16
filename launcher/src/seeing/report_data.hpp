#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "seeing/run_events.hpp"
#include "seeing/series.hpp"
#include "seeing/telemetry_files.hpp"

namespace paceline {

/// How a run ended, or what it has come to.
struct ReportEnd {
  std::string state;  ///< completed, stopped, failed; "not finished": killed, or still going on
  std::string error;
  std::optional<double> train_loss, eval_loss, eval_accuracy, eval_perplexity;
};

/// What a run did with a number of ranks.
struct ReportSize {
  std::int64_t ranks = 0;
  std::int64_t steps = 0;
  RunningMedian step_s;              ///< from one commit to the next
  double samples_per_second = 0;     ///< by the median
  std::optional<double> efficiency;  ///< per rank, beside the smallest size
};

/// Where the time of ranks goes. Seconds of ranks, summed up.
enum class TimeUse : std::uint8_t {
  compute,  ///< forward, backward and optimizer
  data_wait,
  exposed_reduction,  ///< waiting for sums when all ranks had given theirs
  unequal_finish,     ///< waiting for sums until the last rank had given its own
  commit,
  evaluation,
  checkpoints,
  repairs,    ///< connecting, getting the state and idling before an unplanned generation
  resizes,    ///< the same before a planned one
  beginning,  ///< until its first step
  rest,       ///< bookkeeping between steps, and steps that were begun in vain
};
inline constexpr std::array<const char*, 11> time_use_names = {
    "computing",   "data wait", "exposed reduction", "unequal finish", "commit", "evaluation",
    "checkpoints", "repairs",   "resizes",           "beginning",      "rest"};
using TimeUses = std::array<double, time_use_names.size()>;

struct ReportWorker {
  std::int64_t worker = 0;
  std::string node;
  std::vector<std::int64_t> ranks;  ///< that it was
  std::int64_t steps = 0;
  std::int64_t grains = 0;
  TimeUses uses_s{};
  PerPart<double> parts_s{};
  double seconds = 0;  ///< that its files cover
  std::optional<double> cpu_s;
  std::optional<double> peak_memory_bytes;
  std::optional<double> read_bytes;
  std::optional<double> gpu_energy_j;
  double memory_byte_s = 0;  ///< resident memory, times how long it was held
  bool has_gpu = false;
  std::int64_t lost_lines = 0;
};

/// What the ranks measured, as far as their files reach back.
struct ReportTelemetry {
  std::vector<ReportWorker> workers;
  std::int64_t steps = 0;               ///< that any of them committed
  TimeUses uses_s{};                    ///< of all
  std::optional<double> node_energy_j;  ///< of processors and memory, where nodes say that
  std::optional<double> gpu_energy_j;
  bool is_from_the_beginning = true;  ///< no file was begun anew: nothing of the run is missing
  bool has_all_energy = false;        ///< every node and every GPU says what it used
};

/// From the job's `resize:` section: by kind of node.
struct ReportPrices {
  std::map<std::string, double> per_rank_hour;
  std::map<std::string, double> power_w;  ///< of a rank
};

/// All that a report shows.
struct ReportData {
  std::string run_dir;
  EventHistory history;
  ReportEnd end;
  std::int64_t steps = 0;                  ///< committed
  std::int64_t batch = 0;                  ///< samples of a step
  double training_s = 0;                   ///< between commits, pauses in which nobody trained left out
  double paused_s = 0;                     ///< those
  double rank_seconds = 0;                 ///< of training_s, by the ranks that there were
  std::int64_t steps_again = 0;            ///< that were lost by resumes and done again
  Series loss, learning_rate;              ///< by step
  Series rate;                             ///< samples per second, by minutes from the first commit
  std::vector<ReportSize> sizes;           ///< by ranks
  std::map<std::int64_t, double> minutes;  ///< of the steps at which something happened
  ReportTelemetry telemetry;
  ReportPrices prices;
};

/// Reads whatever there is of a run, in one go each, and keeps little of it. A run that goes on is read up to
/// where it is; what is missing is left out.
[[nodiscard]] Result<ReportData> gather_report(const std::string& run_dir);

/// Cost of one rank-hour where all ranks cost the same: all kinds of nodes have the same price, or all ranks
/// are of one kind. Nothing: not known.
[[nodiscard]] std::optional<double> price_of_all(const std::map<std::string, double>& by_kind, bool any_gpu,
                                                 bool all_gpu);

}  // namespace paceline
