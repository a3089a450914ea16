#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "paceline/job/telemetry.hpp"
#include "phase.hpp"
#include "telemetry_board.hpp"

namespace paceline {

/// From then on this worker is a rank, and has committed so many steps.
struct RankRecord {
  Instant at{};
  std::int64_t generation = 0;
  std::int64_t rank = 0;
  std::int64_t ranks = 0;
  std::int64_t step = 0;
};

/// What took a while and is no part of a step.
struct PhaseRecord {
  Instant began{};
  Phase phase{};
  Duration took{};
};

struct SampleRecord {
  Instant at{};
  Telemetry sample;
};

using TelemetryRecord = std::variant<StepRecord, PhaseRecord, RankRecord, SampleRecord>;

/// Writes records as the lines of a worker's telemetry file: docs/telemetry.md. One thread.
class TelemetryLines {
 public:
  /// `epoch`: when `Instant{}` was, since 1970. It is taken once, so that a clock that is set meanwhile
  /// doesn't tear apart what belongs together.
  TelemetryLines(std::int64_t worker, std::int64_t pid, Duration epoch)
      : worker_(worker), pid_(pid), epoch_(epoch) {}

  /// What stands at the beginning of a file, and after lines that were lost: the reader knows nothing.
  void begin(std::string& text, Instant now, const std::string& node);
  void add(std::string& text, const TelemetryRecord& record);
  /// Of a record that is not to be written, what the following ones need of it.
  void pass(const TelemetryRecord& record);
  void add_lost(std::string& text, Instant now, std::int64_t lines) const;

 private:
  class Line;
  void write(std::string& text, const StepRecord& step) const;
  void write(std::string& text, const PhaseRecord& phase) const;
  void write(std::string& text, const RankRecord& rank);
  void write(std::string& text, const SampleRecord& sample);

  std::int64_t worker_;
  std::int64_t pid_;
  Duration epoch_;
  std::optional<RankRecord> rank_;  // the last
  std::optional<Telemetry> told_;   // what the reader knows
};

}  // namespace paceline
