#include <unistd.h>

#include <filesystem>

#include "conduct.hpp"
#include "format.hpp"
#include "gpu_places.hpp"
#include "job_size.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

/// What `action` needs of a run directory that has been trained in.
Result<LaunchRequest> open_run(const std::string& action, const std::string& run_dir) {
  LaunchRequest request;
  request.action = action;
  request.run_dir = absolute_path(run_dir);
  const Result<std::string> json = read_file(request.run_dir + "/job.json");
  if (!json.ok())
    return Error{ErrorCode::invalid_argument,
                 concat(run_dir, " is not a run directory (", json.error().message,
                        "): give the folder that `paceline train` named")};
  PACELINE_ASSIGN(request.job, job_from_json(*json));
  const std::string model = request.run_dir + "/model.safetensors";
  if (::access(model.c_str(), R_OK) != 0)
    return Error{ErrorCode::not_found, concat(run_dir, " holds no model yet: ", model,
                                              " is written when a run completes or is stopped")};
  PACELINE_ASSIGN(request.worker_program, find_worker_program());
  return request;
}

/// Evaluation has no batch, so that nothing but the number of processes limits its ranks.
Result<std::int64_t> evaluating_ranks(const EvalOptions& options, const Place& place, const Job& job) {
  PACELINE_ASSIGN(const std::optional<std::int64_t> ranks, parse_ranks(options.ranks));
  if (!place.in_shell()) {
    if (ranks && *ranks != place.size)
      return Error{ErrorCode::invalid_argument,
                   concat("--ranks ", *ranks, " under ", place.launcher, ", which started ", place.size,
                          ": leave --ranks out")};
    return place.size;
  }
  if (ranks) return *ranks;
  PACELINE_ASSIGN(const std::int64_t room, own_room(place, job));
  return default_ranks(job, room);
}

struct Prepared {
  LaunchRequest request;
  Team team;
};

Result<Prepared> prepare_eval(const EvalOptions& options, Head& head) {
  Prepared prepared;
  LaunchRequest& request = prepared.request;
  PACELINE_ASSIGN(request, open_run("eval", options.run_dir));
  if (request.job.data.eval.empty())
    return Error{ErrorCode::invalid_argument,
                 concat("the job of ", options.run_dir, " names no dataset to evaluate on (data.eval)")};
  PACELINE_ASSIGN(request.ranks, evaluating_ranks(options, head.place(), request.job));
  PACELINE_TRY(head.write_json_to(options.json));
  PACELINE_ASSIGN(prepared.team, make_team(head.place(), request.ranks, request.job));
  return prepared;
}

Result<Prepared> prepare_export(const ExportOptions& options, const Head& head) {
  if (head.place().size > 1)
    return Error{ErrorCode::invalid_argument,
                 concat("export is the work of one process: run it without ", head.place().launcher)};
  Prepared prepared;
  LaunchRequest& request = prepared.request;
  PACELINE_ASSIGN(request, open_run("export", options.run_dir));
  // The CPU writes the same file. What it cannot compute in, says nothing about weights, which are f32.
  request.job.device = "cpu";
  request.job.dtype = "f32";
  request.export_format = options.format;
  request.export_path = absolute_path(options.out);
  PACELINE_TRY(check_writable(options.out, "--out"));
  PACELINE_ASSIGN(prepared.team, make_team(head.place(), 1, request.job));
  return prepared;
}

/// Runs what was prepared; `news` says it worked.
template <class News>
int lead(Head& head, const Result<Prepared>& prepared, RunFacts facts, const News& news) {
  if (!prepared.ok()) return head.give_up(facts, prepared.error());
  const LaunchRequest& request = prepared.value().request;
  facts.run_dir = request.run_dir;
  facts.ranks = request.ranks;
  const auto signals = StopSignals::catch_all();
  if (!signals.ok()) return head.give_up(facts, signals.error());
  const Outcome outcome = head.run(request, prepared.value().team, **signals);
  const int code = head.conclude(facts, request, outcome);
  if (code == exit_done) head.display().line(news(request, outcome));
  return code;
}

std::string eval_news(const LaunchRequest& request, const Outcome& outcome) {
  if (!outcome.eval) return "the evaluation came to no result";
  return concat(request.job.name, " after epoch ", outcome.eval->epoch, ": ", eval_figures(*outcome.eval, 1),
                " of ", with_commas(static_cast<double>(outcome.eval->samples)), " samples");
}

std::string meeting_folder(const std::string& run_dir) {
  return std::filesystem::path(absolute_path(run_dir)).parent_path().string();
}

}  // namespace

int eval(const EvalOptions& options) {
  const Result<Place> place = settle();
  if (!place.ok()) return complain(place.error());
  if (place->rank > 0) return follow(*place, meeting_folder(options.run_dir));
  Head head(*place, meeting_folder(options.run_dir), {.plain = !place->in_shell(), .epochs = false});
  return lead(head, prepare_eval(options, head), {.action = "eval", .ranks = place->size}, eval_news);
}

int export_run(const ExportOptions& options) {
  const Result<Place> place = settle();
  if (!place.ok()) return complain(place.error());
  if (place->rank > 0) return exit_usage;  // task 0 says why
  Head head(*place, meeting_folder(options.run_dir), {.plain = !place->in_shell(), .epochs = false});
  return lead(head, prepare_export(options, head), {.action = "export", .ranks = 1},
              [&options](const LaunchRequest&, const Outcome&) {
                return concat("wrote ", options.out, " (", options.format, ")");
              });
}

}  // namespace paceline
