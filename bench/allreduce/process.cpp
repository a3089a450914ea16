#include "allreduce/process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "paceline/base/clock.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;

/// Between fork and exec of a process with one thread, where ordinary calls are allowed.
[[noreturn]] void run_child(const Command& command, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, command.signal_when_orphaned);
  if (::getppid() != parent) ::_exit(127);  // it died before it could be watched
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  const int input = ::open("/dev/null", O_RDONLY);
  const int output = ::open(command.output_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (input < 0 || output < 0 || ::dup2(input, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0)
    ::_exit(127);
  ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
  if (!command.cpus.empty()) {
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int cpu : command.cpus) CPU_SET(cpu, &set);
    if (::sched_setaffinity(0, sizeof set, &set) != 0) ::_exit(127);
  }
  for (const auto& [name, value] : command.environment) ::setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> arguments;
  for (const std::string& argument : command.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  const std::string why = concat(arguments[0], " cannot be executed: ", std::strerror(errno), "\n");
  [[maybe_unused]] const ssize_t ignored = ::write(2, why.data(), why.size());
  ::_exit(127);
}

/// The parent of every process, from /proc.
std::map<pid_t, pid_t> parents() {
  std::map<pid_t, pid_t> result;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const auto pid = parse_integer(entry.path().filename().string(), 1, INT32_MAX);
    if (!pid) continue;
    std::ifstream file(entry.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    const std::size_t name_end = stat.rfind(')');
    if (name_end == std::string::npos || stat.size() < name_end + 5) continue;
    result[static_cast<pid_t>(*pid)] = static_cast<pid_t>(std::atol(stat.c_str() + name_end + 4));
  }
  return result;
}

std::vector<pid_t> descendants(pid_t spared) {
  const std::map<pid_t, pid_t> parent_of = parents();
  std::vector<pid_t> found;
  for (const auto& [pid, parent] : parent_of) {
    pid_t above = parent;
    if (pid == spared) continue;
    for (std::size_t steps = 0; above > 1 && above != ::getpid() && steps < parent_of.size(); ++steps) {
      const auto next = parent_of.find(above);
      above = next == parent_of.end() ? 0 : next->second;
    }
    if (above == ::getpid()) found.push_back(pid);
  }
  return found;
}

/// The keeper's life: sleeps until the other end of the pipe is gone, however that came about.
[[noreturn]] void keep(int end, const std::string& path) {
  ::setsid();  // Ctrl-C is not for it
  ::signal(SIGINT, SIG_IGN);
  ::signal(SIGTERM, SIG_IGN);
  const int null = ::open("/dev/null", O_RDWR);
  for (const int fd : {0, 1, 2}) ::dup2(null, fd);
  char byte = 0;
  while (::read(end, &byte, 1) < 0 && errno == EINTR) continue;
  // Whoever was killed with the owner may still write for a moment.
  std::error_code error;
  for (int tries = 0; tries < 50 && std::filesystem::exists(path, error); ++tries) {
    std::filesystem::remove_all(path, error);
    ::usleep(20000);
  }
  ::_exit(0);
}

}  // namespace

Result<Process> start(const Command& command) {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_error(concat("cannot start ", command.arguments.front()));
  if (pid == 0) run_child(command, parent);
  Process process;
  process.pid = pid;
  process.program = command.arguments.front();
  process.output_file = command.output_file;
  process.pid_fd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process.pid_fd.valid()) {
    const Error error = system_error(concat("cannot watch ", command.arguments.front()));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return error;
  }
  return process;
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status))
    return concat("signal ", WTERMSIG(status), " (", ::strsignal(WTERMSIG(status)), ")");
  return concat("exit status ", WEXITSTATUS(status));
}

Result<UniqueFd> catch_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals.valid()) return system_error("cannot receive signals");
  return signals;
}

Status adopt_orphans() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return system_error("cannot adopt orphans");
  return {};
}

void kill_descendants(pid_t spared) {
  const Deadline deadline(steady_clock, std::chrono::seconds(10));
  for (std::vector<pid_t> left = descendants(spared); !left.empty() && !deadline.passed();
       left = descendants(spared)) {
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    for (const pid_t pid : left)
      ::waitpid(pid, nullptr, WNOHANG);  // those that are not ours yet come to us later
    ::usleep(2000);
  }
}

Result<ScratchFolder> ScratchFolder::make() {
  // Memory where there is some: shared-memory files of the peers go there, and a disk would slow them down.
  return make_in(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
}

Result<ScratchFolder> ScratchFolder::make_in(const std::string& parent) {
  std::string pattern = parent;
  pattern += concat("/paceline-bench-", ::getpid(), "-XXXXXX");
  if (::mkdtemp(pattern.data()) == nullptr) return system_error(concat("cannot make a folder ", pattern));
  ScratchFolder folder;
  folder.path_ = pattern;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    const Error error = system_error("cannot make a pipe");
    ::rmdir(pattern.c_str());
    return error;
  }
  UniqueFd reading(ends[0]);
  folder.end_.reset(ends[1]);
  folder.keeper_ = ::fork();
  if (folder.keeper_ == 0) {
    folder.end_.reset();
    keep(reading.get(), pattern);
  }
  if (folder.keeper_ < 0) {
    const Error error = system_error("cannot start a process");
    ::rmdir(pattern.c_str());
    return error;
  }
  return folder;
}

ScratchFolder::~ScratchFolder() {
  if (!end_.valid()) return;  // moved from
  end_.reset();
  ::waitpid(keeper_, nullptr, 0);  // it gives up after a second
}

}  // namespace paceline::bench
