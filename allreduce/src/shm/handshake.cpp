#include "handshake.hpp"

#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline::shm {
namespace {

struct Greeting {
  std::uint32_t magic = wire::magic;
  std::int32_t rank = 0;
};

struct MemoryOffer {
  std::uint32_t magic = wire::magic;
  std::uint32_t reserved = 0;
  std::uint64_t bytes = 0;
};

socklen_t fill_address(const std::string& name, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::min(name.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path + 1, name.data(), length);  // a leading zero byte: abstract
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + length);
}

Status send_message(int socket, const void* bytes, std::size_t size, int descriptor,
                    const tcp::Patience& patience) {
  iovec piece{const_cast<void*>(bytes), size};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = space;
    message.msg_controllen = sizeof space;
    cmsghdr* control = CMSG_FIRSTHDR(&message);
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(control), &descriptor, sizeof(int));
  }
  while (true) {
    if (::sendmsg(socket, &message, MSG_NOSIGNAL) >= 0) return {};
    if (errno == EAGAIN) {
      PACELINE_TRY(tcp::wait_for(socket, POLLOUT, patience));
    } else if (errno != EINTR) {
      return Error{ErrorCode::peer_lost, system_error("the local socket broke").message};
    }
  }
}

/// One whole message (the sockets keep boundaries) and the descriptor that came with it, if one did.
Status receive_message(int socket, void* bytes, std::size_t size, UniqueFd* descriptor,
                       const tcp::Patience& patience) {
  iovec piece{bytes, size};
  alignas(cmsghdr) char space[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = space;
  message.msg_controllen = sizeof space;
  ssize_t got = 0;
  while ((got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0) {
    if (errno == EAGAIN) {
      PACELINE_TRY(tcp::wait_for(socket, POLLIN, patience));
    } else if (errno != EINTR) {
      return Error{ErrorCode::peer_lost, system_error("the local socket broke").message};
    }
  }
  UniqueFd received;
  for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(&message, control)) {
    if (control->cmsg_level != SOL_SOCKET || control->cmsg_type != SCM_RIGHTS) continue;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(control), sizeof fd);
    received.reset(fd);
  }
  if (got == 0) return Error{ErrorCode::peer_lost, "it ended or left while memory was being shared"};
  if (static_cast<std::size_t>(got) != size)
    return Error{ErrorCode::corrupt, "it sent a message of the wrong length"};
  if (descriptor != nullptr) *descriptor = std::move(received);
  return {};
}

Result<ucred> peer_of(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return system_error("SO_PEERCRED");
  return peer;
}

/// Tells when a process has ended; not valid if it is this one, or the kernel is too old.
UniqueFd watch_process(int process) {
  if (process == ::getpid()) return {};
  return UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
}

Status same_user(int socket) {
  PACELINE_ASSIGN(const ucred peer, peer_of(socket));
  if (peer.uid != ::geteuid())
    return Error{ErrorCode::invalid_argument, concat("it belongs to another user (", peer.uid, ")")};
  return {};
}

Error blame(Error error, int rank, const std::string& doing) {
  return {error.code,
          concat(doing, " rank ", rank, ", which says it is on this node: ", error.message,
                 " (if it is not, set PACELINE_NODE to a different name there)"),
          rank};
}

Result<UniqueFd> connect_locally(const std::string& name, int own_rank, const tcp::Patience& patience) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return system_error("socket");
  sockaddr_un address;
  const socklen_t length = fill_address(name, address);
  // Blocking, and at once: the peer has listened since before the meeting.
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0)
    return system_error("cannot reach its local socket");
  PACELINE_TRY(same_user(socket.get()));
  PACELINE_TRY(tcp::prepare(socket.get()));
  const Greeting greeting{.rank = own_rank};
  PACELINE_TRY(send_message(socket.get(), &greeting, sizeof greeting, -1, patience));
  return socket;
}

}  // namespace

