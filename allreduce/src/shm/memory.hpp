#pragma once

#include <cstddef>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline::shm {

/// A mapping of a memfd: memory without a name, gone when the last process that maps it is.
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  ~Memory();

  /// Fresh zeroed memory, in huge pages where the kernel has them; its size is sealed, so that no peer can
  /// shrink it under our feet. `descriptor` receives what peers need to map it.
  [[nodiscard]] static Result<Memory> create(std::size_t bytes, UniqueFd& descriptor);
  /// Makes the pages of the first `bytes` present, so that a lack of memory is an error here and not a SIGBUS
  /// later.
  [[nodiscard]] Status make_present(std::size_t bytes);
  /// A peer's memory, which must have exactly `bytes` bytes.
  [[nodiscard]] static Result<Memory> map(const UniqueFd& descriptor, std::size_t bytes);

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace paceline::shm
