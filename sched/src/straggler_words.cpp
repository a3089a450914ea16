#include "straggler_words.hpp"

#include <cstdio>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

std::string rounded(double number, const char* format = "%.3g") {
  char text[64];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

std::string seconds(double time_s) {
  return rounded(time_s, time_s < 100 ? "%.1f s" : "%.0f s");
}

std::string per_step(double time_s) {
  return time_s < 1 ? rounded(time_s * 1e3, "%.3g ms a step") : rounded(time_s, "%.3g s a step");
}

std::string times(double ratio) {
  return concat(rounded(ratio, ratio < 10 ? "%.2f" : "%.0f"), " times");
}

std::string shown_rank(const StragglerSuspect& who) {
  return concat("rank ", who.rank, " (worker ", who.worker, " on ", shown(who.node), ")");
}

std::string who_of(const StragglerEvent& event, std::size_t ranks) {
  if (event.suspect) return shown_rank(*event.suspect);
  return ranks == 1 ? "the only rank" : "all ranks alike";
}

/// What they do, after who does it; `one`: it is one.
std::string does(const StragglerEvent& event, bool one) {
  const char* longer = event.suspect ? " as long as the other ranks' median" : " as long as before";
  const std::string ratio = times(event.ratio);
  switch (event.cause) {
    case StragglerCause::slow_read:
      return concat(one ? " waits" : " wait", " for data ", per_step(event.lost_s_per_step),
                    event.suspect ? " longer than the other ranks' median" : " longer than before");
    case StragglerCause::slow_compute:
      return concat(one ? " takes " : " take ", ratio, longer, " to compute a grain");
    case StragglerCause::starved:
      return concat(one ? " takes " : " take ", ratio, longer,
                    " to compute a grain, and doesn't get the cores for it");
    case StragglerCause::slow_optimizer:
      return concat(one ? " takes " : " take ", ratio, longer, " in the optimizer");
    case StragglerCause::slow_wire: break;
  }
  return concat(one ? " takes " : " take ", ratio, longer, " to send a byte to other nodes");
}

std::string wire_sentence(const StragglerEvent& event, std::size_t ranks) {
  if (ranks > 1)
    return concat("the network of ", shown(event.suspect->node), " is slow: all ranks alike take ",
                  times(event.ratio), " as long as before to send a byte, and longest to ",
                  shown_rank(*event.suspect));
  const std::string much =
      concat(" takes ", times(event.ratio), " as long as the other ranks' median to send a byte");
  if (!event.pair) return concat(shown_rank(*event.suspect), much, " to other nodes");
  const SlowPair& pair = *event.pair;
  const bool sends = event.suspect->rank == pair.from_rank;
  const std::string from = sends ? shown_rank(*event.suspect) : concat("rank ", pair.from_rank);
  const std::string to = sends ? concat("rank ", pair.to_rank) : shown_rank(*event.suspect);
  const std::string wire =
      concat(from, much, ", slowest to ", to, " at ", rounded(pair.bytes_per_s / 1e6), " MB/s");
  if (event.slow_pairs < 2) return concat(wire, " (its network, or that of whom it sends to)");
  return concat("the network of ", shown(event.suspect->node), " is slow: ", wire);
}

}  // namespace

const char* name_of(StepPart part) noexcept {
  switch (part) {
    case StepPart::data: return "data";
    case StepPart::compute: return "compute";
    case StepPart::optimizer: return "optimizer";
    case StepPart::wire: return "wire";
  }
  return "";
}

const char* name_of(StragglerCause cause) noexcept {
  switch (cause) {
    case StragglerCause::slow_read: return "slow_read";
    case StragglerCause::slow_compute: return "slow_compute";
    case StragglerCause::starved: return "starved";
    case StragglerCause::slow_optimizer: return "slow_optimizer";
    case StragglerCause::slow_wire: return "slow_wire";
  }
  return "";
}

StragglerCause cause_of(StepPart part) noexcept {
  switch (part) {
    case StepPart::data: return StragglerCause::slow_read;
    case StepPart::compute: return StragglerCause::slow_compute;
    case StepPart::optimizer: return StragglerCause::slow_optimizer;
    case StepPart::wire: break;
  }
  return StragglerCause::slow_wire;
}

std::string sentence_of(const StragglerEvent& event, std::size_t ranks) {
  const double for_s = to_seconds(event.at - event.since);
  const bool one = event.suspect || ranks == 1;
  const std::string what = event.part == StepPart::wire && event.suspect
                               ? wire_sentence(event, ranks)
                               : concat(who_of(event, ranks), does(event, one));
  const char* blame = one                            ? ""
                      : event.part == StepPart::data ? ": the filesystem is slow"
                      : event.part == StepPart::wire ? ": the network is slow"
                                                     : "";
  return concat(what, ", for ", seconds(for_s), " now", blame);
}

std::string sentence_of_end(const StragglerEvent& began, StragglerEnding how, double lasted_s) {
  const std::string who = began.suspect ? shown_rank(*began.suspect) : "all ranks";
  const std::string what = concat(" (", name_of(began.cause), ")");
  switch (how) {
    case StragglerEnding::over: return concat(who, what, ": no longer slow, after ", seconds(lasted_s));
    case StragglerEnding::usual: return concat(who, what, ": as slow as ever, which is what is usual now");
    case StragglerEnding::left: break;
  }
  return concat(who, what, ": left, after ", seconds(lasted_s));
}

}  // namespace paceline
