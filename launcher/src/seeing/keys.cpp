#include "seeing/keys.hpp"

#include <map>

namespace paceline {

std::vector<Key> KeyReader::take(std::string_view bytes) {
  static const std::map<std::string, Key, std::less<>> keys = {{"q", Key::quit},
                                                               {"Q", Key::quit},
                                                               {"\x1b[A", Key::up},
                                                               {"\x1bOA", Key::up},
                                                               {"k", Key::up},
                                                               {"\x1b[B", Key::down},
                                                               {"\x1bOB", Key::down},
                                                               {"j", Key::down},
                                                               {"\x1b[5~", Key::page_up},
                                                               {"\x1b[6~", Key::page_down},
                                                               {" ", Key::page_down},
                                                               {"\x1b[H", Key::home},
                                                               {"\x1bOH", Key::home},
                                                               {"\x1b[1~", Key::home},
                                                               {"g", Key::home},
                                                               {"\x1b[F", Key::end},
                                                               {"\x1bOF", Key::end},
                                                               {"\x1b[4~", Key::end},
                                                               {"G", Key::end},
                                                               {"\x1b[D", Key::left},
                                                               {"\x1bOD", Key::left},
                                                               {"<", Key::left},
                                                               {"\x1b[C", Key::right},
                                                               {"\x1bOC", Key::right},
                                                               {">", Key::right},
                                                               {"r", Key::reverse}};
  constexpr std::size_t longest = 4;
  std::vector<Key> pressed;
  for (const char byte : bytes) {
    if (byte == '\x1b') begun_.clear();
    begun_ += byte;
    const auto key = keys.find(begun_);
    if (key != keys.end()) pressed.push_back(key->second);
    const auto next = keys.lower_bound(begun_);
    const bool may_go_on = key == keys.end() && next != keys.end() && next->first.starts_with(begun_);
    if (!may_go_on || begun_.size() >= longest) begun_.clear();
  }
  return pressed;
}

}  // namespace paceline
