#include "scaling/charts.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "allreduce/table.hpp"
#include "paceline/base/text.hpp"
#include "paceline/page/page.hpp"

namespace paceline::bench {
namespace {

using page::Line;
using page::LineChart;
using page::Look;
using page::Point;
using page::Spread;

// The same thing has the same tone in every chart.
constexpr int measured_tone = 0, model_tone = 1, ceiling_tone = 2, earlier_tone = 3, ideal_tone = 6;

std::string ranks_text(std::int64_t ranks) {
  return concat(ranks, ranks == 1 ? " rank" : " ranks");
}

std::vector<ScalingRow> rows_in(const ScalingReport& report, ScalingMode mode) {
  std::vector<ScalingRow> rows;
  for (const ScalingRow& row : report.rows)
    if (row.mode == mode) rows.push_back(row);
  return rows;
}

Point point(const ScalingRow& row, const Range& range) {
  return {static_cast<double>(row.size.ranks), range.value, range.low, range.high};
}

/// `value` gives a row's range, or nothing where the row has none.
template <class Value>
Line line(const std::string& name, const std::vector<ScalingRow>& rows, int tone, Look look, Spread spread,
          Value value) {
  Line drawn{.name = name, .points = {}, .look = look, .spread = spread, .tone = tone};
  for (const ScalingRow& row : rows)
    if (const std::optional<Range> range = value(row)) drawn.points.push_back(point(row, *range));
  return drawn;
}

void add_if_any(LineChart& chart, Line drawn) {
  if (!drawn.points.empty()) chart.lines.push_back(std::move(drawn));
}

std::vector<double> ticks(const std::vector<ScalingRow>& rows) {
  std::vector<double> at;
  for (const ScalingRow& row : rows) at.push_back(static_cast<double>(row.size.ranks));
  return at;
}

std::optional<Range> if_measured(const ScalingRow& row, const Range& range) {
  if (row.simulated) return std::nullopt;
  return range;
}

/// A perfect job, from the first row on: `at_one` at one rank's worth.
Line ideal(const std::vector<ScalingRow>& rows, double at_one, bool grows) {
  Line drawn{.name = "ideal", .points = {}, .look = Look::dotted, .tone = ideal_tone};
  for (const ScalingRow& row : rows) {
    const auto ranks = static_cast<double>(row.size.ranks);
    drawn.points.push_back({ranks, grows ? at_one * ranks : at_one});
  }
  return drawn;
}

LineChart efficiency_chart(const std::vector<ScalingRow>& rows) {
  LineChart chart{
      .title = "Efficiency",
      .note = concat("Throughput of a rank, of what it is at ", ranks_text(rows.front().size.ranks),
                     ". The ceiling is the same ranks at the same time, each in a job of its own: "
                     "what the machine costs. Below it is what training together costs."),
      .x_title = "ranks",
      .y_title = "E(N)",
      .x_ticks = ticks(rows),
      .percent = true};
  chart.lines.push_back(ideal(rows, 1, false));
  add_if_any(chart, line("ceiling, without communication", rows, ceiling_tone, Look::dashed, Spread::whiskers,
                         [](const ScalingRow& row) { return if_measured(row, row.ceiling_efficiency); }));
  add_if_any(chart, line("measured", rows, measured_tone, Look::line, Spread::whiskers,
                         [](const ScalingRow& row) { return if_measured(row, row.efficiency); }));
  add_if_any(chart, line("model", rows, model_tone, Look::dashed, Spread::band,
                         [](const ScalingRow& row) { return row.predicted_efficiency; }));
  return chart;
}

/// To a number that a scale may end with: 2,344 to 2,500, 8,048 to 9,000.
double rounded_up(double value) {
  const double power = std::pow(10, std::floor(std::log10(value)));
  const double unit = value < 5 * power ? power / 2 : power;
  return std::ceil(value / unit) * unit;
}

/// A time of a step as a throughput, whose greatest comes from the least time.
Range as_rate(const ScalingRow& row, const Range& step_ms) {
  const double samples = static_cast<double>(row.size.batch) * 1e3;
  return {samples / step_ms.value, samples / step_ms.high, samples / step_ms.low};
}

LineChart throughput_chart(const ScalingReport& report, const std::vector<ScalingRow>& rows) {
  LineChart chart{
      .title = "Throughput", .x_title = "ranks", .y_title = "samples per second", .x_ticks = ticks(rows)};
  const ScalingRow& first = rows.front();
  chart.lines.push_back(
      ideal(rows, first.samples_per_second.value / static_cast<double>(first.size.ranks), true));
  // The rest would be flat below an ideal that is far away.
  double most = 0;
  for (const ScalingRow& row : rows) most = std::max(most, row.samples_per_second.high);
  chart.y_most = rounded_up(1.5 * most);
  add_if_any(chart, line("ceiling, without communication", rows, ceiling_tone, Look::dashed, Spread::whiskers,
                         [](const ScalingRow& row) {
                           return if_measured(row,
                                              row.simulated ? Range{} : as_rate(row, row.ceiling_step_ms));
                         }));
  add_if_any(chart, line("measured", rows, measured_tone, Look::line, Spread::whiskers,
                         [](const ScalingRow& row) { return if_measured(row, row.samples_per_second); }));
  add_if_any(chart, line("model", rows, model_tone, Look::dashed, Spread::band,
                         [](const ScalingRow& row) -> std::optional<Range> {
                           if (!row.predicted_step_ms) return std::nullopt;
                           return as_rate(row, *row.predicted_step_ms);
                         }));
  if (!report.earlier) return chart;
  Line before{.name = "the earlier run", .points = {}, .look = Look::dotted, .tone = earlier_tone};
  for (const ScalingRow& row : rows)
    if (const EarlierRow* earlier = report.earlier->row_like(row))
      before.points.push_back({static_cast<double>(row.size.ranks),
                               static_cast<double>(row.size.batch) / earlier->step_ms * 1e3});
  add_if_any(chart, std::move(before));
  return chart;
}

/// Where the runs had no telemetry, what is known of a step without it.
page::BarChart parts_chart(const std::vector<ScalingRow>& rows) {
  page::BarChart chart{.title = "Parts of a step", .y_title = "ms", .stacked = true};
  std::vector<ScalingRow> shown_rows;
  const bool has_parts =
      std::ranges::any_of(rows, [](const ScalingRow& row) { return row.parts.has_value(); });
  for (const ScalingRow& row : rows)
    if (!row.simulated && row.parts.has_value() == has_parts) shown_rows.push_back(row);
  for (const ScalingRow& row : shown_rows) chart.categories.push_back(ranks_text(row.size.ranks));
  const auto add = [&](const std::string& name, auto value) {
    page::Bars bars{.name = name, .values = {}};
    for (const ScalingRow& row : shown_rows) bars.values.push_back(value(row));
    chart.bars.push_back(std::move(bars));
  };
  if (!has_parts) {
    chart.note = "The runs have no telemetry, so that only the wait for sums is known by itself.";
    add("all but waiting for sums", [](const ScalingRow& row) { return row.step_ms.value - row.exposed_ms; });
    add("waiting for sums", [](const ScalingRow& row) { return row.exposed_ms; });
    return chart;
  }
  chart.note =
      "Medians of the steps, and of these the mean of the ranks; reduce is what backward didn't hide.";
  add("data", [](const ScalingRow& row) { return row.parts->data; });
  add("forward", [](const ScalingRow& row) { return row.parts->forward; });
  add("backward", [](const ScalingRow& row) { return row.parts->backward; });
  add("reduce", [](const ScalingRow& row) { return row.parts->reduce; });
  add("commit", [](const ScalingRow& row) { return row.parts->commit; });
  add("optimizer", [](const ScalingRow& row) { return row.parts->optimizer; });
  return chart;
}

LineChart shares_chart(const ScalingReport& report) {
  LineChart chart{.title = "Shares over time",
                  .note = concat("Grains of a step, by rank, in the last run with ",
                                 ranks_text(report.options.ranks.back()), "."),
                  .x_title = "step",
                  .y_title = "grains",
                  .stacked = true,
                  .stepped = true};
  std::size_t ranks = 0;
  for (const ShareChange& change : report.shares) ranks = std::max(ranks, change.shares.size());
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    Line drawn{.name = concat("rank ", rank), .points = {}};
    for (const ShareChange& change : report.shares)
      drawn.points.push_back({static_cast<double>(change.step),
                              rank < change.shares.size() ? static_cast<double>(change.shares[rank]) : 0.0});
    Point last = drawn.points.back();
    last.x = std::max(last.x, static_cast<double>(report.options.steps));
    drawn.points.push_back(last);
    chart.lines.push_back(std::move(drawn));
  }
  return chart;
}

page::Table table_of(const std::vector<ScalingRow>& rows) {
  page::Table table{.columns = {"", "ranks", "step (ms)", "least to most", "samples/s", "efficiency",
                                "ceiling (ms)", "of the ceiling", "exposed (ms)", "model (ms)"},
                    .rows = {}};
  const auto between = [](const Range& range) {
    return concat(short_number(range.low), " to ", short_number(range.high));
  };
  for (const ScalingRow& row : rows) {
    std::vector<std::string> cells = {row.simulated ? "simulated" : "measured",
                                      concat(row.size.ranks),
                                      short_number(row.step_ms.value),
                                      between(row.step_ms),
                                      short_number(row.samples_per_second.value),
                                      percent(row.efficiency.value)};
    if (row.simulated) {
      cells.insert(cells.end(), {"", "", "", between(row.step_ms)});
    } else {
      cells.push_back(short_number(row.ceiling_step_ms.value));
      cells.push_back(percent(row.fraction_of_ceiling.value));
      cells.push_back(short_number(row.exposed_ms));
      cells.push_back(row.predicted_step_ms ? between(*row.predicted_step_ms) : "");
    }
    table.rows.push_back({std::move(cells), row.simulated});
  }
  return table;
}

void add_mode(page::Page& page, const ScalingReport& report, ScalingMode mode) {
  const std::vector<ScalingRow> rows = rows_in(report, mode);
  page.heading(mode == ScalingMode::strong ? "Strong scaling" : "Weak scaling");
  page.text(mode == ScalingMode::strong
                ? concat("The job's ", report.batch, " samples a step, whatever the ranks.")
                : concat(report.batch, " samples a step for each rank."));
  page.table(table_of(rows));
  page.chart(efficiency_chart(rows));
  page.chart(throughput_chart(report, rows));
  page.chart(parts_chart(rows));
}

/// Of the largest size measured.
std::vector<page::Figure> headline(const ScalingReport& report) {
  const ScalingRow* last = nullptr;
  for (const ScalingRow& row : report.rows)
    if (row.mode == ScalingMode::strong && !row.simulated) last = &row;
  if (last == nullptr) return {};
  const std::string at = concat("at ", ranks_text(last->size.ranks));
  const auto between = [&](const Range& range) {
    return concat(percent(range.low), " to ", percent(range.high));
  };
  return {{concat("scaling efficiency ", at), percent(last->efficiency.value), between(last->efficiency)},
          {concat("of the ceiling ", at), percent(last->fraction_of_ceiling.value),
           between(last->fraction_of_ceiling)},
          {concat("samples per second ", at), short_number(last->samples_per_second.value),
           concat(short_number(last->step_ms.value), " ms a step")}};
}

void add_model(page::Page& page, const ScalingReport& report) {
  page.heading("Fitted coefficients");
  page::Table table{.columns = {"coefficient", "value", "error"}, .rows = {}};
  for (const Coefficient& each : coefficients_of(report.model))
    table.rows.push_back({{each.name, each.value, each.error}});
  if (!table.rows.empty()) page.table(table);
  for (const std::string& missing : what_is_missing(report.model)) page.text(missing);
}

}  // namespace

std::string page_of(const ScalingReport& report) {
  page::Page page(concat(report.job_name, ": what each further rank is worth"));
  page.text(describe(report));
  page.text(describe(report.machine));
  page.figures(headline(report));
  add_mode(page, report, ScalingMode::strong);
  if (report.options.weak) add_mode(page, report, ScalingMode::weak);
  for (const std::string& doubt : doubts_of(report)) page.text(doubt);
  if (!report.shares.empty()) {
    page.heading("Shares");
    page.chart(shares_chart(report));
  }
  add_model(page, report);
  return page.html();
}

}  // namespace paceline::bench
