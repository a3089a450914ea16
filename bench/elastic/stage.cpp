#include "elastic/stage.hpp"

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "data/programs.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;
constexpr Duration look_interval = std::chrono::milliseconds(50);
constexpr std::size_t most_output_bytes = std::size_t{16} << 20;

std::string last_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text.substr(text.rfind('\n') + 1);  // npos + 1 is 0: all of it
}

/// Takes the status of those that have ended, and asks the others to end once one has failed. Gives how many
/// there still are.
Result<std::size_t> reap(std::vector<Process>& processes, std::vector<Ended>& ends) {
  std::size_t left = 0;
  bool failed = false;
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (processes[i].pid > 0 && has_ended(processes[i])) {
      while (::waitpid(processes[i].pid, &ends[i].status, 0) < 0)
        if (errno != EINTR) return system_error(concat("cannot wait for ", ends[i].name));
      processes[i].pid = -1;
    }
    if (processes[i].pid > 0)
      ++left;
    else
      failed = failed || ends[i].failed();
  }
  for (std::size_t i = 0; i < processes.size(); ++i) {
    if (!failed || processes[i].pid <= 0 || ends[i].stopped) continue;
    ::kill(processes[i].pid, SIGTERM);
    ends[i].stopped = true;
  }
  return left;
}

std::string default_folder() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::temp_directory_path(error);
  return error ? "/tmp" : path.string();
}

}  // namespace

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

bool has_ended(const Process& process) {
  pollfd entry{process.pid_fd.get(), POLLIN, 0};
  return ::poll(&entry, 1, 0) > 0;
}

Result<std::unique_ptr<Stage>> Stage::make(const std::string& folder, Duration limit) {
  const std::string parent = folder.empty() ? default_folder() : std::filesystem::absolute(folder).string();
  if (!std::filesystem::is_directory(parent) || ::access(parent.c_str(), W_OK) != 0)
    return Error{ErrorCode::invalid_argument,
                 concat("--folder: nothing can be made in ", parent, ": name a folder that can be written")};
  PACELINE_TRY(adopt_orphans());
  PACELINE_ASSIGN(ScratchFolder scratch, ScratchFolder::make_in(parent));
  std::unique_ptr<Stage> stage(new Stage(std::move(scratch), limit));
  PACELINE_ASSIGN(stage->signals_, catch_signals());
  return stage;
}

Stage::~Stage() {
  kill_descendants(folder_.keeper());
}

int Stage::signal() noexcept {
  signalfd_siginfo info{};
  if (signal_ == 0 && ::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
    signal_ = static_cast<int>(info.ssi_signo);
  return signal_;
}

Status Stage::interrupted() {
  if (signal() == 0) return {};
  return Error{ErrorCode::aborted, concat("stopped by a signal (", ::sigdescr_np(signal_), ")")};
}

Status Stage::wait_for(const std::string& what, const std::function<Result<bool>()>& is_so) {
  const Deadline deadline(steady_clock, limit_);
  while (true) {
    PACELINE_ASSIGN(const bool so, is_so());
    if (so) return {};
    if (deadline.passed())
      return Error{ErrorCode::timeout, concat("waited ", to_seconds(limit_), " s in vain for ", what,
                                              " (--timeout allows more)")};
    PACELINE_TRY(pause(look_interval));
  }
}

Status Stage::pause(Duration duration) {
  const Deadline deadline(steady_clock, duration);
  do {
    PACELINE_TRY(interrupted());
    pollfd entry{signals_.get(), POLLIN, 0};
    ::poll(&entry, 1, deadline.left_ms());
  } while (!deadline.passed());
  return interrupted();
}

std::string Ended::why() const {
  return concat(describe_status(status), ": ", last_line(output));
}

Result<std::string> Stage::paceline(const std::vector<std::string>& arguments) {
  PACELINE_ASSIGN(std::vector<Ended> ends, run({{arguments}}));
  if (!ends.front().failed()) return std::move(ends.front().output);
  return Error{ErrorCode::io, concat(ends.front().name, ": ", ends.front().why())};
}

Result<std::vector<Ended>> Stage::run(const std::vector<Invocation>& invocations) {
  std::vector<Process> processes;
  std::vector<Ended> ends;
  for (const Invocation& invocation : invocations) {
    Command command;
    command.arguments = {own_program()};
    command.arguments.insert(command.arguments.end(), invocation.arguments.begin(),
                             invocation.arguments.end());
    command.output_file = concat(folder(), "/command-", ++commands_);
    command.cpus = invocation.cpus;
    PACELINE_ASSIGN(Process process, start(command));
    processes.push_back(std::move(process));
    ends.push_back({.name = concat("`paceline ", invocation.arguments.front(), "`"), .output = {}});
  }
  PACELINE_TRY(wait_for(concat(ends.front().name, " to end"), [&]() -> Result<bool> {
    PACELINE_ASSIGN(const std::size_t left, reap(processes, ends));
    return left == 0;
  }));
  for (std::size_t i = 0; i < processes.size(); ++i) {
    PACELINE_ASSIGN(ends[i].output, read_file(processes[i].output_file, most_output_bytes));
    ::unlink(processes[i].output_file.c_str());
  }
  return ends;
}

Status Stage::end(Process& process) {
  if (process.pid <= 0) return {};
  ::kill(process.pid, SIGTERM);
  const Status ended =
      wait_for(concat(process.program, " to end"), [&] { return Result<bool>(has_ended(process)); });
  if (!ended.ok()) ::kill(process.pid, SIGKILL);
  ::waitpid(process.pid, nullptr, 0);
  process.pid = -1;
  return ended;
}

}  // namespace paceline::bench
