#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace paceline {

/// Working memory that is used again and again, so that its pages are there. Used by one thread at a time.
class ScratchPool {
  using Bytes = std::vector<std::byte>;

 public:
  /// Borrowed from the pool; goes back when it is destroyed.
  class Buffer {
   public:
    Buffer() = default;
    Buffer(ScratchPool& pool, std::unique_ptr<Bytes> bytes) : pool_(&pool), bytes_(std::move(bytes)) {}
    Buffer(Buffer&&) noexcept = default;
    Buffer& operator=(Buffer&& other) noexcept {
      release();
      pool_ = other.pool_;
      bytes_ = std::move(other.bytes_);
      return *this;
    }
    ~Buffer() { release(); }
    [[nodiscard]] std::byte* data() const noexcept { return bytes_ == nullptr ? nullptr : bytes_->data(); }

   private:
    void release() {
      if (bytes_ != nullptr) pool_->idle_.push_back(std::move(bytes_));
    }
    ScratchPool* pool_ = nullptr;  // does not own; the pool outlives its buffers
    std::unique_ptr<Bytes> bytes_;
  };

  /// At least `bytes` bytes with any content.
  [[nodiscard]] Buffer take(std::size_t bytes) {
    std::unique_ptr<Bytes> taken;
    if (idle_.empty()) {
      taken = std::make_unique<Bytes>();
    } else {
      taken = std::move(idle_.back());
      idle_.pop_back();
    }
    if (taken->size() < bytes) taken->resize(bytes);
    return {*this, std::move(taken)};
  }

 private:
  std::vector<std::unique_ptr<Bytes>> idle_;
};

}  // namespace paceline
