#pragma once

#include <cstdint>
#include <optional>

namespace paceline {

/// What a worker has measured of itself. Sums are since its process began, and only grow, so that whoever
/// misses some loses nothing: the difference of two is what happened between them. docs/telemetry.md.
struct Telemetry {
  // Sums over the steps that it committed as a rank.
  std::int64_t steps = 0;
  std::int64_t grains = 0;
  std::int64_t samples = 0;  ///< its own
  double data_s = 0;         ///< waiting for samples
  double forward_s = 0;      ///< of all passes, the loss among them
  double backward_s = 0;     ///< of all passes
  double reduce_s = 0;       ///< waiting for sums after its last backward
  double commit_s = 0;       ///< waiting for the other ranks' votes
  double optimizer_s = 0;

  // Sums of its process.
  double cpu_s = 0;             ///< user and system
  std::int64_t read_bytes = 0;  ///< by read calls of any kind, cached or not
  std::int64_t wire_bytes = 0;  ///< sent to ranks of other nodes
  double wire_busy_s = 0;  ///< in which some of that was on its way; of each rank's connections the busiest

  // Of its node; workers of one node all say the same.
  std::int64_t network_sent_bytes = 0;      ///< by all cards but the loopback
  std::int64_t network_received_bytes = 0;  ///< the same
  std::optional<double> node_energy_j{};    ///< of processors and memory (RAPL), where that can be read

  // As it is now.
  std::int64_t memory_bytes = 0;        ///< resident
  std::int64_t slowest_wire_rank = -1;  ///< of another node, to which sending was slowest of late; -1: none
  double slowest_wire_bytes_per_s = 0;  ///< while there was something to send

  /// tr(Sigma) / |G|^2 of the gradients of late, in samples: beyond so many a larger batch hardly helps.
  std::optional<double> gradient_noise_scale{};

  // Of its GPU, where it has one and that says so.
  std::optional<double> gpu_busy{};          ///< 0 to 1, of the last sampling period of the driver
  std::optional<double> gpu_memory_bytes{};  ///< used, by anybody
  std::optional<double> gpu_power_w{};
  std::optional<double> gpu_temperature_c{};
  std::optional<double> gpu_energy_j{};  ///< sum since the driver was loaded

  friend bool operator==(const Telemetry&, const Telemetry&) = default;
};

}  // namespace paceline
