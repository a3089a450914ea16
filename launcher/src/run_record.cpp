#include "run_record.hpp"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"
#include "paceline/data/order.hpp"
#include "paceline/job/plan.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_metrics_bytes = std::size_t{16} << 30;

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
  if (figures.gradient_norm)
    line["gradient_norm"] = *figures.gradient_norm;
  else
    line["gradient_norm"] = nullptr;
  if (figures.loss_scale) line["loss_scale"] = *figures.loss_scale;
  line["samples_per_second"] = figures.samples_per_second;
  return line.dump() + "\n";
}

/// The metrics' file, and the last step that stands there.
struct Metrics {
  UniqueFd file;
  std::int64_t last_step = 0;
};

/// The lines of the steps up to `base_step`, without one that was not written to its end.
std::string metrics_to(std::string_view text, std::int64_t base_step, std::int64_t& last_step) {
  std::string kept;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(line.size());
    const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) continue;
    const auto step = json["step"].get<std::int64_t>();
    if (step > base_step || step <= last_step) continue;
    last_step = step;
    kept += line;
  }
  return kept;
}

/// A file of our own, into which the lines that still count are copied: whoever wrote to the one before may
/// still do so.
Result<Metrics> begin_metrics(const std::string& path, std::int64_t base_step) {
  Metrics metrics;
  std::string kept;
  if (base_step > 0) {
    const Result<std::string> text = read_file(path, most_metrics_bytes);
    if (text.ok()) kept = metrics_to(*text, base_step, metrics.last_step);
  }
  PACELINE_TRY(write_file_atomically(path, kept));
  metrics.file.reset(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_APPEND));
  if (!metrics.file.valid()) return system_error(concat("cannot open ", path));
  return metrics;
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

Result<RunRecord> RunRecord::begin(const std::string& run_dir, const Clock& clock,
                                   const JournalHeader& header, const StepPlan& plan) {
  std::error_code error;
  std::filesystem::create_directory(concat(run_dir, "/", journal_folder), error);
  if (error)
    return Error{ErrorCode::io,
                 concat("cannot make the folder ", run_dir, "/", journal_folder, ": ", error.message())};
  PACELINE_ASSIGN(JournalWriter journal,
                  JournalWriter::create(journal_path(run_dir, header.term), clock, header));
  RunRecord record(std::move(journal), header, plan);
  record.metrics_path_ = concat(run_dir, "/metrics.jsonl");
  PACELINE_ASSIGN(Metrics metrics,
                  begin_metrics(record.metrics_path_, header.follows ? header.follows->base_step : 0));
  record.metrics_ = std::move(metrics.file);
  record.metrics_steps_ = metrics.last_step;
  return record;
}

Result<RunRecord> RunRecord::create(const std::string& run_dir, const Clock& clock,
                                    const JournalHeader& header, const StepPlan& plan) {
  return begin(run_dir, clock, header, plan);
}

Result<RunRecord> RunRecord::succeed(const std::string& run_dir, const Clock& clock, std::int64_t term,
                                     std::optional<std::int64_t> base_step, const StepPlan& plan) {
  PACELINE_ASSIGN(const Journal history, read_lineage(run_dir));
  if (history.header.term >= term)
    return Error{ErrorCode::already_exists, concat(journal_path(run_dir, history.header.term),
                                                   " is there already: another coordinator has taken the "
                                                   "run over, and this one, of term ",
                                                   term, ", must not")};
  const std::int64_t last = last_step(history);
  if (base_step && *base_step > last)
    return Error{ErrorCode::mismatch, concat("the journals of ", run_dir, " end with step ", last,
                                             ", so the run cannot go on from step ", *base_step)};
  JournalHeader header = history.header;
  header.term = term;
  header.follows = {history.header.term, history.bytes, base_step.value_or(last)};
  PACELINE_ASSIGN(RunRecord record, begin(run_dir, clock, header, plan));
  record.go_on_from(history, header.follows->base_step);
  return record;
}

