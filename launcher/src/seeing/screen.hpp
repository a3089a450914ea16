#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace paceline {

enum class Style : std::uint8_t {
  plain,
  bold,
  faint,
  alarm,
  title,
  data,
  forward,
  backward,
  reduce,
  commit,
  optimizer
};

/// A line of the screen: text, and how parts of it look. Without its styles it says the same.
struct ScreenLine {
  struct Span {
    std::size_t begin = 0;  ///< byte
    std::size_t length = 0;
    Style style = Style::plain;
  };
  std::string text;
  std::vector<Span> spans{};
};
using Screen = std::vector<ScreenLine>;

/// Columns that a text takes, where each character takes one.
[[nodiscard]] std::size_t columns_of(std::string_view text);
/// At most so many columns of it.
[[nodiscard]] std::string_view cut_to(std::string_view text, std::size_t columns);

}  // namespace paceline
