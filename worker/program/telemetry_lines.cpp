#include "telemetry_lines.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <string_view>

namespace paceline {

/// One object, member by member. Keys and words are ours, so that nothing in them needs escaping but a node's
/// name.
class TelemetryLines::Line {
 public:
  Line(std::string& text, std::string_view type, Duration time) : text_(text) {
    text_ += R"({"type":")";
    text_ += type;
    text_ += '"';
    const auto us = std::chrono::duration_cast<std::chrono::microseconds>(time).count();
    std::string fraction = std::to_string(us % 1'000'000);
    fraction.insert(0, 6 - fraction.size(), '0');
    key("time");
    text_ += std::to_string(us / 1'000'000);
    text_ += '.';
    text_ += fraction;
  }
  ~Line() { text_ += "}\n"; }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  void member(std::string_view name, std::int64_t value) {
    key(name);
    write(value);
  }
  void member(std::string_view name, double value) {
    key(name);
    if (std::isfinite(value))
      write(value);
    else
      text_ += "null";
  }
  void member(std::string_view name, const std::optional<double>& value) {
    member(name, value.value_or(NAN));
  }
  void member(std::string_view name, std::string_view word) {
    key(name);
    text_ += '"';
    for (const char c : word) {
      if (c == '"' || c == '\\') text_ += '\\';
      text_ += static_cast<unsigned char>(c) < ' ' ? '?' : c;
    }
    text_ += '"';
  }
  void part(std::string_view name, Duration took) {
    member(name, std::chrono::round<std::chrono::microseconds>(took).count());
  }

 private:
  void key(std::string_view name) {
    text_ += ",\"";
    text_ += name;
    text_ += "\":";
  }
  template <class Number>
  void write(Number value) {
    std::array<char, 32> digits{};
    text_.append(digits.data(), std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr);
  }

  std::string& text_;
};

namespace {

template <class Number>
bool is_there(Number) {
  return true;
}
bool is_there(const std::optional<double>& value) {
  return value.has_value();
}

/// Calls `use(name, member)` with those that samples are about.
template <class Use>
void for_each_sampled(const Use& use) {
  use("cpu_s", &Telemetry::cpu_s);
  use("memory_bytes", &Telemetry::memory_bytes);
  use("read_bytes", &Telemetry::read_bytes);
  use("wire_bytes", &Telemetry::wire_bytes);
  use("wire_busy_s", &Telemetry::wire_busy_s);
  use("slowest_wire_rank", &Telemetry::slowest_wire_rank);
  use("slowest_wire_bytes_per_s", &Telemetry::slowest_wire_bytes_per_s);
  use("network_sent_bytes", &Telemetry::network_sent_bytes);
  use("network_received_bytes", &Telemetry::network_received_bytes);
  use("node_energy_j", &Telemetry::node_energy_j);
  use("gpu_busy", &Telemetry::gpu_busy);
  use("gpu_memory_bytes", &Telemetry::gpu_memory_bytes);
  use("gpu_power_w", &Telemetry::gpu_power_w);
  use("gpu_temperature_c", &Telemetry::gpu_temperature_c);
  use("gpu_energy_j", &Telemetry::gpu_energy_j);
}

}  // namespace

void TelemetryLines::begin(std::string& text, Instant now, const std::string& node) {
  {
    Line line(text, "worker", epoch_ + now.time_since_epoch());
    line.member("version", std::int64_t{1});
    line.member("worker", worker_);
    line.member("node", std::string_view(node));
    line.member("pid", pid_);
  }
  if (rank_) write(text, *rank_);
  told_.reset();
}

void TelemetryLines::add(std::string& text, const TelemetryRecord& record) {
  std::visit([&](const auto& one) { write(text, one); }, record);
}

void TelemetryLines::pass(const TelemetryRecord& record) {
  if (const auto* rank = std::get_if<RankRecord>(&record)) rank_ = *rank;
}

void TelemetryLines::add_lost(std::string& text, Instant now, std::int64_t lines) const {
  Line(text, "lost", epoch_ + now.time_since_epoch()).member("lines", lines);
}

void TelemetryLines::write(std::string& text, const StepRecord& step) const {
  Line line(text, "step", epoch_ + step.began.time_since_epoch());
  line.member("step", step.step);
  line.member("grains", step.grains);
  line.part("data", step.data);
  line.part("forward", step.forward);
  line.part("backward", step.backward);
  line.part("reduce", step.reduce);
  line.part("commit", step.commit);
  line.part("optimizer", step.optimizer);
}

void TelemetryLines::write(std::string& text, const PhaseRecord& phase) const {
  Line line(text, "phase", epoch_ + phase.began.time_since_epoch());
  line.member("phase", name_of(phase.phase));
  line.part("took", phase.took);
}

void TelemetryLines::write(std::string& text, const RankRecord& rank) {
  rank_ = rank;
  Line line(text, "rank", epoch_ + rank.at.time_since_epoch());
  line.member("generation", rank.generation);
  line.member("rank", rank.rank);
  line.member("ranks", rank.ranks);
  line.member("step", rank.step);
}

void TelemetryLines::write(std::string& text, const SampleRecord& sample) {
  Line line(text, "sample", epoch_ + sample.at.time_since_epoch());
  for_each_sampled([&](std::string_view name, auto member) {
    const auto& value = sample.sample.*member;
    if (told_ ? value != (*told_).*member : is_there(value)) line.member(name, value);
  });
  told_ = sample.sample;
}

}  // namespace paceline
