#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace paceline {

/// All arguments streamed one after the other into a string.
template <class... Parts>
[[nodiscard]] std::string concat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

/// A whole string as an integer in [least, greatest]; nothing if it is anything else.
[[nodiscard]] std::optional<std::int64_t> parse_integer(std::string_view text, std::int64_t least,
                                                        std::int64_t greatest);

/// `text` cut at every `separator`; "" gives one empty part.
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);

/// The candidate with the smallest edit distance to `word`, for "did you mean"; empty if none is near.
[[nodiscard]] std::string nearest(std::string_view word, std::span<const std::string> candidates);

/// Bytes for people: "1.5 MiB".
[[nodiscard]] std::string human_bytes(std::uint64_t bytes);

/// Lower-case hexadecimal of a byte string.
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);

/// Bytes of the UTF-8 sequence that `text` starts with; 0 where it starts with none (overlong forms,
/// surrogates and an empty text included).
[[nodiscard]] std::size_t utf8_length(std::string_view text) noexcept;
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

/// A name from outside, for a message: as it is where it is plain, else in double quotes with everything
/// escaped that would disturb a terminal or make the sentence hard to read: a path with a line break is
/// "a\nb".
[[nodiscard]] std::string shown(std::string_view name);

/// An environment variable, or nothing where it is unset or empty.
[[nodiscard]] std::optional<std::string> environment(const char* name);

}  // namespace paceline
