// An explanation as people read it, and as programs do.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "explain/explanation.hpp"
#include "format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t most_rows = 12;

/// "2026-11-23 08:14:02" where this is read.
std::string time_of_day(const std::optional<double>& time) {
  constexpr double latest = 253402300799;  // of the year 9999
  if (!time || !(*time >= 0 && *time <= latest)) return "-";
  const auto seconds = static_cast<std::time_t>(*time);
  std::tm parts{};
  std::array<char, 32> text{};
  if (::localtime_r(&seconds, &parts) == nullptr) return "-";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &parts)};
}

std::string rounded(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), std::abs(value) < 999.5 ? "%.3g" : "%.0f", value);
  return text.data();
}

std::string signed_percent(double part) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%+.1f%%", 100 * part);
  return text.data();
}

const char* score_name(ResizeObjective objective) {
  switch (objective) {
    case ResizeObjective::efficiency: return "efficiency";
    case ResizeObjective::deadline: return "time left/needed";
    case ResizeObjective::cost: return "steps/price";
    case ResizeObjective::energy: return "steps/kJ";
    case ResizeObjective::throughput:
    case ResizeObjective::none: break;
  }
  return "steps/s";
}

/// What a candidate is to the decision.
std::string part_played(const ResizeDecision& decision, const ResizeCandidate& candidate) {
  if (decision.verdict != ResizeVerdict::hold && candidate.ranks == decision.target) return "chosen";
  if (candidate.ranks == decision.facts.ranks)
    return decision.verdict == ResizeVerdict::hold ? "now, kept" : "now";
  if (candidate.eligible && candidate.against.empty()) return "wanted";
  return candidate.ranks == decision.runner_up ? "runner-up" : "";
}

/// Of many the ones that play a part, and those next to the present size.
std::vector<const ResizeCandidate*> rows_of(const ResizeDecision& decision) {
  std::vector<const ResizeCandidate*> rows;
  for (const ResizeCandidate& candidate : decision.candidates) rows.push_back(&candidate);
  const auto distance = [&](const ResizeCandidate* candidate) {
    if (!part_played(decision, *candidate).empty()) return std::int64_t{-1};
    return std::abs(candidate->ranks - decision.facts.ranks);
  };
  if (rows.size() <= most_rows) return rows;
  std::ranges::stable_sort(rows, {}, distance);
  rows.resize(most_rows);
  std::ranges::sort(rows, {}, [](const ResizeCandidate* candidate) { return candidate->ranks; });
  return rows;
}

std::string candidates_text(const ResizeDecision& decision) {
  const std::vector<const ResizeCandidate*> candidates = rows_of(decision);
  if (candidates.empty()) return "";
  std::vector<std::vector<std::string>> rows = {
      {"    ", "ranks", "step", score_name(decision.rules.objective), "gain", "at least", ""}};
  for (const ResizeCandidate* candidate : candidates) {
    const bool is_present = candidate->ranks == decision.facts.ranks;
    std::string note = part_played(decision, *candidate);
    if (!candidate->against.empty()) note += concat(note.empty() ? "" : ": ", candidate->against);
    rows.push_back({"    ", concat(candidate->ranks), rounded(candidate->step_ms) + " ms",
                    rounded(candidate->score), is_present ? "" : signed_percent(candidate->gain),
                    is_present ? "" : signed_percent(candidate->gain_low), note});
  }
  std::string text = table_text(rows);
  const auto hidden = decision.candidates.size() - candidates.size();
  if (hidden > 0) text += concat("    and ", hidden, " more\n");
  return text;
}

std::string decision_text(const DecisionRecord& record) {
  const ResizeDecision& decision = record.decision;
  std::string text = decision.verdict == ResizeVerdict::hold
                         ? concat("holds ", decision.facts.ranks)
                         : concat(name_of(decision.verdict), "s to ", decision.target);
  text +=
      concat(" (", name_of(decision.rules.objective), ", ", name_of(decision.cause), "): ", decision.reason);
  if (decision.shortage > 0)
    text += concat("; demand ", decision.demand, ", allocation ", decision.allocation, ", capacity ",
                   decision.capacity, ": short of ", decision.shortage);
  return text + "\n" + candidates_text(decision);
}

std::string event_text(const ExplainedEvent& explained) {
  const RunEvent& event = explained.event;
  const std::string when =
      concat(time_of_day(event.time), "  step ", with_commas(static_cast<double>(event.after_step)), "  ");
  if (explained.decision) return concat(when, decision_text(*explained.decision));
  return concat(when, event.text, explained.fault.empty() ? "" : concat(" (", explained.fault, ")"), "\n");
}

Json event_json(const ExplainedEvent& explained) {
  const RunEvent& event = explained.event;
  Json json = {{"kind", to_string(event.kind)},
               {"time", event.time ? Json(*event.time) : Json(nullptr)},
               {"term", event.term},
               {"step", event.after_step},
               {"text", event.text},
               {"reason", event.reason}};
  if (event.kind == EventKind::generation) {
    json["generation"] = event.generation;
    json["ranks"] = event.ranks;
    json["planned"] = event.planned;
  } else if (event.kind == EventKind::shares) {
    json["generation"] = event.generation;
    json["shares"] = event.shares;
  } else if (event.kind == EventKind::straggler) {
    json["rank"] = event.rank < 0 ? Json(nullptr) : Json(event.rank);
    json["node"] = event.node;
    json["part"] = event.part;
    json["since"] = event.since ? Json(*event.since) : Json(nullptr);
    json["ended"] = event.ended;
  }
  if (explained.decision) {
    const DecisionRecord& record = *explained.decision;
    json["decision"] = Json::parse(decision_line(record.decision, record.step, record.time));
  }
  if (!explained.fault.empty()) json["fault"] = explained.fault;
  return json;
}

/// The first of the newest `last`.
std::size_t first_shown(const Explanation& explanation, std::int64_t last) {
  const auto all = std::ssize(explanation.events);
  return static_cast<std::size_t>(last > 0 && last < all ? all - last : 0);
}

}  // namespace

std::string explanation_text(const Explanation& explanation, std::int64_t last) {
  if (explanation.events.empty()) return "nothing has happened yet\n";
  const std::size_t first = first_shown(explanation, last);
  std::string text = explanation.run.empty() ? "" : shown(explanation.run) + "\n";
  const auto earlier = explanation.left_out + static_cast<std::int64_t>(first);
  if (earlier > 0)
    text += concat(with_commas(static_cast<double>(earlier)), " earlier events are not shown\n");
  for (std::size_t i = first; i < explanation.events.size(); ++i) text += event_text(explanation.events[i]);
  return text;
}

std::string explanation_json(const Explanation& explanation, std::int64_t last,
                             const ReplayedDecisions* replayed) {
  Json events = Json::array();
  for (std::size_t i = first_shown(explanation, last); i < explanation.events.size(); ++i)
    events.push_back(event_json(explanation.events[i]));
  Json json = {{"run", explanation.run}, {"events", events}, {"replayed", nullptr}};
  if (replayed != nullptr) json["replayed"] = {{"same", replayed->same}, {"different", replayed->different}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace paceline
