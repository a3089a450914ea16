#include "control.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "paceline/base/text.hpp"
#include "tcp/socket.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
// A notice is a few hundred bytes into an empty socket buffer; whoever can't take it is dying itself.
constexpr Duration send_timeout = std::chrono::milliseconds(500);
// Ranks that wait for one another reach their deadlines at about the same time. Rank 0 listens this long.
constexpr Duration hearing_of_accusations = std::chrono::milliseconds(200);
constexpr std::size_t most_notice_bytes = 64U << 10;

}  // namespace

Control::Control(const Layout& layout, std::vector<UniqueFd> connections, AbortSignal& abort)
    : layout_(layout), abort_(abort), completed_(layout.topology().node_of_rank.size(), -1) {
  for (std::size_t rank = 0; rank < connections.size(); ++rank)
    if (connections[rank].valid())
      peers_.push_back({static_cast<int>(rank), std::move(connections[rank]), {}});
}

Control::~Control() {
  leave(0);
}

Status Control::start() {
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_.valid()) return system_error("cannot make an eventfd");
  thread_ = std::thread([this] { listen(); });
  return {};
}

void Control::listen() {
  std::vector<pollfd> waits;
  while (!leaving_) {
    waits.assign(1, {wake_.get(), POLLIN, 0});
    for (const Peer& peer : peers_) waits.push_back({peer.connection.get(), POLLIN, 0});  // -1 is ignored
    const int ready = ::poll(waits.data(), waits.size(), judgement_is_due() ? 20 : -1);
    judge_when_due();
    if (ready < 0) continue;
    std::uint64_t rung = 0;
    if (waits[0].revents != 0) [[maybe_unused]]
      const ssize_t ignored = ::read(wake_.get(), &rung, sizeof rung);
    for (std::size_t i = 0; i < peers_.size() && !leaving_; ++i)
      if (waits[i + 1].revents != 0) read_from(peers_[i]);
  }
}

void Control::read_from(Peer& peer) {
  char block[4096];
  const ssize_t got = ::recv(peer.connection.get(), block, sizeof block, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got < 0) return lost(peer, system_error("its connection broke").message);
  if (got == 0) return lost(peer, "its process ended or its connection was closed");
  peer.received.append(block, static_cast<std::size_t>(got));
  wire::FrameHeader header;
  while (peer.connection.valid() && peer.received.size() >= sizeof header) {
    std::memcpy(&header, peer.received.data(), sizeof header);
    if (header.magic != wire::magic || header.bytes > most_notice_bytes)
      return lost(peer, "it sent bytes that are not Paceline's protocol");
    if (peer.received.size() < sizeof header + header.bytes) return;
    const std::string payload = peer.received.substr(sizeof header, header.bytes);
    peer.received.erase(0, sizeof header + header.bytes);
    handle(peer, static_cast<wire::FrameType>(header.type), payload);
  }
}

void Control::handle(Peer& peer, wire::FrameType type, std::string_view payload) {
  if (type == wire::FrameType::abort) {
    const auto notice = wire::decode_notice(payload);
    if (!notice.has_value()) return lost(peer, "it sent a notice that makes no sense");
    abort_.raise({static_cast<ErrorCode>(notice->code), notice->message, notice->rank});
    if (layout_.rank() == 0) send_to_all(wire::FrameType::abort, std::string(payload), peer.rank);
  } else if (type == wire::FrameType::accuse) {
    const auto notice = wire::decode_notice(payload);
    if (!notice.has_value() || layout_.rank() != 0) return lost(peer, "it sent a notice that makes no sense");
    note_accusation(peer.rank, {ErrorCode::timeout, notice->message, notice->rank});
  } else if (type == wire::FrameType::goodbye) {
    const auto goodbye = wire::decode_goodbye(payload);
    if (!goodbye.has_value() || goodbye->rank < 0 ||
        static_cast<std::size_t>(goodbye->rank) >= completed_.size())
      return lost(peer, "it sent a goodbye that makes no sense");
    note_departure(*goodbye);
    if (layout_.rank() == 0) send_to_all(wire::FrameType::goodbye, std::string(payload), peer.rank);
    if (goodbye->rank == peer.rank) disconnect(peer);
  } else {
    lost(peer, "it sent a message that has no place here");
  }
}

void Control::disconnect(Peer& peer) {
  const std::lock_guard lock(send_mutex_);
  peer.connection.reset();
}

