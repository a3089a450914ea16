#include "paceline/base/text.hpp"

#include "paceline/page/page.hpp"

namespace paceline::page {

std::string escaped(std::string_view text) {
  std::string html;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view letter = text.substr(0, length == 0 ? 1 : length);
    const unsigned char first = static_cast<unsigned char>(letter.front());
    const bool shown_as_it_is = length > 0 && (first >= 0x20 || first == '\n' || first == '\t');
    if (!shown_as_it_is || first == 0x7f)
      html += "\xEF\xBF\xBD";
    else if (letter == "&")
      html += "&amp;";
    else if (letter == "<")
      html += "&lt;";
    else if (letter == ">")
      html += "&gt;";
    else if (letter == "\"")
      html += "&quot;";
    else if (letter == "'")
      html += "&#39;";
    else
      html += letter;
    text.remove_prefix(letter.size());
  }
  return html;
}

}  // namespace paceline::page
