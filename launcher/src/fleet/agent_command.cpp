// The agent of one node, started by a launcher on another through ssh or srun.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include "conduct.hpp"
#include "elastic/launch_facts.hpp"
#include "fleet/messages.hpp"
#include "inventory.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/credentials.hpp"
#include "resources/node_resources.hpp"
#include "run_directory.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

// The launcher waits for other nodes, and makes the run directory.
constexpr Duration order_limit = std::chrono::minutes(10);
// From the launcher's end to that of the workers.
constexpr Duration orphan_limit = std::chrono::seconds(3);
// The launcher says something every second, unless somebody has stopped it for a while.
constexpr Duration silence_limit = std::chrono::minutes(2);
// That the coordinator learns first that the launcher is gone, if it is.
constexpr Duration others_notice = std::chrono::milliseconds(300);
constexpr Duration piece_interval = std::chrono::milliseconds(20);
constexpr std::size_t longest_order = std::size_t{64} << 20;

Result<NodeReport> report_on(const Place& place, const AgentCommand& command) {
  PACELINE_ASSIGN(const NodeInventory node, take_inventory());
  NodeReport report;
  report.version = PACELINE_VERSION;
  report.node = place.node;
  PACELINE_ASSIGN(report.address, outside_address(environment("PACELINE_INTERFACE")));
  report.cores = usable_cores(place, node);
  report.tasks = place.size;
  report.time = seconds_since_1970();
  for (const std::string& path : command.must_see)
    if (::access(path.c_str(), F_OK) != 0) report.unseen.push_back(path);
  if (!command.with_resources) return report;
  PACELINE_ASSIGN(OwnResources own, take_resources(place));
  report.resources = std::move(own.node);
  report.complaint = std::move(own.complaint);
  return report;
}

Status send_report(const NodeReport& report) {
  const std::vector<std::string> pieces = in_pieces(to_json(report));
  for (const std::string& piece : pieces) {
    PACELINE_TRY(write_all(STDOUT_FILENO, piece + "\n", "the launcher"));
    // Or mpirun would read several at once, and cut them where its buffer ends.
    if (pieces.size() > 1) std::this_thread::sleep_for(piece_interval);
  }
  return {};
}

/// Nothing: the launcher has gone.
Result<std::optional<std::string>> read_line() {
  const SteadyClock clock;
  const Deadline deadline(clock, order_limit);
  std::string text;
  while (!deadline.passed() && text.size() < longest_order) {
    pollfd entry{STDIN_FILENO, POLLIN, 0};
    if (::poll(&entry, 1, deadline.left_ms()) <= 0) continue;
    char letter = 0;
    const ssize_t got = ::read(STDIN_FILENO, &letter, 1);
    if (got == 0) return {std::nullopt};
    if (got < 0 && errno != EINTR) return system_error("cannot hear the launcher");
    if (got > 0 && letter == '\n') return {std::move(text)};
    if (got > 0) text.push_back(letter);
  }
  return Error{ErrorCode::timeout,
               concat("waited ", to_seconds(order_limit), " s for the launcher to say what to start here")};
}

std::atomic<bool> orphaned = false;

/// Until the launcher has ended, or has said nothing for too long; then ends this process, in good order
/// first.
void end_with_launcher() {
  const SteadyClock clock;
  Instant heard_at = clock.now();
  while (clock.now() - heard_at < silence_limit) {
    pollfd entry{STDIN_FILENO, POLLIN, 0};
    if (::poll(&entry, 1, 1000) <= 0) continue;
    std::array<char, 256> ignored{};
    const ssize_t got = ::read(STDIN_FILENO, ignored.data(), ignored.size());
    if (got == 0 || (got < 0 && errno != EINTR)) break;
    heard_at = clock.now();
  }
  std::this_thread::sleep_for(others_notice);
  orphaned = true;
  std::this_thread::sleep_for(orphan_limit);
  ::kill(::getpid(), SIGTERM);
}

Result<Outcome> take_part(const FleetOrder& order, const AgentOrder& own, const Place& place,
                          StopSignals& signals) {
  LaunchRequest request;
  request.run_dir = order.run_dir;
  PACELINE_ASSIGN(const std::string json, read_file(request.run_dir + "/job.json"));
  PACELINE_ASSIGN(request.job, job_from_json(json));
  PACELINE_ASSIGN(const LaunchFacts facts, read_launch_facts(request.run_dir));
  PACELINE_ASSIGN(const control::Credentials credentials, control::read_credentials(request.run_dir));
  request.first_term = facts.position.term;
  PACELINE_ASSIGN(request.worker_program, find_worker_program());
  const NodeShare share{
      .places = own.places, .may_grow = true, .host = facts.host, .secret = credentials.secret};
  PACELINE_ASSIGN(const Team team, make_node_team(place, share, request.job));
  Display display({.silent = true});
  return run_agent(request, team, own.index, false, signals, display,
                   {.on_first_step = {}, .on_each_turn = {}, .is_orphaned = [] { return orphaned.load(); }});
}

Result<int> serve(const AgentCommand& command) {
  PACELINE_ASSIGN(const Place place, settle());
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  PACELINE_ASSIGN(const NodeReport report, report_on(place, command));
  PACELINE_TRY(send_report(report));
  PACELINE_ASSIGN(const std::optional<std::string> line, read_line());
  if (!line) return exit_done;
  PACELINE_ASSIGN(const FleetOrder order, parse_fleet_order(*line));
  const auto own = std::ranges::find(order.agents, place.node, &AgentOrder::node);
  if (own == order.agents.end()) return exit_done;
  std::thread(end_with_launcher).detach();
  PACELINE_ASSIGN(const Outcome outcome, take_part(order, *own, place, *signals));
  // What became of the job, the launcher says; but nobody else knows why this agent gave up.
  if (!outcome.is_known && outcome.status == "failed" && outcome.failure)
    std::fprintf(stderr, "paceline: %s\n", outcome.failure->sentence.c_str());
  return exit_done;
}

}  // namespace

int serve_as_agent(const AgentCommand& command) {
  const Result<int> code = serve(command);
  return code.ok() ? *code : complain(code.error());
}

}  // namespace paceline
