#include "chunk_cache.hpp"

#include <new>
#include <utility>

namespace paceline {
namespace {

Error stopped() {
  return {ErrorCode::aborted, "the loader is being stopped"};
}

/// Never throws: whoever waits for this read would wait for ever.
Result<ChunkCache::Shared> read_shared(const ChunkCache::Reader& reader, std::int64_t chunk) {
  try {
    PACELINE_ASSIGN(Chunk read, reader(chunk));
    return ChunkCache::Shared(std::make_shared<const Chunk>(std::move(read)));
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::internal, "no memory for one more chunk: lower the data budget"};
  }
}

}  // namespace

ChunkCache::ChunkCache(Reader reader, std::int64_t capacity_bytes)
    : reader_(std::move(reader)), capacity_bytes_(capacity_bytes) {
}

Result<ChunkCache::Shared> ChunkCache::get(std::int64_t chunk) {
  std::unique_lock lock(mutex_);
  if (stopped_) return stopped();
  std::shared_ptr<Entry>& slot = entries_[chunk];
  if (slot == nullptr) {
    slot = std::make_shared<Entry>();
    return read(chunk, lock, slot);
  }
  const std::shared_ptr<Entry> entry = slot;
  if (entry->result != nullptr) {
    recent_.splice(recent_.begin(), recent_, entry->place);
    return *entry->result;
  }
  // Ends with the other thread's read, which ends with the filesystem's answer.
  read_ended_.wait(lock, [&] { return stopped_ || entry->result != nullptr; });
  if (entry->result == nullptr) return stopped();
  return *entry->result;
}

Result<ChunkCache::Shared> ChunkCache::read(std::int64_t chunk, std::unique_lock<std::mutex>& lock,
                                            std::shared_ptr<Entry> entry) {
  lock.unlock();
  const Result<Shared> result = read_shared(reader_, chunk);
  reads_.fetch_add(1, std::memory_order_relaxed);
  lock.lock();
  entry->result = std::make_shared<const Result<Shared>>(result);
  if (result.ok()) {
    const Chunk& held = **result;
    entry->bytes = static_cast<std::int64_t>(held.values.size() + held.labels.size() * sizeof(std::int64_t));
    cached_bytes_ += entry->bytes;
    recent_.push_front(chunk);
    entry->place = recent_.begin();
    evict();
  } else {
    entries_.erase(chunk);
  }
  read_ended_.notify_all();
  return result;
}

void ChunkCache::evict() {
  while (cached_bytes_ > capacity_bytes_ && !recent_.empty()) {
    const auto entry = entries_.find(recent_.back());
    cached_bytes_ -= entry->second->bytes;
    entries_.erase(entry);
    recent_.pop_back();
  }
}

void ChunkCache::set_capacity(std::int64_t bytes) {
  const std::lock_guard lock(mutex_);
  capacity_bytes_ = bytes;
  evict();
}

void ChunkCache::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  read_ended_.notify_all();
}

std::int64_t ChunkCache::cached_bytes() const {
  const std::lock_guard lock(mutex_);
  return cached_bytes_;
}

}  // namespace paceline
