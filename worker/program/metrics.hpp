#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// Times of steps, of which the latest 100,000 are kept.
class TimeSeries {
 public:
  void add(Duration value);
  /// In milliseconds; zeros where nothing was added.
  [[nodiscard]] Percentiles percentiles_ms() const;

 private:
  std::vector<float> values_ms_;
  std::size_t next_ = 0;
};

/// One committed step, as metrics.jsonl has it.
struct StepRecord {
  std::int64_t step = 0;   ///< from 1: committed steps
  std::int64_t epoch = 0;  ///< from 1
  double loss = 0;
  std::optional<double> accuracy{};    ///< of images
  std::optional<double> perplexity{};  ///< of text
  double learning_rate = 0;
  double gradient_norm = 0;
  double samples_per_second = 0;
};

/// Appends a line per step to RUN/metrics.jsonl. Lines reach the file once a second and at the end.
class MetricsFile {
 public:
  [[nodiscard]] static Result<MetricsFile> create(const std::string& path, const Clock& clock);
  [[nodiscard]] Status add(const StepRecord& record);
  [[nodiscard]] Status flush();

 private:
  explicit MetricsFile(const Clock& clock) : clock_(&clock) {}
  const Clock* clock_;  // does not own
  std::string path_;
  UniqueFd fd_;
  std::string pending_;
  Instant flushed_{};
};

}  // namespace paceline
