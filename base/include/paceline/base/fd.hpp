#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "paceline/base/result.hpp"

namespace paceline {

/// Owns one file descriptor and closes it. A plain int is a view: it does not own.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// The whole of a file, at most `limit_bytes` of it; an error beyond that.
[[nodiscard]] Result<std::string> read_file(const std::string& path,
                                            std::size_t limit_bytes = std::size_t{64} << 20);

/// Replaces `path` by `content`, so that a reader sees the old file or the new one and never a part:
/// written beside it, synced, renamed. `mode` is the file's permission bits.
[[nodiscard]] Status write_file_atomically(const std::string& path, std::string_view content,
                                           unsigned mode = 0644);

/// What was made, renamed or removed in the folder is so on its disk.
[[nodiscard]] Status sync_folder(const std::string& path);

/// Writes all bytes to a blocking descriptor.
[[nodiscard]] Status write_all(int fd, std::string_view bytes, std::string_view what);

}  // namespace paceline
