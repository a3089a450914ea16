#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/telemetry.hpp"
#include "seeing/telemetry_files.hpp"

namespace paceline {

/// A rank, or a worker that is none now, as the coordinator tells of it.
struct TopRank {
  std::optional<std::int64_t> rank;
  std::int64_t worker = 0;
  std::string node;
  std::string state;
  std::string doing;  ///< empty: not known
  std::int64_t share = 0;
  std::optional<double> step_ms;
  std::optional<Telemetry> telemetry;
};

/// What a coordinator says of its job.
struct TopStatus {
  std::string state;
  std::string run_dir;
  std::int64_t step = 0;
  std::int64_t steps = 0;
  std::int64_t generation = 0;
  std::int64_t wish = 0;
  std::int64_t room = 0;
  std::int64_t repairs = 0;
  std::int64_t resizes = 0;
  std::int64_t term = 0;             ///< of the coordinator
  std::optional<double> efficiency;  ///< E(N) at the present size, where that is known
  std::vector<TopRank> ranks;
};

/// The answer to `status`; any bytes. corrupt: it is no object.
[[nodiscard]] Result<TopStatus> parse_top_status(const std::string& text);

/// A line of the table: rates are of the time between two looks, and what isn't known is nothing.
struct TopRow {
  TopRank rank;
  std::optional<PerPart<double>> parts;  ///< of the steps that were committed: fractions, 1 together
  std::optional<double> cpu_cores;
  std::optional<double> read_bytes_per_s;
  std::optional<double> network_bytes_per_s;  ///< of its node, sent and received
};

/// Turns what was told into rows.
class TopRates {
 public:
  /// `time_s`: of any clock that only grows.
  [[nodiscard]] std::vector<TopRow> rows(const TopStatus& status, double time_s);

 private:
  struct Before {
    Telemetry telemetry;
    double time_s = 0;
    std::optional<PerPart<double>> parts;  // of the last steps that were seen
  };
  TopRow row(const TopRank& rank, double time_s);
  std::map<std::int64_t, Before> before_;  // by worker
};

}  // namespace paceline
