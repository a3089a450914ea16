#include "seeing/report_page.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "format.hpp"
#include "paceline/base/text.hpp"
#include "paceline/page/page.hpp"
#include "seeing/report_parts.hpp"

namespace paceline {
namespace {

using page::Figure;
using page::LineChart;
using page::Page;

std::string counted(std::int64_t number, const char* what) {
  return concat(with_commas(static_cast<double>(number)), " ", what, number == 1 ? "" : "s");
}

double rate_of(const ReportData& data) {
  if (data.training_s <= 0) return 0;
  return static_cast<double>(data.steps * data.batch) / data.training_s;
}

std::vector<Figure> figures(const ReportData& data) {
  std::vector<Figure> all;
  all.push_back({"state", data.end.state, data.end.error});
  all.push_back(
      {"steps", with_commas(static_cast<double>(data.steps)),
       data.steps_again > 0 ? concat(counted(data.steps_again, "step"), " done again after a resume") : ""});
  all.push_back(
      {"training", clock_time(data.training_s),
       data.paused_s > 0 ? concat(clock_time(data.paused_s), " in which nobody trained not counted") : ""});
  if (data.training_s > 0 && data.batch > 0)
    all.push_back({"samples per second", with_commas(rate_of(data)), concat("of ", data.batch, " a step")});
  if (data.end.train_loss) all.push_back({"training loss", fixed(*data.end.train_loss, 4), ""});
  if (data.end.eval_loss)
    all.push_back(
        {"evaluation loss", fixed(*data.end.eval_loss, 4),
         data.end.eval_accuracy ? concat("accuracy ", fixed(*data.end.eval_accuracy * 100, 1), "%") : ""});
  return all;
}

/// The curve, with what lies between the least and the greatest where a point stands for several values.
page::Line curve(std::string name, const Series& series) {
  page::Line line{std::move(name), {}};
  const bool is_exact = series.values_per_point() == 1;
  for (const Series::Point& point : series.points()) {
    if (is_exact)
      line.points.push_back({point.x, point.mean});
    else
      line.points.push_back({point.x, point.mean, point.low, point.high});
  }
  line.spread = page::Spread::band;
  return line;
}

std::string per_point(const Series& series) {
  if (series.values_per_point() == 1) return "";
  return concat("Each point is the mean of ", series.values_per_point(),
                " steps; the band goes from least to greatest.");
}

/// Marks of generations, as long as they can be told apart.
std::vector<page::Mark> generation_marks(const ReportData& data, bool by_minutes) {
  constexpr std::size_t most = 12;
  std::vector<page::Mark> marks;
  for (const RunEvent& event : data.history.events) {
    if (event.kind != EventKind::generation || !still_counts(data.history, event)) continue;
    const auto minutes = data.minutes.find(std::max<std::int64_t>(1, event.after_step));
    if (by_minutes && minutes == data.minutes.end()) continue;
    marks.push_back(
        {by_minutes ? minutes->second : static_cast<double>(event.after_step), counted(event.ranks, "rank")});
  }
  if (marks.size() > most) marks.clear();
  return marks;
}

void add_curves(Page& page, const ReportData& data) {
  if (data.loss.points().empty()) {
    page.text("No step was committed: there is nothing to draw.");
    return;
  }
  page.heading("Training");
  LineChart loss{"Loss", per_point(data.loss), "step", "loss"};
  loss.lines = {curve("training loss", data.loss)};
  page::Line evaluations{"evaluation loss", {}, page::Look::points};
  for (const RunEvent& event : data.history.events)
    if (event.kind == EventKind::evaluation && event.loss && still_counts(data.history, event))
      evaluations.points.push_back({static_cast<double>(event.after_step), *event.loss});
  std::ranges::stable_sort(evaluations.points, {}, &page::Point::x);
  if (!evaluations.points.empty()) loss.lines.push_back(std::move(evaluations));
  page.chart(loss);
  LineChart learning{"Learning rate", "", "step", "learning rate"};
  learning.lines = {curve("learning rate", data.learning_rate)};
  learning.stepped = true;
  page.chart(learning);
  LineChart rate{"Throughput", per_point(data.rate), "minutes since the first commit", "samples per second"};
  rate.lines = {curve("samples per second", data.rate)};
  rate.marks = generation_marks(data, true);
  page.chart(rate);
}

void add_sizes(Page& page, const ReportData& data) {
  if (data.sizes.empty()) return;
  page.heading("Scaling");
  const std::int64_t base = data.sizes.front().ranks;
  page.text(concat(
      "Throughput at each number of ranks that the run had, by the median time from one commit to the next. "
      "The efficiency E(N) is the throughput of a rank beside that at the smallest size visited, ",
      counted(base, "rank"), ": with ranks of unequal speed it is of those that happened to be there."));
  if (data.sizes.size() > 1) {
    LineChart chart{"Efficiency E(N)", "", "ranks", "E(N)"};
    chart.percent = true;
    page::Line measured{"measured", {}}, ideal{"ideal", {}, page::Look::dotted};
    for (const ReportSize& size : data.sizes) {
      const auto ranks = static_cast<double>(size.ranks);
      chart.x_ticks.push_back(ranks);
      measured.points.push_back({ranks, size.efficiency.value_or(std::numeric_limits<double>::quiet_NaN())});
      ideal.points.push_back({ranks, 1});
    }
    chart.lines = {std::move(measured), std::move(ideal)};
    page.chart(chart);
  }
  page::Table table{{"ranks", "steps", "median step ms", "samples per second", "E(N)"}, {}, 0};
  for (const ReportSize& size : data.sizes)
    table.rows.push_back({{std::to_string(size.ranks), with_commas(static_cast<double>(size.steps)),
                           size.step_s.value() ? fixed(*size.step_s.value() * 1e3, 1) : "-",
                           with_commas(size.samples_per_second),
                           size.efficiency ? concat(fixed(*size.efficiency * 100, 1), "%") : "-"}});
  page.table(table);
}

}  // namespace

std::string report_page(const ReportData& data) {
  const std::string name = data.history.run.empty() ? data.run_dir : data.history.run;
  Page page(concat("Paceline: ", name));
  page.text(concat("Run directory ", data.run_dir));
  page.figures(figures(data));
  add_curves(page, data);
  add_sizes(page, data);
  add_time_uses(page, data);
  add_costs(page, data);
  add_shares(page, data);
  add_events(page, data);
  add_workers(page, data);
  return page.html();
}

}  // namespace paceline
