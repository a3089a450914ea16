#include "scaling/report.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "allreduce/table.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

std::string cells_of(const std::vector<std::string>& cells, const std::vector<int>& widths) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    char text[96];
    std::snprintf(text, sizeof text, "%*s", widths[i], cells[i].c_str());
    line += text;
  }
  return line;
}

std::string line_of(const std::vector<std::string>& cells, const std::vector<int>& widths) {
  return cells_of(cells, widths) + "\n";
}

std::string spread(const Range& range) {
  return concat(short_number(range.low), "..", short_number(range.high));
}

std::string row_text(const ScalingRow& row, const std::vector<int>& widths) {
  std::vector<std::string> cells = {concat(row.size.ranks), short_number(row.step_ms.value),
                                    spread(row.step_ms), short_number(row.samples_per_second.value),
                                    percent(row.efficiency.value)};
  if (row.simulated) return concat(cells_of(cells, widths), "  simulated\n");
  cells.push_back(short_number(row.ceiling_step_ms.value));
  cells.push_back(percent(row.fraction_of_ceiling.value));
  cells.push_back(concat(percent(row.fraction_of_ceiling.low), "..", percent(row.fraction_of_ceiling.high)));
  cells.push_back(row.predicted_step_ms ? short_number(row.predicted_step_ms->value) : "-");
  return line_of(cells, widths);
}

std::string mode_text(const ScalingReport& report, ScalingMode mode) {
  const std::vector<int> widths = {7, 10, 16, 11, 12, 11, 9, 18, 10};
  std::string text = mode == ScalingMode::strong
                         ? concat("\nstrong scaling: ", report.batch, " samples a step\n")
                         : concat("\nweak scaling: ", report.batch, " samples a step for each rank\n");
  text += line_of(
      {"ranks", "step", "least..most", "samples/s", "efficiency", "ceiling", "of it", "least..most", "model"},
      widths);
  text += line_of({"", "(ms)", "(ms)", "", "", "(ms)", "", "", "(ms)"}, widths);
  for (const ScalingRow& row : report.rows)
    if (row.mode == mode) text += row_text(row, widths);
  return text;
}

std::string parts_text(const ScalingReport& report) {
  const std::vector<int> widths = {7, 7, 10, 10, 10, 10, 10, 11, 10};
  std::string text;
  for (const ScalingRow& row : report.rows) {
    if (!row.parts) continue;
    text += line_of(
        {name_of(row.mode), concat(row.size.ranks), short_number(row.parts->data),
         short_number(row.parts->forward), short_number(row.parts->backward), short_number(row.parts->reduce),
         short_number(row.parts->commit), short_number(row.parts->optimizer), short_number(row.exposed_ms)},
        widths);
  }
  if (text.empty()) return text;
  return concat(
      "\nparts of a step (ms)\n",
      line_of({"", "ranks", "data", "forward", "backward", "reduce", "commit", "optimizer", "exposed"},
              widths),
      text);
}

std::string model_text(const ScalingReport& report) {
  std::string text = "\nfitted coefficients\n";
  char line[160];
  for (const Coefficient& each : coefficients_of(report.model)) {
    std::snprintf(line, sizeof line, "  %-46s%12s   %s\n", each.name.c_str(), each.value.c_str(),
                  each.error.c_str());
    text += line;
  }
  for (const std::string& missing : what_is_missing(report.model)) text += concat("  ", missing, "\n");
  for (const ScalingRow& row : report.rows)
    // One rank is the same in both modes.
    if (row.foretold_step_ms && (row.mode == ScalingMode::strong || row.size.ranks > 1))
      text += concat("  ", name_of(row.mode), ", ", row.size.ranks, row.size.ranks == 1 ? " rank" : " ranks",
                     ": from the other sizes the model foretells ", short_number(row.foretold_step_ms->value),
                     " ms (", spread(*row.foretold_step_ms), "), measured ", short_number(row.step_ms.value),
                     "\n");
  return text;
}

