#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "elastic/metrics_endpoint.hpp"
#include "paceline/base/clock.hpp"

namespace paceline {

/// A coordinator's side of its job's metrics: hands snapshots to the endpoint when they are due. Where the
/// endpoint can't be had the job goes on, people are told once, and it is tried again every 10 s: a port may
/// still belong to a predecessor. For one thread.
class MetricsReporter {
 public:
  using Warn = std::function<void(const std::string&)>;
  MetricsReporter(MetricsEndpoint::Options options, Warn warn);

  /// Whether a snapshot is wanted now: four times a second.
  [[nodiscard]] bool is_due(Instant now) const noexcept;
  void report(const JobSnapshot& snapshot, Instant now);
  /// The endpoint, while there is one.
  [[nodiscard]] const MetricsEndpoint* endpoint() const noexcept { return endpoint_.get(); }

 private:
  void try_to_start(Instant now);

  MetricsEndpoint::Options options_;
  Warn warn_;
  std::unique_ptr<MetricsEndpoint> endpoint_;
  std::optional<Instant> reported_at_, tried_at_;
  bool warned_ = false;
};

}  // namespace paceline
