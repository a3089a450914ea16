#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace paceline {

class BufferPool;

/// Bytes that belong to one owner, of any content at first. Goes back to its pool, which it keeps alive, when
/// it is destroyed; from any thread.
class ByteBuffer {
 public:
  ByteBuffer() = default;
  ByteBuffer(ByteBuffer&& other) noexcept;
  ByteBuffer& operator=(ByteBuffer&& other) noexcept;
  ~ByteBuffer();

  [[nodiscard]] std::byte* data() noexcept { return data_; }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::int64_t size() const noexcept { return size_; }
  /// What it takes in memory: at least its size.
  [[nodiscard]] std::int64_t capacity() const noexcept { return capacity_; }
  [[nodiscard]] std::span<std::byte> span() noexcept { return {data_, static_cast<std::size_t>(size_)}; }
  [[nodiscard]] std::span<const std::byte> span() const noexcept {
    return {data_, static_cast<std::size_t>(size_)};
  }

 private:
  friend class BufferPool;
  struct Pool;

  std::byte* data_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t capacity_ = 0;
  std::shared_ptr<Pool> pool_;  ///< null where there are no bytes
};

/// Memory of chunks, recycled: fresh pages for every chunk would cost more than reading it from a fast disk.
/// Thread-safe. Buffers may outlive the pool.
class BufferPool {
 public:
  /// Handed out and kept unused, buffers take at most `limit_bytes` together, or what is handed out alone
  /// where that is more: take() does not refuse. What comes back beyond that goes to the system.
  explicit BufferPool(std::int64_t limit_bytes);

  /// A buffer of `bytes` bytes, aligned to a page. Throws std::bad_alloc where there is no memory.
  [[nodiscard]] ByteBuffer take(std::int64_t bytes);
  /// What a buffer of `bytes` bytes takes in memory: at most an eighth more, or a page, so that chunks of
  /// nearly one size use each other's memory.
  [[nodiscard]] static std::int64_t capacity_for(std::int64_t bytes) noexcept;
  /// What lies in unused buffers.
  [[nodiscard]] std::int64_t kept_bytes() const;

 private:
  std::shared_ptr<ByteBuffer::Pool> pool_;
};

}  // namespace paceline
