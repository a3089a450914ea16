#include "spawn.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {
namespace {

constexpr int first_private_fd = 16;  // beyond those that the worker finds its things at
constexpr int exec_limit_ms = 30000;

/// Where the child was when it could not go on; sent to the parent with errno.
enum Stage : int { stage_group, stage_descriptors, stage_affinity, stage_exec };
struct ChildReport {
  int stage = 0;
  int error_number = 0;
};

/// CPU sets of any size, unlike cpu_set_t.
struct CpuSet {
  explicit CpuSet(const std::vector<int>& cpus) {
    for (const int cpu : cpus) {
      const auto bit = static_cast<std::size_t>(cpu);
      if (words.size() <= bit / word_bits) words.resize(bit / word_bits + 1);
      words[bit / word_bits] |= 1UL << (bit % word_bits);
    }
  }
  static constexpr std::size_t word_bits = 8 * sizeof(unsigned long);
  std::vector<unsigned long> words;
};

/// All that the child needs, made before fork(): between fork and exec only async-signal-safe calls are
/// allowed, and allocating is not one of them.
struct Child {
  const char* program = nullptr;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  UniqueFd null, output, channel, listener, report;
  const CpuSet* cpus = nullptr;
  sigset_t signal_mask{};
  pid_t parent = 0;
};

[[noreturn]] void give_up(const Child& child, Stage stage) noexcept {
  const ChildReport report{stage, errno};
  [[maybe_unused]] const ssize_t ignored = ::write(child.report.get(), &report, sizeof report);
  ::_exit(127);
}

bool place_descriptors(const Child& child) noexcept {
  if (::dup2(child.null.get(), STDIN_FILENO) < 0 || ::dup2(child.output.get(), STDOUT_FILENO) < 0 ||
      ::dup2(child.output.get(), STDERR_FILENO) < 0 || ::dup2(child.channel.get(), worker_channel_fd) < 0)
    return false;
  const bool has_listener = child.listener.valid();
  if (has_listener && ::dup2(child.listener.get(), worker_listener_fd) < 0) return false;
  // Whatever else this process inherited from its own parent stops here. Kernels before 5.11 cannot.
  const unsigned first_other = worker_listener_fd + (has_listener ? 1U : 0U);
  ::close_range(first_other, ~0U, CLOSE_RANGE_CLOEXEC);
  return true;
}

[[noreturn]] void run_child(const Child& child) noexcept {
  // A group of its own: Ctrl-C in the terminal is for the agent, who tells the workers.
  if (::setpgid(0, 0) != 0) give_up(child, stage_group);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != child.parent) ::_exit(127);  // it died before it could be watched
  if (!place_descriptors(child)) give_up(child, stage_descriptors);
  const std::vector<unsigned long>& words = child.cpus->words;
  if (!words.empty() && ::sched_setaffinity(0, words.size() * sizeof words[0],
                                            reinterpret_cast<const cpu_set_t*>(words.data())) != 0)
    give_up(child, stage_affinity);
  ::signal(SIGPIPE, SIG_DFL);
  // Slurm sends what is meant for the job to every process of it. The agent decides.
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::signal(number, SIG_IGN);
  ::sigprocmask(SIG_SETMASK, &child.signal_mask, nullptr);
  ::execve(child.program, child.arguments, child.environment);
  give_up(child, stage_exec);
}

Result<UniqueFd> private_copy(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, first_private_fd));
  if (!copy.valid()) return system_error("cannot copy a descriptor for a worker");
  return copy;
}

Error child_error(const ChildReport& report, const SpawnRequest& request) {
  switch (report.stage) {
    case stage_group: return system_error("cannot give a worker its own process group", report.error_number);
    case stage_descriptors: return system_error("cannot give a worker its descriptors", report.error_number);
    case stage_affinity: return system_error(concat("cannot pin rank ", request.rank), report.error_number);
    default: return system_error(concat("cannot start ", request.program), report.error_number);
  }
}

/// Waits until the child's exec has closed the pipe, or until the child says that it failed.
Status await_exec(int report_fd, const SpawnRequest& request) {
  pollfd entry{report_fd, POLLIN, 0};
  int ready = 0;
  do ready = ::poll(&entry, 1, exec_limit_ms);
  while (ready < 0 && errno == EINTR);
  if (ready == 0)
    return Error{ErrorCode::timeout, concat("starting ", request.program, " took over ", exec_limit_ms / 1000,
                                            " s: does its filesystem answer?")};
  ChildReport report;
  const ssize_t got = ::read(report_fd, &report, sizeof report);
  if (got == 0) return {};
  if (got != static_cast<ssize_t>(sizeof report)) return system_error("cannot hear from a new worker");
  return child_error(report, request);
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& string : strings) list.push_back(string.data());
  list.push_back(nullptr);
  return list;
}

