#include <cstdio>
#include <cstdlib>

#include "commands.hpp"
#include "conduct.hpp"
#include "doctor/examine.hpp"
#include "doctor/node_command.hpp"
#include "doctor/report.hpp"
#include "doctor/together.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "where/adapters.hpp"
#include "where/allocation.hpp"

namespace paceline {
namespace doctor {
namespace {

std::optional<std::string> look_up(const char* name) {
  return environment(name);
}

/// Where this process is, what other machines there are, and how both were found out.
struct Whereabouts {
  Place place;
  std::optional<Allocation> allocation;
  Check check;
};

Check describe(const Place& place, const std::optional<Allocation>& allocation) {
  if (allocation && allocation->by == "ssh")
    return fine("place",
                concat("a shell, with ", allocation->nodes, " hosts for ssh (", allocation->why, ")"));
  if (allocation)
    return fine("place", concat("the script or shell of a Slurm job on ", allocation->nodes,
                                allocation->nodes == 1 ? " node (" : " nodes (", allocation->why, ")"));
  if (place.in_shell()) return fine("place", concat("a shell on one machine (", place.why, ")"));
  const std::string found =
      concat("task ", place.rank, " of ", place.size, " of ", place.launcher, " (", place.why, ")");
  if (place.one_host) return fine("place", found);
  return warning("place", concat(found, ", on several nodes of which only this one is checked"),
                 "call paceline doctor in the job's script, or with --hosts, to check all");
}

/// Variables that contradict themselves are something to report, but not a reason to stop.
Result<Whereabouts> find_out(const DoctorOptions& options) {
  const Result<Place> place = settle();
  if (!place.ok())
    return Whereabouts{shell_place(look_up), std::nullopt,
                       from_advice("place", State::problem, place.error())};
  if (!place->in_shell() && !options.hosts.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("--hosts under ", place->launcher, " (", place->why,
                        "), which has chosen the machines already: leave one of them out")};
  if (!place->in_shell()) return Whereabouts{*place, std::nullopt, describe(*place, std::nullopt)};
  const Result<std::optional<Allocation>> allocation = find_allocation(look_up, options.hosts);
  if (allocation.ok()) return Whereabouts{*place, *allocation, describe(*place, *allocation)};
  if (!options.hosts.empty()) return allocation.error();
  return Whereabouts{*place, std::nullopt, from_advice("place", State::problem, allocation.error())};
}

/// People see each line as it is found; programs get all at the end.
void show(bool json, const std::string& text) {
  if (json) return;
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

Examination examine_all(const DoctorOptions& options, const Whereabouts& where, StopSignals& signals) {
  const std::string folder = absolute_path(options.folder);
  Examination all;
  all.nodes.push_back({where.place.node, {}});
  show(options.json, concat("node ", where.place.node, " (this machine, paceline ", PACELINE_VERSION, ")\n"));
  const auto take = [&](const Check& check) {
    all.nodes.front().checks.push_back(check);
    show(options.json, line_of(check) + "\n");
  };
  take(where.check);
  examine_node({.folder = folder, .starts_jobs = true, .of_several = !where.place.one_host}, where.place,
               signals, take);
  if (!where.allocation || signals.first() != 0) return all;
  Crew crew(*where.allocation, folder);
  crew.gather(signals);
  all.together = examine_together(crew, folder, signals);
  for (NodeChecks& node : crew.nodes()) {
    show(options.json, short_text_of(node));
    all.nodes.push_back(std::move(node));
  }
  show(options.json, "all nodes together\n");
  for (const Check& check : all.together) show(options.json, line_of(check) + "\n");
  return all;
}

Result<int> examine(const DoctorOptions& options) {
  PACELINE_ASSIGN(const Whereabouts where, find_out(options));
  // The tasks of a launch see the same; one of them speaks.
  if (where.place.rank > 0) return exit_done;
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  const Examination all = examine_all(options, where, *signals);
  if (signals->first() != 0) {
    std::fprintf(stderr, "paceline: stopped before all was checked\n");
    return 128 + signals->first();
  }
  std::printf("%s\n", options.json ? to_json(all).c_str() : verdict(all).c_str());
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
    return Error{ErrorCode::io, "cannot write what was found to standard output"};
  return count(all, State::problem) > 0 ? exit_failed : exit_done;
}

}  // namespace
}  // namespace doctor

int examine(const DoctorOptions& options) {
  if (options.as_node) return doctor::serve_as_node(options);
  const Result<int> code = doctor::examine(options);
  return code.ok() ? *code : complain(code.error());
}

}  // namespace paceline
