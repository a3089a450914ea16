#include "links.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "introduction.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "sent.hpp"
#include "stream.hpp"

namespace paceline::tcp {
namespace {

const SteadyClock steady_clock;

class Links final : public Transport {
 public:
  Links(int wake_fd, int most_streams)
      : wake_fd_(wake_fd), streams_(most_streams), used_streams_(most_streams) {}

  void add(Stream stream) {
    const int peer = stream.peer();
    peers_[peer].streams.push_back(std::make_unique<Stream>(std::move(stream)));
  }

  void send(Transfer& transfer) override {
    Peer& peer = peers_.at(transfer.peer);
    const auto used = std::min<std::size_t>(static_cast<std::size_t>(used_streams_), peer.streams.size());
    peer.streams[peer.next++ % used]->send(transfer);
  }

  void receive(Transfer& transfer) override {
    Peer& peer = peers_.at(transfer.peer);
    peer.posted.post(transfer);
    for (const auto& stream : peer.streams) stream->reconsider();
  }

  Status progress(Duration at_most) override {
    bool moved = false;
    for (auto& [rank, peer] : peers_) {
      for (const auto& stream : peer.streams) {
        if (stream->wants_to_send()) {
          PACELINE_ASSIGN(const bool sent, stream->advance_sending());
          moved = moved || sent;
        }
        if (stream->wants_to_receive(peer.posted)) {
          PACELINE_ASSIGN(const bool received, stream->advance_receiving(peer.posted));
          moved = moved || received;
        }
      }
      const auto ended = [](const auto& stream) { return stream->ended(); };
      if (!peer.posted.empty() && std::ranges::all_of(peer.streams, ended))
        return peer.streams.front()->broken("its process ended or its connection was closed");
    }
    if (moved || at_most == Duration::zero()) return {};
    return wait(at_most);
  }

  /// Connections stay what they are as long as this lives, so that no other thread need be kept out.
  [[nodiscard]] std::vector<WireStatistics> wire_statistics() const override {
    std::vector<WireStatistics> all;
    for (const auto& [rank, peer] : peers_) {
      WireStatistics& one = all.emplace_back(WireStatistics{rank, 0, {}});
      for (const auto& stream : peer.streams) {
        const Sent sent = sent_on(stream->fd());
        one.bytes += sent.bytes;
        one.busy = std::max(one.busy, sent.busy);
      }
    }
    return all;
  }

  [[nodiscard]] std::string name() const override { return "tcp"; }
  [[nodiscard]] int streams() const override { return streams_; }
  void use_streams(int count) override {
    used_streams_ = std::clamp(count, 1, streams_);
    for (auto& [rank, peer] : peers_) {
      peer.next = 0;
      for (const auto& stream : peer.streams) stream->count_blocks_anew();
    }
  }

  /// A peer's blocks go to its streams in turn. If one has given less than the next, or the first two more
  /// than the last, then something is left in it that nobody expected.
  Status end_collective() override {
    for (const auto& [rank, peer] : peers_) {
      const auto used = std::min<std::size_t>(static_cast<std::size_t>(used_streams_), peer.streams.size());
      const std::uint64_t first = peer.streams.front()->blocks_received();
      std::uint64_t before = first;
      for (std::size_t i = 1; i < used; ++i) {
        const std::uint64_t here = peer.streams[i]->blocks_received();
        if (here > before || here + 1 < first)
          return Error{ErrorCode::mismatch,
                       concat("ranks do not call the same collective: rank ", rank,
                              " has sent data that this rank did not expect, in this one or one before"),
                       rank};
        before = here;
      }
    }
    return {};
  }

 private:
  struct Peer {
    std::vector<std::unique_ptr<Stream>> streams;
    PostedReceives posted;
    std::size_t next = 0;  // stream for the next block out
  };

  Status wait(Duration at_most) {
    waits_.assign(1, {wake_fd_, POLLIN, 0});
    for (const auto& [rank, peer] : peers_) {
      for (const auto& stream : peer.streams) {
        const bool out = stream->wants_to_send();
        const bool in = stream->wants_to_receive(peer.posted);
        if (out || in)
          waits_.push_back({stream->fd(), static_cast<short>((out ? POLLOUT : 0) | (in ? POLLIN : 0)), 0});
      }
    }
    const auto ns = at_most.count();
    const timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
    if (::ppoll(waits_.data(), waits_.size(), &limit, nullptr) < 0 && errno != EINTR)
      return system_error("poll");
    return {};
  }

