#include "seeing/lines.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t block_bytes = std::size_t{256} << 10;

}  // namespace

Status LineFile::open() {
  fd_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd_.valid()) return errno == ENOENT ? Status() : system_error(concat("cannot read ", shown(path_)));
  struct stat found {};
  if (::fstat(fd_.get(), &found) != 0) return system_error(concat("cannot read ", shown(path_)));
  if (S_ISDIR(found.st_mode)) {
    fd_.reset();
    return Error{ErrorCode::io, concat("cannot read ", shown(path_), ": it is a folder")};
  }
  if (last_bytes_ >= 0 && found.st_size > last_bytes_) {
    read_ = found.st_size - last_bytes_;
    passing_ = foreign_ = true;
  }
  return {};
}

Status LineFile::next(const HandOn& hand_on) {
  if (!fd_.valid()) PACELINE_TRY(open());
  if (!fd_.valid()) return {};
  std::vector<char> block(block_bytes);
  while (read_ < most_bytes_) {
    const auto wanted = static_cast<std::size_t>(std::min<std::int64_t>(most_bytes_ - read_, block_bytes));
    const ssize_t got = ::pread(fd_.get(), block.data(), wanted, read_);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", shown(path_)));
    if (got == 0) return {};
    read_ += got;
    take({block.data(), static_cast<std::size_t>(got)}, hand_on);
  }
  return {};
}

void LineFile::take(std::string_view bytes, const HandOn& hand_on) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view piece = bytes.substr(0, end);
    const bool is_whole = end != std::string_view::npos;
    if (!passing_ && begun_.size() + piece.size() > most_line_bytes) {
      passing_ = true;
      begun_.clear();
    }
    if (passing_ && is_whole) {
      too_long_ += foreign_ ? 0 : 1;
      passing_ = foreign_ = false;
    } else if (!passing_ && is_whole && begun_.empty()) {
      hand_on(piece);
    } else if (!passing_) {
      begun_ += piece;
      if (is_whole) {
        hand_on(begun_);
        begun_.clear();
      }
    }
    if (!is_whole) return;
    bytes.remove_prefix(end + 1);
  }
}

}  // namespace paceline
