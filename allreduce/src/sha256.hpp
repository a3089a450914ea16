#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace paceline {

using Digest = std::array<unsigned char, 32>;

/// SHA-256 (FIPS 180-4). Here because the library must build with nothing but a compiler; for proofs and
/// keys, not for bulk data.
[[nodiscard]] Digest sha256(std::string_view bytes);
/// HMAC-SHA-256 (RFC 2104).
[[nodiscard]] Digest hmac_sha256(std::string_view key, std::string_view message);

}  // namespace paceline
