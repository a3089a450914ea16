#include "transport.hpp"

#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <cerrno>
#include <map>

#include "lane.hpp"

namespace paceline::mpi {
namespace {

const SteadyClock steady_clock;
// MPI has no descriptor to sleep on. Messages are looked for again and again, with the core offered to others
// in between, and then less and less often.
constexpr Duration spin = std::chrono::microseconds(300);
constexpr Duration shortest_nap = std::chrono::microseconds(50);
constexpr Duration longest_nap = std::chrono::milliseconds(1);

class MpiLinks final : public Transport {
 public:
  MpiLinks(std::shared_ptr<Duplicate> duplicate, int tag, const TransportContext& context, bool any_thread)
      : wake_fd_(context.wake_fd),
        any_thread_(any_thread),
        messages_(std::move(duplicate), tag, context.outer_ranks) {
    for (const int peer : context.peers) lanes_.try_emplace(peer, messages_, context.rank, peer);
  }

  void send(Transfer& transfer) override { lanes_.at(transfer.peer).send(transfer); }
  void receive(Transfer& transfer) override { lanes_.at(transfer.peer).receive(transfer); }

  Status progress(Duration at_most) override {
    PACELINE_ASSIGN(bool moved, advance());
    if (moved || at_most == Duration::zero()) return {};
    const Instant begin = steady_clock.now();
    Duration nap = shortest_nap;
    while (!moved) {
      const Duration waited = steady_clock.now() - begin;
      if (waited >= at_most) return {};
      if (waited < spin) {
        ::sched_yield();
      } else {
        PACELINE_ASSIGN(const bool woken, sleep(std::min(nap, at_most - waited)));
        if (woken) return {};
        nap = std::min(nap * 2, longest_nap);
      }
      PACELINE_ASSIGN(moved, advance());
    }
    return {};
  }

  [[nodiscard]] std::string name() const override { return "mpi"; }
  [[nodiscard]] bool belongs_to_callers() const override { return !any_thread_; }

 private:
  Result<bool> advance() {
    PACELINE_ASSIGN(bool moved, messages_.poll());
    for (auto& [peer, lane] : lanes_) {
      PACELINE_ASSIGN(const bool lane_moved, lane.advance());
      moved = moved || lane_moved;
    }
    return moved;
  }

  /// True if the communicator was aborted meanwhile.
  Result<bool> sleep(Duration at_most) const {
    pollfd wake{wake_fd_, POLLIN, 0};
    const timespec limit{at_most.count() / 1'000'000'000, at_most.count() % 1'000'000'000};
    const int ready = ::ppoll(&wake, 1, &limit, nullptr);
    if (ready < 0 && errno != EINTR) return system_error("poll");
    return ready > 0;
  }

  int wake_fd_;
  bool any_thread_;
  Messages messages_;
  std::map<int, Lane> lanes_;  // by peer; they refer to messages_
};

}  // namespace

Result<std::unique_ptr<Transport>> make_transport(std::shared_ptr<Duplicate> duplicate, int tag,
                                                  const TransportContext& context) {
  int level = MPI_THREAD_SINGLE;
  PACELINE_TRY(check(MPI_Query_thread(&level), "MPI_Query_thread"));
  return std::unique_ptr<Transport>(
      std::make_unique<MpiLinks>(std::move(duplicate), tag, context, level == MPI_THREAD_MULTIPLE));
}

}  // namespace paceline::mpi
