#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "elastic/job_snapshot.hpp"
#include "listener.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// Whom the endpoint believes: HTTP basic authentication with this name and the password of the run.
inline constexpr const char* metrics_user = "paceline";
/// RUN/credentials/metrics-password, for its owner alone.
[[nodiscard]] std::string metrics_password_path(const std::string& run_dir);
/// RUN/prometheus-targets.json, where Prometheus finds the endpoint (file_sd_configs).
[[nodiscard]] std::string metrics_targets_path(const std::string& run_dir);

/// A job's metrics for Prometheus: http://HOST:PORT/metrics, served by two threads of its own. Nobody reads
/// it without the run's password. docs/metrics.md has the metrics. Methods are for one thread.
class MetricsEndpoint {
 public:
  struct Options {
    std::string run_dir;    ///< absolute
    std::string job;        ///< its name
    std::string host;       ///< the numeric address to listen on, and no other
    PortRange ports{};      ///< the first free one is taken; {0, 0}: any free port
    bool succeeds = false;  ///< another coordinator: sums of workers that were there before begin at 0
  };

  /// Makes the run's password unless there is one, listens, and tells Prometheus where. already_exists, with
  /// the port, where all ports are taken.
  [[nodiscard]] static Result<std::unique_ptr<MetricsEndpoint>> start(const Options& options);
  /// Stops listening, and removes the targets file unless a successor has written its own. May take as long
  /// as a client that is being served: milliseconds, and 2 s where it says nothing.
  ~MetricsEndpoint();
  MetricsEndpoint(const MetricsEndpoint&) = delete;
  MetricsEndpoint& operator=(const MetricsEndpoint&) = delete;

  /// What is served from now on. To be called a few times a second; waits for nobody.
  void update(const JobSnapshot& snapshot);
  [[nodiscard]] std::uint16_t port() const noexcept;

 private:
  struct Server;
  explicit MetricsEndpoint(std::unique_ptr<Server> server);
  std::unique_ptr<Server> server_;
};

}  // namespace paceline
