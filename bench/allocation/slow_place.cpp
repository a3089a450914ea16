#include "allocation/slow_place.hpp"

#include <optional>

#include "allocation/process_figures.hpp"

namespace paceline::bench {
namespace {

// Short beside a step, and long beside what a signal takes.
constexpr Duration period = std::chrono::milliseconds(3);

}  // namespace

void SlowPlace::look(pid_t launcher) {
  for (const pid_t pid : children_of(launcher)) {
    if (known_.contains(pid)) continue;
    const std::optional<std::int64_t> worker = worker_number(pid);
    if (!worker) continue;  // no worker, or none yet
    known_.insert(pid);
    if (place_of(*worker, plan_, crew_) != slow_.rank) continue;
    Result<HeldBack> held = HeldBack::start(pid, slow_.factor, period);
    // It may have ended meanwhile.
    if (held.ok()) held_.emplace(pid, std::move(held).value());
  }
}

}  // namespace paceline::bench