/// Where the next step of `history` belongs.
void RunRecord::go_on_from(const Journal& history, std::int64_t base_step) {
  steps_ = base_step;
  generations_ = history.generations;
  for (const JournalStep& step : history.steps)
    if (step.step <= base_step) epoch_samples_ = step.first == 0 ? step.count : epoch_samples_ + step.count;
  for (const JournalEpoch& epoch : history.epochs)
    if (epoch.steps <= base_step &&
        std::ranges::find(history.evaluated, epoch.epoch) != history.evaluated.end())
      evaluated_epoch_ = std::max(evaluated_epoch_, epoch.epoch);
}

Status RunRecord::add(const StepsMessage& message) {
  for (const StepFigures& figures : message.steps) PACELINE_TRY(add(figures));
  return {};
}

Status RunRecord::add(const StepFigures& figures) {
  const bool known = figures.step <= steps_;
  const std::optional<std::uint64_t> consumed = parse_hex_word(figures.consumed);
  if (!known && (figures.step != steps_ + 1 || !consumed || figures.step > plan_.steps()))
    return Error{ErrorCode::corrupt, concat("a worker reported step ", figures.step, " after step ", steps_,
                                            " of ", plan_.steps())};
  if (figures.step >
      metrics_steps_) {  // a coordinator that was lost may have written it to its journal alone
    metrics_steps_ = figures.step;
    pending_metrics_ += metrics_line(figures);
  }
  if (known) return {};
  ++steps_;
  PACELINE_TRY(
      journal_.add(JournalStep{figures.step, figures.epoch, figures.first, figures.count, *consumed}));
  epoch_samples_ = figures.first == 0 ? figures.count : epoch_samples_ + figures.count;
  if (!plan_.ends_epoch(figures.step - 1)) return {};
  return journal_.add(JournalEpoch{figures.epoch, figures.step, epoch_samples_});
}

Status RunRecord::add(const EvalMessage& eval) {
  if (eval.epoch <= evaluated_epoch_) return {};
  evaluated_epoch_ = eval.epoch;
  return journal_.add(
      JournalEvaluation{eval.epoch, eval.samples, eval.loss, eval.accuracy, seconds_since_1970()});
}

Status RunRecord::add(JournalGeneration generation) {
  generation.time = seconds_since_1970();
  generations_.push_back(generation);
  return journal_.add(generation);
}

CoordinatorHistory RunRecord::generations_since(std::int64_t term) const {
  CoordinatorHistory history;
  for (const JournalGeneration& generation : generations_) {
    if (generation.term < term) continue;
    const bool first = history.announced == 0;
    history.announced = std::max(history.announced, generation.generation);
    if (generation.planned)
      ++history.resizes;
    else if (!first)
      ++history.repairs;
  }
  return history;
}

Status RunRecord::add(JournalShares shares) {
  shares.time = seconds_since_1970();
  return journal_.add(shares);
}

Status RunRecord::add(JournalStraggler straggler) {
  straggler.time = seconds_since_1970();
  return journal_.add(straggler);
}

Status RunRecord::add(JournalCheckpoint checkpoint) {
  checkpoint.time = seconds_since_1970();
  return journal_.add(checkpoint);
}

Status RunRecord::add_line(std::string_view line) {
  return journal_.add_line(line);
}

Status RunRecord::end(const std::string& status, const std::string& error) {
  const Status written = flush();
  const Status ended = journal_.add(JournalEnd{status, steps_, error, seconds_since_1970()});
  return written.ok() ? ended : written;
}

Status RunRecord::flush() {
  PACELINE_TRY(journal_.flush());
  const std::string lines = std::exchange(pending_metrics_, {});
  return write_all(metrics_.get(), lines, metrics_path_);
}

Status RunRecord::sync() {
  PACELINE_TRY(flush());
  return journal_.sync();
}

}  // namespace paceline
