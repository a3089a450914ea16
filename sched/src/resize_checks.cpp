// Names, and what is refused: rules and facts that can't be.
#include <array>
#include <cmath>
#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/sched/resize_policy.hpp"
#include "resize_ground.hpp"

namespace paceline {
namespace {

constexpr std::array<std::pair<ResizeObjective, const char*>, 6> objectives = {{
    {ResizeObjective::none, "none"},
    {ResizeObjective::throughput, "throughput"},
    {ResizeObjective::efficiency, "efficiency"},
    {ResizeObjective::deadline, "deadline"},
    {ResizeObjective::cost, "cost"},
    {ResizeObjective::energy, "energy"},
}};

constexpr std::array<std::pair<ResizeVerdict, const char*>, 3> verdicts = {
    {{ResizeVerdict::hold, "hold"}, {ResizeVerdict::grow, "grow"}, {ResizeVerdict::shrink, "shrink"}}};

constexpr std::array<std::pair<ResizeCause, const char*>, 20> causes = {{
    {ResizeCause::no_objective, "no_objective"},
    {ResizeCause::bad_input, "bad_input"},
    {ResizeCause::clock_jumped, "clock_jumped"},
    {ResizeCause::silent_rank, "silent_rank"},
    {ResizeCause::changing, "changing"},
    {ResizeCause::by_hand, "by_hand"},
    {ResizeCause::measuring, "measuring"},
    {ResizeCause::dwell, "dwell"},
    {ResizeCause::rate_limit, "rate_limit"},
    {ResizeCause::breaker, "breaker"},
    {ResizeCause::shortage, "shortage"},
    {ResizeCause::best, "best"},
    {ResizeCause::uncertain, "uncertain"},
    {ResizeCause::does_not_pay, "does_not_pay"},
    {ResizeCause::pays, "pays"},
    {ResizeCause::explores, "explores"},
    {ResizeCause::meets_bound, "meets_bound"},
    {ResizeCause::meets_deadline, "meets_deadline"},
    {ResizeCause::deadline_past, "deadline_past"},
    {ResizeCause::deadline_unreachable, "deadline_unreachable"},
}};

template <class Names, class Value>
const char* name_in(const Names& names, Value value) {
  for (const auto& [known, name] : names)
    if (known == value) return name;
  return "";
}

template <class Value, std::size_t size>
std::optional<Value> value_in(const std::array<std::pair<Value, const char*>, size>& names,
                              const std::string& name) {
  for (const auto& [value, known] : names)
    if (name == known) return value;
  return std::nullopt;
}

constexpr double month_s = 31 * 24 * 3600.0;
constexpr double longest_step_ms = month_s * 1e3;
constexpr double longest_job_s = 100 * 12 * month_s;
constexpr std::int64_t most_ranks = 1 << 20;

bool within(double value, double least, double greatest) {
  return std::isfinite(value) && value >= least && value <= greatest;
}

std::string fault_of_prices(const std::map<std::string, double>& values, const char* what) {
  for (const auto& [kind, value] : values)
    if (!within(value, 0, 1e12) || value == 0)
      return concat("the ", what, " of ", shown(kind), " is ", value, ", and must be a positive number");
  return "";
}

std::string fault_of_kinds(const ResizeRules& rules, const ResizeFacts& facts) {
  const bool by_cost = rules.objective == ResizeObjective::cost;
  if (!by_cost && rules.objective != ResizeObjective::energy) return "";
  if (facts.kinds.empty()) return "it is not known of which kind the nodes are";
  for (const NodeKind& kind : facts.kinds) {
    if (kind.places < 0 || kind.places > most_ranks)
      return concat("there are said to be ", kind.places, " places of kind ", shown(kind.name));
    if (kind.power_w && !(within(*kind.power_w, 0, 1e9) && *kind.power_w > 0))
      return concat("a rank on ", shown(kind.name), " is said to draw ", *kind.power_w, " W");
    if (kind.places == 0 && &kind != &facts.kinds.back()) continue;
    if (by_cost && !rules.prices.contains(kind.name))
      return concat("the price list has no price of ", shown(kind.name), ", which the job has places on");
    if (!by_cost && !kind.power_w && !rules.power_w.contains(kind.name))
      return concat("it is neither measured nor given what a rank on ", shown(kind.name), " draws");
  }
  return "";
}

std::string fault_of(const SizeForecast& forecast) {
  if (forecast.ranks < 1 || forecast.ranks > most_ranks)
    return concat("there is a forecast for ", forecast.ranks, " ranks");
  const auto told = [&](const char* what, double ms) {
    return concat("the forecast for ", ranks_text(forecast.ranks), " has ", what, " of ", ms, " ms");
  };
  if (!within(forecast.step_ms, 1e-6, longest_step_ms)) return told("a step", forecast.step_ms);
  if (!within(forecast.low_ms, 1e-9, forecast.step_ms)) return told("a lower bound", forecast.low_ms);
  if (!within(forecast.high_ms, forecast.step_ms, 1e3 * longest_step_ms))
    return told("an upper bound", forecast.high_ms);
  return "";
}

std::string fault_of_counts(const ResizeFacts& facts) {
  if (facts.min_ranks < 1 || facts.max_ranks < facts.min_ranks || facts.max_ranks > most_ranks)
    return concat("the job is said to have ", facts.min_ranks, " to ", ranks_text(facts.max_ranks));
  if (facts.ranks < (facts.changing ? 0 : 1) || facts.ranks > most_ranks)
    return concat("the job is said to have ", ranks_text(facts.ranks), " now");
  if (facts.wish < 1 || facts.wish > most_ranks)
    return concat("the job is said to want ", ranks_text(facts.wish));
  if (facts.places < 0 || facts.places > most_ranks)
    return concat("there are said to be ", facts.places, " places");
  if (facts.step < 0) return concat("the last step is said to be ", facts.step);
  if (facts.steps_left < 0) return concat("there are said to be ", facts.steps_left, " steps left");
  return "";
}

}  // namespace

const char* name_of(ResizeObjective objective) noexcept {
  return name_in(objectives, objective);
}

std::optional<ResizeObjective> resize_objective(const std::string& name) {
  return value_in(objectives, name);
}

const char* name_of(ResizeVerdict verdict) noexcept {
  return name_in(verdicts, verdict);
}

std::optional<ResizeVerdict> resize_verdict(const std::string& name) {
  return value_in(verdicts, name);
}

const char* name_of(ResizeCause cause) noexcept {
  return name_in(causes, cause);
}

std::optional<ResizeCause> resize_cause(const std::string& name) {
  return value_in(causes, name);
}

std::string fault_of(const ResizeRules& rules) {
  struct Limit {
    const char* name;
    double value, least, greatest;
  };
  const std::array<Limit, 21> limits = {{
      {"least efficiency", rules.least_efficiency, 1e-6, 1},
      {"deadline", rules.deadline_s, 0, longest_job_s},
      {"most slowdown", rules.most_slowdown, 1, 1e6},
      {"dwell time", rules.dwell_s, 0, month_s},
      {"least gain", rules.least_gain, 0, 100},
      {"least marginal efficiency", rules.least_marginal_efficiency, 0, 1},
      {"deadline's margin", rules.deadline_margin, 0, 0.9},
      {"deadline's margin for giving back", rules.deadline_shrink_margin, rules.deadline_margin, 0.95},
      {"factor for exploring", rules.explore_factor, 1, 1e6},
      {"late gain", rules.late_gain, 0, 100},
      {"risk for each gain", rules.risk_per_gain, 0, 100},
      {"risk", rules.risk, 0, 1},
      {"slack", rules.bound_slack, 0, 1},
      {"horizon", rules.horizon_s, 0, longest_job_s},
      {"rate window", rules.rate_window_s, 0, longest_job_s},
      {"gain for exploring", rules.explore_gain, 0, 100},
      {"slowdown for exploring", rules.explore_slowdown, 1, 1e6},
      {"breaker's time", rules.breaker_s, 0, rules.most_breaker_s},
      {"breaker's longest time", rules.most_breaker_s, 0, longest_job_s},
      {"time of a resize", rules.resize_timeout_s, 0, month_s},
      {"longest gap", rules.longest_gap_s, 1e-3, longest_job_s},
  }};
  for (const Limit& limit : limits)
    if (!within(limit.value, limit.least, limit.greatest))
      return concat("the ", limit.name, " is ", limit.value, ", and must be from ", limit.least, " to ",
                    limit.greatest);
  if (!std::isfinite(rules.shrink_marginal_efficiency) ||
      rules.shrink_marginal_efficiency > rules.least_marginal_efficiency)
    return concat("ranks are given back below a marginal efficiency of ", rules.shrink_marginal_efficiency,
                  ", and added above ", rules.least_marginal_efficiency, ": that contradicts itself");
  if (rules.objective == ResizeObjective::deadline && rules.deadline_s <= 0)
    return "the objective is a deadline, and there is none";
  if (rules.objective == ResizeObjective::cost && rules.prices.empty())
    return "the objective is cost, and there are no prices";
  if (std::string fault = fault_of_prices(rules.prices, "price"); !fault.empty()) return fault;
  return fault_of_prices(rules.power_w, "power");
}

std::string fault_of(const ResizeRules& rules, const ResizeFacts& facts) {
  if (std::string fault = fault_of_counts(facts); !fault.empty()) return fault;
  if (!within(facts.pause_s, 0, month_s))
    return concat("a resize is said to take ", facts.pause_s, " s of training");
  if (!within(facts.rank_lead_s, 0, month_s))
    return concat("getting a rank is said to take ", facts.rank_lead_s, " s");
  if (!within(facts.elapsed_s, 0, longest_job_s))
    return concat("the run is said to have begun ", facts.elapsed_s, " s ago");
  std::int64_t last = 0;
  for (const SizeForecast& forecast : facts.forecasts) {
    if (std::string fault = fault_of(forecast); !fault.empty()) return fault;
    if (forecast.ranks <= last) return "the forecasts are not in the order of their ranks";
    last = forecast.ranks;
  }
  return fault_of_kinds(rules, facts);
}

}  // namespace paceline
