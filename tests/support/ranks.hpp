#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <netinet/in.h>
#include <sys/socket.h>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "paceline/allreduce.hpp"
#include "paceline/base/text.hpp"

namespace paceline::testing {

enum class RunAs { threads, processes };

/// Nodes of the ranks, one letter each: "aab" is two ranks on one node and one on another.
struct Ranks {
  std::string nodes;
  RunAs run_as = RunAs::threads;
  [[nodiscard]] int size() const { return static_cast<int>(nodes.size()); }
};

inline std::string name_of(const Ranks& ranks) {
  return concat(ranks.nodes, ranks.run_as == RunAs::threads ? "_threads" : "_processes");
}

/// A socket that listens on a free port of the loopback.
struct Listener {
  UniqueFd fd;
  std::uint16_t port = 0;
};

inline Listener free_listener() {
  Listener listener;
  listener.fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  EXPECT_EQ(::bind(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  EXPECT_EQ(::listen(listener.fd.get(), 64), 0);
  EXPECT_EQ(::getsockname(listener.fd.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
  listener.port = ntohs(address.sin_port);
  return listener;
}

inline std::vector<Member> members_of(const Ranks& ranks, std::uint16_t port) {
  std::vector<Member> members;
  for (const char node : ranks.nodes) members.push_back({std::string(1, node), "127.0.0.1", port});
  return members;
}

/// Memory of either kind with room for `bytes`.
struct Buffer {
  SharedBuffer shared;
  std::vector<double> plain;
  [[nodiscard]] void* data() {
    return shared.data() != nullptr ? static_cast<void*>(shared.data()) : plain.data();
  }
};

inline Result<Buffer> make_buffer(Communicator& communicator, bool shared, std::size_t bytes) {
  Buffer buffer;
  if (shared) {
    PACELINE_ASSIGN(buffer.shared, communicator.allocate(bytes));
  } else {
    buffer.plain.resize(bytes / sizeof(double) + 1);
  }
  return buffer;
}

/// What a rank does; an empty string is success, anything else what went wrong.
using RankBody = std::function<std::string(Result<Communicator>&, int rank)>;

/// Runs `body` on every rank and gives what went wrong on each, by rank. A process that ends by a signal
/// reports "signal N".
inline std::vector<std::string> run_ranks(
    const Ranks& ranks, const RankBody& body,
    const std::function<CommunicatorOptions()>& options = [] { return CommunicatorOptions{}; }) {
  Listener listener = free_listener();
  const std::vector<Member> members = members_of(ranks, listener.port);
  std::vector<std::string> failures(static_cast<std::size_t>(ranks.size()));
  const auto run = [&](int rank) {
    CommunicatorOptions own = options();
    if (rank == 0) own.listener = std::move(listener.fd);
    auto communicator = Communicator::connect(rank, members, std::move(own));
    return body(communicator, rank);
  };
  if (ranks.run_as == RunAs::threads) {
    std::vector<std::thread> threads;
    for (int rank = 0; rank < ranks.size(); ++rank)
      threads.emplace_back([&, rank] { failures[static_cast<std::size_t>(rank)] = run(rank); });
    for (std::thread& thread : threads) thread.join();
    return failures;
  }
  std::vector<std::pair<pid_t, UniqueFd>> children;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    const pid_t pid = ::fork();
    if (pid == 0) {
      reader.reset();
      if (rank != 0) listener.fd.reset();
      const std::string failure = run(rank);
      const Status written = write_all(writer.get(), failure, "pipe");
      ::_exit(written.ok() ? 0 : 1);
    }
    children.emplace_back(pid, std::move(reader));
  }
  listener.fd.reset();
  for (std::size_t rank = 0; rank < children.size(); ++rank) {
    char block[4096];
    ssize_t got = 0;
    while ((got = ::read(children[rank].second.get(), block, sizeof block)) > 0)
      failures[rank].append(block, static_cast<std::size_t>(got));
    int status = 0;
    ::waitpid(children[rank].first, &status, 0);
    if (WIFSIGNALED(status)) failures[rank] = concat("signal ", WTERMSIG(status));
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0) failures[rank] = concat("exit ", WEXITSTATUS(status));
  }
  return failures;
}

inline void expect_all_well(const std::vector<std::string>& failures) {
  for (std::size_t rank = 0; rank < failures.size(); ++rank)
    EXPECT_EQ(failures[rank], "") << "on rank " << rank;
}

/// A place where ranks that are threads meet once more, without the communicator.
struct SecondMeeting {
  Listener listener = free_listener();
  std::vector<Member> members;
  explicit SecondMeeting(const std::string& nodes) : members(members_of({nodes}, listener.port)) {}
  [[nodiscard]] Result<Communicator> join(int rank) {
    CommunicatorOptions options;
    options.generation = 2;
    if (rank == 0) options.listener = std::move(listener.fd);
    return Communicator::connect(rank, members, std::move(options));
  }
};

}  // namespace paceline::testing
