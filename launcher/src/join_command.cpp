// An agent that takes part in a job which is running already.
#include "conduct.hpp"
#include "elastic/launch_facts.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/client.hpp"
#include "run_directory.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

Status check_is_running(const std::string& run_dir, const control::Credentials& credentials) {
  PACELINE_ASSIGN(const auto coordinator, control::newest_coordinator(run_dir));
  const Error ended{ErrorCode::not_found, concat("nobody runs ", run_dir, " now: `paceline train --resume ",
                                                 run_dir, "` goes on with it")};
  if (!coordinator) return ended;
  control::Request request;
  request.mutable_status();
  const Result<control::Answer> answer = control::ask(*coordinator, credentials, request);
  if (answer.ok()) return {};
  return answer.error().code == ErrorCode::peer_lost ? ended : answer.error();
}

Result<Outcome> join_run(const JoinOptions& options, const Place& place, Display& display) {
  LaunchRequest request;
  request.run_dir = absolute_path(options.run_dir);
  PACELINE_ASSIGN(const std::string json, read_file(request.run_dir + "/job.json"));
  PACELINE_ASSIGN(request.job, job_from_json(json));
  PACELINE_ASSIGN(const LaunchFacts facts, read_launch_facts(request.run_dir));
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(request.run_dir));
  PACELINE_TRY(check_is_running(request.run_dir, credentials));
  request.first_term = facts.position.term;
  PACELINE_ASSIGN(request.worker_program, find_worker_program());
  const NodeShare share{.places = options.places, .host = facts.host, .secret = credentials.secret};
  PACELINE_ASSIGN(const Team team, make_node_team(place, share, request.job));
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  display.line(concat("joining ", request.run_dir, " with ", team.slots.size(),
                      team.slots.size() == 1 ? " place" : " places", " on node ", place.node));
  return run_agent(request, team, facts.agents, true, *signals, display);
}

}  // namespace

int join_job(const JoinOptions& options) {
  const Result<Place> place = settle();
  if (!place.ok()) return complain(place.error());
  if (place->local_size > 1)
    return complain({ErrorCode::invalid_argument,
                     concat("join is the work of one process for each node, and ", place->launcher,
                            " has started ", place->local_size, " on this one: start one task on each")});
  Display display({.plain = true, .epochs = false});
  const Result<Outcome> outcome = join_run(options, *place, display);
  if (!outcome.ok()) return complain(outcome.error());
  if (outcome->failure) display.error(outcome->failure->sentence);
  return exit_code_of(*outcome);
}

}  // namespace paceline
