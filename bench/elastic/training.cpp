#include "elastic/training.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "data/programs.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

constexpr std::size_t most_bytes = std::size_t{1} << 30;  // of a run's file
constexpr std::int64_t rows = 28, classes = 10;

std::string big_endian(std::int64_t word) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift & 0xff);
  return bytes;
}

/// In the format of MNIST; noise, since nobody asks what was learnt.
Status write_images(const std::string& prefix, std::int64_t images) {
  std::mt19937 random(1);
  std::string values, labels;
  for (std::int64_t i = 0; i < images * rows * rows; ++i) values += static_cast<char>(random() & 0xff);
  for (std::int64_t i = 0; i < images; ++i) labels += static_cast<char>(random() % classes);
  PACELINE_TRY(write_file_atomically(
      concat(prefix, "-images-idx3-ubyte"),
      concat(big_endian(0x803), big_endian(images), big_endian(rows), big_endian(rows), values)));
  return write_file_atomically(concat(prefix, "-labels-idx1-ubyte"),
                               concat(big_endian(0x801), big_endian(images), labels));
}

std::string job_text(const ElasticOptions& options, const std::string& dataset,
                     const BackgroundTraining::Settings& settings) {
  const json job = {{"name", "elastic"},
                    {"data", {{"train", dataset}}},
                    {"task", "image-classification"},
                    {"model", options.model},
                    {"optimizer", {{"kind", "sgd"}, {"learning_rate", 0.001}, {"momentum", 0.9}}},
                    {"batch", {{"global", options.batch}, {"grain", settings.grain}}},
                    {"epochs", 1000000},
                    {"ranks", {{"min", 1}, {"max", options.ranks}}},
                    {"checkpoint", {{"every_steps", settings.checkpoint_steps}}},
                    {"rebalance", settings.rebalance},
                    {"seed", 1}};
  return job.dump(2) + "\n";  // JSON is YAML
}

/// The last generation after `after` with so many ranks; 0: there is none yet.
std::int64_t generation_with(std::string_view journal, std::int64_t ranks, std::int64_t after) {
  std::int64_t last = 0;
  for (const std::string& line : split(journal, '\n')) {
    if (line.find(R"("type":"generation")") == std::string::npos) continue;
    const json told = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!told.is_object()) continue;
    const std::int64_t generation = told.value("generation", std::int64_t{0});
    if (generation > after) last = told.value("ranks", std::int64_t{0}) == ranks ? generation : 0;
  }
  return last;
}

}  // namespace

Result<std::string> texts_in(const std::string& folder, const std::string& extension) {
  std::error_code error;
  std::multimap<std::int64_t, std::string> by_number;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() != extension) continue;
    std::string digits = entry.path().stem().string();
    digits.erase(0, digits.find_first_of("0123456789"));
    by_number.emplace(parse_integer(digits, 0, INT64_MAX).value_or(0), entry.path().string());
  }
  std::string all;
  for (const auto& [number, path] : by_number) {
    PACELINE_ASSIGN(const std::string text, read_file(path, most_bytes));
    all += text;
  }
  return all;
}

Result<std::string> make_images(Stage& stage, const ElasticOptions& options) {
  const std::string source = concat(stage.folder(), "/idx"), out = concat(stage.folder(), "/images");
  std::error_code error;
  std::filesystem::create_directory(source, error);
  PACELINE_TRY(write_images(concat(source, "/train"), options.images));
  PACELINE_TRY(write_images(concat(source, "/t10k"), classes));
  PACELINE_ASSIGN(const std::string output,
                  stage.paceline({"data", "import", "fashion-mnist", source, "--out", out}));
  std::filesystem::remove_all(source, error);
  return out + "/train";
}

