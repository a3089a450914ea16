#include "seeing/run_events.hpp"

#include <algorithm>
#include <array>
#include <filesystem>

#include "format.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"
#include "seeing/members.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::array<const char*, 9> kind_names = {
    "term", "generation", "shares", "epoch", "evaluation", "checkpoint", "straggler", "decision", "end"};
// As the writer begins the lines of steps, which are nearly all there are.
constexpr std::string_view step_line = R"({"type":"step","step":)";
constexpr std::size_t most_events_of_a_kind = 50'000;
constexpr std::size_t most_ranks_of_a_line = 65'536;
constexpr std::int64_t follow_bytes = std::int64_t{16} << 20;

std::string plural(std::int64_t number, const char* what) {
  return concat(number, " ", what, number == 1 ? "" : "s");
}

void read_generation(const Json& json, RunEvent& event) {
  event.after_step = integer_in(json, "base_step").value_or(event.after_step);
  event.ranks = integer_in(json, "ranks").value_or(0);
  event.planned = flag_in(json, "planned");
  event.text = concat("generation ", event.generation, ": ", plural(event.ranks, "rank"),
                      event.reason.empty() ? "" : ", ", event.reason);
}

void read_shares(const Json& json, RunEvent& event) {
  event.after_step = integer_in(json, "step", 1).value_or(event.after_step + 1) - 1;
  const auto found = json.find("shares");
  std::string list;
  if (found != json.end() && found->is_array() && found->size() <= most_ranks_of_a_line)
    for (const Json& share : *found) {
      if (!share.is_number_integer()) continue;
      event.shares.push_back(std::clamp<std::int64_t>(share.get<std::int64_t>(), 0, most_json_integer));
      if (event.shares.size() <= 16) list += concat(list.empty() ? "" : ", ", event.shares.back());
    }
  if (event.shares.size() > 16) list += ", ...";
  event.text = concat("shares ", list, event.reason.empty() ? "" : ": ", event.reason);
}

void read_evaluation(const Json& json, RunEvent& event) {
  event.loss = number_in(json, "loss");
  event.accuracy = number_in(json, "accuracy");
  event.text = concat("evaluation after epoch ", event.epoch);
  if (event.loss) event.text += concat(": loss ", fixed(*event.loss, 3));
  if (event.accuracy) event.text += concat(", accuracy ", fixed(*event.accuracy * 100, 1), "%");
}

void read_checkpoint(const Json& json, RunEvent& event) {
  event.after_step = integer_in(json, "step").value_or(event.after_step);
  event.bytes = integer_in(json, "bytes").value_or(0);
  event.text = concat("checkpoint of step ", event.after_step, ", ",
                      human_bytes(static_cast<std::uint64_t>(event.bytes)));
}

void read_straggler(const Json& json, RunEvent& event) {
  event.worker = integer_in(json, "worker").value_or(-1);
  event.rank = integer_in(json, "rank").value_or(-1);
  event.node = plain_text_in(json, "node");
  event.part = plain_text_in(json, "part");
  event.ratio = amount_in(json, "ratio");
  event.since = amount_in(json, "since");
  // Either a flag or the time at which it did.
  event.ended = flag_in(json, "ended") || amount_in(json, "ended").value_or(0) > 0;
  if (!event.reason.empty()) return void(event.text = event.reason);
  const std::string who = event.rank < 0
                              ? "all ranks"
                              : concat("rank ", event.rank, event.node.empty() ? "" : " on ", event.node);
  const std::string part = event.part.empty() ? "" : concat(" in ", event.part);
  event.text =
      event.ended
          ? concat(who, ": no slower", part, " any more")
          : concat(who, ": slow", part,
                   event.ratio ? concat(", ", fixed(*event.ratio, 1), " times as long as usual") : "");
}

void read_decision(const Json& json, RunEvent& event) {
  const std::string verdict = plain_text_in(json, "verdict");
  event.ranks = integer_in(json, "target").value_or(0);
  const std::string size = event.ranks > 0 ? plural(event.ranks, "rank") : "";
  event.text = concat("decision", verdict.empty() ? "" : ": ", verdict, size.empty() ? "" : ", ", size,
                      event.reason.empty() ? "" : ": ", event.reason);
}

