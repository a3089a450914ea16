#include <fcntl.h>

#include <array>
#include <cerrno>
#include <charconv>
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

}  // namespace

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
  return line_of({{"type", "journal"},
                  {"version", header.version},
                  {"run", header.run},
                  {"key", hex_word(header.key)},
                  {"order", order}});
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
  return line_of(json);
}

std::string journal_line(const JournalGeneration& generation) {
  return line_of({{"type", "generation"},
                  {"generation", generation.generation},
                  {"term", generation.term},
                  {"base_step", generation.base_step},
                  {"ranks", generation.ranks},
                  {"planned", generation.planned},
                  {"reason", generation.reason}});
}

std::string journal_line(const JournalEnd& end) {
  Json json = {{"type", "end"}, {"status", end.status}, {"steps", end.steps}};
  if (!end.error.empty()) json["error"] = end.error;
  return line_of(json);
}

Result<JournalWriter> JournalWriter::create(const std::string& path, const Clock& clock,
                                            const JournalHeader& header) {
  JournalWriter writer(clock);
  writer.path_ = path;
  writer.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0644));
  if (!writer.fd_.valid()) {
    if (errno == EEXIST)
      return Error{ErrorCode::already_exists,
                   concat(path, " is another run's journal: choose another folder with --run-dir")};
    return system_error(concat("cannot create ", path));
  }
  writer.pending_ = journal_line(header);
  PACELINE_TRY(writer.flush());
  return writer;
}

Status JournalWriter::add(const JournalStep& step) {
  pending_ += journal_line(step);
  if (clock_->now() - flushed_ < flush_interval) return {};
  return flush();
}

Status JournalWriter::add(const JournalEpoch& epoch) {
  pending_ += journal_line(epoch);
  return flush();
}

Status JournalWriter::add(const JournalEvaluation& evaluation) {
  pending_ += journal_line(evaluation);
  return flush();
}

Status JournalWriter::add(const JournalGeneration& generation) {
  pending_ += journal_line(generation);
  return flush();
}

Status JournalWriter::add(const JournalEnd& end) {
  pending_ += journal_line(end);
  return flush();
}

Status JournalWriter::flush() {
  flushed_ = clock_->now();
  const std::string lines = std::exchange(pending_, {});
  return write_all(fd_.get(), lines, path_);
}

}  // namespace paceline
