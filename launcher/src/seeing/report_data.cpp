#include "seeing/report_data.hpp"

#include <algorithm>
#include <set>

#include "logs/line.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "seeing/lines.hpp"
#include "seeing/members.hpp"
#include "seeing/report_telemetry.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

// Longer between two commits is no slow step, but a time in which nobody trained, where a coordinator of
// another term wrote the second.
constexpr double least_pause_s = 1;

/// Which ranks there were, by step.
class RanksBySteps {
 public:
  explicit RanksBySteps(const std::vector<RunEvent>& events) {
    for (const RunEvent& event : events) {
      if (event.kind != EventKind::generation || event.ranks < 1) continue;
      // What a later one goes back behind doesn't count any more.
      while (!begins_.empty() && begins_.back().after_step > event.after_step) begins_.pop_back();
      begins_.push_back({event.after_step, event.ranks});
    }
  }
  /// 0: not known. Steps in ascending order.
  std::int64_t at(std::int64_t step) {
    while (next_ < begins_.size() && begins_[next_].after_step < step) ++next_;
    return next_ == 0 ? 0 : begins_[next_ - 1].ranks;
  }

 private:
  struct Begin {
    std::int64_t after_step = 0;
    std::int64_t ranks = 0;
  };
  std::vector<Begin> begins_;
  std::size_t next_ = 0;
};

/// Takes in the metrics, a step after the other.
class MetricsSums {
 public:
  MetricsSums(ReportData& data, const std::set<std::int64_t>& marked)
      : data_(data), marked_(marked), ranks_(data.history.events) {
    for (const EventReader::Seal& seal : data.history.resumed) seams_.insert(seal.base_step);
  }

  void take(const MetricsLine& line) {
    if (last_ && line.step <= last_->step) return;
    if (!last_) begin_ = line.time;
    const double minutes = (line.time - begin_) / 60;
    if (line.loss) data_.loss.add(static_cast<double>(line.step), *line.loss);
    if (line.learning_rate) data_.learning_rate.add(static_cast<double>(line.step), *line.learning_rate);
    if (line.samples_per_second) data_.rate.add(minutes, *line.samples_per_second);
    if (marked_.contains(line.step)) data_.minutes[line.step] = minutes;
    take_interval(line);
    data_.steps = line.step;
    last_ = line;
  }

  /// Of what was taken in.
  void finish() {
    for (auto& [ranks, size] : sizes_) {
      const std::optional<double> step_s = size.step_s.value();
      if (step_s && *step_s > 0) size.samples_per_second = static_cast<double>(data_.batch) / *step_s;
      data_.sizes.push_back(std::move(size));
    }
    if (data_.sizes.empty() || data_.sizes.front().samples_per_second <= 0) return;
    const ReportSize& base = data_.sizes.front();
    const double of_one = base.samples_per_second / static_cast<double>(base.ranks);
    for (ReportSize& size : data_.sizes)
      if (size.samples_per_second > 0)
        size.efficiency = size.samples_per_second / static_cast<double>(size.ranks) / of_one;
  }

 private:
  void take_interval(const MetricsLine& line) {
    const std::int64_t ranks = ranks_.at(line.step);
    if (!last_) return;
    const double took_s = line.time - last_->time;
    if (took_s < 0) return;  // another rank's clock
    if (seams_.contains(last_->step) && took_s > least_pause_s) {
      data_.paused_s += took_s;
      return;
    }
    data_.training_s += took_s;
    data_.rank_seconds += took_s * static_cast<double>(ranks);
    const bool is_whole = line.step == last_->step + 1 && ranks > 0;
    if (!is_whole) return;
    ReportSize& size = sizes_[ranks];
    size.ranks = ranks;
    ++size.steps;
    size.step_s.add(took_s);
  }

  ReportData& data_;
  const std::set<std::int64_t>& marked_;
  RanksBySteps ranks_;
  std::set<std::int64_t> seams_;  // steps after which another term goes on
  std::map<std::int64_t, ReportSize> sizes_;
  std::optional<MetricsLine> last_;
  double begin_ = 0;
};