  int wake_fd_;
  int streams_;
  int used_streams_;
  std::map<int, Peer> peers_;  // by rank
  std::vector<pollfd> waits_;
};

/// Makes the connections of one rank to all its peers.
class Linker {
 public:
  Linker(const Layout& layout, const LinkOptions& options, const Patience& patience)
      : layout_(layout),
        options_(options),
        patience_(patience),
        links_(std::make_unique<Links>(patience.abort.fd(), options.streams)) {}

  Status connect(int peer, const wire::Hello& place) {
    const auto context = [&](const Error& error) {
      Error with = error.with_context(concat("rank ", peer, " on node ", place.node_name));
      with.rank = peer;
      return with;
    };
    for (int stream = 0; stream < options_.streams; ++stream) {
      auto connection = connect_to(place.host, place.port, patience_);
      if (!connection.ok()) return context(connection.error());
      const std::string self = wire::encode(wire::LinkHello{options_.generation, layout_.rank()});
      auto keys = introduce(connection->get(), wire::FrameType::link, self, options_.secret, patience_);
      if (!keys.ok()) return context(keys.error());
      PACELINE_TRY(add(peer, std::move(*connection), keys->to_acceptor, keys->to_connector));
    }
    return {};
  }

  void expect(int peer) { awaited_[peer] = options_.streams; }

  Status accept_all(const UniqueFd& listener) {
    while (!awaited_.empty()) {
      auto connection = accept_from(listener.get(), patience_);
      if (!connection.ok()) {
        const int peer = awaited_.begin()->first;
        Error error = connection.error().with_context(concat("waiting for the connection of rank ", peer));
        if (error.rank < 0) error.rank = peer;
        return error;
      }
      PACELINE_TRY(admit(std::move(*connection)));
    }
    return {};
  }

  [[nodiscard]] std::unique_ptr<Transport> take() { return std::move(links_); }

 private:
  /// A stranger is refused and disturbs nobody.
  Status admit(UniqueFd connection) {
    const Deadline soon(steady_clock, std::min<Duration>(std::chrono::seconds(2), patience_.deadline.left()));
    auto heard = hear_introduction(connection.get(), options_.secret, {soon, patience_.abort});
    const auto hello = heard.ok() && heard->type == wire::FrameType::link
                           ? wire::decode_link_hello(heard->payload)
                           : std::nullopt;
    if (!hello.has_value() || hello->generation != options_.generation || !awaited_.contains(hello->rank)) {
      log(LogLevel::warning, "refused a connection that is not a rank of this job");
      return patience_.abort.status();
    }
    PACELINE_TRY(add(hello->rank, std::move(connection), heard->keys.to_connector, heard->keys.to_acceptor));
    if (--awaited_[hello->rank] == 0) awaited_.erase(hello->rank);
    return {};
  }

  Status add(int peer, UniqueFd connection, const Digest& sending_key, const Digest& receiving_key) {
    std::unique_ptr<Cipher> cipher;
    if (options_.encrypt) {
      PACELINE_ASSIGN(cipher, Cipher::make(sending_key, receiving_key));
    }
    links_->add({layout_.rank(), peer, std::move(connection), std::move(cipher)});
    return {};
  }

  const Layout& layout_;
  const LinkOptions& options_;
  const Patience& patience_;
  std::unique_ptr<Links> links_;
  std::map<int, int> awaited_;  // connections by rank
};

}  // namespace

Result<std::unique_ptr<Transport>> make_links(const Layout& layout, const std::vector<wire::Hello>& roster,
                                              const UniqueFd& data_listener, const LinkOptions& options,
                                              const Deadline& deadline, const AbortSignal& abort) {
  const Patience patience{deadline, abort};
  Linker linker(layout, options, patience);
  for (const int peer : layout.linked_ranks()) {
    if (peer > layout.rank())
      linker.expect(peer);
    else
      PACELINE_TRY(linker.connect(peer, roster[static_cast<std::size_t>(peer)]));
  }
  PACELINE_TRY(linker.accept_all(data_listener));
  return linker.take();
}

}  // namespace paceline::tcp
