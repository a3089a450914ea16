#include "run_record.hpp"

#include <fcntl.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"
#include "paceline/data/order.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {
namespace {

/// The run directory by its last two folders: "fashion-mnist/20261122T062943Z".
std::string run_name(const std::string& run_dir) {
  const std::filesystem::path path(run_dir);
  return (path.parent_path().filename() / path.filename()).string();
}

/// Not a function of the job: two runs of one job have different sums.
std::uint64_t draw_key() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

std::string metrics_line(const StepFigures& figures) {
  nlohmann::ordered_json line = {
      {"step", figures.step}, {"epoch", figures.epoch}, {"time", figures.time}, {"loss", figures.loss}};
  if (figures.accuracy) line["accuracy"] = *figures.accuracy;
  if (figures.perplexity) line["perplexity"] = *figures.perplexity;
  line["learning_rate"] = figures.learning_rate;
  line["gradient_norm"] = figures.gradient_norm;
  line["samples_per_second"] = figures.samples_per_second;
  return line.dump() + "\n";
}

}  // namespace

Result<JournalHeader> new_journal_header(const Job& job, const std::string& run_dir,
                                         const DatasetInfo& dataset) {
  PACELINE_ASSIGN(const std::uint64_t manifest, manifest_checksum(dataset.path));
  const OrderSpec order = shuffled_order(dataset, static_cast<std::uint64_t>(job.seed), job.batch.global,
                                         training_budget_bytes(job.data));
  JournalHeader header{.run = run_name(run_dir), .key = draw_key(), .order = {}};
  header.order["kind"] = "lanes";
  header.order["seed"] = job.seed;
  header.order["dataset"] = std::filesystem::absolute(dataset.path).lexically_normal().string();
  header.order["dataset_name"] = dataset.name;
  header.order["manifest"] = hex_word(manifest);
  header.order["samples"] = dataset.samples;
  header.order["batch_global"] = job.batch.global;
  header.order["lanes"] = order.lanes;
  header.order["lane_chunks"] = order.lane_chunks;
  if (dataset.kind == SampleKind::tokens) header.order["window"] = dataset.sample_shape.at(0);
  return header;
}

Result<RunRecord> RunRecord::create(const std::string& run_dir, const Clock& clock,
                                    const JournalHeader& header, const StepPlan& plan) {
  PACELINE_ASSIGN(JournalWriter journal,
                  JournalWriter::create(concat(run_dir, "/", journal_file), clock, header));
  RunRecord record(std::move(journal), plan);
  record.metrics_path_ = concat(run_dir, "/metrics.jsonl");
  record.metrics_.reset(
      ::open(record.metrics_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0644));
  if (!record.metrics_.valid()) return system_error(concat("cannot create ", record.metrics_path_));
  return record;
}

Status RunRecord::add(const StepsMessage& message) {
  for (const StepFigures& figures : message.steps) PACELINE_TRY(add(figures));
  return {};
}

Status RunRecord::add(const StepFigures& figures) {
  if (figures.step <= steps_) return {};
  const std::optional<std::uint64_t> consumed = parse_hex_word(figures.consumed);
  if (figures.step != steps_ + 1 || !consumed || figures.step > plan_.steps())
    return Error{ErrorCode::corrupt, concat("a worker reported step ", figures.step, " after step ", steps_,
                                            " of ", plan_.steps())};
  ++steps_;
  PACELINE_TRY(
      journal_.add(JournalStep{figures.step, figures.epoch, figures.first, figures.count, *consumed}));
  pending_metrics_ += metrics_line(figures);
  epoch_samples_ = figures.first == 0 ? figures.count : epoch_samples_ + figures.count;
  if (!plan_.ends_epoch(figures.step - 1)) return {};
  return journal_.add(JournalEpoch{figures.epoch, figures.step, epoch_samples_});
}

Status RunRecord::add(const EvalMessage& eval) {
  if (eval.epoch <= evaluated_epoch_) return {};
  evaluated_epoch_ = eval.epoch;
  return journal_.add(JournalEvaluation{eval.epoch, eval.samples, eval.loss, eval.accuracy});
}

Status RunRecord::add(const JournalGeneration& generation) {
  return journal_.add(generation);
}

Status RunRecord::end(const std::string& status, const std::string& error) {
  const Status written = flush();
  const Status ended = journal_.add(JournalEnd{status, steps_, error});
  return written.ok() ? ended : written;
}

Status RunRecord::flush() {
  PACELINE_TRY(journal_.flush());
  const std::string lines = std::exchange(pending_metrics_, {});
  return write_all(metrics_.get(), lines, metrics_path_);
}

}  // namespace paceline
