#include "wire_meter.hpp"

#include <algorithm>

namespace paceline {
namespace {

constexpr Duration window = std::chrono::seconds(1);
// A few short messages take as long as their way does, however fast the wire: it takes this much to say how
// fast it is. What keeps a wire busy for half of the time says so in any case.
constexpr std::int64_t least_bytes = 256 << 10;
constexpr Duration least_busy = std::chrono::milliseconds(20);  // of the kernel's ticks

bool says_something(std::int64_t bytes, Duration busy) {
  return bytes > 0 && (busy >= window / 2 || (bytes >= least_bytes && busy >= least_busy));
}

}  // namespace

void WireMeter::begin_generation() {
  marks_.clear();
}

void WireMeter::observe(Instant now, std::span<const WireStatistics> sums) {
  for (const WireStatistics& sum : sums) {
    std::deque<Mark>& marks = marks_[sum.rank];
    const Mark last = marks.empty() ? Mark{} : marks.back();
    bytes_ += std::max<std::int64_t>(sum.bytes - last.bytes, 0);
    busy_ += std::max(sum.busy - last.busy, Duration::zero());
    marks.push_back({now, std::max(sum.bytes, last.bytes), std::max(sum.busy, last.busy)});
    while (marks.size() > 2 && now - marks[1].at >= window) marks.pop_front();
  }
}

std::optional<WireMeter::Speed> WireMeter::slowest() const {
  std::optional<Speed> slowest;
  for (const auto& [rank, marks] : marks_) {
    const std::int64_t bytes = marks.back().bytes - marks.front().bytes;
    const Duration busy = marks.back().busy - marks.front().busy;
    if (!says_something(bytes, busy)) continue;
    const double speed = static_cast<double>(bytes) / to_seconds(busy);
    if (!slowest || speed < slowest->bytes_per_s) slowest = Speed{rank, speed};
  }
  return slowest;
}

}  // namespace paceline
