#include "paceline/data/buffer.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>

#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

constexpr std::int64_t page_bytes = 4096;

}  // namespace

struct ByteBuffer::Pool {
  explicit Pool(std::int64_t limit) : limit_bytes(limit) {}
  ~Pool() {
    for (const auto& [capacity, data] : unused) std::free(data);
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Counts a buffer as handed out. Null where no unused one is exactly of this size, so that the caller must
  /// allocate it.
  std::byte* hand_out(std::int64_t capacity) {
    const std::lock_guard lock(mutex);
    handed_out_bytes += capacity;
    const auto found = unused.find(capacity);
    if (found == unused.end()) {
      make_room(0, capacity);
      return nullptr;
    }
    std::byte* const data = found->second;
    unused.erase(found);
    kept_bytes -= capacity;
    return data;
  }

  /// `data` may be null: what could not be allocated.
  void give_back(std::byte* data, std::int64_t capacity) noexcept {
    if (!keep(data, capacity)) std::free(data);
  }

  bool keep(std::byte* data, std::int64_t capacity) noexcept {
    const std::lock_guard lock(mutex);
    handed_out_bytes -= capacity;
    if (data == nullptr || !make_room(capacity, capacity)) return false;
    try {
      unused.emplace(capacity, data);
    } catch (const std::bad_alloc&) {
      return false;
    }
    kept_bytes += capacity;
    return true;
  }

  /// Whether `more` bytes fit the limit. Unused buffers give way to them, apart from those of the size that
  /// is `wanted` now.
  bool make_room(std::int64_t more, std::int64_t wanted) noexcept {
    const auto fits = [&] { return handed_out_bytes + kept_bytes + more <= limit_bytes; };
    for (auto old = unused.begin(); old != unused.end() && !fits();) {
      if (old->first == wanted) {
        ++old;
        continue;
      }
      std::free(old->second);
      kept_bytes -= old->first;
      old = unused.erase(old);
    }
    return fits();
  }

  const std::int64_t limit_bytes;
  mutable std::mutex mutex;                        // guards the three below
  std::multimap<std::int64_t, std::byte*> unused;  // by capacity
  std::int64_t kept_bytes = 0;                     // in `unused`
  std::int64_t handed_out_bytes = 0;
};

ByteBuffer::ByteBuffer(ByteBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)),
      pool_(std::move(other.pool_)) {
}

ByteBuffer& ByteBuffer::operator=(ByteBuffer&& other) noexcept {
  ByteBuffer taken(std::move(other));
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  std::swap(capacity_, taken.capacity_);
  std::swap(pool_, taken.pool_);
  return *this;
}

ByteBuffer::~ByteBuffer() {
  if (pool_ != nullptr) pool_->give_back(data_, capacity_);
}

BufferPool::BufferPool(std::int64_t limit_bytes) : pool_(std::make_shared<ByteBuffer::Pool>(limit_bytes)) {
}

std::int64_t BufferPool::capacity_for(std::int64_t bytes) noexcept {
  const auto wanted = static_cast<std::uint64_t>(std::max(bytes, page_bytes));
  const std::uint64_t step = std::max<std::uint64_t>(std::bit_floor(wanted) / 8, page_bytes);
  return static_cast<std::int64_t>((wanted + step - 1) / step * step);
}

ByteBuffer BufferPool::take(std::int64_t bytes) {
  PACELINE_ASSERT(bytes >= 0, "a buffer has a size");
  const std::int64_t capacity = capacity_for(bytes);
  std::byte* data = pool_->hand_out(capacity);
  if (data == nullptr)
    data = static_cast<std::byte*>(
        std::aligned_alloc(static_cast<std::size_t>(page_bytes), static_cast<std::size_t>(capacity)));
  if (data == nullptr) {
    pool_->give_back(nullptr, capacity);
    throw std::bad_alloc();
  }
  ByteBuffer buffer;
  buffer.data_ = data;
  buffer.size_ = bytes;
  buffer.capacity_ = capacity;
  buffer.pool_ = pool_;
  return buffer;
}

std::int64_t BufferPool::kept_bytes() const {
  const std::lock_guard lock(pool_->mutex);
  return pool_->kept_bytes;
}

}  // namespace paceline
