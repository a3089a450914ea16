#include "text_pieces.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <memory>

#include "dataset_folder.hpp"
#include "dataset_writer.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t piece_bytes = std::int64_t{4} << 20;
constexpr std::int64_t line_break_window = std::int64_t{64} << 10;
// A compressed file is decompressed in memory.
constexpr std::size_t decompressed_limit = std::size_t{1} << 30;

bool is_compressed(const std::string& path) {
  return path.ends_with(".gz");
}

/// Where a text may be cut: after the first line break in `window`, which begins one byte before the place
/// that is wanted, or else between two characters there. An offset from that place.
std::int64_t cut_offset(std::string_view window) {
  const std::size_t line_break = window.find('\n');
  if (line_break != std::string_view::npos) return static_cast<std::int64_t>(line_break);
  std::int64_t offset = 0;
  for (std::size_t at = 1; at < window.size() && offset < 3; ++at, ++offset)
    if ((static_cast<unsigned char>(window[at]) & 0xc0) != 0x80) break;
  return offset;
}

struct Close {
  void operator()(gzFile_s* file) const noexcept { ::gzclose(file); }
};

Result<std::string> decompress(const std::string& path) {
  const std::unique_ptr<gzFile_s, Close> file(::gzopen(path.c_str(), "rbe"));
  if (file == nullptr) return system_error(concat("cannot open ", shown(path)));
  ::gzbuffer(file.get(), 1U << 17);
  std::string text;
  while (true) {
    constexpr std::size_t block = std::size_t{1} << 18;
    const std::size_t before = text.size();
    text.resize(before + block);
    errno = 0;
    const int got = ::gzread(file.get(), text.data() + before, block);
    int code = Z_OK;
    const char* what = ::gzerror(file.get(), &code);
    if (code == Z_ERRNO) return system_error(concat("cannot read ", shown(path)));
    if (code == Z_BUF_ERROR)
      return Error{ErrorCode::corrupt, concat(shown(path), ": its gzip stream is truncated")};
    if (got < 0)
      return Error{ErrorCode::corrupt, concat(shown(path), ": its gzip stream is damaged (", what, ")")};
    text.resize(before + static_cast<std::size_t>(got));
    if (got == 0) return text;
    if (text.size() > decompressed_limit)
      return Error{ErrorCode::unsupported,
                   concat(shown(path), " has more than ", human_bytes(decompressed_limit),
                          " of text: decompress it, so that it can be read in pieces")};
  }
}

/// Where the fraction of a text in memory ends.
std::size_t cut_at(std::string_view text, double fraction) {
  const auto wanted = static_cast<std::size_t>(std::llround(static_cast<double>(text.size()) * fraction));
  if (wanted == 0 || wanted >= text.size()) return std::min(wanted, text.size());
  return wanted + static_cast<std::size_t>(cut_offset(text.substr(wanted - 1, line_break_window)));
}

Status read_at(const UniqueFd& fd, const std::string& path, std::int64_t offset, std::string& into) {
  std::size_t done = 0;
  while (done < into.size()) {
    const ssize_t got =
        ::pread(fd.get(), into.data() + done, into.size() - done, offset + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", shown(path)));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  into.resize(done);
  return {};
}

/// The border that belongs to place `wanted` of a file: the same whichever piece asks.
Result<std::int64_t> border(const UniqueFd& fd, const TextDocument& document, std::int64_t wanted) {
  if (wanted <= 0 || wanted >= document.bytes) return std::clamp<std::int64_t>(wanted, 0, document.bytes);
  std::string window(line_break_window, '\0');
  PACELINE_TRY(read_at(fd, document.path, wanted - 1, window));
  return std::min(document.bytes, wanted + cut_offset(window));
}

/// Whole files, by a hash of the name; with at least one on either side.
void divide_files(std::vector<std::pair<std::string, TextDocument>> named, double test_fraction,
                  TextSplit& split) {
  for (auto& [name, document] : named)
    (falls_to_test(name, test_fraction) ? split.test : split.train).push_back(document);
  if (test_fraction <= 0) return;
  const auto move_last = [](std::vector<TextDocument>& from, std::vector<TextDocument>& to) {
    to.push_back(std::move(from.back()));
    from.pop_back();
  };
  if (split.test.empty()) move_last(split.train, split.test);
  if (split.train.empty()) move_last(split.test, split.train);
}

}  // namespace

Result<TextSplit> find_texts(const std::vector<std::string>& sources, double test_fraction) {
  std::vector<std::pair<std::string, TextDocument>> named;
  for (const std::string& given : sources) {
    const std::string source = without_trailing_slashes(given);  // names must not depend on them
    PACELINE_ASSIGN(const std::vector<ListedFile> files, list_files(source));
    for (const ListedFile& file : files) {
      std::string name =
          file.path == source ? source.substr(source.rfind('/') + 1) : file.path.substr(source.size());
      named.push_back({std::move(name), {file.path, file.bytes, 0, 1}});
    }
    if (files.empty())
      return Error{ErrorCode::not_found,
                   concat("there are no files in ", shown(source), ": give text files, or folders of them")};
  }
  TextSplit split;
  if (named.size() == 1) {
    TextDocument document = named[0].second;
    document.to = 1 - test_fraction;
    split.train.push_back(document);
    document.from = document.to;
    document.to = 1;
    if (test_fraction > 0) split.test.push_back(document);
    return split;
  }
  divide_files(std::move(named), test_fraction, split);
  shuffle_always_alike(split.train);
  shuffle_always_alike(split.test);
  return split;
}

std::vector<TextPiece> cut_texts(const std::vector<TextDocument>& documents) {
  std::vector<TextPiece> pieces;
  for (const TextDocument& document : documents) {
    const auto place = [&](double fraction) {
      return static_cast<std::int64_t>(std::llround(static_cast<double>(document.bytes) * fraction));
    };
    const std::int64_t begin = place(document.from);
    const std::int64_t end = place(document.to);
    if (is_compressed(document.path)) {
      pieces.push_back({&document, 0, 0, true, end - begin});
      continue;
    }
    for (std::int64_t at = begin; at < end; at += piece_bytes) {
      const std::int64_t until = std::min(end, at + piece_bytes);
      pieces.push_back({&document, at, until, until == end, until - at});
    }
  }
  return pieces;
}

Result<std::string> read_piece(const TextPiece& piece) {
  const TextDocument& document = *piece.document;
  if (is_compressed(document.path)) {
    PACELINE_ASSIGN(std::string text, decompress(document.path));
    if (document.from <= 0 && document.to >= 1) return text;
    const std::size_t begin = cut_at(text, document.from);
    return text.substr(begin, cut_at(text, document.to) - begin);
  }
  const UniqueFd fd(::open(document.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return system_error(concat("cannot open ", shown(document.path)));
  PACELINE_ASSIGN(const std::int64_t begin, border(fd, document, piece.begin));
  PACELINE_ASSIGN(const std::int64_t end, border(fd, document, piece.end));
  std::string text(static_cast<std::size_t>(std::max<std::int64_t>(0, end - begin)), '\0');
  PACELINE_TRY(read_at(fd, document.path, begin, text));
  return text;
}

}  // namespace paceline
