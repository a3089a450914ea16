#include "ways.hpp"

#include <algorithm>
#include <cstdio>

#include "paceline/base/text.hpp"

namespace paceline::cuda {
namespace {

constexpr const char* names[] = {"automatic", "one_shot", "two_shot", "nccl", "staged", "hierarchical"};

std::string decimal(double value, int places) {
  char text[32];
  std::snprintf(text, sizeof text, "%.*f", places, value);
  return text;
}

bool is_integer(DataType type) {
  return type == DataType::i32 || type == DataType::i64 || type == DataType::u8;
}

bool is_lossy(Codec codec) {
  return codec == Codec::f16 || codec == Codec::bf16 || codec == Codec::int8;
}

/// Bytes that the estimate goes by: the larger of input and output.
double bytes_of(const Descriptor& call, int size) {
  const double one = static_cast<double>(call.count) * static_cast<double>(element_bytes(call.type));
  const bool blocks = call.kind == CollectiveKind::reduce_scatter || call.kind == CollectiveKind::all_gather;
  return blocks ? one * size : one;
}

Descriptor plain_sum(std::size_t bytes) {
  Descriptor call;
  call.kind = CollectiveKind::all_reduce;
  call.type = DataType::f32;
  call.count = bytes / sizeof(float);
  return call;
}

}  // namespace

std::string_view to_string(Way way) noexcept {
  const auto index = static_cast<std::size_t>(way);
  return index < std::size(names) ? names[index] : "unknown";
}

void fit(WayFound& way, double short_bytes, double short_s, double long_bytes, double long_s) {
  way.bytes_per_s = long_bytes / std::max(long_s, 1e-9);
  way.latency_s = short_s;
  if (long_s <= short_s) return;
  way.bytes_per_s = (long_bytes - short_bytes) / (long_s - short_s);
  way.latency_s = std::max(0.0, short_s - short_bytes / way.bytes_per_s);
}

std::string objection(Way way, const Descriptor& call, int nodes) {
  const bool reduces = call.kind == CollectiveKind::all_reduce || call.kind == CollectiveKind::reduce_scatter;
  const bool integer_average = reduces && call.op == ReduceOp::average && is_integer(call.type);
  switch (way) {
    case Way::one_shot:
    case Way::two_shot:
      if (nodes > 1) return "it is for one node";
      if (way == Way::two_shot && call.kind == CollectiveKind::barrier) return "a barrier is one exchange";
      return {};
    case Way::nccl:
      if (call.codec == Codec::fixed_point) return "NCCL has no fixed point";
      if (is_lossy(call.codec) && nodes > 1) return "NCCL has no codecs";
      if (integer_average) return "NCCL does not average integers";
      return {};
    case Way::hierarchical:
      if (nodes == 1) return "it is for several nodes";
      if (call.kind != CollectiveKind::all_reduce) return "it is for all_reduce";
      if (call.codec == Codec::fixed_point) return "fixed point is added up by the host as a whole";
      if (integer_average) return "an average of integers is divided once, at the end";
      return {};
    case Way::staged:
    case Way::automatic: break;
  }
  return {};
}

double WayPlan::estimate_s(const WayFound& way, double bytes) const {
  return way.latency_s + bytes / way.bytes_per_s;
}

Result<Way> WayPlan::choose(const Descriptor& call) const {
  const double bytes = bytes_of(call, size_);
  const WayFound* best = nullptr;
  std::string reasons;
  for (const WayFound& way : found_) {
    if (forced_ != Way::automatic && way.way != forced_) continue;
    const std::string why_not = way.why_not.empty() ? objection(way.way, call, nodes_) : way.why_not;
    if (!why_not.empty()) {
      reasons += concat(reasons.empty() ? "" : "; ", to_string(way.way), ": ", why_not);
    } else if (best == nullptr || estimate_s(way, bytes) < estimate_s(*best, bytes)) {
      best = &way;
    }
  }
  if (best != nullptr) return best->way;
  const char* what = forced_ == Way::automatic ? "no way can carry out this "
                                               : "the way that was asked for can't carry out this ";
  return Error{ErrorCode::unsupported, concat(what, paceline::describe(call), " (", reasons, ")")};
}

std::string WayPlan::describe() const {
  std::string text;
  for (const WayFound& way : found_) {
    text += concat(to_string(way.way), ": ");
    if (way.why_not.empty())
      text += concat(decimal(way.latency_s * 1e6, 1), " us, ", decimal(way.bytes_per_s / 1e9, 2), " GB/s\n");
    else
      text += concat("not used: ", way.why_not, "\n");
  }
  constexpr std::size_t most = std::size_t{1} << 30;
  std::size_t from = 0;
  for (std::size_t bytes = 4; bytes <= most; bytes *= 2) {
    const Result<Way> now = choose(plain_sum(bytes));
    if (!now.ok()) return text + concat(now.error().message, "\n");
    const Result<Way> next = choose(plain_sum(bytes * 2));
    if (bytes < most && next.ok() && *next == *now) continue;
    text += from == 0 ? "sums" : concat("sums from ", human_bytes(from));
    if (bytes < most) text += concat(" to ", human_bytes(bytes));
    text += concat(": ", to_string(*now), forced_ != Way::automatic ? ", as asked for\n" : "\n");
    from = bytes * 2;
  }
  return text;
}

Result<DeviceTuning> device_tuning_from_environment(DeviceTuning tuning) {
  if (const auto named = environment("PACELINE_DEVICE_WAY"); named && tuning.way == Way::automatic) {
    const auto* const place = std::find(std::begin(names), std::end(names), *named);
    if (place == std::end(names)) {
      std::string known;
      for (const char* name : names) known += concat(known.empty() ? "" : ", ", name);
      return Error{ErrorCode::invalid_argument,
                   concat("PACELINE_DEVICE_WAY is ", shown(*named), ": use one of ", known)};
    }
    tuning.way = static_cast<Way>(place - std::begin(names));
  }
  if (const auto text = environment("PACELINE_DEVICE_FRAGMENT_BYTES"); text && tuning.fragment_bytes == 0) {
    const auto bytes = parse_integer(*text, 4096, std::int64_t{1} << 30);
    if (!bytes)
      return Error{ErrorCode::invalid_argument, concat("PACELINE_DEVICE_FRAGMENT_BYTES is ", shown(*text),
                                                       ": it must be a number from 4096 to 2^30")};
    tuning.fragment_bytes = static_cast<std::size_t>(*bytes);
  }
  return tuning;
}

}  // namespace paceline::cuda
