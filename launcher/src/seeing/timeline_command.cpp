#include <cmath>
#include <cstdio>

#include "commands.hpp"
#include "format.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "seeing/run_events.hpp"
#include "seeing/timeline.hpp"

namespace paceline {
namespace {

std::string counted(std::int64_t number, const char* what) {
  return concat(with_commas(static_cast<double>(number)), " ", what, number == 1 ? "" : "s");
}

std::string ahead(double offset_s) {
  return concat(fixed(std::fabs(offset_s) * 1e3, 3), " ms ", offset_s < 0 ? "behind" : "ahead of");
}

void print_clock(const TimelineClock& clock, const TimelineClock& reference) {
  const std::string node = shown(clock.node), first = shown(reference.node);
  if (clock.common == 0) {
    std::printf("clock of %s: left as it is, since it has no commits in common with %s\n", node.c_str(),
                first.c_str());
    return;
  }
  const double drift_ms = (clock.greatest_s - clock.least_s) * 1e3;
  std::printf("clock of %s: %s %s's, and changing by %s ms; from %s\n", node.c_str(),
              ahead((clock.least_s + clock.greatest_s) / 2).c_str(), first.c_str(),
              fixed(drift_ms, 3).c_str(), counted(clock.common, "common commit").c_str());
}

void print_facts(const TimelineFacts& facts, const std::string& out) {
  const std::string steps = facts.steps > 0
                                ? concat(", steps ", with_commas(static_cast<double>(facts.first_step)),
                                         " to ", with_commas(static_cast<double>(facts.last_step)))
                                : ", no steps";
  std::printf("wrote %s: %s on %s%s, %s; open it in https://ui.perfetto.dev\n", shown(out).c_str(),
              counted(facts.workers, "worker").c_str(), counted(std::ssize(facts.clocks), "node").c_str(),
              steps.c_str(), human_bytes(static_cast<std::uint64_t>(facts.bytes)).c_str());
  for (std::size_t i = 1; i < facts.clocks.size(); ++i) print_clock(facts.clocks[i], facts.clocks.front());
  if (facts.lost > 0)
    std::printf("%s could not be written by workers\n", counted(facts.lost, "line").c_str());
  if (facts.unreadable > 0)
    std::printf("%s of telemetry can't be read, and left out\n", counted(facts.unreadable, "line").c_str());
  if (facts.unplaced > 0)
    std::printf("%s of the journal left out: nothing says when\n", counted(facts.unplaced, "event").c_str());
}

Status show(const TimelineOptions& options) {
  const std::string run_dir = absolute_path(options.run_dir);
  PACELINE_TRY(check_is_run(run_dir));
  if (options.from && options.to && *options.from > *options.to)
    return Error{ErrorCode::invalid_argument,
                 concat("--from ", *options.from, " is after --to ", *options.to, ": there is no such step")};
  const std::string out = options.out.empty() ? run_dir + "/timeline.json" : options.out;
  PACELINE_ASSIGN(const TimelineFacts facts, write_timeline(run_dir, out, {options.from, options.to}));
  print_facts(facts, out);
  return {};
}

}  // namespace

int show_timeline(const TimelineOptions& options) {
  const Status shown = show(options);
  return shown.ok() ? int{exit_done} : complain(shown.error());
}

}  // namespace paceline
