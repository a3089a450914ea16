#include "elastic/resize_record.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "json_messages.hpp"
#include "paceline/base/text.hpp"

// The members of each struct are listed once, in a function that the writer and the reader both go through,
// so that what is written is what is read.

namespace paceline {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

template <class Archive, class Value>
void visit(Archive& archive, Value& rules) requires std::is_same_v<std::remove_const_t<Value>, ResizeRules> {
  archive("objective", rules.objective);
  archive("least_efficiency", rules.least_efficiency);
  archive("deadline_s", rules.deadline_s);
  archive("most_slowdown", rules.most_slowdown);
  archive("prices", rules.prices);
  archive("power_w", rules.power_w);
  archive("dwell_s", rules.dwell_s);
  archive("least_gain", rules.least_gain);
  archive("least_marginal_efficiency", rules.least_marginal_efficiency);
  archive("shrink_marginal_efficiency", rules.shrink_marginal_efficiency);
  archive("deadline_margin", rules.deadline_margin);
  archive("deadline_shrink_margin", rules.deadline_shrink_margin);
  archive("bound_slack", rules.bound_slack);
  archive("risk", rules.risk);
  archive("risk_per_gain", rules.risk_per_gain);
  archive("horizon_s", rules.horizon_s);
  archive("measure_steps", rules.measure_steps);
  archive("most_resizes", rules.most_resizes);
  archive("rate_window_s", rules.rate_window_s);
  archive("late_gain", rules.late_gain);
  archive("most_explorations", rules.most_explorations);
  archive("explore_gain", rules.explore_gain);
  archive("explore_slowdown", rules.explore_slowdown);
  archive("explore_factor", rules.explore_factor);
  archive("breaker_s", rules.breaker_s);
  archive("most_breaker_s", rules.most_breaker_s);
  archive("resize_timeout_s", rules.resize_timeout_s);
  archive("disappointment", rules.disappointment);
  archive("by_hand_s", rules.by_hand_s);
  archive("longest_gap_s", rules.longest_gap_s);
}

template <class Archive, class Value>
void visit(Archive& archive,
           Value& forecast) requires std::is_same_v<std::remove_const_t<Value>, SizeForecast> {
  archive("ranks", forecast.ranks);
  archive("step_ms", forecast.step_ms);
  archive("low_ms", forecast.low_ms);
  archive("high_ms", forecast.high_ms);
  archive("visited", forecast.visited);
}

template <class Archive, class Value>
void visit(Archive& archive, Value& kind) requires std::is_same_v<std::remove_const_t<Value>, NodeKind> {
  archive("name", kind.name);
  archive("places", kind.places);
  archive("power_w", kind.power_w);
}

template <class Archive, class Value>
void visit(Archive& archive, Value& facts) requires std::is_same_v<std::remove_const_t<Value>, ResizeFacts> {
  archive("ranks", facts.ranks);
  archive("wish", facts.wish);
  archive("min_ranks", facts.min_ranks);
  archive("max_ranks", facts.max_ranks);
  archive("places", facts.places);
  archive("can_ask", facts.can_ask);
  archive("rank_lead_s", facts.rank_lead_s);
  archive("pause_s", facts.pause_s);
  archive("step", facts.step);
  archive("steps_left", facts.steps_left);
  archive("elapsed_s", facts.elapsed_s);
  archive("changing", facts.changing);
  archive("silent_rank", facts.silent_rank);
  archive("forecasts", facts.forecasts);
  archive("kinds", facts.kinds);
}

template <class Archive, class Value>
void visit(Archive& archive,
           Value& trial) requires std::is_same_v<std::remove_const_t<Value>, ResizeState::Trial> {
  archive("from", trial.from);
  archive("to", trial.to);
  archive("from_ms", trial.from_ms);
  archive("predicted_ms", trial.predicted_ms);
  archive("asked_s", trial.asked_s);
  archive("exploring", trial.exploring);
  archive("arrived", trial.arrived);
}

template <class Archive, class Value>
void visit(Archive& archive,
           Value& departure) requires std::is_same_v<std::remove_const_t<Value>, ResizeState::Departure> {
  archive("from", departure.from);
  archive("to", departure.to);
  archive("at_s", departure.at_s);
  archive("exploring", departure.exploring);
}

template <class Archive, class Value>
void visit(Archive& archive, Value& state) requires std::is_same_v<std::remove_const_t<Value>, ResizeState> {
  archive("now_s", state.now_s);
  archive("elapsed_s", state.elapsed_s);
  archive("elapsed_correction_s", state.elapsed_correction_s);
  archive("ranks", state.ranks);
  archive("wish", state.wish);
  archive("changed_s", state.changed_s);
  archive("changed_step", state.changed_step);
  archive("most_places", state.most_places);
  archive("explorations", state.explorations);
  archive("trial", state.trial);
  archive("resizes", state.resizes);
  archive("made", state.made);
  archive("reversals", state.reversals);
  archive("failures", state.failures);
  archive("closed_until_s", state.closed_until_s);
  archive("closed_by_failure", state.closed_by_failure);
  archive("by_hand_until_s", state.by_hand_until_s);
}

template <class Archive, class Value>
void visit(Archive& archive,
           Value& candidate) requires std::is_same_v<std::remove_const_t<Value>, ResizeCandidate> {
  archive("ranks", candidate.ranks);
  archive("step_ms", candidate.step_ms);
  archive("score", candidate.score);
  archive("gain", candidate.gain);
  archive("gain_low", candidate.gain_low);
  archive("gain_high", candidate.gain_high);
  archive("marginal_efficiency", candidate.marginal_efficiency);
  archive("expected_improvement", candidate.expected_improvement);
  archive("saves_s", candidate.saves_s);
  archive("eligible", candidate.eligible);
  archive("against", candidate.against);
}

template <class Archive, class Value>
void visit(Archive& archive,
           Value& record) requires std::is_same_v<std::remove_const_t<Value>, ResizeRecord> {
  auto& decision = record.decision;
  archive("time", record.time);
  archive("step", decision.facts.step);
  archive("verdict", decision.verdict);
  archive("cause", decision.cause);
  archive("reason", decision.reason);
  archive("target", decision.target);
  archive("demand", decision.demand);
  archive("allocation", decision.allocation);
  archive("capacity", decision.capacity);
  archive("shortage", decision.shortage);
  archive("runner_up", decision.runner_up);
  archive("candidates", decision.candidates);
  archive("now_s", decision.now_s);
  archive("rules", record.rules);
  archive("facts", decision.facts);
  archive("before", decision.before);
  archive("after", decision.after);
}

struct Writer {
  OrderedJson json = OrderedJson::object();

