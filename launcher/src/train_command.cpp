#include <sys/stat.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "conduct.hpp"
#include "elastic/launch_facts.hpp"
#include "fleet/nodes.hpp"
#include "format.hpp"
#include "gpu_places.hpp"
#include "job_size.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/client.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/import.hpp"
#include "resume.hpp"
#include "run_directory.hpp"
#include "run_record.hpp"
#include "spawn.hpp"
#include "where/allocation.hpp"

namespace paceline {
namespace {

bool is_missing(const std::string& path) {
  struct stat found {};
  return ::stat(path.c_str(), &found) != 0 && errno == ENOENT;
}

/// Where the tasks of a launch meet; the run directory itself is not known to all of them yet.
std::string meeting_folder(const TrainOptions& options) {
  const std::string& run_dir = options.resume.empty() ? options.run_dir : options.resume;
  if (run_dir.empty()) return "runs";
  return std::filesystem::path(absolute_path(run_dir)).parent_path().string();
}

Result<Job> read_job(const TrainOptions& options) {
  Result<Job> job = load_job(options.job_file, options.overrides);
  if (!job.ok())
    return Error{ErrorCode::invalid_argument, job.error().message};  // whatever is wrong, it is usage
  if (options.threads > 0) job->threads = options.threads;
  return job;
}

Result<std::int64_t> ranks_of(const TrainOptions& options, const Place& place, const Job& job) {
  PACELINE_ASSIGN(std::optional<std::int64_t> ranks, parse_ranks(options.ranks));
  if (!place.in_shell()) {
    if (ranks && *ranks != place.size)
      return Error{ErrorCode::invalid_argument,
                   concat("--ranks ", *ranks, " under ", place.launcher, ", which started ", place.size,
                          place.size == 1 ? " process" : " processes", " (", place.why,
                          "): leave --ranks out, or unset that variable to start the ranks from here")};
    ranks = place.size;
  }
  if (!ranks) {
    PACELINE_ASSIGN(const std::int64_t room, own_room(place, job));
    ranks = default_ranks(job, room);
  }
  PACELINE_TRY(check_ranks(job, *ranks));
  return *ranks;
}

/// The folder that an import must fill so that data.train and data.eval are there afterwards.
Result<std::string> import_folder(const DataSpec& data) {
  if (data.import_kind == "hdf5") return data.train;  // which has no test set to make
  const std::filesystem::path train = absolute_path(data.train);
  const std::filesystem::path out = train.parent_path();
  const bool fits = train.filename() == "train" &&
                    (data.eval.empty() || absolute_path(data.eval) == (out / "test").string());
  if (!fits)
    return Error{ErrorCode::invalid_argument,
                 concat("data.import makes a folder with train and test in it, but data.train is ",
                        data.train, data.eval.empty() ? "" : " and data.eval is ", data.eval,
                        ": name them DIR/train and DIR/test of one folder")};
  return out.string();
}

Status import_on_first_use(const DataSpec& data, Display& display, StopSignals& signals) {
  if (!is_missing(data.train)) return {};
  if (data.import_kind.empty())
    return Error{ErrorCode::not_found,
                 concat("there is no dataset at ", data.train,
                        " (data.train): make it with `paceline data import KIND ", "--out ",
                        std::filesystem::path(absolute_path(data.train)).parent_path().string(),
                        "`, or name its KIND as data.import in the job file")};
  PACELINE_ASSIGN(const std::string out, import_folder(data));
  display.line(concat("importing ", data.import_kind, " into ", out, ", once"));
  ImportOptions options;
  options.kind = data.import_kind;
  if (!data.import_source.empty()) options.sources = {data.import_source};
  options.out = out;
  options.tokenizer = data.tokenizer;
  options.storage = data.storage;
  if (!data.size.empty()) {
    PACELINE_ASSIGN(options.size, parse_image_extent(data.size));
  }
  options.warning = [&display](const std::string& sentence) { display.warning(sentence); };
  options.cancelled = [&signals] { return signals.take() != 0; };
  const Status imported = import_dataset(options);
  // Another job that wanted the same may have been faster.
  if (imported.ok() || (imported.error().code == ErrorCode::already_exists && !is_missing(data.train)))
    return {};
  return imported;
}

Result<DatasetInfo> open_data(const Job& job, Display& display, StopSignals& signals) {
  const DataSpec& data = job.data;
  PACELINE_TRY(import_on_first_use(data, display, signals));
  const DatasetOptions options{.window = tokens_per_sample(job)};
  PACELINE_ASSIGN(const Dataset train, Dataset::open(data.train, options));
  if (!data.eval.empty()) PACELINE_TRY(Dataset::open(data.eval, options));
  return train.info();
}

/// Everything that must be right before a run directory is made and a worker started.
struct Prepared {
  LaunchRequest request;
  DatasetInfo dataset;
  Team team;
  std::optional<Nodes> nodes;  ///< nothing: the ranks are here, or with the other tasks of the launch
  // Of a run that is resumed:
  std::optional<RunDirectory> directory;
  std::optional<RunHistory> history;
};

/// Agents of the run may be on other nodes, where its lock is not seen.
Status check_not_running(const std::string& run_dir) {
  PACELINE_ASSIGN(const auto coordinator, control::newest_coordinator(run_dir));
  const Result<control::Credentials> credentials = control::read_credentials(run_dir);
  if (!coordinator || !credentials.ok()) return {};
  control::Request request;
  request.mutable_status();
  const Result<control::Answer> answer =
      control::ask(*coordinator, *credentials, request, std::chrono::seconds(3));
  if (!answer.ok() || answer->agents() == 0) return {};
  return Error{ErrorCode::already_exists,
               concat("the run in ", run_dir, " is still going on (coordinator: process ", coordinator->pid,
                      " on ", coordinator->node, "): stop it first, with `paceline stop ", run_dir, "`")};
}

/// The run that is to go on: nobody else is in its folder, and its job is the same.
Status take_run(const TrainOptions& options, Prepared& prepared) {
  PACELINE_ASSIGN(prepared.directory, RunDirectory::reopen(options.resume));
  prepared.request.run_dir = prepared.directory->path();
  PACELINE_TRY(check_not_running(prepared.request.run_dir));
  PACELINE_ASSIGN(prepared.history, read_history(prepared.request.run_dir));
  std::vector<JobOverride> overrides = options.overrides;
  if (options.threads > 0) overrides.push_back({"threads", concat(options.threads)});
  PACELINE_ASSIGN(prepared.request.job, resumed_job(prepared.history->job, overrides));
  return {};
}

/// The agents on the other nodes begin.
Status order_nodes(Prepared& prepared) {
  if (!prepared.nodes) return {};
  const std::string& run_dir = prepared.request.run_dir;
  return prepared.nodes->fleet->order({run_dir, prepared.nodes->agents}, run_dir + "/logs/agents.log");
}

Result<Prepared> prepare(const TrainOptions& options, const std::optional<Allocation>& allocation, Head& head,
                         StopSignals& signals) {
  Prepared prepared;
  LaunchRequest& request = prepared.request;
  if (options.resume.empty()) {
    PACELINE_ASSIGN(request.job, read_job(options));
  } else {
    PACELINE_TRY(take_run(options, prepared));
  }
  PACELINE_TRY(head.write_json_to(options.json));
  PACELINE_ASSIGN(request.worker_program, find_worker_program());
  if (allocation) {
    PACELINE_ASSIGN(const std::optional<std::int64_t> ranks, parse_ranks(options.ranks));
    PACELINE_ASSIGN(prepared.dataset, open_data(request.job, head.display(), signals));
    PACELINE_ASSIGN(prepared.nodes,
                    prepare_nodes(*allocation, request.job, ranks,
                                  LaunchFolders{request.worker_program, meeting_folder(options)}, signals));
    PACELINE_ASSIGN(prepared.team, make_head_team(head.place()));
    request.ranks = prepared.nodes->ranks;
    return prepared;
  }
  PACELINE_ASSIGN(request.ranks, ranks_of(options, head.place(), request.job));
  PACELINE_ASSIGN(prepared.team, make_team(head.place(), request.ranks, request.job));
  PACELINE_ASSIGN(prepared.dataset, open_data(request.job, head.display(), signals));
  return prepared;
}

Result<RunDirectory> make_run_directory(const TrainOptions& options, const Job& job) {
  if (!options.run_dir.empty()) return RunDirectory::take(options.run_dir);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return RunDirectory::make("runs/" + job.name,
                            std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

void announce(Head& head, const Prepared& prepared) {
  const Job& job = prepared.request.job;
  const std::string model = job.model.kind.empty() ? job.model.plugin : job.model.kind;
  head.display().line(
      concat(job.name, ": ", model, " on ", prepared.dataset.name, " (",
             with_commas(static_cast<double>(prepared.dataset.samples)), " samples), ",
             prepared.nodes ? prepared.nodes->text : describe_team(head.place(), prepared.team)));
  head.display().line(concat("run directory ", prepared.request.run_dir));
}

/// The folder: a new one, or that of the run that goes on.
Result<RunDirectory> open_run_directory(const TrainOptions& options, Prepared& prepared) {
  Result<RunDirectory> directory = prepared.directory ? Result<RunDirectory>(std::move(*prepared.directory))
                                                      : make_run_directory(options, prepared.request.job);
  if (directory.ok()) prepared.request.run_dir = directory->path();
  return directory;
}

/// Where a run that is resumed goes on; nothing is changed there yet.
Result<RunPosition> position_of(const Prepared& prepared, Display& display) {
  const LaunchRequest& request = prepared.request;
  if (!prepared.history) return RunPosition{};
  PACELINE_ASSIGN(const JournalHeader header,
                  new_journal_header(request.job, request.run_dir, prepared.dataset));
  PACELINE_TRY(check_same_order(prepared.history->journal.header, header));
  PACELINE_ASSIGN(RunPosition position,
                  find_position(request.run_dir, *prepared.history,
                                [&display](const std::string& sentence) { display.warning(sentence); }));
  PACELINE_ASSIGN(const auto newest, control::newest_coordinator(request.run_dir));
  if (newest) position.term = std::max(position.term, newest->term + 1);
  const StepPlan plan(prepared.dataset.samples, request.job.batch.global, request.job.epochs,
                      request.job.steps);
  display.line(concat("resumed after step ", position.base_step, " of ", plan.steps()));
  return position;
}

/// What agents and coordinators find in the run directory.
Status prepare_run(const Place& place, const Prepared& prepared, const RunPosition& position) {
  const LaunchRequest& request = prepared.request;
  PACELINE_TRY(write_file_atomically(request.run_dir + "/job.json", job_to_json(request.job)));
  LaunchFacts facts;
  facts.agents = prepared.nodes ? std::ssize(prepared.nodes->agents) + 1 : place.size;
  facts.ranks = request.ranks;
  facts.min_ranks = std::min(request.ranks, request.job.ranks.min);
  facts.max_ranks = std::max(request.ranks, request.job.ranks.max);
  if (place.one_host) facts.host = "127.0.0.1";
  PACELINE_ASSIGN(facts.ports, parse_ports(environment("PACELINE_PORTS")));
  facts.position = position;
  PACELINE_TRY(write_launch_facts(request.run_dir, facts));
  PACELINE_TRY(control::make_credentials(request.run_dir, prepared.team.secret));
  return {};
}

Result<std::optional<Allocation>> allocation_of(const TrainOptions& options, const Place& place) {
  if (place.in_shell())
    return find_allocation([](const char* name) { return environment(name); }, options.hosts,
                           options.starter);
  if (options.hosts.empty() && options.starter.empty()) return {std::nullopt};
  return Error{ErrorCode::invalid_argument,
               concat(options.hosts.empty() ? "--starter under " : "--hosts under ", place.launcher, " (",
                      place.why, "), which has chosen the machines already: leave one of them out")};
}

int lead(const TrainOptions& options, Place place) {
  const Result<std::optional<Allocation>> allocation = allocation_of(options, place);
  if (allocation.ok() && *allocation) place.one_host = false;
  Head head(place, meeting_folder(options), {.quiet = options.quiet, .plain = !place.in_shell()});
  RunFacts facts{.action = "train", .ranks = place.size};
  if (!allocation.ok()) return head.give_up(facts, allocation.error());
  // From here on a signal finds the import or the agent, and ends nothing half made.
  const auto signals = StopSignals::catch_all();
  if (!signals.ok()) return head.give_up(facts, signals.error());
  Result<Prepared> prepared = prepare(options, *allocation, head, **signals);
  if (!prepared.ok()) return head.give_up(facts, prepared.error(), signals.value()->first());
  LaunchRequest& request = prepared->request;
  facts.ranks = request.ranks;
  const Result<RunDirectory> directory = open_run_directory(options, *prepared);
  if (!directory.ok()) return head.give_up(facts, directory.error());
  facts.run_dir = request.run_dir;
  const Result<RunPosition> position = position_of(*prepared, head.display());
  if (!position.ok()) return head.give_up(facts, position.error());
  request.first_term = position->term;
  // A run that is resumed keeps the paths that its checkpoints were made with.
  if (!prepared->history) request.job = with_absolute_paths(request.job);
  const Status written = prepare_run(place, *prepared, *position);
  if (!written.ok()) return head.give_up(facts, written.error());
  announce(head, *prepared);
  const Status ordered = order_nodes(*prepared);
  if (!ordered.ok()) return head.give_up(facts, ordered.error());
  std::function<Status()> look_after_nodes;
  if (prepared->nodes && prepared->nodes->growth) prepared->nodes->growth->begin(request.run_dir);
  if (prepared->nodes)
    look_after_nodes = [&] { return look_after(*prepared->nodes, request.run_dir, head.display()); };
  const Outcome outcome = head.run(request, prepared->team, **signals, std::move(look_after_nodes));
  prepared->nodes.reset();  // its agents have heard how it ended, and go
  const int code = head.conclude(facts, request, outcome);
  if (outcome.status != "failed") head.display().line(summary_text(facts, outcome));
  return code;
}

}  // namespace

int train(const TrainOptions& options) {
  // The agents and workers that are started from here inherit it.
  if (!options.interface.empty()) ::setenv("PACELINE_INTERFACE", options.interface.c_str(), 1);
  const Result<Place> place = settle();
  if (!place.ok()) return complain(place.error());
  if (place->rank > 0) return follow(*place, meeting_folder(options));
  return lead(options, *place);
}

}  // namespace paceline
