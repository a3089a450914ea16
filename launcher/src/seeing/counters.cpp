#include "seeing/counters.hpp"

#include <array>
#include <cmath>

namespace paceline {
namespace {

constexpr double mib = 1.0 / (1 << 20);
constexpr std::array<CounterKind, 11> kinds = {{
    {"cpu_s", "CPU", "cores", 1, true, false},
    {"memory_bytes", "memory", "MiB", mib, false, false},
    {"read_bytes", "read", "MB/s", 1e-6, true, false},
    {"wire_bytes", "sent to other nodes", "MB/s", 1e-6, true, false},
    {"gpu_busy", "GPU busy", "%", 100, false, false},
    {"gpu_memory_bytes", "GPU memory", "MiB", mib, false, false},
    {"gpu_power_w", "GPU power", "W", 1, false, false},
    {"gpu_temperature_c", "GPU temperature", "C", 1, false, false},
    {"network_sent_bytes", "network sent", "MB/s", 1e-6, true, true},
    {"network_received_bytes", "network received", "MB/s", 1e-6, true, true},
    {"node_energy_j", "power", "W", 1, true, true},
}};
// Beyond this it is no measurement; what is shown stays far inside 64 bits.
constexpr double most_value = 1e15;

}  // namespace

void Counters::show(Seen& seen, const CounterKind& kind, double value, const HandOn& hand_on) {
  if (!std::isfinite(value) || std::fabs(value) > most_value) return;
  const auto thousandths = static_cast<std::int64_t>(std::llround(value * 1000));
  if (seen.shown == thousandths) return;
  seen.shown = thousandths;
  hand_on(kind, static_cast<double>(thousandths) / 1000);
}

void Counters::take(const Sampled& sample, const HandOn& hand_on) {
  for (const CounterKind& kind : kinds) {
    const auto there = sample.values.find(kind.member);
    const auto before = seen_.find(kind.member);
    const bool is_there = there != sample.values.end(), is_new = before == seen_.end();
    if (is_new && !is_there) continue;
    Seen& seen = is_new ? seen_[kind.member] : before->second;
    // What is not there has not changed.
    const double value = is_there ? there->second : seen.value;
    const double took = sample.time - seen.time;
    if (!kind.is_rate)
      show(seen, kind, value * kind.scale, hand_on);
    else if (!is_new && took > 0 && value >= seen.value)
      show(seen, kind, (value - seen.value) / took * kind.scale, hand_on);
    seen.value = value;
    seen.time = sample.time;
  }
}

}  // namespace paceline