  template <class Value>
  void operator()(const char* name, const Value& value) {
    json[name] = written(value);
  }

  static OrderedJson written(bool value) { return value; }
  static OrderedJson written(std::int64_t value) { return value; }
  static OrderedJson written(const std::string& value) { return value; }
  static OrderedJson written(double value) {
    if (std::isfinite(value)) return value;
    return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  }
  static OrderedJson written(ResizeObjective value) { return name_of(value); }
  static OrderedJson written(ResizeVerdict value) { return name_of(value); }
  static OrderedJson written(ResizeCause value) { return name_of(value); }
  template <class Value>
  static OrderedJson written(const std::optional<Value>& value) {
    return value ? written(*value) : OrderedJson(nullptr);
  }
  template <class Value>
  static OrderedJson written(const std::vector<Value>& values) {
    OrderedJson list = OrderedJson::array();
    for (const Value& value : values) list.push_back(written(value));
    return list;
  }
  static OrderedJson written(const std::map<std::string, double>& values) {
    OrderedJson object = OrderedJson::object();
    for (const auto& [name, value] : values) object[name] = written(value);
    return object;
  }
  template <class Value>
  requires std::is_class_v<Value>
  static OrderedJson written(const Value& value) {
    Writer inner;
    visit(inner, value);
    return std::move(inner.json);
  }
};

/// Throws what parsed() turns into an error.
struct Reader {
  const Json& json;

  template <class Value>
  void operator()(const char* name, Value& value) {
    try {
      read(json.at(name), value);
    } catch (const Fault&) {
      throw;
    } catch (const std::exception&) {
      throw Fault(concat("its \"", name, "\" is missing, or not what it must be"));
    }
  }

  struct Fault : std::runtime_error {
    using std::runtime_error::runtime_error;
  };

