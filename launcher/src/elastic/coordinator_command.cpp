#include <csignal>
#include <cstdio>

#include "commands.hpp"
#include "elastic/coordinator_process.hpp"
#include "paceline/base/log.hpp"
#include "paceline/control/address.hpp"
#include "run_directory.hpp"
#include "where/place.hpp"

namespace paceline {

/// Not for people: agents start it.
int coordinate(const CoordinatorCommand& command) {
  // What is meant for the job reaches the agents; without a coordinator they could not obey in good order.
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) std::signal(number, SIG_IGN);
  // Its standard error is a file of the run, where a line for each decision is welcome.
  set_log_level(LogLevel::info);
  const Result<Place> place = find_place([](const char* name) { return environment(name); });
  const std::string node = place.ok() ? place->node : "";
  const Status ended = CoordinatorProcess::run({.run_dir = absolute_path(command.run_dir),
                                                .term = command.after + 1,
                                                .node = node,
                                                .starter = command.starter});
  if (ended.ok()) return exit_done;
  // Another was faster, or has taken over.
  if (ended.error().code == ErrorCode::already_exists) {
    std::fprintf(stderr, "paceline: %s\n", ended.error().message.c_str());
    return exit_done;
  }
  const int code = complain(ended.error());
  return ended.error().code == ErrorCode::aborted ? exit_job_has_ended : code;
}

}  // namespace paceline
