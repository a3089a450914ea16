#include "links.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "socket.hpp"

namespace paceline::tcp {
namespace {

/// One block on its way: header first, then the bytes; `done` counts both.
struct Transfer {
  int peer = 0;
  int fd = -1;
  std::byte* bytes = nullptr;
  std::size_t size = 0;
  wire::DataHeader header;  // sent, or received and compared with `expected`
  std::size_t done = 0;
  [[nodiscard]] bool complete() const { return done == sizeof header + size; }
};

Error broken(int peer, const std::string& how) {
  return {ErrorCode::peer_lost, concat("rank ", peer, " is lost: ", how), peer};
}

/// Sends what the socket takes now.
Status advance_sending(Transfer& t) {
  while (!t.complete()) {
    iovec pieces[2];
    int count = 0;
    if (t.done < sizeof t.header)
      pieces[count++] = {reinterpret_cast<std::byte*>(&t.header) + t.done, sizeof t.header - t.done};
    const std::size_t sent = t.done > sizeof t.header ? t.done - sizeof t.header : 0;
    if (sent < t.size) pieces[count++] = {t.bytes + sent, t.size - sent};
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = static_cast<std::size_t>(count);
    const ssize_t put = ::sendmsg(t.fd, &message, MSG_NOSIGNAL);
    if (put < 0 && errno == EAGAIN) return {};
    if (put < 0 && errno != EINTR) return broken(t.peer, system_error("sending to it failed").message);
    if (put > 0) t.done += static_cast<std::size_t>(put);
  }
  return {};
}

Status check_header(const wire::DataHeader& got, const wire::DataHeader& expected, int rank, int peer) {
  if (got.magic != expected.magic)
    return Error{ErrorCode::corrupt, concat("rank ", peer, " sent bytes that are not Paceline's protocol"),
                 peer};
  if (got.generation != expected.generation)
    return Error{ErrorCode::mismatch,
                 concat("rank ", peer, " sent a message of generation ", got.generation, ", this is ",
                        expected.generation),
                 peer};
  if (!(got.descriptor == expected.descriptor))
    return mismatch_error(rank, expected.descriptor, peer, got.descriptor);
  if (got.part != expected.part || got.bytes != expected.bytes)
    return Error{ErrorCode::mismatch,
                 concat("rank ", peer, " sent block ", got.part, " of ", got.bytes, " bytes where block ",
                        expected.part, " of ", expected.bytes, " was due in ", describe(expected.descriptor)),
                 peer};
  return {};
}

/// Receives what is there now.
Status advance_receiving(Transfer& t, const wire::DataHeader& expected, int rank) {
  while (!t.complete()) {
    const bool in_header = t.done < sizeof t.header;
    std::byte* at =
        in_header ? reinterpret_cast<std::byte*>(&t.header) + t.done : t.bytes + (t.done - sizeof t.header);
    const std::size_t left = (in_header ? sizeof t.header : sizeof t.header + t.size) - t.done;
    const ssize_t got = ::recv(t.fd, at, left, 0);
    if (got == 0) return broken(t.peer, "its process ended or its connection was closed");
    if (got < 0 && errno == EAGAIN) return {};
    if (got < 0 && errno != EINTR) return broken(t.peer, system_error("receiving from it failed").message);
    if (got < 0) continue;
    t.done += static_cast<std::size_t>(got);
    if (in_header && t.done == sizeof t.header) PACELINE_TRY(check_header(t.header, expected, rank, t.peer));
  }
  return {};
}

class Links final : public BetweenNodes {
 public:
  Links(int rank, std::uint64_t generation, std::vector<UniqueFd> connections, const AbortSignal& abort)
      : rank_(rank), generation_(generation), connections_(std::move(connections)), abort_(abort) {}

  [[nodiscard]] std::string name() const override { return "tcp"; }

  Status exchange(const Descriptor& descriptor, std::span<const Outgoing> outgoing,
                  std::span<const Incoming> incoming, const Deadline& deadline) override {
    std::vector<Transfer> sends;
    std::vector<Transfer> receives;
    std::vector<wire::DataHeader> expected;
    for (const Outgoing& out : outgoing)
      // Never written through: a transfer has one type for both directions.
      sends.push_back({out.peer, fd_of(out.peer), const_cast<std::byte*>(out.bytes.data()), out.bytes.size(),
                       header_for(descriptor, out.part, out.bytes.size()), 0});
    for (const Incoming& in : incoming) {
      receives.push_back({in.peer, fd_of(in.peer), in.bytes.data(), in.bytes.size(), {}, 0});
      expected.push_back(header_for(descriptor, in.part, in.bytes.size()));
    }
    while (true) {
      for (Transfer& send : sends) PACELINE_TRY(advance_sending(send));
      for (std::size_t i = 0; i < receives.size(); ++i)
        PACELINE_TRY(advance_receiving(receives[i], expected[i], rank_));
      const auto complete = [](const Transfer& t) { return t.complete(); };
      if (std::ranges::all_of(sends, complete) && std::ranges::all_of(receives, complete)) return {};
      PACELINE_TRY(wait(sends, receives, descriptor, deadline));
    }
  }

