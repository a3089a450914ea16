#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

/// Chunks in memory, the most recently used ones, within a capacity. Threads that want the same chunk share
/// one read. A capacity of nothing is allowed: then every get() reads. Thread-safe.
class ChunkCache {
 public:
  using Reader = std::function<Result<Chunk>(std::int64_t chunk)>;
  using Shared = std::shared_ptr<const Chunk>;

  ChunkCache(Reader reader, std::int64_t capacity_bytes);
  ChunkCache(const ChunkCache&) = delete;
  ChunkCache& operator=(const ChunkCache&) = delete;

  /// The chunk, read if need be. The error of a failed read goes to all who waited for it and is not kept.
  [[nodiscard]] Result<Shared> get(std::int64_t chunk);
  void set_capacity(std::int64_t bytes);
  /// From now on get() gives `aborted`, at once to those who wait for another thread's read.
  void stop();

  [[nodiscard]] std::int64_t reads() const noexcept { return reads_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t cached_bytes() const;

 private:
  /// One chunk, wanted or there. `result` is set once, when the read has ended.
  struct Entry {
    std::int64_t bytes = 0;
    std::shared_ptr<const Result<Shared>> result;
    std::list<std::int64_t>::iterator place;  // in recent_; only once read
  };

  [[nodiscard]] Result<Shared> read(std::int64_t chunk, std::unique_lock<std::mutex>& lock,
                                    std::shared_ptr<Entry> entry);
  void evict();  // with the mutex held

  const Reader reader_;
  mutable std::mutex mutex_;
  std::condition_variable read_ended_;
  std::unordered_map<std::int64_t, std::shared_ptr<Entry>> entries_;
  std::list<std::int64_t> recent_;  // most recently used first
  std::int64_t capacity_bytes_;
  std::int64_t cached_bytes_ = 0;
  std::atomic<std::int64_t> reads_ = 0;
  bool stopped_ = false;
};

}  // namespace paceline
