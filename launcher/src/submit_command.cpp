// Puts a job into Slurm's queue.
#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "commands.hpp"
#include "fleet/connection.hpp"
#include "job_size.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"
#include "spawn.hpp"
#include "submit.hpp"

namespace paceline {
namespace {

constexpr Duration answer_limit = std::chrono::seconds(60);
constexpr int turn_ms = 50;

Error usage(const std::string& sentence) {
  return {ErrorCode::invalid_argument, sentence};
}

struct Answer {
  int status = 0;
  std::vector<std::string> lines;
  std::string complaints;  ///< what it said on standard error, in one line
};

/// What one of Slurm's programs says, within a minute.
Result<Answer> ask_slurm(const std::vector<std::string>& command) {
  const std::string& name = command.front();
  PACELINE_ASSIGN(Connection program, Connection::start(name, command));
  program.close_input();
  Answer answer;
  const SteadyClock clock;
  const Deadline deadline(clock, answer_limit);
  while (program.output_fd() >= 0 || program.error_fd() >= 0 || !program.ended()) {
    if (deadline.passed())
      return Error{ErrorCode::timeout, concat("waited ", to_seconds(answer_limit), " s for ", name,
                                              ": `squeue --me` shows whether Slurm has the job")};
    pollfd entries[] = {{program.output_fd(), POLLIN, 0}, {program.error_fd(), POLLIN, 0}};
    ::poll(entries, 2, turn_ms);
    program.read([&](const std::string& line) { answer.lines.push_back(line); }, [](const std::string&) {});
  }
  answer.status = *program.ended();
  for (std::string line : program.last_words()) {
    for (const std::string& prefix : {concat(name, ": "), std::string("error: ")})
      if (line.starts_with(prefix)) line.erase(0, prefix.size());
    if (!line.empty()) answer.complaints += concat(answer.complaints.empty() ? "" : "; ", line);
  }
  return answer;
}

Error failure(const std::string& what, const Answer& answer) {
  // An option that was meant for another.
  const bool is_unknown = answer.complaints.find("unrecognized option") != std::string::npos;
  return {
      ErrorCode::io,
      concat(what, ": ", answer.complaints.empty() ? std::string("it did not say why") : answer.complaints,
             is_unknown ? "; options of `paceline train` come after --" : "")};
}

bool is_on_path(const std::string& name) {
  for (const std::string& folder : split(environment("PATH").value_or(""), ':'))
    if (::access(concat(folder.empty() ? "." : folder, "/", name).c_str(), X_OK) == 0) return true;
  return false;
}

Status check(const SubmitOptions& options) {
  if (!options.slurm) return usage("submit knows no queue but Slurm's: write --slurm");
  if (sbatch_value(options.sbatch_options, {"--wait", 'W'}))
    return usage(
        "submit does not wait for the job's end: leave --wait out, and follow it with `paceline logs`");
  return {};
}

/// What `paceline train` will be told, as far as it can be checked here.
Result<TrainOptions> train_options(const SubmitOptions& options) {
  std::vector<const char*> words = {"paceline", "train", options.job_file.c_str()};
  for (const std::string& word : options.train_options) words.push_back(word.c_str());
  PACELINE_ASSIGN(const Command command, parse_command_line(static_cast<int>(words.size()), words.data()));
  const auto* train = std::get_if<TrainOptions>(&command);
  if (train == nullptr) return usage("what follows -- is for `paceline train`, and asks for no training");
  if (!train->run_dir.empty())
    return usage("leave --run-dir out: the run's folder is runs/slurm-N, by the job's number");
  if (!train->hosts.empty()) return usage("leave --hosts out: Slurm chooses the nodes");
  return *train;
}

struct RankRange {
  std::int64_t least = 1;
  std::int64_t most = 1;
};

/// How many GPUs a node of the partition has, and what Slurm calls them there, is not asked.
Status check_gpus(const SubmitOptions& options, const Job& job) {
  const auto says = [&](const SbatchOption& option) {
    return sbatch_value(options.sbatch_options, option).has_value();
  };
  if (job.device != "gpu") return {};
  if (says_nodes(options.sbatch_options) &&
      (says({"--gpus", 'G'}) || says({"--gpus-per-node", 0}) || says({"--gres", 0})))
    return {};
  return usage(
      "the job's device is gpu: say how many nodes and GPUs it gets, as in --nodes=2 --gpus-per-node=8");
}

Result<RankRange> ranks_of(const SubmitOptions& options) {
  PACELINE_ASSIGN(const TrainOptions train, train_options(options));
  const Result<Job> job = load_job(options.job_file, train.overrides);
  if (!job.ok()) return usage(job.error().message);
  PACELINE_ASSIGN(const std::optional<std::int64_t> ranks, parse_ranks(train.ranks));
  PACELINE_TRY(check_gpus(options, *job));
  // More than a step has grains would find nothing to do.
  if (!ranks) return RankRange{job->ranks.min, default_ranks(*job, job->ranks.max)};
  PACELINE_TRY(check_ranks(*job, *ranks));
  return RankRange{*ranks, *ranks};
}

Result<Partition> find_partition(const SubmitOptions& options) {
  const std::string wanted = sbatch_value(options.sbatch_options, {"--partition", 'p'})
                                 .value_or(environment("SBATCH_PARTITION").value_or(""));
  PACELINE_ASSIGN(const Answer answer, ask_slurm(sinfo_command(wanted)));
  if (answer.status != 0) return failure("sinfo failed", answer);
  Result<Partition> partition = parse_partition(answer.lines, wanted);
  if (!partition.ok()) return Error{ErrorCode::io, partition.error().message};
  return partition;
}

Status send_off(const Submission& submission, const std::string& where) {
  PACELINE_ASSIGN(const Answer answer, ask_slurm(sbatch_command(submission)));
  if (answer.status != 0) return failure("sbatch refused", answer);
  if (!answer.complaints.empty()) std::fprintf(stderr, "paceline: sbatch: %s\n", answer.complaints.c_str());
  const std::string job = submitted_job(answer.lines);
  if (!job.empty()) {
    std::fputs(describe_submitted(job, submission.sbatch_options, where).c_str(), stdout);
  } else {
    for (const std::string& line : answer.lines) std::printf("%s\n", line.c_str());
  }
  return {};
}

Status submit_to_slurm(const SubmitOptions& options) {
  PACELINE_TRY(check(options));
  PACELINE_ASSIGN(const RankRange ranks, ranks_of(options));
  if (!is_on_path("sbatch"))
    return Error{ErrorCode::unsupported,
                 "there is no sbatch on the path: submit on a machine that has Slurm's commands"};
  Submission submission;
  PACELINE_ASSIGN(submission.program, own_program());
  PACELINE_ASSIGN(submission.script, find_batch_script("train.sbatch"));
  submission.sbatch_options = options.sbatch_options;
  submission.train_options = options.train_options;
  const bool moves = sbatch_value(options.sbatch_options, {"--chdir", 'D'}).has_value();
  submission.job_file = moves ? absolute_path(options.job_file) : options.job_file;
  std::string where;
  if (!says_nodes(options.sbatch_options)) {
    PACELINE_ASSIGN(const Partition partition, find_partition(options));
    submission.nodes = nodes_for(ranks.least, ranks.most, partition);
    where = concat(describe(*submission.nodes), " of partition ", partition.name);
  }
  if (!options.dry_run) return send_off(submission, where);
  std::printf("%s\n", shell_quoted(sbatch_command(submission)).c_str());
  return {};
}

}  // namespace

int submit(const SubmitOptions& options) {
  const Status submitted = submit_to_slurm(options);
  return submitted.ok() ? int{exit_done} : complain(submitted.error());
}

}  // namespace paceline