void read_end(const Json& json, RunEvent& event) {
  const std::string error = plain_text_in(json, "error");
  event.after_step = integer_in(json, "steps").value_or(event.after_step);
  event.text = concat(plain_text_in(json, "status"), " after ", plural(event.after_step, "step"),
                      error.empty() ? "" : ": ", error);
}

void read_members(const Json& json, RunEvent& event) {
  switch (event.kind) {
    case EventKind::term: return;
    case EventKind::generation: return read_generation(json, event);
    case EventKind::shares: return read_shares(json, event);
    case EventKind::epoch: event.text = concat("epoch ", event.epoch, " ends"); return;
    case EventKind::evaluation: return read_evaluation(json, event);
    case EventKind::checkpoint: return read_checkpoint(json, event);
    case EventKind::straggler: return read_straggler(json, event);
    case EventKind::decision: return read_decision(json, event);
    case EventKind::end: return read_end(json, event);
  }
}

std::optional<EventKind> kind_of(std::string_view type) {
  if (type == "journal") return EventKind::term;
  for (std::size_t i = 1; i < kind_names.size(); ++i)
    if (type == kind_names.at(i)) return static_cast<EventKind>(i);
  return std::nullopt;
}

/// All the journals of a lineage, newest first, each with the bytes of it that count.
struct Part {
  std::int64_t term = 0;
  std::int64_t bytes = std::int64_t{1} << 62;
};

/// A bounded list: of too many the oldest of each kind go.
void keep_newest(EventHistory& history) {
  std::map<EventKind, std::size_t> counted;
  std::vector<RunEvent> kept;
  for (auto event = history.events.rbegin(); event != history.events.rend(); ++event)
    if (++counted[event->kind] <= most_events_of_a_kind) kept.push_back(std::move(*event));
  history.left_out += std::ssize(history.events) - std::ssize(kept);
  std::ranges::reverse(kept);
  history.events = std::move(kept);
}

/// `last_step`: that the journal before came to, and then that of this one.
Status read_part(const std::string& run_dir, const Part& part, EventHistory& history,
                 std::int64_t& last_step) {
  EventReader reader;
  LineFile file(journal_path(run_dir, part.term), part.bytes);
  PACELINE_TRY(file.next([&](std::string_view line) {
    if (auto event = reader.take(line)) history.events.push_back(std::move(*event));
    if (history.events.size() > 4 * most_events_of_a_kind) keep_newest(history);
  }));
  if (reader.follows().term > 0) {
    history.resumed.push_back(reader.follows());
    history.resumed.back().last_step = last_step;
  }
  last_step = reader.last_step();
  if (!reader.run().empty()) history.run = reader.run();
  if (reader.batch_global() > 0) history.batch_global = reader.batch_global();
  return {};
}

/// What the header of a term's journal follows.
Result<EventReader::Seal> header_of(const std::string& run_dir, std::int64_t term) {
  constexpr std::int64_t header_bytes = std::int64_t{1} << 20;
  EventReader reader;
  bool is_first = true;
  LineFile file(journal_path(run_dir, term), header_bytes);
  PACELINE_TRY(file.next([&](std::string_view line) {
    if (std::exchange(is_first, false)) std::ignore = reader.take(line);
  }));
  return reader.follows();
}

}  // namespace

const char* to_string(EventKind kind) noexcept {
  return kind_names.at(static_cast<std::size_t>(kind));
}

