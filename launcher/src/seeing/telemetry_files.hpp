#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

// RUN/telemetry/worker-<number>.jsonl as docs/telemetry.md specifies it, read a line at a time. Times are
// seconds since 1970 of the node's own clock.

/// The parts of a step, in the order in which they follow each other.
enum class TimedPart : std::uint8_t { data, forward, backward, reduce, commit, optimizer };
inline constexpr std::array<const char*, 6> step_part_names = {"data",   "forward", "backward",
                                                               "reduce", "commit",  "optimizer"};
/// Of anything, for each part of a step.
template <class Value>
using PerPart = std::array<Value, step_part_names.size()>;

struct WorkerBegun {
  std::int64_t worker = 0;
  std::string node;
  std::int64_t pid = 0;
  double time = 0;
};
struct RankTaken {
  double time = 0;
  std::int64_t generation = 0;
  std::int64_t rank = 0;
  std::int64_t ranks = 0;
  std::int64_t step = 0;  ///< after which it begins
};
struct StepTimed {
  double time = 0;  ///< of its beginning
  std::int64_t step = 0;
  std::int64_t grains = 0;
  PerPart<double> parts_us{};
  /// When its commit ended.
  [[nodiscard]] double committed() const;
  [[nodiscard]] double end() const;
};
struct PhaseTimed {
  double time = 0;  ///< of its beginning
  std::string phase;
  double took_us = 0;
};
/// Members of `Telemetry` (job/telemetry.hpp) by name, those that were there.
struct Sampled {
  double time = 0;
  std::map<std::string, double, std::less<>> values;
};
struct LinesLost {
  double time = 0;
  std::int64_t lines = 0;
};
/// Of a type that this program doesn't know.
struct OtherLine {};
using TelemetryLine = std::variant<std::monostate, WorkerBegun, RankTaken, StepTimed, PhaseTimed, Sampled,
                                   LinesLost, OtherLine>;

/// monostate: not as it must be; any bytes.
[[nodiscard]] TelemetryLine parse_telemetry_line(std::string_view line);

/// The newest format that is read.
inline constexpr std::int64_t telemetry_version = 1;

/// What one worker left.
struct TelemetryFiles {
  std::int64_t worker = 0;
  std::vector<std::string> paths;  ///< oldest first
};

/// By worker; empty where the run has none.
[[nodiscard]] Result<std::vector<TelemetryFiles>> find_telemetry(const std::string& run_dir);

/// Hands on all that can be read, in order. Lines that can't be read are passed over and counted.
/// unsupported: a newer format.
using TakeLine = std::function<void(const TelemetryLine&)>;
[[nodiscard]] Result<std::int64_t> read_telemetry(const TelemetryFiles& files, const TakeLine& take);

}  // namespace paceline
