#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "operation.hpp"

namespace paceline {

/// The collectives that were begun and have not ended. One at a time is carried out, by whoever comes first:
/// the caller of a blocking one, someone who waits, or the queue's own thread.
///
/// Order: all ranks must carry them out in one order, but do not see them begun at the same time. Every
/// collective tells how many all ranks had begun by then (`agreed`); among those, which no rank can be
/// without, the one with the highest priority goes first, and beyond them it is the order of the calls.
class OperationQueue {
 public:
  /// Carries one out. `submitted`: how many this rank has begun; receives how many all ranks have, 0 if
  /// unknown.
  using Carry = std::function<Status(Request& request, std::uint64_t& submitted, bool may_spin)>;

  struct Item {
    Request request;
    std::uint64_t number = 0;  ///< in the order of the calls
    std::atomic<bool> done = false;
    Status status;  ///< valid when done
  };

  /// `background`: with a thread of its own, from the first submit() on.
  OperationQueue(Carry carry, bool background) : carry_(std::move(carry)), background_(background) {}
  ~OperationQueue();

  [[nodiscard]] Status run(const Request& request);
  [[nodiscard]] std::shared_ptr<Item> submit(const Request& request);
  [[nodiscard]] Status wait(Item& item);
  [[nodiscard]] bool idle();
  /// True, and `unless_carrying` was called, if nothing is being carried out.
  bool if_at_rest(const std::function<void()>& action);
  /// Ends what is left with `error`, and the thread. Nothing may be submitted any more.
  void close(const Error& error);

 private:
  void carry_next(std::unique_lock<std::mutex>& lock, bool may_spin);
  [[nodiscard]] Status carry(Request& request, std::unique_lock<std::mutex>& lock, bool may_spin);
  [[nodiscard]] std::shared_ptr<Item> take_next();
  void serve();

  Carry carry_;
  bool background_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Item>> pending_;  // in the order of the calls
  std::uint64_t begun_ = 0;
  std::uint64_t agreed_ = 0;
  int waiting_ = 0;
  bool carrying_ = false;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace paceline