Result<LocalListener> listen_locally() {
  std::byte random[16];
  if (::getrandom(random, sizeof random, 0) != sizeof random) return system_error("getrandom");
  LocalListener listener;
  listener.name = concat("paceline-", to_hex(random));
  listener.socket.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.socket.valid()) return system_error("socket");
  sockaddr_un address;
  const socklen_t length = fill_address(listener.name, address);
  if (::bind(listener.socket.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(listener.socket.get(), SOMAXCONN) != 0)
    return system_error("cannot listen on a local socket");
  return listener;
}

Result<Handshake> Handshake::connect(const Layout& layout, const LocalListener& listener,
                                     const std::vector<wire::Hello>& roster, const tcp::Patience& patience) {
  Handshake handshake;
  handshake.ranks_ = layout.topology().local_ranks;
  handshake.peers_.resize(handshake.ranks_.size());
  const auto own = static_cast<std::size_t>(layout.local_index());
  for (std::size_t i = 0; i < own; ++i) {
    const int rank = handshake.ranks_[i];
    auto socket =
        connect_locally(roster[static_cast<std::size_t>(rank)].local_socket, layout.rank(), patience);
    if (!socket.ok()) return blame(std::move(socket).error(), rank, "cannot share memory with");
    handshake.peers_[i] = std::move(*socket);
  }
  for (std::size_t awaited = handshake.ranks_.size() - own - 1; awaited > 0;) {
    auto socket = tcp::accept_from(listener.socket.get(), patience);
    if (!socket.ok()) return blame(std::move(socket).error(), handshake.ranks_.back(), "waiting for");
    Greeting greeting;
    const Status greeted = receive_message(socket->get(), &greeting, sizeof greeting, nullptr, patience);
    const auto place = std::ranges::find(handshake.ranks_, greeting.rank) - handshake.ranks_.begin();
    const auto index = static_cast<std::size_t>(place);
    if (!greeted.ok() || greeting.magic != wire::magic || !same_user(socket->get()).ok() || index <= own ||
        index >= handshake.ranks_.size() || handshake.peers_[index].valid()) {
      log(LogLevel::warning, "refused a local connection that is not a rank of this job");
      continue;
    }
    handshake.peers_[index] = std::move(*socket);
    --awaited;
  }
  for (const UniqueFd& peer : handshake.peers_) {
    int process = ::getpid();
    if (peer.valid()) {
      PACELINE_ASSIGN(const ucred other, peer_of(peer.get()));
      process = other.pid;
    }
    handshake.process_ids_.push_back(process);
    handshake.processes_.push_back(watch_process(process));
  }
  return handshake;
}

bool Handshake::has_ended(int index, Duration at_most) const {
  pollfd wait{processes_[static_cast<std::size_t>(index)].get(), POLLIN, 0};  // -1 is ignored
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(at_most).count();
  return ::poll(&wait, 1, static_cast<int>(ms)) > 0;
}

Result<std::vector<Memory>> Handshake::exchange(const UniqueFd& descriptor, std::size_t bytes,
                                                const tcp::Patience& patience) {
  std::vector<Memory> theirs(peers_.size());
  const MemoryOffer mine{.bytes = bytes};
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (!peers_[i].valid()) continue;
    const Status sent = send_message(peers_[i].get(), &mine, sizeof mine, descriptor.get(), patience);
    if (!sent.ok()) return blame(sent.error(), ranks_[i], "sharing memory with");
  }
  for (std::size_t i = 0; i < peers_.size(); ++i) {
    if (!peers_[i].valid()) continue;
    MemoryOffer offer;
    UniqueFd received;
    const Status came = receive_message(peers_[i].get(), &offer, sizeof offer, &received, patience);
    if (!came.ok()) return blame(came.error(), ranks_[i], "sharing memory with");
    if (offer.magic != wire::magic || offer.bytes != bytes)
      return Error{ErrorCode::mismatch,
                   concat("rank ", ranks_[i], " allocates ", offer.bytes, " bytes where this rank allocates ",
                          bytes, ": allocate() takes the same size on all ranks of a node"),
                   ranks_[i]};
    auto memory = Memory::map(received, bytes);
    if (!memory.ok()) return blame(std::move(memory).error(), ranks_[i], "mapping the memory of");
    theirs[i] = std::move(*memory);
  }
  return theirs;
}

}  // namespace paceline::shm
