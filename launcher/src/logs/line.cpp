#include "logs/line.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <limits>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::string_view time_shape = "0000-00-00T00:00:00.000000Z";

bool is_time(std::string_view text) {
  if (text.size() != time_shape.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_digit = text[i] >= '0' && text[i] <= '9';
    if (time_shape[i] == '0' ? !is_digit : text[i] != time_shape[i]) return false;
  }
  return true;
}

std::optional<std::int64_t> number_after(std::string_view word, std::string_view text) {
  if (!text.starts_with(word)) return std::nullopt;
  return parse_integer(text.substr(word.size()), 0, std::numeric_limits<std::int64_t>::max());
}

/// What is between the brackets.
std::optional<LogAuthor> parse_author(std::string_view label) {
  if (const auto worker = number_after("worker ", label)) return LogAuthor{*worker, std::nullopt};
  const std::size_t comma = label.find(", ");
  const auto rank = number_after("rank ", label.substr(0, comma));
  if (!rank || comma == std::string_view::npos)
    return rank ? std::optional(LogAuthor{*rank, rank}) : std::nullopt;
  const auto worker = number_after("worker ", label.substr(comma + 2));
  return worker ? std::optional(LogAuthor{*worker, rank}) : std::nullopt;
}

/// C0 and DEL, and the bytes 0x80 to 0x9f where they are no part of a character: a terminal may take them
/// for C1.
bool is_control_byte(unsigned char letter) {
  return (letter < 0x20 && letter != '\t') || (letter >= 0x7f && letter < 0xa0);
}

/// U+0080 to U+009F.
bool is_c1(std::string_view character) {
  return character[0] == '\xc2' && static_cast<unsigned char>(character[1]) < 0xa0;
}

}  // namespace

std::string log_label(const LogAuthor& author) {
  if (!author.rank) return concat("[worker ", author.worker, "]");
  if (*author.rank == author.worker) return concat("[rank ", author.worker, "]");
  return concat("[rank ", *author.rank, ", worker ", author.worker, "]");
}

std::string log_time(std::chrono::system_clock::time_point time) {
  using std::chrono::microseconds;
  const auto since_epoch = std::chrono::floor<microseconds>(time.time_since_epoch());
  const auto seconds = std::chrono::floor<std::chrono::seconds>(since_epoch);
  const std::time_t whole = seconds.count();
  std::tm parts{};
  ::gmtime_r(&whole, &parts);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%06dZ",
                static_cast<int>((since_epoch - seconds).count()));
  return text.data();
}

std::string format_log_line(std::string_view time, const LogAuthor& author, std::string_view text) {
  std::string line(time);
  line += ' ';
  line += log_label(author);
  line += ' ';
  line += text;
  line += '\n';
  return line;
}

LogLine parse_log_line(std::string_view line) {
  const LogLine foreign{"", std::nullopt, std::string(line)};
  const std::string_view time = line.substr(0, time_shape.size());
  if (!is_time(time) || line.substr(time.size(), 2) != " [") return foreign;
  const std::string_view rest = line.substr(time.size() + 2);
  const std::size_t end = rest.find("] ");
  if (end == std::string_view::npos) return foreign;
  const std::optional<LogAuthor> author = parse_author(rest.substr(0, end));
  if (!author) return foreign;
  return {std::string(time), author, std::string(rest.substr(end + 2))};
}

std::string without_control(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(1, utf8_length(text));
    const std::string_view character = text.substr(0, length);
    const bool is_control =
        length == 1 ? is_control_byte(static_cast<unsigned char>(character[0])) : is_c1(character);
    if (is_control)
      result += '?';
    else
      result += character;
    text.remove_prefix(length);
  }
  return result;
}

void LineCutter::add(std::string_view bytes, const HandOn& hand_on) {
  while (!bytes.empty()) {
    if (bytes.front() == '\n' || bytes.front() == '\r') {
      take_end(bytes.front(), hand_on);
      bytes.remove_prefix(1);
      continue;
    }
    after_return_ = false;
    if (unfinished_.size() == longest_) hand_over(hand_on);
    const std::size_t room = longest_ - unfinished_.size();
    const std::string_view part = bytes.substr(0, std::min(room, bytes.find_first_of("\r\n")));
    unfinished_ += part;
    bytes.remove_prefix(part.size());
  }
}

void LineCutter::take_end(char letter, const HandOn& hand_on) {
  // "\r\n" is one end. Before a "\r" alone there is often nothing: progress bars begin with it.
  const bool is_return = letter == '\r';
  if (!unfinished_.empty() || !(is_return || after_return_)) hand_over(hand_on);
  after_return_ = is_return;
}

void LineCutter::end(const HandOn& hand_on) {
  if (!unfinished_.empty()) hand_over(hand_on);
}

void LineCutter::hand_over(const HandOn& hand_on) {
  hand_on(unfinished_);
  unfinished_.clear();
}

}  // namespace paceline