std::string earlier_text(const ScalingReport& report) {
  if (!report.earlier) return "";
  const EarlierRun& earlier = *report.earlier;
  std::string text = concat("\ncompared with ", shown(report.options.compare), "\n");
  if (earlier.processor != report.machine.processor || earlier.cores != report.machine.cores)
    text += concat("  that was another machine: ", shown(earlier.processor), ", ", earlier.cores, " cores\n");
  if (earlier.model != report.model_name || earlier.threads != report.options.threads)
    text += concat("  that was another job: ", shown(earlier.model), ", ", earlier.threads,
                   " threads for each rank\n");
  bool any = false;
  for (const ScalingRow& row : report.rows) {
    const EarlierRow* before = earlier.row_like(row);
    if (before == nullptr) continue;
    any = true;
    text += concat("  ", name_of(row.mode), ", ", row.size.ranks,
                   row.size.ranks == 1 ? " rank: " : " ranks: ", short_number(before->step_ms), " ms then, ",
                   short_number(row.step_ms.value), " ms now (", spread(row.step_ms),
                   "): ", percent(before->step_ms / row.step_ms.value), " of the speed\n");
  }
  return any ? text : concat(text, "  none of these sizes was measured then\n");
}

// ---- JSON ----

void add(json& object, const std::string& name, const Range& range) {
  object[name] = range.value;
  object[name + "_low"] = range.low;
  object[name + "_high"] = range.high;
}

json to_json(const StepParts& parts) {
  return {{"data", parts.data},     {"forward", parts.forward}, {"backward", parts.backward},
          {"reduce", parts.reduce}, {"commit", parts.commit},   {"optimizer", parts.optimizer}};
}

json to_json(const ScalingRow& row) {
  json entry = {{"mode", name_of(row.mode)},
                {"ranks", row.size.ranks},
                {"samples_per_step", row.size.batch},
                {"simulated", row.simulated}};
  add(entry, "step_ms", row.step_ms);
  add(entry, "samples_per_second", row.samples_per_second);
  add(entry, "efficiency", row.efficiency);
  if (row.simulated) return entry;
  add(entry, "ceiling_step_ms", row.ceiling_step_ms);
  add(entry, "fraction_of_ceiling", row.fraction_of_ceiling);
  entry["ceiling_overlap"] = row.ceiling_overlap;
  entry["exposed_ms"] = row.exposed_ms;
  entry["step_ms_by_round"] = row.step_ms_by_round;
  if (row.parts) entry["parts"] = to_json(*row.parts);
  if (row.predicted_step_ms) add(entry, "predicted_step_ms", *row.predicted_step_ms);
  if (row.foretold_step_ms) add(entry, "foretold_step_ms", *row.foretold_step_ms);
  return entry;
}

json to_json(const Estimate& estimate) {
  return {{"value", estimate.value}, {"low", estimate.low}, {"high", estimate.high}};
}

json to_json(const FittedValue& value) {
  json entry = {{"value", value.value}, {"standard_error", nullptr}};
  if (value.standard_error) entry["standard_error"] = *value.standard_error;
  return entry;
}

json to_json(const ScalingModel& model) {
  json entry = {{"step_law", nullptr}, {"scalability_law", nullptr}};
  if (model.step)
    entry["step_law"] = {{"fixed_ms", to_json(model.step->fixed_ms)},
                         {"ms_per_sample", to_json(model.step->ms_per_sample)},
                         {"rest_ms", to_json(model.step->rest_ms)},
                         {"alpha_local_ms", to_json(model.step->alpha_local_ms)},
                         {"beta_local_ms", to_json(model.step->beta_local_ms)},
                         {"gamma", to_json(model.step->gamma)}};
  if (model.law)
    entry["scalability_law"] = {{"one_rank_samples_per_second", to_json(model.law->one_rank)},
                                {"contention", to_json(model.law->contention)},
                                {"coherence", to_json(model.law->coherence)}};
  entry["missing"] = what_is_missing(model);
  return entry;
}

Coefficient coefficient(const std::string& name, const Estimate& estimate) {
  char value[32];
  std::snprintf(value, sizeof value, "%.4g", estimate.value);
  char error[96];
  std::snprintf(error, sizeof error, "%.4g to %.4g", estimate.low, estimate.high);
  return {name, value, error};
}