Result<BackgroundTraining> BackgroundTraining::start(Stage& stage, const ElasticOptions& options,
                                                     const std::string& dataset, const Settings& settings) {
  static int runs = 0;
  BackgroundTraining training(stage, concat(stage.folder(), "/run-", ++runs));
  const std::string job = training.folder_ + ".yaml";
  PACELINE_TRY(write_file_atomically(job, job_text(options, dataset, settings)));
  Command command;
  command.arguments = {own_program(), "train",          job,      "--ranks", concat(options.ranks),
                       "--run-dir",   training.folder_, "--quiet"};
  command.environment["PACELINE_LOG"] = "info";  // with it the workers tell of their generations
  if (settings.quiet_steps > 0)
    command.environment["PACELINE_BENCH_QUIET_STEPS"] = concat(settings.quiet_steps);
  command.output_file = training.folder_ + ".output";
  PACELINE_ASSIGN(training.process_, bench::start(command));
  PACELINE_ASSIGN(const std::int64_t generation, training.await_ranks(options.ranks, 0));
  PACELINE_TRY(training.await_steps(generation > 0 ? 1 : 0));
  return training;
}

Status BackgroundTraining::end() {
  PACELINE_TRY(check());
  return stage_->end(process_);
}

/// It goes on until it is ended, or something is wrong.
Status BackgroundTraining::check() const {
  if (!has_ended(process_)) return {};
  const Result<std::string> output = read_file(process_.output_file, most_bytes);
  std::string why = output.ok() ? *output : output.error().message;
  while (!why.empty() && why.back() == '\n') why.pop_back();
  return Error{ErrorCode::io, concat("the job ended by itself: ", why.substr(why.rfind('\n') + 1))};
}

Result<Standing> BackgroundTraining::standing() {
  PACELINE_TRY(check());
  PACELINE_ASSIGN(const std::string text, stage_->paceline({"status", folder_, "--json"}));
  const json status = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object() || !status.contains("ranks") || !status.contains("coordinator"))
    return Error{ErrorCode::corrupt, "`paceline status --json` wrote no JSON"};
  Standing standing;
  standing.generation = status.value("generation", std::int64_t{0});
  standing.coordinator = status["coordinator"].value("pid", pid_t{-1});
  for (const json& rank : status["ranks"])
    if (rank.contains("rank") && !rank["rank"].is_null())
      standing.ranks.push_back(rank.value("pid", pid_t{0}));
  std::erase(standing.ranks, 0);
  return standing;
}

std::int64_t BackgroundTraining::steps_written() const {
  const Result<std::string> text = read_file(folder_ + "/metrics.jsonl", most_bytes);
  return text.ok() ? std::ranges::count(*text, '\n') : 0;
}

/// Each of them has the whole limit: how long a step takes is not known.
Status BackgroundTraining::await_steps(std::int64_t more) {
  const std::int64_t wanted = steps_written() + more;
  for (std::int64_t written = wanted - more; written < wanted; written = steps_written())
    PACELINE_TRY(stage_->wait_for("the job's next step", [&]() -> Result<bool> {
      const Status alive = check();
      if (!alive.ok()) return alive.error();
      return steps_written() > written;
    }));
  return {};
}

Result<std::int64_t> BackgroundTraining::await_ranks(std::int64_t ranks, std::int64_t after_generation) {
  std::int64_t generation = 0;
  const Status there = stage_->wait_for(concat(ranks, " ranks that train"), [&]() -> Result<bool> {
    PACELINE_TRY(check());
    const Result<std::string> text = journal();
    if (text.ok()) generation = generation_with(*text, ranks, after_generation);
    return generation > 0;
  });
  if (!there.ok()) return there.error();
  return generation;
}

Result<Commits> BackgroundTraining::commits() const {
  PACELINE_ASSIGN(const std::string text, read_file(folder_ + "/metrics.jsonl", most_bytes));
  return parse_commits(text);
}

Result<std::map<std::int64_t, Beginning>> BackgroundTraining::beginnings() const {
  PACELINE_ASSIGN(const std::string text, texts_in(folder_ + "/logs", ".log"));
  return parse_beginnings(text);
}

Result<std::string> BackgroundTraining::journal() const {
  return texts_in(folder_ + "/journal", ".jsonl");
}

}  // namespace paceline::bench
