#include "seeing/report_parts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "format.hpp"
#include "logs/line.hpp"
#include "paceline/base/text.hpp"
#include "paceline/sched/run_scores.hpp"
#include "seeing/run_totals.hpp"

namespace paceline {
namespace {

using page::Page;
using page::Row;
using page::Table;

constexpr std::size_t most_rows = 200;
constexpr std::size_t most_lines = 16;
constexpr std::size_t most_bars = 64;

std::string percent(double fraction) {
  return concat(fixed(fraction * 100, 1), "%");
}

std::string whole(std::int64_t number) {
  return with_commas(static_cast<double>(number));
}

/// Four significant figures.
std::string figure(double number) {
  if (!std::isfinite(number)) return "-";
  if (number == 0) return "0";
  const int digits = static_cast<int>(std::floor(std::log10(std::fabs(number))));
  if (digits >= 3) return with_commas(number);
  if (digits >= -4) return fixed(number, 3 - digits);
  return concat(fixed(number / std::pow(10.0, digits), 3), "e", digits);
}

std::string ranks_text(const std::vector<std::int64_t>& ranks) {
  std::string text;
  for (const std::int64_t rank : ranks) text += concat(text.empty() ? "" : ", ", rank);
  return text.empty() ? "-" : text;
}

void say_no_telemetry(Page& page) {
  page.text("The run has no telemetry, so nothing is known of what its ranks spent their time on.");
}

/// The newest rows; says how many are left out.
void add_table(Page& page, Table table) {
  const std::size_t all = table.rows.size();
  if (all > most_rows) {
    table.rows.erase(table.rows.begin(), table.rows.end() - static_cast<std::ptrdiff_t>(most_rows));
    page.text(concat("The last ", most_rows, " of ", all, "."));
  }
  page.table(table);
}

// ---- time

/// Parts of each worker's time. Small ones share a bar: a chart has eight colours.
std::vector<page::Bars> use_bars(const std::vector<ReportWorker>& workers, std::size_t count) {
  struct Group {
    const char* name;
    std::vector<TimeUse> uses;
  };
  static const std::vector<Group> groups = {
      {"computing", {TimeUse::compute}},
      {"data wait", {TimeUse::data_wait}},
      {"exposed reduction", {TimeUse::exposed_reduction}},
      {"unequal finish", {TimeUse::unequal_finish}},
      {"commit", {TimeUse::commit}},
      {"evaluation and checkpoints", {TimeUse::evaluation, TimeUse::checkpoints}},
      {"repairs and resizes", {TimeUse::repairs, TimeUse::resizes}},
      {"beginning and rest", {TimeUse::beginning, TimeUse::rest}}};
  std::vector<page::Bars> all;
  for (const Group& group : groups) {
    page::Bars& bars = all.emplace_back(page::Bars{group.name, {}});
    for (std::size_t i = 0; i < count; ++i) {
      double seconds = 0;
      for (const TimeUse use : group.uses) seconds += workers[i].uses_s.at(static_cast<std::size_t>(use));
      bars.values.push_back(workers[i].seconds > 0 ? seconds / workers[i].seconds : 0);
    }
  }
  return all;
}

// ---- energy

struct Energy {
  double joules = 0;
  double samples = 0;
  std::string source;
};

std::optional<Energy> energy_of(const ReportData& data) {
  const ReportTelemetry& telemetry = data.telemetry;
  const double samples = static_cast<double>(telemetry.steps) * static_cast<double>(data.batch);
  if (telemetry.node_energy_j && telemetry.gpu_energy_j)
    return Energy{*telemetry.node_energy_j + *telemetry.gpu_energy_j, samples,
                  "measured by processors, memory (RAPL) and GPUs"};
  if (telemetry.node_energy_j)
    return Energy{*telemetry.node_energy_j, samples, "measured by processors and memory (RAPL)"};
  if (telemetry.gpu_energy_j)
    return Energy{*telemetry.gpu_energy_j, samples, "measured by GPUs, processors not included"};
  return std::nullopt;
}

std::optional<double> of_all_ranks(const ReportData& data, const std::map<std::string, double>& by_kind) {
  const auto has_gpu = [](const ReportWorker& worker) { return worker.has_gpu; };
  const std::vector<ReportWorker>& workers = data.telemetry.workers;
  return price_of_all(by_kind, std::ranges::any_of(workers, has_gpu),
                      !workers.empty() && std::ranges::all_of(workers, has_gpu));
}

void add_efficiency(Page& page, const ReportData& data) {
  const ResourceEfficiency eta = resource_efficiency(totals_of(data.telemetry, data.steps, data.batch));
  constexpr double gib = 1 << 30;
  std::string text;
  if (eta.samples_per_joule) text = concat(figure(*eta.samples_per_joule), " samples per joule");
  if (eta.samples_per_byte_s)
    text += concat(text.empty() ? "" : ", ", figure(*eta.samples_per_byte_s * gib),
                   " samples for each GiB of the workers' memory and second in which it was held");
  if (text.empty()) return;
  page.text(concat("Resource efficiency eta: ", text,
                   eta.samples_per_joule ? "." : ". Not by energy, of which not all was measured."));
}

// ---- shares

/// One line for each rank, which holds until the next change.
std::vector<page::Line> share_lines(const ReportData& data) {
  std::vector<page::Line> lines;
  std::int64_t grains = 0;
  for (const RunEvent& event : data.history.events)
    if (event.kind == EventKind::shares)
      for (grains = 0; const std::int64_t share : event.shares) grains += share;
  const auto at = [&lines](std::size_t rank) -> page::Line& {
    while (lines.size() <= rank) lines.push_back({concat("rank ", lines.size()), {}});
    return lines[rank];
  };
  const auto nan = std::numeric_limits<double>::quiet_NaN();
  for (const RunEvent& event : data.history.events) {
    const auto step = static_cast<double>(event.after_step + 1);
    if (!still_counts(data.history, event)) continue;
    if (event.kind == EventKind::generation) {
      // A generation begins with equal shares.
      const auto ranks = static_cast<std::size_t>(event.ranks);
      for (std::size_t rank = 0; rank < std::min(ranks, most_lines); ++rank)
        at(rank).points.push_back({step, static_cast<double>(grains) / static_cast<double>(event.ranks)});
      for (std::size_t rank = ranks; rank < lines.size(); ++rank) lines[rank].points.push_back({step, nan});
    } else if (event.kind == EventKind::shares) {
      for (std::size_t rank = 0; rank < std::min(event.shares.size(), most_lines); ++rank)
        at(rank).points.push_back({step, static_cast<double>(event.shares[rank])});
    }
  }
  for (page::Line& line : lines) {
    std::ranges::stable_sort(line.points, {}, &page::Point::x);
    if (!line.points.empty()) line.points.push_back({static_cast<double>(data.steps), line.points.back().y});
  }
  return lines;
}

// ---- events

Row generation_row(const ReportData& data, const RunEvent& event, bool begins) {
  const auto minutes = data.minutes.find(std::max<std::int64_t>(1, event.after_step));
  const char* kind = begins ? "beginning" : event.planned ? "resize" : "repair";
  return {{kind, event.reason, whole(event.generation), whole(event.term), whole(event.after_step),
           minutes == data.minutes.end() ? "-" : fixed(minutes->second, 1), whole(event.ranks)}};
}

void add_generations(Page& page, const ReportData& data) {
  Table table{{"what", "reason", "generation", "term", "after step", "minute", "ranks"}, {}, 2};
  for (const RunEvent& event : data.history.events) {
    if (event.kind == EventKind::generation)
      table.rows.push_back(
          generation_row(data, event, table.rows.empty() || event.reason == "the job is resumed"));
  }
  if (table.rows.empty()) return;
  page.heading("Generations: resizes and repairs");
  add_table(page, std::move(table));
}

void add_stragglers(Page& page, const ReportData& data) {
  Table table{{"", "part", "node", "what", "after step", "rank", "ratio"}, {}, 4};
  for (const RunEvent& event : data.history.events)
    if (event.kind == EventKind::straggler)
      table.rows.push_back(
          {{event.ended ? "ended" : "began", event.part, event.node, event.text, whole(event.after_step),
            event.rank < 0 ? "all" : whole(event.rank), event.ratio ? fixed(*event.ratio, 2) : "-"},
           event.ended});
  page.heading("Stragglers");
  if (table.rows.empty())
    page.text("None was found.");
  else
    add_table(page, std::move(table));
}

void add_decisions(Page& page, const ReportData& data) {
  Table table{{"decision", "after step", "ranks"}, {}, 1};
  for (const RunEvent& event : data.history.events)
    if (event.kind == EventKind::decision)
      table.rows.push_back(
          {{event.text, whole(event.after_step), event.ranks > 0 ? whole(event.ranks) : "-"}});
  if (table.rows.empty()) return;
  page.heading("Decisions about the size");
  add_table(page, std::move(table));
}

}  // namespace

void add_time_uses(Page& page, const ReportData& data) {
  page.heading("Where the time went");
  const ReportTelemetry& telemetry = data.telemetry;
  if (telemetry.workers.empty()) return say_no_telemetry(page);
  double all_s = 0;
  for (const double seconds : telemetry.uses_s) all_s += seconds;
  page.text(
      concat("Seconds of ranks, of the ", whole(telemetry.steps), " steps that their files reach back to (",
             whole(data.steps),
             " were committed). Waiting for sums is split by the rank that waited least in each "
             "step: so long all waited for the reduction, and the others beyond that for the last rank."));
  page::BarChart chart;
  chart.title = "Time of each worker";
  chart.y_title = "part of its time";
  chart.stacked = chart.percent = true;
  const std::size_t bars = std::min(most_bars, telemetry.workers.size());
  if (bars < telemetry.workers.size())
    chart.note = concat("The first ", bars, " of ", telemetry.workers.size(), " workers.");
  for (std::size_t i = 0; i < bars; ++i)
    chart.categories.push_back(
        concat("worker ", telemetry.workers[i].worker, ", ", telemetry.workers[i].node));
  Table table{{"what", "seconds of ranks", "part"}, {}, 1};
  for (std::size_t use = 0; use < time_use_names.size(); ++use) {
    const double seconds = telemetry.uses_s.at(use);
    table.rows.push_back(
        {{time_use_names.at(use), fixed(seconds, 2), all_s > 0 ? percent(seconds / all_s) : "-"}});
  }
  chart.bars = use_bars(telemetry.workers, bars);
  page.chart(chart);
  page.table(table);
}

void add_costs(Page& page, const ReportData& data) {
  const double samples = static_cast<double>(data.steps) * static_cast<double>(data.batch);
  const double hours = data.rank_seconds / 3600;
  Table table{{"what", "source", "all", "per sample"}, {}, 2};
  const auto add = [&table](const char* what, const std::string& source, double all, double of_samples) {
    table.rows.push_back({{what, source, figure(all), of_samples > 0 ? figure(all / of_samples) : "-"}});
  };
  if (const auto energy = energy_of(data)) add("energy (J)", energy->source, energy->joules, energy->samples);
  if (const auto power = of_all_ranks(data, data.prices.power_w))
    add("energy (J)", "power of a rank as the job file says (resize.power_w)", *power * data.rank_seconds,
        samples);
  if (const auto price = of_all_ranks(data, data.prices.per_rank_hour))
    add("cost", "price of a rank's hour as the job file says (resize.prices)", *price * hours, samples);
  if (hours > 0) add("seconds of ranks", "time between commits", data.rank_seconds, samples);
  if (table.rows.empty()) return;
  page.heading("Energy and cost");
  page.table(table);
  add_efficiency(page, data);
  if (!data.prices.per_rank_hour.empty() && !of_all_ranks(data, data.prices.per_rank_hour))
    page.text(
        "No cost is given: the job file has prices of several kinds of nodes, and nothing says which ranks "
        "ran on which.");
}

void add_shares(Page& page, const ReportData& data) {
  const auto is_shares = [](const RunEvent& event) { return event.kind == EventKind::shares; };
  page.heading("Shares");
  if (std::ranges::none_of(data.history.events, is_shares)) {
    page.text("The ranks had equal shares all the time.");
    return;
  }
  page::LineChart chart{"Shares over steps", "", "step", "grains of a step"};
  chart.stepped = true;
  chart.lines = share_lines(data);
  if (chart.lines.size() >= most_lines) chart.note = concat("The first ", most_lines, " ranks.");
  page.chart(chart);
  Table table{{"shares", "from step"}, {}, 1};
  for (const RunEvent& event : data.history.events)
    if (is_shares(event))
      table.rows.push_back({{event.text, whole(event.after_step + 1)}, !still_counts(data.history, event)});
  add_table(page, std::move(table));
}

void add_events(Page& page, const ReportData& data) {
  add_generations(page, data);
  add_stragglers(page, data);
  add_decisions(page, data);
}

void add_workers(Page& page, const ReportData& data) {
  if (data.telemetry.workers.empty()) return;
  page.heading("Ranks");
  page.text("What each worker measured, as far as its files reach back; parts are the means over its steps.");
  Table table{{"node", "worker", "ranks", "steps", "grains a step"}, {}, 1};
  for (const char* part : step_part_names) table.columns.push_back(concat(part, " ms"));
  for (const char* column : {"CPU cores", "peak MiB", "read MB", "GPU J", "lines lost"})
    table.columns.emplace_back(column);
  for (const ReportWorker& worker : data.telemetry.workers) {
    const auto steps = static_cast<double>(std::max<std::int64_t>(1, worker.steps));
    std::vector<std::string> cells = {
        worker.node.empty() ? "?" : without_control(worker.node), std::to_string(worker.worker),
        ranks_text(worker.ranks), whole(worker.steps), fixed(static_cast<double>(worker.grains) / steps, 1)};
    for (const double seconds : worker.parts_s) cells.push_back(fixed(seconds / steps * 1e3, 2));
    cells.push_back(worker.cpu_s && worker.seconds > 0 ? fixed(*worker.cpu_s / worker.seconds, 2) : "-");
    cells.push_back(worker.peak_memory_bytes ? with_commas(*worker.peak_memory_bytes / (1 << 20)) : "-");
    cells.push_back(worker.read_bytes ? fixed(*worker.read_bytes * 1e-6, 1) : "-");
    cells.push_back(worker.gpu_energy_j ? with_commas(*worker.gpu_energy_j) : "-");
    cells.push_back(whole(worker.lost_lines));
    table.rows.push_back({std::move(cells)});
  }
  add_table(page, std::move(table));
}

}  // namespace paceline
