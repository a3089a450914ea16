// Where the ranks of a job would be, without starting any.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "conduct.hpp"
#include "fleet/fleet.hpp"
#include "gpu_places.hpp"
#include "job_size.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "plan_report.hpp"
#include "resources/inventory_file.hpp"
#include "resources/node_resources.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

constexpr std::size_t largest_file = std::size_t{256} << 20;

/// The nodes to plan for.
struct Cluster {
  std::vector<NodeResources> nodes;
  std::optional<std::int64_t> ranks;  ///< so many were asked for, on all of the nodes
};

Result<std::vector<NodeResources>> read_inventory(const std::string& file) {
  if (file == "-")
    return parse_inventory({std::istreambuf_iterator<char>(std::cin), {}}, "the inventory on standard input");
  const Result<std::string> text = read_file(file, largest_file);
  if (!text.ok()) return Error{ErrorCode::invalid_argument, concat("--inventory: ", text.error().message)};
  return parse_inventory(*text, file);
}

void warn(const std::string& node, const std::string& complaint) {
  if (!complaint.empty()) std::fprintf(stderr, "paceline: node %s: %s\n", node.c_str(), complaint.c_str());
}

/// Asks an agent on every node, each of which then goes.
Result<Cluster> ask_nodes(const Allocation& allocation) {
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  PACELINE_ASSIGN(const auto fleet, Fleet::start(allocation, {absolute_path(".")}, true));
  PACELINE_ASSIGN(const std::vector<NodeReport> reports, fleet->gather(*signals));
  PACELINE_TRY(check_reports(reports, seconds_since_1970()));
  Cluster cluster;
  cluster.ranks = allocation.ranks;
  for (std::size_t i = 0; i < reports.size(); ++i) {
    if (!reports[i].resources)
      return Error{ErrorCode::io, concat("node ", reports[i].node, " does not say what it has")};
    NodeResources& node = cluster.nodes.emplace_back(*reports[i].resources);
    if (i < allocation.hosts.size()) node.slots = allocation.hosts[i].slots;
    warn(node.name, reports[i].complaint);
  }
  return cluster;
}

Result<Cluster> find_cluster(const PlanOptions& options, const Place& place) {
  Cluster cluster;
  if (!options.inventory.empty() && !(options.hosts.empty() && options.starter.empty()))
    return Error{
        ErrorCode::invalid_argument,
        "--inventory and --hosts or --starter both say which nodes there are: leave one of them out"};
  if (!options.inventory.empty()) {
    PACELINE_ASSIGN(cluster.nodes, read_inventory(options.inventory));
    return cluster;
  }
  if (!place.in_shell())
    return Error{ErrorCode::invalid_argument,
                 concat("plan is the work of one process: run it without ", place.launcher)};
  PACELINE_ASSIGN(
      const std::optional<Allocation> allocation,
      find_allocation([](const char* name) { return environment(name); }, options.hosts, options.starter));
  if (allocation) return ask_nodes(*allocation);
  PACELINE_ASSIGN(OwnResources own, take_resources(place));
  warn(own.node.name, own.complaint);
  cluster.nodes.push_back(std::move(own.node));
  return cluster;
}

std::int64_t bytes_of(double gib) {
  return std::llround(gib * (std::int64_t{1} << 30));
}

RankNeeds needs_of(const PlanOptions& options, const Job& job) {
  RankNeeds needs = needs_of(job);
  if (!options.device.empty()) needs.gpu = options.device == "gpu";
  needs.gpu = needs.gpu || !options.gpu_kind.empty() || options.gpu_memory_gib > 0;
  needs.same_gpu_kind = options.gpu_kind == "same";
  needs.gpu_kind = needs.same_gpu_kind ? "" : options.gpu_kind;
  needs.gpu_memory_bytes = bytes_of(options.gpu_memory_gib);
  needs.memory_bytes = bytes_of(options.memory_gib);
  return needs;
}

Result<PlanReport> make_plan(const PlanOptions& options, const Place& place) {
  PACELINE_ASSIGN(const std::optional<std::int64_t> asked, parse_ranks(options.ranks));
  const Result<Job> job = load_job(options.job_file, options.overrides);
  if (!job.ok()) return Error{ErrorCode::invalid_argument, job.error().message};
  PlanReport report;
  report.job = job->name;
  report.needs = needs_of(options, *job);
  if (options.device == "cpu" && report.needs.gpu)
    return Error{ErrorCode::invalid_argument,
                 "--device cpu leaves no use for --gpu-kind and --gpu-memory: leave them out"};
  PACELINE_ASSIGN(Cluster cluster, find_cluster(options, place));
  report.nodes = std::move(cluster.nodes);
  std::int64_t room = 0;
  for (const NodeRoom& one : find_room(report.nodes, report.needs)) room += one.natural;
  const std::int64_t ranks = asked.value_or(cluster.ranks.value_or(default_ranks(*job, room)));
  PACELINE_TRY(check_ranks(*job, ranks));
  PACELINE_ASSIGN(report.placement,
                  place_ranks(report.nodes, report.needs, ranks, cluster.ranks.has_value()));
  return report;
}

}  // namespace

int plan_ranks(const PlanOptions& options) {
  const Result<Place> place = settle();
  if (!place.ok()) return complain(place.error());
  if (place->rank > 0) return exit_usage;  // task 0 says why
  const Result<PlanReport> report = make_plan(options, *place);
  if (!report.ok()) return complain(report.error());
  const std::string text =
      options.json ? to_json(*report).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
                   : to_text(*report);
  if (std::fputs(text.c_str(), stdout) < 0 || std::fflush(stdout) != 0)
    return complain(system_error("cannot write the plan"));
  return exit_done;
}

}  // namespace paceline
