#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "paceline/base/error.hpp"
#include "paceline/data/loader.hpp"

namespace paceline {

/// A request whose samples are known.
struct PlannedRequest {
  LoadRequest request;
  std::vector<std::int32_t>
      chunks;  ///< that it needs, each once, in the order in which they are first needed
  std::vector<SampleAddress> addresses;  ///< `chunk` is a place in `chunks`
  std::optional<Error> error;            ///< known before anything was read
};

/// The loader's book of what will be needed: requests in order, and the chunks in memory or on their way. It
/// decides what is read when, and what is dropped, and neither reads nor waits. Not thread-safe.
///
/// A chunk is *needed* as long as some planned request that was not delivered wants it. Chunks that are not
/// needed stay in memory until the room is wanted, those that were needed longest ago going first. Requests
/// are planned ahead as far as all their chunks fit the budget; only the first request may exceed it, or it
/// would never be delivered.
class Lookahead {
 public:
  enum class State { planned, making, made };
  struct Entry : PlannedRequest {
    std::int64_t number = 0;
    std::size_t scheduled = 0;  ///< of its chunks, those that are in memory or on their way
    std::size_t missing = 0;    ///< of those scheduled, how many are not in memory yet
    State state = State::planned;
    std::optional<Result<SampleBatch>> batch;  ///< once made
    [[nodiscard]] bool ready() const noexcept {
      return error || (scheduled == chunks.size() && missing == 0);
    }
  };
  using Shared = std::shared_ptr<const Chunk>;

  /// `chunk_bytes`: the most that a chunk takes. `samples_ahead`: plan no further than so many samples.
  Lookahead(std::int64_t chunk_bytes, std::int64_t budget_bytes, std::int64_t samples_ahead);

  /// Whether another request should be planned. Once there are enough it is false until a quarter was
  /// delivered.
  [[nodiscard]] bool wants_request();
  void add(PlannedRequest request);
  /// Schedules reads as far as there is room. True if there is something new to read.
  bool schedule();

  /// The next chunk to read, if any.
  [[nodiscard]] std::optional<std::int32_t> take_read();
  [[nodiscard]] bool has_reads() const noexcept { return !queue_.empty(); }
  void arrived(std::int32_t chunk, Shared content);
  void failed(std::int32_t chunk, const Error& error);

  [[nodiscard]] bool empty() const noexcept { return requests_.empty(); }
  [[nodiscard]] Entry& front() { return requests_.front(); }
  /// One of the first `among` requests that could be made into a batch now; null if none.
  [[nodiscard]] Entry* find_makeable(int among);
  /// The request `number`, null if it was dropped.
  [[nodiscard]] Entry* find(std::int64_t number);
  /// Its chunks. It is ready and has no error.
  [[nodiscard]] std::vector<Shared> chunks_of(const Entry& entry) const;
  /// The first request is done with.
  void deliver_front();
  /// Forgets all requests from number `from` on. None of them is being made.
  void drop_from(std::int64_t from);
  [[nodiscard]] bool making_from(std::int64_t from) const;

  [[nodiscard]] std::int64_t next_number() const noexcept {
    return first_number_ + static_cast<std::int64_t>(requests_.size());
  }
  [[nodiscard]] std::int64_t first_number() const noexcept { return first_number_; }
  [[nodiscard]] std::int64_t most_bytes_held() const noexcept { return most_held_; }

 private:
  struct Held {
    Shared content;  // null: on its way
    bool reading = false;
    std::int64_t bytes = 0;
    int needed = 0;
    std::vector<std::int64_t> waiting;           // numbers of requests
    std::list<std::int32_t>::iterator unneeded;  // its place, where needed is 0
  };

  [[nodiscard]] bool schedule_chunk(Entry& entry);
  [[nodiscard]] bool make_room(bool at_any_rate);
  void release(const Entry& entry);
  void account(std::int64_t bytes);

  const std::int64_t chunk_bytes_;
  const std::int64_t budget_bytes_;
  const std::int64_t samples_ahead_;
  std::deque<Entry> requests_;
  std::int64_t first_number_ = 0;
  std::size_t scheduled_ = 0;  // the first so many requests have all their chunks scheduled
  std::int64_t planned_samples_ = 0;
  bool filling_ = true;
  std::unordered_map<std::int32_t, Held> held_;
  std::list<std::int32_t> unneeded_;  // longest ago first
  std::deque<std::int32_t> queue_;    // to be read
  std::int64_t held_bytes_ = 0;
  std::int64_t most_held_ = 0;
};

}  // namespace paceline
