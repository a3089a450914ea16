#include "elastic/decision_record.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "paceline/base/text.hpp"

// The members of each struct are listed once, in a function that the writer and the reader both go through,
// so that what is written is what is read.

namespace paceline {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

/// To be written, where it is const, or to be read.
template <class Value, class Struct>
concept Of = std::same_as<std::remove_const_t<Value>, Struct>;

void visit(auto& archive, Of<ResizeRules> auto& rules) {
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

void visit(auto& archive, Of<SizeForecast> auto& forecast) {
  archive("ranks", forecast.ranks);
  archive("step_ms", forecast.step_ms);
  archive("low_ms", forecast.low_ms);
  archive("high_ms", forecast.high_ms);
  archive("visited", forecast.visited);
}

void visit(auto& archive, Of<NodeKind> auto& kind) {
  archive("name", kind.name);
  archive("places", kind.places);
  archive("power_w", kind.power_w);
}

void visit(auto& archive, Of<ResizeFacts> auto& facts) {
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

void visit(auto& archive, Of<ResizeState::Trial> auto& trial) {
  archive("from", trial.from);
  archive("to", trial.to);
  archive("from_ms", trial.from_ms);
  archive("predicted_ms", trial.predicted_ms);
  archive("asked_s", trial.asked_s);
  archive("exploring", trial.exploring);
  archive("arrived", trial.arrived);
}

void visit(auto& archive, Of<ResizeState::Departure> auto& departure) {
  archive("from", departure.from);
  archive("to", departure.to);
  archive("at_s", departure.at_s);
  archive("exploring", departure.exploring);
}

void visit(auto& archive, Of<ResizeState> auto& state) {
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

void visit(auto& archive, Of<ResizeCandidate> auto& candidate) {
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

void visit(auto& archive, Of<DecisionRecord> auto& record) {
  auto& decision = record.decision;
  archive("time", record.time);
  archive("step", record.step);
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
  archive("rules", decision.rules);
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

/// Throws Fault, which parse_decision() turns into an error.
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

DecisionRecord read_record(const Json& json) {
  if (!json.is_object() || !json.contains("type") || json["type"] != "decision")
    throw Reader::Fault("its type is not \"decision\"");
  DecisionRecord record;
  Reader reader{json};
  visit(reader, record);
  return record;
}

/// The same but for the last digits of numbers, which another machine's exponential function may have
/// otherwise.
bool alike(const OrderedJson& a, const OrderedJson& b) {
  constexpr double tolerance = 1e-9;
  if (a.is_number_float() && b.is_number_float()) {
    const double x = a.get<double>(), y = b.get<double>();
    return std::abs(x - y) <= tolerance * std::max({1.0, std::abs(x), std::abs(y)});
  }
  if (!a.is_structured() || a.type() != b.type()) return a == b;
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), alike);
}

OrderedJson json_of(const ResizeDecision& decision) {
  return Writer::written(DecisionRecord{0, 0, decision});
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

std::string decision_line(const ResizeDecision& decision, std::int64_t step, double time) {
  Writer writer;
  writer.json["type"] = "decision";
  const DecisionRecord record{std::round(time * 1000) / 1000, step, decision};
  visit(writer, record);
  return writer.json.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

Result<DecisionRecord> parse_decision(std::string_view line) {
  // The parser's destructors are recursive.
  constexpr int most_levels = 8;
  const auto shallow = [](int depth, Json::parse_event_t, Json&) {
    if (depth > most_levels) throw Reader::Fault("it is nested too deep");
    return true;
  };
  try {
    return read_record(Json::parse(line, shallow));
  } catch (const Reader::Fault& fault) {
    return Error{ErrorCode::corrupt, concat("this is no decision: ", fault.what())};
  } catch (const std::exception&) {  // the parser's words quote the bytes, whatever they are
    return Error{ErrorCode::corrupt, "this is no decision: it is not JSON"};
  }
}

std::string replay(const ResizeDecision& was) {
  const ResizeDecision is = decide_resize(was.rules, was.before, was.now_s, was.facts);
  // As JSON, since numbers that are none equal nothing.
  if (alike(json_of(was), json_of(is))) return "";
  const auto outcome = [](const ResizeDecision& decision) {
    return concat(name_of(decision.verdict), " (", name_of(decision.cause), "), ", decision.target,
                  decision.target == 1 ? " rank" : " ranks");
  };
  if (outcome(was) == outcome(is))
    return concat("the outcome is the same, ", outcome(is), ", with other figures or words");
  return concat("it was ", outcome(was), ", and is ", outcome(is), " now");
}

}  // namespace paceline
