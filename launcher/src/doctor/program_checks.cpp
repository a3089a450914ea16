#include "doctor/program_checks.hpp"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "doctor/rules.hpp"
#include "fleet/connection.hpp"
#include "paceline/base/text.hpp"
#include "spawn.hpp"
#include "worker_process.hpp"

namespace paceline::doctor {
namespace {

constexpr Duration answer_limit = std::chrono::seconds(10);
// As agents wait for it: LibTorch may be on a slow filesystem.
constexpr Duration worker_limit = std::chrono::seconds(60);
constexpr std::string_view worker_mend =
    "install Paceline's libraries too (LibTorch), or set PACELINE_WORKER to a worker of this version";

const char* const ssh_mend = "install openssh-client to train with --hosts";
const char* const mpirun_mend = "install Open MPI (openmpi-bin) to start jobs with it";
const char* const slurm_mend =
    "install Slurm's commands (slurm-client) and name the cluster (slurm.conf) to use one";

std::string joined(const std::deque<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += concat(text.empty() ? "" : "; ", line);
  return text;
}

/// Printable, and with its line breaks.
std::string plain(const std::string& text) {
  LastLines lines(20);
  lines.add(text);
  std::string result;
  for (const std::string& line : lines.lines()) result += line + "\n";
  return result;
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// Where the program is there, what it says; nothing where it is not, or where a signal came.
std::optional<std::string> ask(const std::string& name, const std::vector<std::string>& command,
                               const std::string& mend, StopSignals& signals, const Sink& sink) {
  Result<std::string> words = words_of(command, signals);
  if (words.ok()) return std::move(words).value();
  const Error& error = words.error();
  if (error.code == ErrorCode::not_found)
    sink(absent(name, error.message, mend));
  else if (error.code != ErrorCode::aborted)
    sink(warning(name, error.message, "see why it does not work, or do without it"));
  return std::nullopt;
}

void check_mpirun(StopSignals& signals, const Sink& sink) {
  const auto words = ask("mpirun", {"mpirun", "--version"}, mpirun_mend, signals, sink);
  if (!words) return;
  const bool root_is_meant = environment("OMPI_ALLOW_RUN_AS_ROOT").value_or("") == "1" &&
                             environment("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM").value_or("") == "1";
  sink(judge_mpi(parse_mpi_version(*words), ::geteuid() == 0 && !root_is_meant));
}

/// Without a cluster its commands don't even say their version.
void check_slurm(const std::string& name, StopSignals& signals, const Sink& sink) {
  const Result<std::string> words = words_of({name, "--version"}, signals);
  if (words.ok()) return sink(fine(name, first_line(*words)));
  if (words.error().code == ErrorCode::aborted) return;
  const bool is_needed = environment("SLURM_JOB_ID").has_value();
  sink({name, is_needed ? State::problem : State::absent, words.error().message, slurm_mend});
}

/// How far a worker that is being started has come.
struct Greeting {
  std::optional<std::string> version;
  std::optional<std::string> fault;
};

void listen(WorkerProcess& worker, const Deadline& deadline, StopSignals& signals, Greeting& greeting) {
  std::array<pollfd, 4> entries = {{{worker.channel_fd(), POLLIN, 0},
                                    {worker.output_fd(), POLLIN, 0},
                                    {worker.pid_fd(), POLLIN, 0},
                                    {signals.fd(), POLLIN, 0}}};
  ::poll(entries.data(), entries.size(), deadline.left_ms());
  if (entries[3].revents != 0 && signals.take() != 0) return;
  if (entries[1].revents != 0) worker.copy_output();
  if (entries[0].revents != 0) {
    const Status heard = worker.receive([&greeting](const WorkerMessage& message) {
      if (const auto* hello = std::get_if<HelloMessage>(&message)) greeting.version = hello->version;
    });
    if (!heard.ok() && heard.error().code != ErrorCode::peer_lost) greeting.fault = heard.error().message;
  }
  if (entries[2].revents == 0 || greeting.version || greeting.fault) return;
  const std::optional<int> status = worker.reap();
  if (!status) return;
  const std::string words = joined(worker.output().last_words());
  greeting.fault = concat("it ", describe_end(*status), words.empty() ? "" : ": ", words);
}

Check judge_worker(const std::string& program, const Greeting& greeting) {
  const std::string mend(worker_mend);
  if (greeting.fault)
    return problem("worker", concat(shown(program), " does not start, ", *greeting.fault), mend);
  if (!greeting.version)
    return problem("worker", concat(shown(program), " said nothing within ", to_seconds(worker_limit), " s"),
                   mend);
  if (*greeting.version != PACELINE_VERSION)
    return warning("worker",
                   concat(shown(program), " is of version ", shown(*greeting.version), ", this program of ",
                          PACELINE_VERSION),
                   "install both of one version");
  return fine("worker", concat(shown(program), " starts"));
}

}  // namespace

Result<std::string> words_of(const std::vector<std::string>& command, StopSignals& signals) {
  PACELINE_ASSIGN(Connection program, Connection::start(command[0], command));
  program.close_input();
  const SteadyClock clock;
  const Deadline deadline(clock, answer_limit);
  std::string text;
  const auto keep = [&text](const std::string& line) { text += line + "\n"; };
  while (program.output_fd() >= 0 || program.error_fd() >= 0) {
    std::array<pollfd, 3> entries = {
        {{program.output_fd(), POLLIN, 0}, {program.error_fd(), POLLIN, 0}, {signals.fd(), POLLIN, 0}}};
    ::poll(entries.data(), entries.size(), deadline.left_ms());
    if (entries[2].revents != 0 && signals.take() != 0)
      return Error{ErrorCode::aborted, "stopped by a signal"};
    program.read(keep, keep);
    if (deadline.passed())
      return Error{ErrorCode::timeout,
                   concat(command[0], " did not end within ", to_seconds(answer_limit), " s")};
  }
  std::optional<int> status;
  while (!(status = program.ended()) && !deadline.passed()) ::poll(nullptr, 0, 1);
  if (status != 0)
    return Error{ErrorCode::io, concat(command[0], " ", status ? describe_end(*status) : "did not end",
                                       text.empty() ? "" : ": ", first_line(plain(text)))};
  return plain(text);
}

Check check_worker(StopSignals& signals) {
  const Result<std::string> program = find_worker_program();
  if (!program.ok()) return from_advice("worker", State::problem, program.error());
  WorkerSpec spec;
  spec.program = *program;
  spec.log_path = "/dev/null";
  Result<WorkerProcess> worker = WorkerProcess::start(spec, signals.mask_before());
  if (!worker.ok()) return problem("worker", worker.error().message, std::string(worker_mend));
  const SteadyClock clock;
  const Deadline deadline(clock, worker_limit);
  Greeting greeting;
  while (!greeting.version && !greeting.fault && !deadline.passed() && signals.first() == 0)
    listen(*worker, deadline, signals, greeting);
  return judge_worker(*program, greeting);
}

void check_launchers(StopSignals& signals, const Sink& sink) {
  check_mpirun(signals, sink);
  for (const std::string name : {"srun", "sbatch"}) check_slurm(name, signals, sink);
  if (const auto words = ask("ssh", {"ssh", "-V"}, ssh_mend, signals, sink))
    sink(fine("ssh", first_line(*words)));
}

}  // namespace paceline::doctor
