#include "doctor/examine.hpp"

#include "doctor/child.hpp"
#include "doctor/file_checks.hpp"
#include "doctor/machine_checks.hpp"
#include "doctor/network_checks.hpp"
#include "doctor/program_checks.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr Duration quick = std::chrono::seconds(20);
// A driver that has just been loaded takes its time.
constexpr Duration driver_limit = std::chrono::seconds(30);

std::vector<Group> groups_of(const NodeExamination& what, const Place& place) {
  return {
      {.name = "limits",
       .limit = quick,
       .mend = "see that /proc and /sys answer",
       .work = [&place](const Sink& sink) { check_limits(place, sink); }},
      {.name = "kernel",
       .limit = quick,
       .mend = "see what the container's seccomp profile forbids",
       .work = check_kernel},
      {.name = "GPU libraries",
       .limit = driver_limit,
       .mend = "see that nvidia-smi answers, and that the driver's libraries are of one version",
       .work = check_gpu_libraries},
      {.name = "network",
       .limit = quick,
       .mend =
           "see that the host's name can be resolved (getent hosts $(hostname)), or set PACELINE_INTERFACE",
       .work = [&what](const Sink& sink) { check_network(what.of_several, sink); }},
      {.name = "files",
       .limit = quick,
       .mend = concat("see that the filesystem of ", shown(what.folder),
                      " answers, or name a folder on another with --folder"),
       .work = [&what](const Sink& sink) { check_files(what.folder, sink); },
       .cleans_up = true}};
}

}  // namespace

void examine_node(const NodeExamination& what, const Place& place, StopSignals& signals, const Sink& sink) {
  const auto unless_stopped = [&](const auto& check) {
    if (signals.first() == 0) check();
  };
  unless_stopped([&] { sink(check_worker(signals)); });
  if (what.starts_jobs) unless_stopped([&] { check_launchers(signals, sink); });
  unless_stopped([&] { sink(check_memory_of_others(signals)); });
  for (const Group& group : groups_of(what, place)) unless_stopped([&] { run_group(group, signals, sink); });
}

}  // namespace paceline::doctor
