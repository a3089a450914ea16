#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace paceline {

enum class Key : std::uint8_t { quit, up, down, page_up, page_down, home, end, left, right, reverse };

/// Keys from a terminal's bytes, which may come in pieces.
class KeyReader {
 public:
  [[nodiscard]] std::vector<Key> take(std::string_view bytes);

 private:
  std::string begun_;  // of a sequence
};

}  // namespace paceline
