#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace paceline::bench {

/// A measure, as often as it was taken.
struct Figure {
  std::string name;  ///< "beyond a step's own time"
  std::string unit;  ///< "ms"
  std::vector<double> values;
};

/// What a figure should come to.
struct Target {
  std::string what;  ///< "median beyond a step's own time"
  std::string unit;
  double value = 0;
  double limit = 0;
  bool at_least = false;  ///< else below, or as much

  [[nodiscard]] bool met() const { return at_least ? value >= limit : value <= limit; }
};

/// What one part of the benchmark has measured.
struct PartReport {
  std::string part;
  std::string what;  ///< one line for people
  std::vector<Figure> figures;
  std::vector<Target> targets;
};

[[nodiscard]] std::string table_of(const PartReport& report);
/// docs/benchmarks.md names the keys.
[[nodiscard]] nlohmann::json to_json(const PartReport& report);

}  // namespace paceline::bench
