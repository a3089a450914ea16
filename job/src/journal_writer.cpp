#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

// Lines of quick steps go together; those of slow ones go at once, so that none waits for the next step.
constexpr Duration flush_interval = std::chrono::milliseconds(100);

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

double to_the_millisecond(double seconds) {
  return std::round(seconds * 1000) / 1000;
}

void add_time(Json& json, double time) {
  if (time > 0) json["time"] = to_the_millisecond(time);
}

/// Links the file into its place: of two who do that at once, one finds the name taken.
Status give_name(int fd, const std::string& beside, const std::string& path) {
  if (::link(beside.c_str(), path.c_str()) == 0) return {};
  if (errno != EEXIST) return system_error(concat("cannot create ", path));
  // NFS may have done it and lost the answer.
  struct stat own {
  }, there{};
  if (::fstat(fd, &own) == 0 && ::stat(path.c_str(), &there) == 0 && own.st_ino == there.st_ino &&
      own.st_dev == there.st_dev)
    return {};
  return Error{ErrorCode::already_exists,
               concat(path, " is there already: another process writes this journal, or wrote it")};
}

}  // namespace

std::string journal_path(const std::string& run_dir, std::int64_t term) {
  return concat(run_dir, "/", journal_folder, "/", term, ".jsonl");
}

std::string hex_word(std::uint64_t word) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%016llx", static_cast<unsigned long long>(word));
  return text.data();
}

std::optional<std::uint64_t> parse_hex_word(std::string_view text) {
  if (text.size() != 18 || !text.starts_with("0x") ||
      text.find_first_not_of("0123456789abcdef", 2) != std::string_view::npos)
    return std::nullopt;
  std::uint64_t word = 0;
  std::from_chars(text.data() + 2, text.data() + text.size(), word, 16);
  return word;
}

std::string journal_line(const JournalHeader& header) {
  Json order = Json::object();
  for (const auto& [name, value] : header.order)
    std::visit([&, &key = name](const auto& plain) { order[key] = plain; }, value);
  Json json = {{"type", "journal"}, {"version", header.version}, {"run", header.run}, {"term", header.term}};
  if (header.follows)
    json["follows"] = {{"term", header.follows->term},
                       {"bytes", header.follows->bytes},
                       {"base_step", header.follows->base_step}};
  json["key"] = hex_word(header.key);
  json["order"] = order;
  return line_of(json);
}

std::string journal_line(const JournalStep& step) {
  return line_of({{"type", "step"},
                  {"step", step.step},
                  {"epoch", step.epoch},
                  {"first", step.first},
                  {"count", step.count},
                  {"consumed", hex_word(step.consumed)}});
}

std::string journal_line(const JournalEpoch& epoch) {
  return line_of(
      {{"type", "epoch"}, {"epoch", epoch.epoch}, {"steps", epoch.steps}, {"samples", epoch.samples}});
}

std::string journal_line(const JournalEvaluation& evaluation) {
  Json json = {{"type", "evaluation"},
               {"epoch", evaluation.epoch},
               {"samples", evaluation.samples},
               {"loss", evaluation.loss}};
  if (evaluation.accuracy) json["accuracy"] = *evaluation.accuracy;
  add_time(json, evaluation.time);
  return line_of(json);
}

std::string journal_line(const JournalGeneration& generation) {
  Json json = {{"type", "generation"},       {"generation", generation.generation},
               {"term", generation.term},    {"base_step", generation.base_step},
               {"ranks", generation.ranks},  {"planned", generation.planned},
               {"reason", generation.reason}};
  add_time(json, generation.time);
  return line_of(json);
}

std::string journal_line(const JournalShares& shares) {
  Json json = {{"type", "shares"},        {"step", shares.step}, {"generation", shares.generation},
               {"shares", shares.shares}, {"gain", shares.gain}, {"reason", shares.reason}};
  add_time(json, shares.time);
  return line_of(json);
}

std::string journal_line(const JournalStraggler& straggler) {
  Json json = {{"type", "straggler"}, {"step", straggler.step}, {"generation", straggler.generation}};
  if (straggler.worker >= 0) {
    json["worker"] = straggler.worker;
    json["rank"] = straggler.rank;
    json["node"] = straggler.node;
  }
  json["part"] = straggler.part;
  json["cause"] = straggler.cause;
  json["ratio"] = straggler.ratio;
  json["since"] = to_the_millisecond(straggler.since);
  json["ended"] = straggler.ended;
  json["reason"] = straggler.reason;
  add_time(json, straggler.time);
  return line_of(json);
}

std::string journal_line(const JournalCheckpoint& checkpoint) {
  Json json = {{"type", "checkpoint"},
               {"step", checkpoint.step},
               {"generation", checkpoint.generation},
               {"ranks", checkpoint.ranks},
               {"bytes", checkpoint.bytes}};
  add_time(json, checkpoint.time);
  return line_of(json);
}

std::string journal_line(const JournalEnd& end) {
  Json json = {{"type", "end"}, {"status", end.status}, {"steps", end.steps}};
  if (!end.error.empty()) json["error"] = end.error;
  add_time(json, end.time);
  return line_of(json);
}

Result<JournalWriter> JournalWriter::create(const std::string& path, const Clock& clock,
                                            const JournalHeader& header) {
  JournalWriter writer(clock);
  writer.path_ = path;
  // A name that nobody else uses: not this process twice, and not one of the same number elsewhere.
  std::string beside;
  for (int attempt = 0; !writer.fd_.valid(); ++attempt) {
    beside = concat(path, ".new-", ::getpid(), "-", attempt);
    writer.fd_.reset(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0644));
    if (!writer.fd_.valid() && errno != EEXIST) return system_error(concat("cannot create ", beside));
  }
  writer.pending_ = journal_line(header);
  Status made = writer.sync();
  if (made.ok()) made = give_name(writer.fd_.get(), beside, path);
  ::unlink(beside.c_str());
  PACELINE_TRY(made);
  return writer;
}

Status JournalWriter::add(const JournalStep& step) {
  pending_ += journal_line(step);
  if (clock_->now() - flushed_ < flush_interval) return {};
  return flush();
}

Status JournalWriter::add(const JournalEpoch& epoch) {
  return add_line(journal_line(epoch));
}

Status JournalWriter::add(const JournalEvaluation& evaluation) {
  return add_line(journal_line(evaluation));
}

Status JournalWriter::add(const JournalGeneration& generation) {
  return add_line(journal_line(generation));
}

Status JournalWriter::add(const JournalShares& shares) {
  return add_line(journal_line(shares));
}

Status JournalWriter::add(const JournalStraggler& straggler) {
  return add_line(journal_line(straggler));
}

Status JournalWriter::add(const JournalCheckpoint& checkpoint) {
  return add_line(journal_line(checkpoint));
}

Status JournalWriter::add(const JournalEnd& end) {
  return add_line(journal_line(end));
}

Status JournalWriter::add_line(std::string_view line) {
  pending_ += line;
  return flush();
}

Status JournalWriter::flush() {
  flushed_ = clock_->now();
  const std::string lines = std::exchange(pending_, {});
  return write_all(fd_.get(), lines, path_);
}

Status JournalWriter::sync() {
  PACELINE_TRY(flush());
  if (::fdatasync(fd_.get()) != 0) return system_error(concat("cannot write ", path_, " to its disk"));
  return {};
}

}  // namespace paceline
