#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "seeing/telemetry_files.hpp"

namespace paceline {

/// How a member of `Telemetry` is shown over time.
struct CounterKind {
  const char* member;
  const char* name;
  const char* unit;
  double scale;     ///< from the member's unit
  bool is_rate;     ///< of a sum: what it grew by per second
  bool is_of_node;  ///< all workers of a node say the same
};

/// Turns a worker's samples into values: levels, and rates between one sample and the next. A sum that became
/// smaller has begun anew, and gives no rate. A value that didn't change is handed on once.
class Counters {
 public:
  using HandOn = std::function<void(const CounterKind&, double value)>;
  void take(const Sampled& sample, const HandOn& hand_on);

 private:
  struct Seen {
    double value = 0;                   // of the member
    double time = 0;                    // of the sample in which it was looked at last
    std::optional<std::int64_t> shown;  // in thousandths
  };
  static void show(Seen& seen, const CounterKind& kind, double value, const HandOn& hand_on);
  std::map<std::string, Seen, std::less<>> seen_;
};

}  // namespace paceline
