#include "seeing/top_source.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/client.hpp"
#include "seeing/lines.hpp"
#include "seeing/members.hpp"

namespace paceline {
namespace {

constexpr Duration answer_limit = std::chrono::seconds(3);
// About a hundred steps.
constexpr std::int64_t metrics_bytes = std::int64_t{16} << 10;

std::string how_it_ended(const std::string& run_dir) {
  const Result<std::string> text = read_file(run_dir + "/summary.json");
  const auto json = text.ok() ? json_object(*text) : std::nullopt;
  if (!json) return "the run was not finished, and nobody runs it now";
  return concat("the run has ended: ", plain_text_in(*json, "status"));
}

}  // namespace

void TopSource::ask(TopLook& look) const {
  const auto coordinator = control::newest_coordinator(run_dir_);
  if (!coordinator.ok()) return void(look.problem = coordinator.error().message);
  if (!*coordinator) return void(look.problem = "the run has no coordinator yet");
  const auto credentials = control::read_credentials(run_dir_);
  if (!credentials.ok()) return void(look.problem = credentials.error().message);
  control::Request request;
  request.mutable_status();
  const Result<control::Answer> answer = control::ask(**coordinator, *credentials, request, answer_limit);
  if (!answer.ok())
    return void(look.problem = concat("the coordinator of term ", (*coordinator)->term, " doesn't answer (",
                                      without_control(answer.error().message), ")"));
  if (!answer->error().empty()) return void(look.problem = without_control(answer->error()));
  Result<TopStatus> status = parse_top_status(answer->text());
  if (!status.ok()) return void(look.problem = status.error().message);
  look.status = std::move(status).value();
}

void TopSource::read_metrics(TopLook& look) const {
  // From its end each time: a successor puts another file in its place.
  LineFile file(run_dir_ + "/metrics.jsonl");
  file.skip_to_last(metrics_bytes);
  std::optional<MetricsLine> first;
  const Status read = file.next([&](std::string_view line) {
    auto metrics = parse_metrics_line(line);
    if (!metrics) return;
    if (!first) first = metrics;
    look.metrics = std::move(metrics);
  });
  if (!read.ok() || !first || look.metrics->step <= first->step) return;
  const double seconds = look.metrics->time - first->time;
  if (seconds > 0) look.step_s = seconds / static_cast<double>(look.metrics->step - first->step);
}

TopLook TopSource::look() {
  TopLook look;
  ask(look);
  look.time_s = to_seconds(clock_.now().time_since_epoch());
  read_metrics(look);
  Result<std::vector<RunEvent>> events = events_.next();
  if (events.ok()) look.events = std::move(events).value();
  const bool is_over = look.status ? false : end_.is_reached();
  if (is_over) look.ended = how_it_ended(run_dir_);
  return look;
}

TopWatch::TopWatch(std::string run_dir, Duration interval)
    : source_(std::move(run_dir)), interval_(interval), news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PACELINE_ASSERT(news_.valid(), "no eventfd");
  thread_ = std::thread([this] { run(); });
}

TopWatch::~TopWatch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  ending_.notify_all();
  thread_.join();
}

void TopWatch::run() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    lock.unlock();
    TopLook look = source_.look();
    lock.lock();
    // One that was not taken yet had news that must not be lost.
    if (look_) look.events.insert(look.events.begin(), look_->events.begin(), look_->events.end());
    look_ = std::move(look);
    const std::uint64_t one = 1;
    std::ignore = ::write(news_.get(), &one, sizeof one);
    ending_.wait_for(lock, interval_, [this] { return ends_; });
  }
}

std::optional<TopLook> TopWatch::take() {
  std::uint64_t count = 0;
  std::ignore = ::read(news_.get(), &count, sizeof count);
  const std::lock_guard lock(mutex_);
  return std::exchange(look_, std::nullopt);
}

}  // namespace paceline
