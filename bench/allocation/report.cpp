#include "allocation/report.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "allreduce/table.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr double gib = 1 << 30, mib = 1 << 20;

std::string percent(double fraction) {
  return concat(short_number(fraction * 100), "%");
}

std::string or_dash(const std::optional<double>& figure, double unit = 1) {
  return figure ? short_number(*figure * unit) : "-";
}

std::string cells(const std::string& name, const std::vector<std::string>& values, int width) {
  char text[128];
  std::snprintf(text, sizeof text, "  %-22s", name.c_str());
  std::string line = text;
  for (const std::string& value : values) {
    std::snprintf(text, sizeof text, "%*s", width, value.c_str());
    line += text;
  }
  return line + "\n";
}

/// "0.58 (0.75)": measured, and beside it what was published.
std::string beside(const std::optional<double>& measured, double was_published) {
  return concat(or_dash(measured), " (", was_published, ")");
}

double rate_of(const WayFigures& way) {
  return way.runs > 0 ? static_cast<double>(way.failures) / static_cast<double>(way.runs) : 0;
}

json or_null(const std::optional<double>& figure) {
  return figure ? json(*figure) : json();
}

json to_json(const Spread& spread) {
  return {{"count", spread.count},
          {"median", spread.median},
          {"p90", spread.p90},
          {"least", spread.least},
          {"most", spread.most}};
}

json to_json(const RunTotals& totals) {
  const ResourceEfficiency eta = resource_efficiency(totals);
  return {{"useful_samples", totals.useful_samples},
          {"energy_j", or_null(totals.energy_j)},
          {"memory_byte_s", totals.memory_byte_s},
          {"samples_per_joule", or_null(eta.samples_per_joule)},
          {"samples_per_byte_s", or_null(eta.samples_per_byte_s)}};
}

json to_json(const JobRun& run) {
  return {{"completed", run.completed},   {"seconds", run.seconds},       {"cost", run.cost},
          {"faults", run.faults},         {"launches", run.launches},     {"repairs", run.repairs},
          {"resizes", run.resizes},       {"rebalances", run.rebalances}, {"why", run.why},
          {"totals", to_json(run.totals)}};
}

json to_json(const WayFigures& way) {
  const PublishedWay paper = published(way.way);
  return {{"way", name_of(way.way)},
          {"runs", way.runs},
          {"failures", way.failures},
          {"failure_rate", rate_of(way)},
          {"failure_rate_low", way.failure_rate.low},
          {"failure_rate_high", way.failure_rate.high},
          {"seconds", to_json(way.seconds)},
          {"cost", to_json(way.cost)},
          {"time_ratio", or_null(way.time_ratio)},
          {"cost_ratio", or_null(way.cost_ratio)},
          {"performance_score", or_null(way.score)},
          {"resource_efficiency", to_json(way.totals)},
          {"faults", way.faults},
          {"launches", way.launches},
          {"repairs", way.repairs},
          {"resizes", way.resizes},
          {"rebalances", way.rebalances},
          {"published",
           {{"time_ratio", paper.time}, {"cost_ratio", paper.cost}, {"failure_rate", paper.failures}}}};
}

}  // namespace

std::string calibration_text(const JobsReport& report, const AllocationOptions& options) {
  const double reference_s = report.runs.reference.seconds;
  std::string text =
      concat("undisturbed, the job takes ", short_number(reference_s),
             " s; a run fails if it takes longer than ", short_number(report.runs.deadline_s()),
             " s\nstatic: ", short_number(report.slow_only_s), " s with rank ", options.slow.rank,
             " held back to 1/", options.slow.factor, " of its speed, and for each fault ",
             short_number(report.costs.restart_s), " s to start again, and steps of ",
             short_number(report.costs.step_s * 1e3), " ms since the last checkpoint\n");
  text += concat("so ", short_number(report.calibration.mean), " faults in a run let static allocation fail ",
                 percent(report.calibration.predicted),
                 " of the time (wanted: ", percent(options.wanted_failures), ")\n");
  return text;
}

