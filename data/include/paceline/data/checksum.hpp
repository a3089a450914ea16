#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace paceline {

/// XXH3-64 with seed 0: as fast as memory, and 64 bits find any damage that is not made on purpose.
[[nodiscard]] std::uint64_t checksum_of(std::span<const std::byte> bytes) noexcept;

/// The same of bytes that come in pieces.
class RunningChecksum {
 public:
  RunningChecksum();
  void add(std::span<const std::byte> bytes) noexcept;
  [[nodiscard]] std::uint64_t value() const noexcept;

 private:
  struct Free {
    void operator()(void* state) const noexcept;
  };
  std::unique_ptr<void, Free> state_;
};

/// "0x" and 16 lower-case digits, as checksums stand in manifests and messages.
[[nodiscard]] std::string checksum_text(std::uint64_t checksum);
/// The reverse; nothing for any other spelling.
[[nodiscard]] std::optional<std::uint64_t> parse_checksum(std::string_view text);

}  // namespace paceline