void Control::lost(Peer& peer, const std::string& how) {
  disconnect(peer);
  abort({ErrorCode::peer_lost, concat(name_of(peer.rank), " is lost: ", how), peer.rank});
}

std::string Control::name_of(int rank) const {
  const Topology& topology = layout_.topology();
  const auto node = static_cast<std::size_t>(topology.node_of_rank[static_cast<std::size_t>(rank)]);
  return concat("rank ", rank, " on node ", topology.nodes[node]);
}

void Control::note_departure(const wire::Goodbye& goodbye) {
  {
    const std::lock_guard lock(mutex_);
    completed_[static_cast<std::size_t>(goodbye.rank)] = static_cast<std::int64_t>(goodbye.operations);
  }
  departures_ = true;
  check_departed();
}

void Control::begin(std::uint64_t operation) {
  current_ = operation;
  if (departures_) check_departed();
}

void Control::check_departed() {
  const std::uint64_t current = current_;
  Error error;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t rank = 0; rank < completed_.size() && error.message.empty(); ++rank)
      if (completed_[rank] >= 0 && current > static_cast<std::uint64_t>(completed_[rank]))
        error = {ErrorCode::peer_lost,
                 concat(name_of(static_cast<int>(rank)), " closed its communicator after ", completed_[rank],
                        " collectives, rank ", layout_.rank(), " waits in its number ", current),
                 static_cast<int>(rank)};
  }
  if (!error.message.empty()) abort(std::move(error));
}

void Control::abort(Error error) {
  const std::string notice = wire::encode(wire::Notice{static_cast<std::int32_t>(error.code), error.rank,
                                                       error.message.substr(0, most_notice_bytes / 2)});
  if (abort_.raise(std::move(error))) send_to_all(wire::FrameType::abort, notice, -1);
}

void Control::accuse(Error error) {
  if (peers_.empty()) return abort(std::move(error));
  if (layout_.rank() == 0) {
    note_accusation(0, error);
  } else {
    const std::string notice = wire::encode(wire::Notice{static_cast<std::int32_t>(error.code), error.rank,
                                                         error.message.substr(0, most_notice_bytes / 2)});
    send_to_all(wire::FrameType::accuse, notice, -1);
  }
  const Deadline verdict(steady_clock, 3 * hearing_of_accusations);
  [[maybe_unused]] const Status ignored = tcp::wait_for(abort_.fd(), POLLIN, {verdict, abort_});
  if (!abort_.raised()) abort(std::move(error));
}

void Control::note_accusation(int accuser, Error error) {
  {
    const std::lock_guard lock(mutex_);
    if (accusations_.empty()) judgement_at_ = steady_clock.now() + hearing_of_accusations;
    accusations_.push_back({accuser, std::move(error)});
  }
  ring();
}

bool Control::judgement_is_due() {
  const std::lock_guard lock(mutex_);
  return !accusations_.empty();
}

/// At rank 0: who is blamed and has not blamed anyone is the one who stands still. If all have, they wait in
/// a circle, and the first to complain is believed.
void Control::judge_when_due() {
  std::vector<Accusation> heard;
  {
    const std::lock_guard lock(mutex_);
    if (accusations_.empty() || steady_clock.now() < judgement_at_) return;
    heard.swap(accusations_);
  }
  const auto has_spoken = [&](int rank) {
    return std::ranges::any_of(heard, [&](const Accusation& a) { return a.accuser == rank; });
  };
  for (Accusation& each : heard)
    if (!has_spoken(each.error.rank)) return abort(std::move(each.error));
  abort(std::move(heard.front().error));
}

void Control::send_to_all(wire::FrameType type, const std::string& payload, int except_rank) {
  // The abort may have been raised already; what is to be said must be said all the same.
  AbortSignal never;
  if (!never.open().ok()) return;
  const Deadline deadline(steady_clock, send_timeout);
  const std::lock_guard lock(send_mutex_);
  for (const Peer& peer : peers_) {
    if (peer.rank == except_rank || !peer.connection.valid()) continue;
    [[maybe_unused]] const Status ignored =
        tcp::send_frame(peer.connection.get(), type, payload, {deadline, never});
  }
}

void Control::leave(std::uint64_t completed_operations) {
  if (!thread_.joinable()) return;
  if (!abort_.raised())
    send_to_all(wire::FrameType::goodbye, wire::encode(wire::Goodbye{layout_.rank(), completed_operations}),
                -1);
  leaving_ = true;
  ring();
  thread_.join();
}

/// Wakes the listener.
void Control::ring() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t ignored = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace paceline