 private:
  [[nodiscard]] int fd_of(int peer) const { return connections_[static_cast<std::size_t>(peer)].get(); }

  [[nodiscard]] wire::DataHeader header_for(const Descriptor& descriptor, std::uint32_t part,
                                            std::size_t bytes) const {
    wire::DataHeader header;
    header.part = part;
    header.generation = generation_;
    header.bytes = bytes;
    header.descriptor = descriptor;
    return header;
  }

  /// Until a socket of an unfinished transfer is ready.
  Status wait(const std::vector<Transfer>& sends, const std::vector<Transfer>& receives,
              const Descriptor& descriptor, const Deadline& deadline) const {
    PACELINE_TRY(abort_.status());
    std::vector<pollfd> waits = {{abort_.fd(), POLLIN, 0}};
    int late = -1;
    for (const Transfer& t : sends)
      if (!t.complete()) waits.push_back({t.fd, POLLOUT, 0}), late = t.peer;
    for (const Transfer& t : receives)
      if (!t.complete()) waits.push_back({t.fd, POLLIN, 0}), late = t.peer;
    const int ready = ::poll(waits.data(), waits.size(), deadline.left_ms());
    if (ready < 0 && errno != EINTR) return system_error("poll");
    if (ready == 0 && deadline.passed())
      return Error{ErrorCode::timeout,
                   concat("rank ", late, " did not answer in time in ", describe(descriptor)), late};
    return {};
  }

  int rank_;
  std::uint64_t generation_;
  std::vector<UniqueFd> connections_;  // by rank
  const AbortSignal& abort_;
};

/// The rank behind a fresh connection, once it has proved that it belongs here; -1 for a stranger.
int identify(int connection, const std::string& secret, std::uint64_t generation,
             const std::vector<int>& expected, const AbortSignal& abort) {
  const SteadyClock clock;
  const Deadline deadline(clock, std::chrono::seconds(2));
  auto frame = receive_frame(connection, 4096, {deadline, abort});
  if (!frame.ok() || frame->type != wire::FrameType::link) return -1;
  const auto hello = wire::decode_link_hello(frame->payload);
  if (!hello.has_value() || !wire::same_secret(secret, hello->secret) || hello->generation != generation)
    return -1;
  return std::ranges::find(expected, hello->rank) == expected.end() ? -1 : hello->rank;
}

}  // namespace

Result<std::unique_ptr<BetweenNodes>> make_links(const Layout& layout, const std::vector<wire::Hello>& roster,
                                                 const UniqueFd& data_listener, const std::string& secret,
                                                 std::uint64_t generation, const Deadline& deadline,
                                                 const AbortSignal& abort) {
  const Patience patience{deadline, abort};
  std::vector<UniqueFd> connections(roster.size());
  std::vector<int> awaited;
  const std::string introduction = wire::encode(wire::LinkHello{secret, generation, layout.rank()});
  for (const int peer : layout.linked_ranks()) {
    if (peer > layout.rank()) {
      awaited.push_back(peer);
      continue;
    }
    const wire::Hello& place = roster[static_cast<std::size_t>(peer)];
    auto connection = connect_to(place.host, place.port, patience);
    if (!connection.ok()) {
      Error error = connection.error().with_context(concat("rank ", peer, " on node ", place.node_name));
      error.rank = peer;
      return error;
    }
    PACELINE_TRY(send_frame(connection->get(), wire::FrameType::link, introduction, patience));
    connections[static_cast<std::size_t>(peer)] = std::move(*connection);
  }
  while (!awaited.empty()) {
    auto connection = accept_from(data_listener.get(), patience);
    if (!connection.ok()) {
      Error error =
          connection.error().with_context(concat("waiting for the connection of rank ", awaited[0]));
      if (error.rank < 0) error.rank = awaited[0];
      return error;
    }
    const int peer = identify(connection->get(), secret, generation, awaited, abort);
    if (peer < 0) {
      log(LogLevel::warning, "refused a connection that is not a rank of this job");
      continue;
    }
    std::erase(awaited, peer);
    connections[static_cast<std::size_t>(peer)] = std::move(*connection);
  }
  return std::unique_ptr<BetweenNodes>(
      std::make_unique<Links>(layout.rank(), generation, std::move(connections), abort));
}

}  // namespace paceline::tcp
