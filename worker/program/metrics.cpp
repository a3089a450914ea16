#include "metrics.hpp"

#include <fcntl.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_values = 100'000;

}  // namespace

void TimeSeries::add(Duration value) {
  if (values_ms_.size() < most_values) values_ms_.push_back(0);
  values_ms_[next_] = static_cast<float>(to_ms(value));
  next_ = (next_ + 1) % most_values;
}

Percentiles TimeSeries::percentiles_ms() const {
  if (values_ms_.empty()) return {};
  std::vector<float> sorted = values_ms_;
  std::ranges::sort(sorted);
  const auto at = [&](double fraction) {
    return static_cast<double>(
        sorted[static_cast<std::size_t>(fraction * static_cast<double>(sorted.size() - 1))]);
  };
  return {at(0.5), at(0.9), at(0.99)};
}

Result<MetricsFile> MetricsFile::create(const std::string& path, const Clock& clock) {
  MetricsFile file(clock);
  file.path_ = path;
  file.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644));
  if (!file.fd_.valid()) return system_error(concat("cannot create ", path));
  file.flushed_ = clock.now();
  return file;
}

Status MetricsFile::add(const StepRecord& record) {
  nlohmann::ordered_json line = {{"step", record.step}, {"epoch", record.epoch}, {"loss", record.loss}};
  if (record.accuracy) line["accuracy"] = *record.accuracy;
  if (record.perplexity) line["perplexity"] = *record.perplexity;
  line["learning_rate"] = record.learning_rate;
  line["gradient_norm"] = record.gradient_norm;
  line["samples_per_second"] = record.samples_per_second;
  pending_ += line.dump();
  pending_ += '\n';
  if (clock_->now() - flushed_ < std::chrono::seconds(1)) return {};
  return flush();
}

Status MetricsFile::flush() {
  flushed_ = clock_->now();
  const std::string lines = std::exchange(pending_, {});
  return write_all(fd_.get(), lines, path_);
}

}  // namespace paceline
