#include "plan.hpp"

#include <algorithm>
#include <cstdio>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Many senders to one receiver at a time cost switches and sockets something that a ring does not: direct is
// charged this much more for its bytes.
constexpr double incast = 1.1;
// What a step of a ring carries: enough that latency counts little, not so much that the first step takes
// long.
constexpr double chunk_latencies = 4;
constexpr std::size_t least_chunk = 32U << 10;
constexpr std::size_t most_chunk = 128U << 10;

std::string decimal(double value, int places) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", places, value);
  return text;
}

}  // namespace

double Plan::estimate(Algorithm algorithm, std::size_t bytes) const {
  const double n = nodes_;
  const double whole = static_cast<double>(bytes) / wire_.bytes_per_s;
  const double both_halves = 2 * (n - 1) / n * whole;
  switch (algorithm) {
    case Algorithm::exchange: return wire_.latency_s + (n - 1) * whole * incast;
    case Algorithm::direct: return 2 * wire_.latency_s + both_halves * incast;
    case Algorithm::ring:
    case Algorithm::automatic: break;
  }
  return 2 * (n - 1) * wire_.latency_s + both_halves;
}

Algorithm Plan::fastest(std::size_t bytes) const {
  const auto forced = static_cast<Algorithm>(wire_.algorithm);
  if (nodes_ > most_meshed_nodes) return Algorithm::ring;
  if (forced != Algorithm::automatic) return forced;
  Algorithm best = Algorithm::ring;
  for (const Algorithm other : {Algorithm::direct, Algorithm::exchange})
    if (estimate(other, bytes) < estimate(best, bytes)) best = other;
  return best;
}

Plan::Choice Plan::choose(std::size_t bytes) const {
  Choice choice;
  choice.algorithm = fastest(bytes);
  const auto filled = static_cast<std::size_t>(chunk_latencies * wire_.latency_s * wire_.bytes_per_s);
  const std::size_t chunk = std::clamp(filled, least_chunk, most_chunk);
  choice.piece_bytes = wire_.piece_bytes > 0 ? static_cast<std::size_t>(wire_.piece_bytes)
                                             : chunk * static_cast<std::size_t>(nodes_);
  return choice;
}

std::string Plan::describe() const {
  std::string text =
      concat("between nodes: ", wire_.streams, " connection(s) per pair, ", decimal(wire_.latency_s * 1e6, 0),
             " us, ", decimal(wire_.bytes_per_s / 1e9, 2), " GB/s");
  if (wire_.bytes_per_s_single > 0)
    text += concat(" (one connection: ", decimal(wire_.bytes_per_s_single / 1e9, 2), ")");
  text += concat("; pieces of ", human_bytes(choose(std::size_t{1} << 30).piece_bytes), "\n");
  std::size_t from = 0;
  for (std::size_t bytes = 4; bytes <= std::size_t{1} << 30; bytes *= 2) {
    const Algorithm now = fastest(bytes);
    if (bytes < std::size_t{1} << 30 && fastest(bytes * 2) == now) continue;
    text += concat(from == 0 ? "sums" : concat("sums from ", human_bytes(from)));
    if (bytes < std::size_t{1} << 30) text += concat(" to ", human_bytes(bytes));
    text += concat(": ", to_string(now), "\n");
    from = bytes * 2;
  }
  return text;
}

namespace {

/// Sets `choice` to the one that the variable names, if it is set and nothing was chosen before (the first is
/// "automatic").
template <class Enumeration>
Status choose_by_name(const char* variable, Enumeration& choice, std::initializer_list<Enumeration> known) {
  const auto named = environment(variable);
  if (!named.has_value() || choice != *known.begin()) return {};
  std::string names;
  for (const Enumeration each : known) {
    names += concat(names.empty() ? "" : ", ", to_string(each));
    if (*named != to_string(each)) continue;
    choice = each;
    return {};
  }
  return Error{ErrorCode::invalid_argument, concat(variable, " is \"", *named, "\": use one of ", names)};
}

}  // namespace

Result<Tuning> tuning_from_environment(Tuning tuning) {
  const auto number = [](const char* name, std::int64_t most) -> Result<std::int64_t> {
    const auto text = environment(name);
    if (!text.has_value()) return std::int64_t{0};
    const auto value = parse_integer(*text, 1, most);
    if (value.has_value()) return *value;
    return Error{ErrorCode::invalid_argument,
                 concat(name, " is \"", *text, "\": it must be a number from 1 to ", most)};
  };
  PACELINE_TRY(
      choose_by_name("PACELINE_ALGORITHM", tuning.algorithm,
                     {Algorithm::automatic, Algorithm::exchange, Algorithm::direct, Algorithm::ring}));
  PACELINE_TRY(choose_by_name("PACELINE_PLAIN_MEMORY", tuning.plain_memory,
                              {PlainMemory::automatic, PlainMemory::staged, PlainMemory::pulled}));
  PACELINE_ASSIGN(const std::int64_t piece, number("PACELINE_PIECE_BYTES", std::int64_t{1} << 40));
  PACELINE_ASSIGN(const std::int64_t streams, number("PACELINE_STREAMS", 64));
  if (tuning.piece_bytes == 0) tuning.piece_bytes = static_cast<std::size_t>(piece);
  if (tuning.streams == 0) tuning.streams = static_cast<int>(streams);
  return tuning;
}

}  // namespace paceline
