#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "activity.hpp"
#include "paceline/job/protocol.hpp"

namespace paceline {

/// A worker's end of its agent's socket. A thread of its own receives, so that the order to leave a
/// generation reaches a rank that waits for others, and sends heartbeats. Its members may be called from any
/// thread.
class AgentLink {
 public:
  explicit AgentLink(WorkerChannel channel) : channel_(std::move(channel)) {}
  ~AgentLink();
  AgentLink(const AgentLink&) = delete;
  AgentLink& operator=(const AgentLink&) = delete;
  void start();
  /// From now on the agent hears ten times a second that this process is there, and what activity() says.
  void send_heartbeats(bool wanted = true) noexcept { beats_ = wanted; }
  /// For the training thread.
  [[nodiscard]] Activity& activity() noexcept { return activity_; }

  [[nodiscard]] Status send(const WorkerMessage& message);
  /// The next message; nothing if none came within `timeout`; peer_lost when the agent is gone.
  [[nodiscard]] Result<std::optional<WorkerMessage>> take(Duration timeout);
  /// Whether this generation is to be left.
  [[nodiscard]] bool must_leave(std::int64_t generation) const;

  /// While it lives, an order to leave `generation` calls `interrupt` with the reason, once, from the link's
  /// thread; at once if the order has come before.
  class Interruption {
   public:
    Interruption(AgentLink& link, std::int64_t generation,
                 std::function<void(const std::string& reason)> interrupt);
    ~Interruption();
    Interruption(const Interruption&) = delete;
    Interruption& operator=(const Interruption&) = delete;

   private:
    friend class AgentLink;
    AgentLink& link_;
    std::int64_t generation_;
    std::function<void(const std::string&)> interrupt_;
  };

 private:
  void receive();
  void beat();
  void obey(const LeaveMessage& leave);

  WorkerChannel channel_;
  Activity activity_;
  std::atomic<bool> beats_ = false;
  std::mutex send_mutex_;
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable came_;
  std::deque<WorkerMessage> messages_;
  std::optional<Error> end_;
  std::int64_t leave_ = 0;  // the highest generation that is to be left
  std::deque<Interruption*> interruptions_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace paceline