std::string table_of(const JobsReport& report) {
  const std::vector<WayFigures> ways = report.figures();
  const auto row = [&ways](const std::string& name, auto text_of) {
    std::vector<std::string> values;
    for (const WayFigures& way : ways) values.push_back(text_of(way));
    return cells(name, values, 26);
  };
  std::string text =
      concat("\njobs: faults and a slow rank, by way of allocation; in brackets what was published\n",
             "undisturbed in turn with them: ", short_number(report.runs.reference.seconds), " s (median of ",
             report.references, "), so a run fails beyond ", short_number(report.runs.deadline_s()), " s\n");
  text += row("", [](const WayFigures& way) { return std::string(name_of(way.way)); });
  text += row("runs", [](const WayFigures& way) { return concat(way.runs); });
  text += row("time (s)", [](const WayFigures& way) { return short_number(way.seconds.median); });
  text += row("  to static",
              [](const WayFigures& way) { return beside(way.time_ratio, published(way.way).time); });
  text += row("cost", [](const WayFigures& way) {
    char cost[32];
    std::snprintf(cost, sizeof cost, "%.3g", way.cost.median);
    return std::string(cost);
  });
  text += row("  to static",
              [](const WayFigures& way) { return beside(way.cost_ratio, published(way.way).cost); });
  text += row("failed", [](const WayFigures& way) {
    return concat(way.failures, ", ", percent(rate_of(way)), " (", percent(published(way.way).failures), ")");
  });
  text += row("  95% confidence", [](const WayFigures& way) {
    return concat(percent(way.failure_rate.low), " to ", percent(way.failure_rate.high));
  });
  text += row("P_m", [](const WayFigures& way) { return or_dash(way.score); });
  text += row("samples per joule", [](const WayFigures& way) {
    return or_dash(resource_efficiency(way.totals).samples_per_joule);
  });
  text += row("samples per GiB s", [](const WayFigures& way) {
    return or_dash(resource_efficiency(way.totals).samples_per_byte_s, gib);
  });
  text +=
      row("faults, launches", [](const WayFigures& way) { return concat(way.faults, ", ", way.launches); });
  text +=
      row("repairs, resizes", [](const WayFigures& way) { return concat(way.repairs, ", ", way.resizes); });
  text += row("rebalances", [](const WayFigures& way) { return concat(way.rebalances); });
  return text;
}

std::string table_of(const TasksReport& report) {
  std::string text =
      concat("\ntasks: one grain each, from as many jobs of one rank at once; a worker has ",
             short_number(report.memory.worker_resident / mib), " MiB (VmRSS), a job ",
             short_number(report.memory.job_anonymous / mib),
             " MiB of its own; one job alone: ", short_number(report.grains_per_second_alone), " a second\n");
  text +=
      cells("at once", {"tasks/s", "published", "P_m", "samples/J", "samples/GiB s", "GiB", "over s"}, 14);
  for (const TasksFigures& row : report.rows) {
    if (!row.skipped.empty()) {
      text += concat("  ", row.tasks, ": left out, since ", row.skipped, "\n");
      continue;
    }
    const ResourceEfficiency eta = resource_efficiency(row.totals);
    text += cells(concat(row.tasks),
                  {short_number(row.grains_per_second), or_dash(published_tasks_per_second(row.tasks)),
                   or_dash(row.score), or_dash(eta.samples_per_joule), or_dash(eta.samples_per_byte_s, gib),
                   short_number(row.bytes / gib), short_number(row.seconds)},
                  14);
  }
  return text;
}

json to_json(const JobsReport& report) {
  json ways = json::array(), runs = json::object();
  for (const WayFigures& way : report.figures()) {
    ways.push_back(to_json(way));
    json own = json::array();
    for (const JobRun& run : report.runs.by_way.at(static_cast<std::size_t>(way.way)))
      own.push_back(to_json(run));
    runs[name_of(way.way)] = std::move(own);
  }
  return {{"reference",
           {{"seconds", report.runs.reference.seconds},
            {"cost", report.runs.reference.cost},
            {"runs", report.references},
            {"deadline_s", report.runs.deadline_s()}}},
          {"calibration",
           {{"undisturbed_s", report.undisturbed_s},
            {"static_s", report.slow_only_s},
            {"step_s", report.costs.step_s},
            {"restart_s", report.costs.restart_s},
            {"faults_per_run", report.calibration.mean},
            {"predicted_failure_rate", report.calibration.predicted}}},
          {"ways", std::move(ways)},
          {"runs", std::move(runs)}};
}

json to_json(const TasksReport& report) {
  json rows = json::array();
  for (const TasksFigures& row : report.rows) {
    if (!row.skipped.empty()) {
      rows.push_back({{"tasks", row.tasks}, {"skipped", row.skipped}});
      continue;
    }
    rows.push_back({{"tasks", row.tasks},
                    {"skipped", nullptr},
                    {"grains_per_second", row.grains_per_second},
                    {"seconds", row.seconds},
                    {"anonymous_bytes", row.bytes},
                    {"performance_score", or_null(row.score)},
                    {"resource_efficiency", to_json(row.totals)},
                    {"published_tasks_per_second", or_null(published_tasks_per_second(row.tasks))}});
  }
  return {{"worker_resident_bytes", report.memory.worker_resident},
          {"job_anonymous_bytes", report.memory.job_anonymous},
          {"grains_per_second_alone", report.grains_per_second_alone},
          {"rows", std::move(rows)}};
}

json to_json(const AllocationOptions& options) {
  return {{"runs", options.runs},
          {"seed", options.seed},
          {"ranks", options.ranks},
          {"steps", options.steps},
          {"checkpoint_steps", options.checkpoint_steps},
          {"model", options.model},
          {"batch", options.batch},
          {"images", options.images},
          {"slow_rank", options.slow.rank},
          {"slow_factor", options.slow.factor},
          {"objective", options.objective},
          {"price", options.price},
          {"static_failures", options.wanted_failures},
          {"grain", options.grain}};
}

}  // namespace paceline::bench
