#include "paceline/data/checksum.hpp"

#include <xxhash.h>
// Chooses the widest registers that the processor has: twice as fast as what every x86-64 has. The same
// values.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include <array>
#include <charconv>
#include <cstdio>

#include "paceline/base/assert.hpp"

namespace paceline {

std::uint64_t checksum_of(std::span<const std::byte> bytes) noexcept {
  return XXH3_64bits(bytes.data(), bytes.size());
}

RunningChecksum::RunningChecksum() : state_(XXH3_createState()) {
  PACELINE_ASSERT(state_ != nullptr, "no memory for a checksum's few hundred bytes");
  XXH3_64bits_reset(static_cast<XXH3_state_t*>(state_.get()));
}

void RunningChecksum::add(std::span<const std::byte> bytes) noexcept {
  XXH3_64bits_update(static_cast<XXH3_state_t*>(state_.get()), bytes.data(), bytes.size());
}

std::uint64_t RunningChecksum::value() const noexcept {
  return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state_.get()));
}

void RunningChecksum::Free::operator()(void* state) const noexcept {
  XXH3_freeState(static_cast<XXH3_state_t*>(state));
}

std::string checksum_text(std::uint64_t checksum) {
  std::array<char, 24> text{};
  std::snprintf(text.data(), text.size(), "0x%016llx", static_cast<unsigned long long>(checksum));
  return text.data();
}

std::optional<std::uint64_t> parse_checksum(std::string_view text) {
  if (text.size() != 18 || !text.starts_with("0x")) return std::nullopt;
  text.remove_prefix(2);
  if (text.find_first_not_of("0123456789abcdef") != std::string_view::npos) return std::nullopt;
  std::uint64_t checksum = 0;
  std::from_chars(text.data(), text.data() + text.size(), checksum, 16);
  return checksum;
}

}  // namespace paceline