  static void read(const Json& from, bool& value) { from.get_to(value); }
  static void read(const Json& from, std::string& value) { from.get_to(value); }
  static void read(const Json& from, std::int64_t& value) {
    const bool fits = from.is_number_unsigned() ? std::in_range<std::int64_t>(from.get<std::uint64_t>())
                                                : from.is_number_integer();
    if (!fits) throw Fault("a number is not whole, or too large");
    from.get_to(value);
  }
  static void read(const Json& from, double& value) {
    if (from.is_number()) {
      from.get_to(value);
      return;
    }
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const auto text = from.get<std::string>();
    if (text != "nan" && text != "inf" && text != "-inf") throw Fault("a number is a text");
    value = text == "nan" ? std::nan("") : text == "inf" ? infinity : -infinity;
  }
  template <class Value>
  static void found(const std::optional<Value>& known, Value& value) {
    if (!known) throw Fault("a name is not known");
    value = *known;
  }
  static void read(const Json& from, ResizeObjective& value) {
    found(resize_objective(from.get<std::string>()), value);
  }
  static void read(const Json& from, ResizeVerdict& value) {
    found(resize_verdict(from.get<std::string>()), value);
  }
  static void read(const Json& from, ResizeCause& value) {
    found(resize_cause(from.get<std::string>()), value);
  }
  template <class Value>
  static void read(const Json& from, std::optional<Value>& value) {
    value.reset();
    if (!from.is_null()) read(from, value.emplace());
  }
  template <class Value>
  static void read(const Json& from, std::vector<Value>& values) {
    if (!from.is_array()) throw Fault("a list is missing");
    values.clear();
    for (const Json& one : from) read(one, values.emplace_back());
  }
  static void read(const Json& from, std::map<std::string, double>& values) {
    if (!from.is_object()) throw Fault("a map is missing");
    values.clear();
    for (const auto& [name, value] : from.items()) read(value, values[name]);
  }
  template <class Value>
  requires std::is_class_v<Value>
  static void read(const Json& from, Value& value) {
    Reader inner{from};
    visit(inner, value);
  }
};

ResizeRecord read_record(const Json& json) {
  if (!json.is_object() || !json.contains("type") || json["type"] != "decision")
    throw Reader::Fault("its type is not \"decision\"");
  ResizeRecord record;
  Reader reader{json};
  visit(reader, record);
  return record;
}

/// Exactly, and also where numbers are none, which equal nothing.
bool same(const ResizeDecision& a, const ResizeDecision& b) {
  const auto outcome = [](const ResizeDecision& decision) { return resize_record_json({0, {}, decision}); };
  return outcome(a) == outcome(b);
}

}  // namespace

ResizeRules resize_rules(const Job& job) {
  ResizeRules rules;
  rules.objective = resize_objective(job.resize.objective).value_or(ResizeObjective::none);
  rules.least_efficiency = job.resize.least_efficiency;
  rules.deadline_s = job.resize.deadline_s;
  rules.most_slowdown = job.resize.most_slowdown;
  rules.dwell_s = job.resize.dwell_s;
  rules.prices = job.resize.prices;
  rules.power_w = job.resize.power_w;
  return rules;
}

std::string resize_record_json(const ResizeRecord& record) {
  Writer writer;
  writer.json["type"] = "decision";
  visit(writer, record);
  return writer.json.dump(-1, ' ', true, Json::error_handler_t::replace);
}

Result<ResizeRecord> parse_resize_record(const std::string& json) {
  return parsed(json, "decision", read_record);
}

Result<ResizeRecord> parse_resize_record(const nlohmann::json& json) {
  try {
    return read_record(json);
  } catch (const std::exception& problem) {
    return Error{ErrorCode::corrupt, concat("this is no decision: ", problem.what())};
  }
}

std::string replay(const ResizeRecord& record) {
  const ResizeDecision& was = record.decision;
  const ResizeDecision is = decide_resize(record.rules, was.before, was.now_s, was.facts);
  if (same(was, is)) return "";
  const auto outcome = [](const ResizeDecision& decision) {
    return concat(name_of(decision.verdict), " (", name_of(decision.cause), ") with ", decision.target);
  };
  if (outcome(was) == outcome(is))
    return concat("the same is decided, ", outcome(is), ", with other figures or words");
  return concat("it was ", outcome(was), ", and is ", outcome(is), " now");
}

}  // namespace paceline
