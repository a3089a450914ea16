#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "paceline/base/text.hpp"
#include "paceline/job/protocol.hpp"
#include "protocol_limits.hpp"

namespace paceline {
namespace {

constexpr Duration longest_wait = std::chrono::hours(24);

const SteadyClock& steady_clock() {
  static const SteadyClock clock;
  return clock;
}

Error peer_gone() {
  return {ErrorCode::peer_lost, "the other end of the worker's socket is closed"};
}

/// Whether the socket became ready for `events` (or for an error) before the deadline.
Result<bool> wait_for(int fd, short events, const Deadline& deadline) {
  while (true) {
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, deadline.left_ms());
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return system_error("cannot wait for the worker's socket");
    if (deadline.passed()) return false;
  }
}

/// recv without waiting: bytes; nothing where there is no message yet.
Result<std::optional<std::size_t>> receive_now(int fd, void* buffer, std::size_t bytes, int flags) {
  while (true) {
    const ssize_t got = ::recv(fd, buffer, bytes, flags | MSG_DONTWAIT | MSG_TRUNC);
    if (got >= 0) return std::optional<std::size_t>(static_cast<std::size_t>(got));
    // The peer left messages of ours unread. What it sent before comes after this one report.
    if (errno == EINTR || errno == ECONNRESET) continue;
    if (errno == EAGAIN) return std::optional<std::size_t>();
    return system_error("cannot receive from the worker's socket");
  }
}

/// The waiting message whole; nothing where there is none. An empty one means that the peer is gone.
Result<std::optional<std::string>> take_message(int fd) {
  PACELINE_ASSIGN(const std::optional<std::size_t> bytes, receive_now(fd, nullptr, 0, MSG_PEEK));
  if (!bytes) return std::optional<std::string>();
  std::string message(std::min(*bytes, most_message_bytes), '\0');
  PACELINE_ASSIGN(const std::optional<std::size_t> taken, receive_now(fd, message.data(), message.size(), 0));
  if (!taken) return std::optional<std::string>();
  if (*taken > message.size())
    return Error{ErrorCode::corrupt,
                 concat("a worker message of ", *taken, " bytes is longer than the most, ",
                        most_message_bytes, ": are the programs of the same build?")};
  return std::optional<std::string>(std::move(message));
}

}  // namespace

Result<std::pair<WorkerChannel, UniqueFd>> WorkerChannel::make_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return system_error("cannot make a socket for a worker");
  UniqueFd agent(ends[0]);
  UniqueFd worker(ends[1]);
  for (const int fd : ends) {
    const int bytes = static_cast<int>(most_message_bytes);
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0)
      return system_error("cannot size the socket of a worker");
  }
  return std::pair(WorkerChannel(std::move(agent)), std::move(worker));
}

Status WorkerChannel::send(const WorkerMessage& message, Duration timeout) {
  const std::string bytes = encode(message);
  if (bytes.size() > most_message_bytes)
    return Error{ErrorCode::invalid_argument, concat("a worker message of ", bytes.size(),
                                                     " bytes is longer than the most, ", most_message_bytes)};
  const Deadline deadline(steady_clock(), std::min(timeout, longest_wait));
  while (true) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return {};  // a datagram goes whole or not at all
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return peer_gone();
    if (errno != EAGAIN) return system_error("cannot send to the worker's socket");
    PACELINE_ASSIGN(const bool ready, wait_for(fd_.get(), POLLOUT, deadline));
    if (!ready)
      return Error{ErrorCode::timeout, concat("the other end of the worker's socket read nothing for ",
                                              to_seconds(timeout), " s")};
  }
}

Result<std::optional<WorkerMessage>> WorkerChannel::receive(Duration timeout) {
  const Deadline deadline(steady_clock(), std::min(timeout, longest_wait));
  while (true) {
    PACELINE_ASSIGN(const std::optional<std::string> bytes, take_message(fd_.get()));
    if (bytes && bytes->empty()) return peer_gone();
    if (bytes) {
      PACELINE_ASSIGN(WorkerMessage message, decode(*bytes));
      return std::optional<WorkerMessage>(std::move(message));
    }
    PACELINE_ASSIGN(const bool ready, wait_for(fd_.get(), POLLIN, deadline));
    if (!ready) return std::optional<WorkerMessage>();
  }
}

}  // namespace paceline
