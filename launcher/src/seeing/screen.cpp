#include "seeing/screen.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline {

std::size_t columns_of(std::string_view text) {
  // Of UTF-8, all but the bytes that continue a character; of other bytes too many rather than too few.
  if (!is_utf8(text)) return text.size();
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string_view cut_to(std::string_view text, std::size_t columns) {
  if (!is_utf8(text)) return text.substr(0, columns);
  std::size_t bytes = 0;
  for (; columns > 0 && bytes < text.size(); --columns) bytes += utf8_length(text.substr(bytes));
  return text.substr(0, bytes);
}

}  // namespace paceline
