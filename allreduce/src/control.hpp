#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "abort_signal.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "topology.hpp"
#include "wire.hpp"

namespace paceline {

/// The connections of the meeting, kept open as a star around rank 0: by their end a lost rank is noticed,
/// and through them an abort reaches everyone. A thread of its own does nothing but listen to them.
///
///   event at a rank                 | what it does
///   --------------------------------+------------------------------------------------------------
///   own abort                       | tells the star
///   notice from the star            | aborts with it; rank 0 passes it on
///   end of stream without a goodbye | aborts: that rank is lost; rank 0 tells everyone
///   a wait that reached its deadline | tells rank 0 whom it waited for; rank 0 hears the others for a
///   moment, and
///                                   | aborts with the one who is blamed and has not spoken itself: of a
///                                   chain | of ranks that wait for each other, that is the one who stands
///                                   still
///   goodbye                         | notes how many collectives that rank completed; rank 0 passes
///                                   | it on; waiting for more of it than that is an abort
class Control {
 public:
  Control(const Layout& layout, std::vector<UniqueFd> connections, AbortSignal& abort);
  ~Control();
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

  [[nodiscard]] Status start();

  /// Called when this rank begins its `operation`-th collective: an abort if another rank has left before it.
  void begin(std::uint64_t operation);
  /// Raises the abort here and sends it to the others.
  void abort(Error error);
  /// This rank has waited in vain, and `error` says for whom. Returns when the abort is raised, with the
  /// verdict, or with `error` itself if rank 0 does not give one.
  void accuse(Error error);
  /// Says goodbye and ends the thread; call once, with no collective in progress.
  void leave(std::uint64_t completed_operations);

 private:
  struct Peer {
    int rank = 0;
    UniqueFd connection;
    std::string received;  // bytes of a frame that is not complete yet
  };

  void listen();
  void read_from(Peer& peer);
  void handle(Peer& peer, wire::FrameType type, std::string_view payload);
  void disconnect(Peer& peer);
  void lost(Peer& peer, const std::string& how);
  void note_departure(const wire::Goodbye& goodbye);
  void note_accusation(int accuser, Error error);
  [[nodiscard]] bool judgement_is_due();
  void judge_when_due();
  void ring();
  void check_departed();
  void send_to_all(wire::FrameType type, const std::string& payload, int except_rank);
  [[nodiscard]] std::string name_of(int rank) const;

  const Layout& layout_;
  AbortSignal& abort_;
  std::vector<Peer> peers_;
  std::vector<std::int64_t> completed_;  // by rank: collectives of a rank that left, -1 while it is here
  std::atomic<std::uint64_t> current_ = 0;
  std::atomic<bool> departures_ = false;  // some completed_ is not -1
  struct Accusation {
    int accuser = 0;
    Error error;
  };
  std::vector<Accusation> accusations_;  // at rank 0, to be judged at judgement_at_
  Instant judgement_at_{};
  std::mutex mutex_;       // guards completed_, accusations_ and judgement_at_
  std::mutex send_mutex_;  // one frame at a time; the listener changes connections only under it
  std::atomic<bool> leaving_ = false;
  UniqueFd wake_;
  std::thread thread_;
};

}  // namespace paceline
