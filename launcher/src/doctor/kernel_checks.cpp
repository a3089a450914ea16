#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "doctor/machine_checks.hpp"
#include "doctor/rules.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr Duration limit = std::chrono::seconds(5);

// At the same address in all children.
const std::uint64_t pattern = 0x70616365'6c696e65U;

Check check_io_uring() {
  io_uring_params parameters{};
  const UniqueFd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 8U, &parameters)));
  const std::string refusal = ring.valid() ? "" : std::strerror(errno);
  return judge_io_uring(refusal, environment("PACELINE_READS").value_or(""));
}

/// As ranks of one node do it.
Status make_shared_memory() {
  constexpr std::size_t bytes = 65536;
  const UniqueFd memory(::memfd_create("paceline-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid()) return system_error("memfd_create");
  if (::ftruncate(memory.get(), bytes) != 0) return system_error("ftruncate");
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return system_error("F_ADD_SEALS");
  void* const at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (at == MAP_FAILED) return system_error("mmap");
  std::memset(at, 1, bytes);
  ::munmap(at, bytes);
  return {};
}

Check check_memfd() {
  const Status made = make_shared_memory();
  if (made.ok()) return fine("memfd", "works");
  return problem("memfd", made.error().message,
                 "ranks of one node share memory through it; allow it in the container's seccomp profile, or "
                 "use Linux 3.17 or newer");
}

Check check_pidfd() {
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (self.valid()) return fine("pidfd", "works");
  return problem("pidfd", system_error("pidfd_open").message,
                 "agents watch their workers with it; use Linux 5.3 or newer, or allow it in the container's "
                 "seccomp profile");
}

/// "always [madvise] never" is madvise.
Check check_huge_pages() {
  const Result<std::string> text = read_file("/sys/kernel/mm/transparent_hugepage/enabled");
  if (!text.ok()) return judge_huge_pages("");
  const std::size_t begin = text->find('['), end = text->find(']');
  if (begin == std::string::npos || end == std::string::npos || end < begin) return judge_huge_pages("");
  return judge_huge_pages(text->substr(begin + 1, end - begin - 1));
}

Check check_clock() {
  timex state{};
  const int result = ::adjtimex(&state);
  if (result < 0)
    return absent("clock", system_error("its state cannot be read").message, "nothing: the host keeps it");
  return judge_clock(result != TIME_ERROR && (state.status & STA_UNSYNC) == 0);
}

std::optional<std::int64_t> ptrace_scope() {
  const Result<std::string> text = read_file("/proc/sys/kernel/yama/ptrace_scope");
  if (!text.ok()) return std::nullopt;
  return parse_integer(text->substr(0, text->find('\n')), 0, 3);
}

/// Why a process cannot be read; empty where it can.
std::string try_to_read(pid_t process) {
  std::uint64_t found = 0;
  const iovec here{&found, sizeof found};
  const iovec there{const_cast<std::uint64_t*>(&pattern), sizeof pattern};
  const ssize_t got = ::process_vm_readv(process, &here, 1, &there, 1, 0);
  if (got < 0) return std::strerror(errno);
  return found == pattern ? "" : "something else was there";
}

}  // namespace

void check_kernel(const Sink& sink) {
  sink(check_io_uring());
  sink(check_memfd());
  sink(check_pidfd());
  sink(check_huge_pages());
  sink(check_clock());
}

Check check_memory_of_others(StopSignals& signals) {
  const Result<Child> other = Child::start([](const Child::Side& side) { side.await_parent(); });
  if (!other.ok())
    return problem("process_vm_readv", other.error().message, "see that processes can be started");
  const Result<std::string> refusal = in_child([&] { return try_to_read(other->pid()); }, limit, signals);
  return judge_memory_of_others(refusal.ok() ? *refusal : refusal.error().message, ptrace_scope());
}

}  // namespace paceline::doctor
