#pragma once

// Ranks as processes that share one GPU. They are forked before anyone calls CUDA, whose state does not
// survive a fork; the parent never does.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <vector>

#include "gpu/check.hpp"
#include "paceline/base/text.hpp"
#include "paceline/cuda.hpp"

namespace paceline::gpu_testing {

/// A socket that listens on the loopback, made before the fork.
struct MeetingPlace {
  UniqueFd listener;
  std::uint16_t port = 0;

  MeetingPlace() : listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const general = reinterpret_cast<sockaddr*>(&address);
    const bool listens = ::bind(listener.get(), general, length) == 0 && ::listen(listener.get(), 64) == 0 &&
                         ::getsockname(listener.get(), general, &length) == 0;
    require(listens, __FILE__, __LINE__, "the loopback cannot be listened on");
    port = ntohs(address.sin_port);
  }
};

/// The communicator of `nodes` (one letter per rank), as rank `rank`.
inline Result<Communicator> meet(MeetingPlace& place, const std::string& nodes, int rank,
                                 std::uint64_t generation = 1) {
  std::vector<Member> members;
  for (const char node : nodes) members.push_back({std::string(1, node), "127.0.0.1", place.port});
  CommunicatorOptions options;
  options.generation = generation;
  if (rank == 0) options.listener = std::move(place.listener);
  return Communicator::connect(rank, members, std::move(options));
}

/// What a rank does; failures are counted by EXPECT. Text: why it was skipped.
using RankBody = std::function<std::string(Communicator& host, int rank)>;

/// A rank's process: every rank has a GPU of its own as far as NCCL can tell, and they talk over sockets.
[[noreturn]] inline void be_rank(MeetingPlace& place, const std::string& nodes, int rank,
                                 const RankBody& body) {
  ::setenv("NCCL_HOSTID", concat("rank-", rank).c_str(), 1);
  ::setenv("NCCL_SOCKET_IFNAME", "lo", 0);
  failures = 0;
  std::string skipped;
  {
    auto host = meet(place, nodes, rank);
    EXPECT(host.ok(), host.ok() ? "" : host.error().message);
    if (host.ok()) skipped = body(*host, rank);
  }
  if (!skipped.empty() && rank == 0) std::printf("  skipped: %s\n", skipped.c_str());
  std::fflush(stdout);
  std::fflush(stderr);
  ::_exit(failures > 0 ? 1 : (skipped.empty() ? 0 : skipped_exit_code));
}

struct Outcome {
  bool failed = false;
  bool skipped = false;
};

/// Runs `body` on every rank of `nodes`. `dies`: the rank that is expected to end by a signal, or -1.
inline Outcome run_ranks(const std::string& nodes, const RankBody& body, int dies = -1) {
  MeetingPlace place;
  std::vector<pid_t> children;
  for (int rank = 0; rank < static_cast<int>(nodes.size()); ++rank) {
    std::fflush(stdout);
    const pid_t child = ::fork();
    require(child >= 0, __FILE__, __LINE__, "fork failed");
    if (child == 0) {
      if (rank != 0) place.listener.reset();
      be_rank(place, nodes, rank, body);
    }
    children.push_back(child);
  }
  place.listener.reset();
  Outcome outcome;
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    int status = 0;
    ::waitpid(children[rank], &status, 0);
    const bool killed = WIFSIGNALED(status);
    if (killed != (static_cast<int>(rank) == dies)) outcome.failed = true;
    if (killed && static_cast<int>(rank) != dies)
      std::printf("  rank %zu ended by signal %d\n", rank, WTERMSIG(status));
    if (!killed && WEXITSTATUS(status) == skipped_exit_code) outcome.skipped = true;
    if (!killed && WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != skipped_exit_code)
      outcome.failed = true;
  }
  return outcome;
}

struct RankTest {
  std::string name;
  std::function<Outcome()> run;
  bool small = false;  ///< also run where everything is a hundred times slower
};

/// Those whose name has `part` in it, or with --small those that are; the exit status.
inline int run_rank_tests(const std::vector<RankTest>& tests, std::string_view part) {
  int failed = 0;
  for (const RankTest& test : tests) {
    if (part == "--small" ? !test.small : test.name.find(part) == std::string::npos) continue;
    const Outcome outcome = test.run();
    if (outcome.failed) ++failed;
    std::printf("%s %s\n", outcome.failed ? "FAILED" : (outcome.skipped ? "SKIPPED" : "ok"),
                test.name.c_str());
    std::fflush(stdout);
  }
  std::printf("%d failed\n", failed);
  return failed == 0 ? 0 : 1;
}

/// Skips the program where `reason_not_to` gives a reason; asked for in a process of its own.
inline void require_elsewhere(const char* program, const std::function<std::string()>& reason_not_to) {
  std::fflush(stdout);
  const pid_t child = ::fork();
  require(child >= 0, __FILE__, __LINE__, "fork failed");
  if (child == 0) {
    require_gpu(program);
    const std::string reason = reason_not_to();
    if (!reason.empty()) std::printf("SKIPPED %s: %s\n", program, reason.c_str());
    std::exit(reason.empty() ? 0 : skipped_exit_code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFEXITED(status)) std::exit(1);
  if (WEXITSTATUS(status) != 0) std::exit(WEXITSTATUS(status));
}

inline void require_gpu_elsewhere(const char* program) {
  require_elsewhere(program, [] { return std::string(); });
}

/// A device communicator over the ranks that share the GPU, by one way.
inline Result<cuda::DeviceCommunicator> make_device(Communicator& host, cuda::Way way,
                                                    Duration timeout = std::chrono::seconds(60)) {
  cuda::DeviceOptions options;
  options.share_device = true;
  options.operation_timeout = timeout;
  options.tuning.way = way;
  options.use_nccl = way == cuda::Way::nccl || way == cuda::Way::automatic;
  return cuda::DeviceCommunicator::make(host, options);
}

}  // namespace paceline::gpu_testing
