#pragma once

#include <prometheus/metric_type.h>

#include <span>
#include <string>
#include <string_view>

namespace paceline {

/// A metric as docs/metrics.md and scrapes describe it.
struct MetricDefinition {
  std::string_view name;
  prometheus::MetricType type = prometheus::MetricType::Gauge;
  std::string_view unit;
  std::string_view labels;  ///< with commas; empty: none
  std::string_view help;
};

/// Every metric that there can be, in the order of scrapes.
[[nodiscard]] std::span<const MetricDefinition> metric_definitions();
/// The same as a Markdown table: the one in docs/metrics.md.
[[nodiscard]] std::string metrics_table();

}  // namespace paceline
