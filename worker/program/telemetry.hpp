#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "activity.hpp"
#include "paceline/allreduce.hpp"
#include "sensors.hpp"
#include "telemetry_lines.hpp"

namespace paceline {

struct TelemetryOptions {
  std::string folder;       ///< of the files; made where it is not there
  std::int64_t worker = 0;  ///< its number in the run
  Duration sample_interval = std::chrono::milliseconds(100);
  Duration write_interval = std::chrono::seconds(1);  ///< few and large writes, for network filesystems
  std::size_t most_records =
      4096;  ///< in hand: those of 100 ms of the shortest steps, and of minutes of others
  std::int64_t most_file_bytes = std::int64_t{16} << 20;
  Duration farewell = std::chrono::seconds(2);  ///< in which what is in hand is written at the end
  SensorRoots roots{};
  std::optional<std::string> nvml{};  ///< the GPU driver's library, instead of libnvidia-ml.so.1
};

/// Measures a worker while it trains: docs/telemetry.md. One thread samples and another writes, since a
/// filesystem that hangs is no reason not to know what goes on. The thread that trains, whose calls these
/// are, hands its records over and never waits for more than a few instructions of theirs.
class TelemetryRecorder {
 public:
  /// `activity` outlives it.
  TelemetryRecorder(TelemetryOptions options, Activity& activity);
  /// Writes what is in hand, unless that takes too long.
  ~TelemetryRecorder();
  TelemetryRecorder(const TelemetryRecorder&) = delete;
  TelemetryRecorder& operator=(const TelemetryRecorder&) = delete;

  /// Whose wires are measured from now on; null: nobody's. It outlives the next call or this object.
  void watch(const Communicator* communicator);
  /// This worker is a rank from now on, on `node`. Nothing is written before the first time, since a file
  /// begins with the node's name.
  void enter(const RankRecord& rank, const std::string& node);
  void committed(const StepRecord& step);

  /// Records what has taken the time since then, where that is more than a millisecond and no part of a step.
  void spent(Phase phase, Instant since);

  /// The training thread is in a phase, and says so, as long as this lives; and that is recorded.
  class PhaseSpan {
   public:
    PhaseSpan(TelemetryRecorder& recorder, Phase phase);
    ~PhaseSpan();
    PhaseSpan(const PhaseSpan&) = delete;
    PhaseSpan& operator=(const PhaseSpan&) = delete;

   private:
    TelemetryRecorder& recorder_;
    Phase phase_;
    Instant began_;
  };

 private:
  struct Shared;
  class Sampler;
  class Writer;

  std::shared_ptr<Shared> shared_;  // also the threads', which may be stuck at the end
  std::thread sampler_;
  std::thread writer_;
};

}  // namespace paceline
