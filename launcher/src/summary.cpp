#include "summary.hpp"

#include <nlohmann/json.hpp>

#include "format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

Json eval_json(const std::optional<EvalMessage>& eval) {
  if (!eval) return nullptr;
  Json json = {{"loss", eval->loss}};
  if (eval->accuracy) json["accuracy"] = *eval->accuracy;
  if (eval->perplexity) json["perplexity"] = *eval->perplexity;
  return json;
}

/// What is known of a run that did not finish: how far it came.
FinishedMessage figures(const Outcome& outcome) {
  if (outcome.finished) return *outcome.finished;
  FinishedMessage known;
  if (!outcome.progress) return known;
  known.steps = outcome.progress->step;
  known.epochs = std::max<std::int64_t>(0, outcome.progress->epoch - 1);
  known.train_loss = outcome.progress->epoch_loss;
  return known;
}

void add_failure(Json& json, const FailureReport& failure) {
  json["error"] = failure.sentence;
  json["rank"] = failure.rank >= 0 ? Json(failure.rank) : Json(nullptr);
  json["node"] = failure.node.empty() ? Json(nullptr) : Json(failure.node);
  json["last_words"] = failure.last_words;
}

/// A key for each figure, also where it isn't known: null.
Json efficiency_json(const std::optional<RunTotals>& totals) {
  if (!totals) return nullptr;
  const auto or_null = [](const std::optional<double>& figure) { return figure ? Json(*figure) : Json(); };
  const ResourceEfficiency eta = resource_efficiency(*totals);
  return {{"useful_samples", totals->useful_samples},
          {"energy_j", or_null(totals->energy_j)},
          {"memory_byte_s", totals->memory_byte_s},
          {"samples_per_joule", or_null(eta.samples_per_joule)},
          {"samples_per_byte_s", or_null(eta.samples_per_byte_s)}};
}

void add_training(Json& json, const Outcome& outcome) {
  const FinishedMessage known = figures(outcome);
  json["steps"] = known.steps;
  json["epochs"] = known.epochs;
  json["samples"] = known.samples;
  json["seconds"] = known.seconds;
  json["samples_per_second"] = known.seconds > 0 ? static_cast<double>(known.samples) / known.seconds : 0.0;
  json["step_ms"] = {{"p50", known.step_ms.p50}, {"p90", known.step_ms.p90}, {"p99", known.step_ms.p99}};
  json["allreduce_ms"] = {{"p50", known.allreduce_ms.p50}};
  json["exposed_allreduce_ms"] = {{"p50", known.exposed_allreduce_ms.p50}};
  json["data_wait_ms"] = {{"p50", known.data_wait_ms.p50}};
  json["data_wait_share"] = known.data_wait_share;
  json["train_loss"] = known.train_loss;
  json["eval"] = eval_json(known.eval ? known.eval : outcome.eval);
  json["weights_sha256"] = known.weights_sha256;
  json["peak_memory_bytes"] = known.peak_memory_bytes;
  json["rebalances"] = known.rebalances;
  json["resizes"] = outcome.resizes;
  json["repairs"] = outcome.repairs;
}

}  // namespace

std::string summary_json(const RunFacts& facts, const Outcome& outcome) {
  Json json;
  json["status"] = outcome.status;
  if (outcome.failure) add_failure(json, *outcome.failure);
  json["ranks"] = outcome.ranks.value_or(facts.ranks);
  json["run_dir"] = facts.run_dir;
  if (facts.action == "train") {
    json["generation"] = outcome.generation;
    add_training(json, outcome);
    json["resource_efficiency"] = efficiency_json(facts.totals);
  } else {
    json["samples"] = outcome.eval ? outcome.eval->samples : 0;
    json["eval"] = eval_json(outcome.eval);
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string summary_text(const RunFacts& facts, const Outcome& outcome) {
  if (!outcome.finished) return outcome.status;
  const FinishedMessage& run = *outcome.finished;
  const auto count = [](std::int64_t number, const char* what) {
    return concat(with_commas(static_cast<double>(number)), " ", what, number == 1 ? "" : "s");
  };
  const double rate = run.seconds > 0 ? static_cast<double>(run.samples) / run.seconds : 0;
  // A job that ends within its first epoch has none to count.
  const std::string epochs = run.epochs > 0 ? concat(count(run.epochs, "epoch"), ", ") : "";
  std::string text =
      concat(run.status, ": ", epochs, count(run.steps, "step"), ", ", count(run.samples, "sample"), " in ",
             fixed(run.seconds, 1), " s (", with_commas(rate), " samples/s)\n");
  text += concat("step ", fixed(run.step_ms.p50, 1), " ms (p90 ", fixed(run.step_ms.p90, 1), ", p99 ",
                 fixed(run.step_ms.p99, 1), "); of that waiting for the all-reduce ",
                 fixed(run.exposed_allreduce_ms.p50, 2), " ms, for data ", fixed(run.data_wait_ms.p50, 2),
                 " ms\n");
  text += concat("train loss ", fixed(run.train_loss, 3));
  const std::optional<EvalMessage>& eval = run.eval ? run.eval : outcome.eval;
  if (eval) text += concat(", ", eval_figures(*eval));
  text += concat("\nmodel ", facts.run_dir, "/model.safetensors, sha256 of the weights ",
                 run.weights_sha256.substr(0, 12));
  return text;
}

std::string failure_text(const FailureReport& failure, const std::string& log_path) {
  if (failure.elsewhere || failure.rank < 0) return failure.sentence;
  if (failure.last_words.empty())
    return failure.explained ? failure.sentence : concat(failure.sentence, "; it said nothing");
  std::string text = concat(failure.sentence, "; its last words (", log_path, "):");
  for (const std::string& line : failure.last_words) text += concat("\n  ", line);
  return text;
}

Outcome failed_outcome(const Error& error) {
  Outcome outcome;
  outcome.failure = {.rank = error.rank, .node = "", .sentence = error.message};
  return outcome;
}

}  // namespace paceline
