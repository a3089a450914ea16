#include "paceline/base/fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "paceline/base/text.hpp"

namespace paceline {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<std::string> read_file(const std::string& path, std::size_t limit_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) {
    Error error = system_error(concat("cannot open ", shown(path)));
    if (errno == ENOENT) error.code = ErrorCode::not_found;
    return error;
  }
  std::string content;
  char block[65536];
  while (true) {
    const ssize_t got = ::read(fd.get(), block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", shown(path)));
    if (got == 0) return content;
    content.append(block, static_cast<std::size_t>(got));
    if (content.size() > limit_bytes)
      return Error{ErrorCode::corrupt, concat(shown(path), " is larger than ", human_bytes(limit_bytes))};
  }
}

Status write_all(int fd, std::string_view bytes, std::string_view what) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return system_error(concat("cannot write ", what));
    bytes.remove_prefix(static_cast<std::size_t>(put));
  }
  return {};
}

Status write_file_atomically(const std::string& path, std::string_view content, unsigned mode) {
  const std::string partial = concat(path, ".partial-", ::getpid());
  UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  if (!fd.valid()) return system_error(concat("cannot create ", partial));
  Status written = write_all(fd.get(), content, partial);
  if (written.ok() && ::fsync(fd.get()) != 0) written = system_error(concat("cannot sync ", partial));
  fd.reset();
  if (written.ok() && ::rename(partial.c_str(), path.c_str()) != 0)
    written = system_error(concat("cannot rename ", partial, " to ", path));
  if (!written.ok()) ::unlink(partial.c_str());
  return written;
}

Status sync_folder(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return system_error(concat("cannot open ", path));
  // Some filesystems can't sync a folder and say EINVAL; there its entries need none.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return system_error(concat("cannot sync ", path));
  return {};
}

}  // namespace paceline