std::vector<std::string> our_environment() {
  std::vector<std::string> strings;
  for (char** entry = ::environ; *entry != nullptr; ++entry) strings.emplace_back(*entry);
  return strings;
}

}  // namespace

std::vector<std::string> worker_environment(const std::vector<std::string>& ours, std::int64_t rank,
                                            std::int64_t threads, const std::string& gpu) {
  static constexpr std::string_view huge_pages = "glibc.malloc.hugetlb";
  static constexpr std::string_view tunables_name = "GLIBC_TUNABLES=";
  static constexpr std::string_view gpus_name = "CUDA_VISIBLE_DEVICES=";
  const std::array<std::pair<std::string, std::int64_t>, 4> numbers = {{{"OMP_NUM_THREADS=", threads},
                                                                        {"OPENBLAS_NUM_THREADS=", threads},
                                                                        {"MKL_NUM_THREADS=", threads},
                                                                        {"PACELINE_RANK=", rank}}};
  std::vector<std::string> result;
  std::string tunables(tunables_name);
  for (const std::string& entry : ours) {
    bool replaced = !gpu.empty() && entry.starts_with(gpus_name);
    for (const auto& [name, value] : numbers) replaced = replaced || entry.starts_with(name);
    if (entry.starts_with(tunables_name))
      tunables = entry;
    else if (!replaced)
      result.push_back(entry);
  }
  for (const auto& [name, value] : numbers) result.push_back(concat(name, value));
  if (!gpu.empty()) result.push_back(concat(gpus_name, gpu));
  if (tunables.find(huge_pages) == std::string::npos)
    tunables += concat(tunables == tunables_name ? "" : ":", huge_pages, "=1");
  result.push_back(tunables);
  return result;
}

Result<pid_t> spawn(const SpawnRequest& request) {
  std::vector<std::string> environment_strings =
      worker_environment(our_environment(), request.rank, request.threads, request.gpu);
  std::vector<std::string> argument_strings = {request.program};
  const std::vector<char*> environment_pointers = pointers(environment_strings);
  const std::vector<char*> argument_pointers = pointers(argument_strings);
  const CpuSet cpus(request.cpus);

  Child child;
  child.program = request.program.c_str();
  child.arguments = argument_pointers.data();
  child.environment = environment_pointers.data();
  child.cpus = &cpus;
  child.parent = ::getpid();
  if (request.signal_mask != nullptr) child.signal_mask = *request.signal_mask;
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null.valid()) return system_error("cannot open /dev/null");
  PACELINE_ASSIGN(child.null, private_copy(null.get()));
  PACELINE_ASSIGN(child.output, private_copy(request.output_fd));
  PACELINE_ASSIGN(child.channel, private_copy(request.channel_fd));
  if (request.listener_fd >= 0) {
    PACELINE_ASSIGN(child.listener, private_copy(request.listener_fd));
  }
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  const UniqueFd report(ends[0]);
  child.report.reset(ends[1]);
  PACELINE_ASSIGN(child.report, private_copy(child.report.get()));

  const pid_t pid = ::fork();
  if (pid < 0) return system_error("cannot start a process for a worker");
  if (pid == 0) run_child(child);
  // Only the child may hold the writing end, or the end of its exec would never be seen.
  child.report.reset();
  const Status started = await_exec(report.get(), request);
  if (started.ok()) return pid;
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  return started.error();
}

Result<std::string> find_worker_program() {
  std::string program;
  if (const auto by_hand = environment("PACELINE_WORKER")) {
    program = *by_hand;
  } else {
    PACELINE_ASSIGN(const std::string self, own_program());
    program = (std::filesystem::path(self).parent_path() / "paceline-worker").string();
  }
  if (::access(program.c_str(), X_OK) != 0)
    return Error{ErrorCode::unsupported,
                 concat("there is no worker program at ", program,
                        ": build Paceline with LibTorch (libtorch-dev), or set PACELINE_WORKER to it")};
  return program;
}

Result<std::string> own_program() {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error{ErrorCode::unsupported, concat("cannot read /proc/self/exe: ", error.message())};
  return path.string();
}

Result<std::string> find_batch_script(const std::string& name) {
  PACELINE_ASSIGN(const std::string program, own_program());
  const std::filesystem::path prefix = std::filesystem::path(program).parent_path().parent_path();
  const std::string script = (prefix / "share/paceline/slurm" / name).string();
  if (::access(script.c_str(), R_OK) == 0) return script;
  return system_error(concat("cannot read ", script, ", which is installed with Paceline"));
}

}  // namespace paceline