ReportEnd read_end(const std::string& run_dir, const EventHistory& history) {
  ReportEnd end;
  // The journal knows whether the run went on after its summary.
  const RunEvent* last = nullptr;
  for (const RunEvent& event : history.events)
    if (event.kind == EventKind::end || event.kind == EventKind::term || event.kind == EventKind::generation)
      last = &event;
  const bool has_ended = last != nullptr && last->kind == EventKind::end;
  const Result<std::string> text = read_file(run_dir + "/summary.json");
  const auto json = text.ok() ? json_object(*text) : std::nullopt;
  if (!has_ended || !json) {
    end.state = has_ended ? last->text : "not finished";
    return end;
  }
  end.state = plain_text_in(*json, "status");
  end.error = plain_text_in(*json, "error");
  end.train_loss = number_in(*json, "train_loss");
  if (const auto eval = json->find("eval"); eval != json->end() && eval->is_object()) {
    end.eval_loss = number_in(*eval, "loss");
    end.eval_accuracy = number_in(*eval, "accuracy");
    end.eval_perplexity = number_in(*eval, "perplexity");
  }
  return end;
}

std::map<std::string, double> amounts_in(const Json& section, const char* name) {
  std::map<std::string, double> amounts;
  const auto found = section.find(name);
  if (found == section.end() || !found->is_object()) return amounts;
  for (const auto& [kind, value] : found->items())
    if (const auto amount = amount_in(*found, kind.c_str())) amounts.emplace(without_control(kind), *amount);
  return amounts;
}

ReportPrices read_prices(const std::string& run_dir) {
  const Result<std::string> text = read_file(run_dir + "/job.json");
  const auto json = text.ok() ? json_object(*text) : std::nullopt;
  if (!json) return {};
  const auto section = json->find("resize");
  if (section == json->end() || !section->is_object()) return {};
  return {amounts_in(*section, "prices"), amounts_in(*section, "power_w")};
}

/// Steps that stood in a journal, and are not of the history.
std::int64_t steps_done_again(const EventHistory& history) {
  std::int64_t again = 0;
  for (const EventReader::Seal& seal : history.resumed)
    again += std::max<std::int64_t>(0, seal.last_step - seal.base_step);
  return again;
}

}  // namespace

std::optional<double> price_of_all(const std::map<std::string, double>& by_kind, bool any_gpu, bool all_gpu) {
  if (by_kind.empty()) return std::nullopt;
  const auto by_price = [](const auto& a, const auto& b) { return a.second < b.second; };
  const auto [least, greatest] = std::ranges::minmax_element(by_kind, by_price);
  if (least->second == greatest->second) return least->second;
  const auto cpu = by_kind.find("cpu");
  if (!any_gpu && cpu != by_kind.end()) return cpu->second;
  // One kind of GPU, and nothing else in use.
  if (all_gpu && by_kind.size() == 2 && cpu != by_kind.end())
    return (cpu == least ? greatest : least)->second;
  return std::nullopt;
}

Result<ReportData> gather_report(const std::string& run_dir) {
  ReportData data;
  data.run_dir = run_dir;
  PACELINE_ASSIGN(data.history, read_events(run_dir));
  data.batch = data.history.batch_global;
  data.end = read_end(run_dir, data.history);
  data.prices = read_prices(run_dir);
  data.steps_again = steps_done_again(data.history);
  std::set<std::int64_t> marked;
  std::map<std::int64_t, bool> planned;
  for (const RunEvent& event : data.history.events) {
    marked.insert({event.after_step, std::max<std::int64_t>(1, event.after_step)});
    if (event.kind == EventKind::generation) planned[event.generation] = event.planned;
  }
  MetricsSums sums(data, marked);
  LineFile metrics(run_dir + "/metrics.jsonl");
  PACELINE_TRY(metrics.next([&sums](std::string_view line) {
    if (const auto parsed = parse_metrics_line(line)) sums.take(*parsed);
  }));
  sums.finish();
  PACELINE_ASSIGN(data.telemetry, sum_telemetry(run_dir, planned));
  return data;
}

}  // namespace paceline
