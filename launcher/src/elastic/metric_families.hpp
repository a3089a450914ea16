#pragma once

#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <vector>

#include "elastic/job_snapshot.hpp"
#include "elastic/metric_definitions.hpp"
#include "elastic/metric_totals.hpp"

namespace paceline {

/// What is to be shown at one moment.
struct MetricsView {
  JobSnapshot snapshot{};
  std::map<RankPlace, RankTotal> ranks{};
  std::map<std::string, NodeTotal> nodes{};
};

/// A scrape's content; metrics without any value are left out. `age_s`: since the view was made.
[[nodiscard]] std::vector<prometheus::MetricFamily> metric_families(const MetricsView& view, double age_s);

}  // namespace paceline