Coefficient coefficient(const std::string& name, const FittedValue& fitted) {
  char value[32];
  std::snprintf(value, sizeof value, "%.4g", fitted.value);
  char error[64] = "error not known";
  if (fitted.standard_error) std::snprintf(error, sizeof error, "+- %.2g", *fitted.standard_error);
  return {name, value, error};
}

}  // namespace

std::string percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f%%", fraction * 100);
  return text;
}

std::vector<Coefficient> coefficients_of(const ScalingModel& model) {
  std::vector<Coefficient> all;
  if (model.law) {
    all.push_back(coefficient("scalability law: one rank (samples/s)", model.law->one_rank));
    all.push_back(coefficient("scalability law: contention", model.law->contention));
    all.push_back(coefficient("scalability law: coherence", model.law->coherence));
  }
  if (model.step) {
    all.push_back(coefficient("step law: computing, fixed (ms)", model.step->fixed_ms));
    all.push_back(coefficient("step law: computing, each sample (ms)", model.step->ms_per_sample));
    all.push_back(coefficient("step law: the rest (ms)", model.step->rest_ms));
    all.push_back(coefficient("step law: synchronising two ranks (ms)", model.step->alpha_local_ms));
    all.push_back(coefficient("step law: each further rank (ms)", model.step->beta_local_ms));
    all.push_back(coefficient("step law: overlap, gamma", model.step->gamma));
  }
  return all;
}

std::vector<std::string> what_is_missing(const ScalingModel& model) {
  std::vector<std::string> all;
  if (!model.law) all.push_back(concat("no scalability law: ", model.no_law));
  if (!model.step) all.push_back(concat("no step law: ", model.no_step));
  return all;
}

std::string describe(const ScalingReport& report) {
  return concat(report.job_name, ": ", report.model_name, ", ", report.batch, " samples a step, ",
                report.options.threads, report.options.threads == 1 ? " thread" : " threads",
                " for each rank; ", report.options.rounds, report.options.rounds == 1 ? " round" : " rounds",
                " of ", report.options.steps, " steps");
}

std::vector<std::string> doubts_of(const ScalingReport& report) {
  constexpr double least_overlap = 0.5;
  std::vector<std::string> doubts;
  for (const ScalingRow& row : report.rows)
    if (!row.simulated && row.ceiling_overlap < least_overlap)
      doubts.push_back(concat("the ceiling of ", name_of(row.mode), " scaling at ", row.size.ranks,
                              " ranks may be too fast: its trainings were all at work during only ",
                              percent(row.ceiling_overlap), " of a training; more --steps mend that"));
  return doubts;
}

std::string text_of(const ScalingReport& report) {
  std::string text = mode_text(report, ScalingMode::strong);
  if (report.options.weak) text += mode_text(report, ScalingMode::weak);
  for (const std::string& doubt : doubts_of(report)) text += concat("  ", doubt, "\n");
  text += parts_text(report);
  text += model_text(report);
  return text + earlier_text(report);
}

json to_json(const ScalingReport& report) {
  const ScalingOptions& options = report.options;
  json all = {{"machine", to_json(report.machine)},
              {"settings",
               {{"job", report.job_name},
                {"job_file", options.job_file},
                {"model", report.model_name},
                {"set", options.sets},
                {"ranks", options.ranks},
                {"samples_per_step", report.batch},
                {"rounds", options.rounds},
                {"steps", options.steps},
                {"threads", options.threads}}},
              {"rows", json::array()},
              {"model", to_json(report.model)},
              {"shares", json::array()}};
  for (const ScalingRow& row : report.rows) {
    all["rows"].push_back(to_json(row));
    const EarlierRow* before = report.earlier ? report.earlier->row_like(row) : nullptr;
    if (before != nullptr) all["rows"].back()["earlier_step_ms"] = before->step_ms;
  }
  for (const ShareChange& change : report.shares)
    all["shares"].push_back({{"step", change.step}, {"shares", change.shares}});
  return all;
}

}  // namespace paceline::bench
