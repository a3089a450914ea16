#include "elastic/metrics_reporter.hpp"

#include <utility>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr Duration interval = std::chrono::milliseconds(250);
constexpr Duration retry_interval = std::chrono::seconds(10);

}  // namespace

MetricsReporter::MetricsReporter(MetricsEndpoint::Options options, Warn warn)
    : options_(std::move(options)), warn_(std::move(warn)) {
}

bool MetricsReporter::is_due(Instant now) const noexcept {
  return !reported_at_ || now - *reported_at_ >= interval;
}

void MetricsReporter::report(const JobSnapshot& snapshot, Instant now) {
  reported_at_ = now;
  if (endpoint_ == nullptr && (!tried_at_ || now - *tried_at_ >= retry_interval)) try_to_start(now);
  if (endpoint_ != nullptr) endpoint_->update(snapshot);
}

void MetricsReporter::try_to_start(Instant now) {
  tried_at_ = now;
  Result<std::unique_ptr<MetricsEndpoint>> started = MetricsEndpoint::start(options_);
  if (started.ok()) {
    endpoint_ = std::move(started).value();
    log(LogLevel::info, "metrics for Prometheus at http://", options_.host, ":", endpoint_->port(),
        "/metrics");
  } else if (!std::exchange(warned_, true)) {
    warn_(concat("the job goes on without metrics for Prometheus until they can be served: ",
                 started.error().message));
  }
}

}  // namespace paceline