std::optional<RunEvent> EventReader::take(std::string_view line) {
  if (line.starts_with(step_line)) {
    const std::string_view rest = line.substr(step_line.size());
    const auto step = parse_integer(rest.substr(0, rest.find(',')), 1, most_json_integer);
    if (step) last_step_ = *step;
    return std::nullopt;
  }
  const std::optional<Json> json = json_object(line);
  if (!json) return std::nullopt;
  const std::string type = text_in(*json, "type");
  if (type == "step") last_step_ = integer_in(*json, "step", 1).value_or(last_step_);
  const std::optional<EventKind> kind = kind_of(type);
  if (!kind) return std::nullopt;
  if (kind == EventKind::term) {
    run_ = plain_text_in(*json, "run");
    term_ = integer_in(*json, "term", 1).value_or(0);
    if (const auto order = json->find("order"); order != json->end() && order->is_object())
      batch_global_ = integer_in(*order, "batch_global").value_or(0);
    if (const auto seal = json->find("follows"); seal != json->end() && seal->is_object())
      follows_ = {integer_in(*seal, "term", 1).value_or(0), integer_in(*seal, "bytes").value_or(0),
                  integer_in(*seal, "base_step").value_or(0), 0};
    last_step_ = follows_.base_step;
  }
  RunEvent event;
  event.kind = *kind;
  event.term = term_;
  event.after_step = last_step_;
  event.time = amount_in(*json, "time");
  event.reason = plain_text_in(*json, "reason");
  event.generation = integer_in(*json, "generation").value_or(0);
  event.epoch = integer_in(*json, "epoch").value_or(0);
  // Events of its own kind may say the step that they belong to.
  if (kind == EventKind::straggler || kind == EventKind::decision)
    event.after_step = integer_in(*json, "step").value_or(last_step_);
  if (kind == EventKind::term)
    event.text = concat("coordinator of term ", term_,
                        follows_.term > 0 ? concat(" goes on after step ", follows_.base_step) : "");
  read_members(*json, event);
  return event;
}

bool still_counts(const EventHistory& history, const RunEvent& event) {
  return std::ranges::all_of(history.resumed, [&event](const EventReader::Seal& seal) {
    return event.term > seal.term || event.after_step <= seal.base_step;
  });
}

Result<EventHistory> read_events(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::int64_t newest, newest_term(run_dir));
  std::vector<Part> parts;
  for (Part part{newest, std::int64_t{1} << 62}; part.term > 0;) {
    parts.push_back(part);
    PACELINE_ASSIGN(const EventReader::Seal seal, header_of(run_dir, part.term));
    // A later one is followed by an earlier one alone, so that this ends.
    part = seal.term < part.term ? Part{seal.term, seal.bytes} : Part{0, 0};
  }
  EventHistory history;
  std::int64_t last_step = 0;
  for (; !parts.empty(); parts.pop_back()) PACELINE_TRY(read_part(run_dir, parts.back(), history, last_step));
  keep_newest(history);
  return history;
}

Result<std::vector<RunEvent>> EventFollower::next() {
  PACELINE_ASSIGN(const std::int64_t newest, newest_term(run_dir_));
  std::vector<RunEvent> events;
  if (newest == 0) return events;
  if (newest != term_) {
    term_ = newest;
    reader_ = {};
    file_.emplace(journal_path(run_dir_, newest));
    file_->skip_to_last(follow_bytes);
  }
  PACELINE_TRY(file_->next([&](std::string_view line) {
    if (auto event = reader_.take(line)) events.push_back(std::move(*event));
  }));
  return events;
}

std::optional<MetricsLine> parse_metrics_line(std::string_view line) {
  const std::optional<Json> json = json_object(line);
  if (!json) return std::nullopt;
  const auto step = integer_in(*json, "step", 1);
  const auto time = amount_in(*json, "time");
  if (!step || !time) return std::nullopt;
  return MetricsLine{*step,
                     integer_in(*json, "epoch").value_or(0),
                     *time,
                     number_in(*json, "loss"),
                     number_in(*json, "accuracy"),
                     number_in(*json, "perplexity"),
                     number_in(*json, "learning_rate"),
                     number_in(*json, "gradient_norm"),
                     amount_in(*json, "samples_per_second")};
}

Status check_is_run(const std::string& run_dir) {
  std::error_code ignored;  // "no": whatever keeps it from being looked at
  if (std::filesystem::exists(run_dir + "/job.json", ignored)) return {};
  return Error{ErrorCode::not_found, concat(shown(run_dir), " is no run directory: it has no job.json")};
}

}  // namespace paceline
