#include "conduct.hpp"

#include <sys/prctl.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "elastic/launch_facts.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "seeing/run_totals.hpp"
#include "spawn.hpp"
#include "where/adapters.hpp"

namespace paceline {
namespace {

constexpr Duration rendezvous_limit = std::chrono::seconds(120);
// How long a head that gives up leaves its reason for the other tasks to read.
constexpr Duration farewell = std::chrono::seconds(2);
// mpirun ends all tasks when one fails. The others are given the time to see why, or they would report that
// they were told to stop.
constexpr Duration failure_spreads = std::chrono::milliseconds(300);

void tell_failure(Display& display, const LaunchRequest& request, const Outcome& outcome) {
  if (!outcome.failure) return;
  const FailureReport& failure = *outcome.failure;
  display.error(
      failure_text(failure, log_path(request, failure.worker >= 0 ? failure.worker : failure.rank)));
}

void let_failure_spread(const Place& place, const Outcome& outcome) {
  if (place.size > 1 && outcome.status == "failed") std::this_thread::sleep_for(failure_spreads);
}

Result<LaunchRequest> request_of(const Place& place, const Rendezvous& rendezvous) {
  LaunchRequest request;
  request.action = rendezvous.action;
  request.run_dir = rendezvous.run_dir;
  request.ranks = place.size;
  PACELINE_ASSIGN(const std::string json, read_file(rendezvous.run_dir + "/job.json"));
  PACELINE_ASSIGN(request.job, job_from_json(json));
  PACELINE_ASSIGN(request.worker_program, find_worker_program());
  if (request.action != "train") return request;
  PACELINE_ASSIGN(const LaunchFacts facts, read_launch_facts(request.run_dir));
  request.first_term = facts.position.term;
  return request;
}

Result<int> follow_rendezvous(const Place& place, const Rendezvous& rendezvous) {
  PACELINE_ASSIGN(const LaunchRequest request, request_of(place, rendezvous));
  PACELINE_ASSIGN(const Team team, join_team(place, rendezvous, request.job));
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  Display display({.silent = true});
  const Outcome outcome = run_team(place, request, team, *signals, display);
  tell_failure(display, request, outcome);
  let_failure_spread(place, outcome);
  return exit_code_of(outcome);
}

}  // namespace

int exit_code_of(const Error& error) {
  const bool usage = error.code == ErrorCode::invalid_argument || error.code == ErrorCode::not_found;
  return usage ? exit_usage : exit_failed;
}

int exit_code_of(const Outcome& outcome) {
  if (outcome.status == "completed") return exit_done;
  if (outcome.status == "failed") return exit_failed;
  // Stopped without a signal of our own: another task of the launch was told to, and that is how.
  return 128 + (outcome.stop_signal != 0 ? outcome.stop_signal : SIGTERM);
}

int complain(const Error& error) {
  std::fprintf(stderr, "paceline: %s\n", error.message.c_str());
  return exit_code_of(error);
}

Result<Place> settle() {
  PACELINE_ASSIGN(Place place, find_place([](const char* name) { return environment(name); }));
  if (!place.in_shell()) ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (place.launcher == "mpiexec") ::setenv(known_launch_id, place.launch_id.c_str(), 1);
  return place;
}

Head::Head(const Place& place, const std::string& folder, const Display::Options& display)
    : place_(place), display_(display) {
  if (place.size > 1) published_.emplace(rendezvous_path(folder, place));
}

Status Head::write_json_to(const std::string& path) {
  if (path.empty()) return {};
  PACELINE_TRY(check_writable(path, "--json"));
  json_path_ = path;
  return {};
}

int Head::give_up(const RunFacts& facts, const Error& error, int signal) {
  display_.error(error.message);
  if (!json_path_.empty()) {
    const Status written = write_file_atomically(json_path_, summary_json(facts, failed_outcome(error)));
    if (!written.ok()) display_.error(written.error().message);
  }
  const int code = signal != 0 ? 128 + signal : exit_code_of(error);
  if (published_) {
    const Status told = published_->publish({.error = error.message, .exit_code = code});
    if (told.ok()) std::this_thread::sleep_for(farewell);
  }
  return code;
}

Outcome Head::run(const LaunchRequest& request, const Team& team, StopSignals& signals,
                  std::function<Status()> on_each_turn) {
  if (published_) {
    const MemberSpec& self = team.members[0];
    const Status told = published_->publish({.action = request.action,
                                             .run_dir = request.run_dir,
                                             .node = self.node,
                                             .host = self.host,
                                             .port = self.port,
                                             .secret = team.secret});
    if (!told.ok()) return failed_outcome(told.error());
  }
  // Once all ranks are connected nobody reads the file any more, and its secret need not lie about.
  Outcome outcome = run_team(place_, request, team, signals, display_,
                             {.on_first_step = [this] { published_.reset(); },
                              .on_each_turn = std::move(on_each_turn),
                              .is_orphaned = {}});
  display_.end_progress();
  return outcome;
}

Status Head::write_results(const RunFacts& facts, const Outcome& outcome) {
  RunFacts known = facts;
  // Not known is null in the summary: a run doesn't fail by what it can't say of itself.
  if (facts.action == "train") {
    const Result<std::optional<RunTotals>> totals = totals_at_end(facts.run_dir);
    if (totals.ok()) known.totals = *totals;
  }
  const std::string json = summary_json(known, outcome);
  Status in_run, beside;
  if (facts.action == "train") in_run = write_file_atomically(facts.run_dir + "/summary.json", json);
  if (!json_path_.empty()) beside = write_file_atomically(json_path_, json);
  return in_run.ok() ? beside : in_run;
}

int Head::conclude(const RunFacts& facts, const LaunchRequest& request, const Outcome& outcome) {
  tell_failure(display_, request, outcome);
  int code = exit_code_of(outcome);
  const Status written = write_results(facts, outcome);
  if (!written.ok()) {
    display_.error(written.error().message);
    if (code == exit_done) code = exit_failed;
  }
  let_failure_spread(place_, outcome);
  return code;
}

int follow(const Place& place, const std::string& folder) {
  const SteadyClock clock;
  const Result<Rendezvous> rendezvous =
      await_rendezvous(rendezvous_path(folder, place), clock, rendezvous_limit);
  if (!rendezvous.ok()) return complain(rendezvous.error());
  if (!rendezvous->error.empty()) return rendezvous->exit_code;
  const Result<int> code = follow_rendezvous(place, *rendezvous);
  return code.ok() ? *code : complain(code.error());
}

}  // namespace paceline
