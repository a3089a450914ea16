#include "shard_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <vector>

#include "paceline/base/text.hpp"
#include "shard.hpp"

namespace paceline {
namespace {

/// Zero, or the errno of the write that failed.
int write_exactly(int fd, std::span<const std::byte> bytes, std::int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    if (put == 0) return ENOSPC;  // what a short write without a reason means
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += put;
  }
  return 0;
}

}  // namespace

Error SpaceReport::error(std::string_view what, int error_number) const {
  const Error plain = system_error(what, error_number);
  if (error_number != ENOSPC && error_number != EDQUOT && error_number != EFBIG) return plain;
  const std::int64_t mib = (needed_bytes >> 20) + 1;
  return {ErrorCode::io, concat("no space left while importing into ", out, ": needs about ", mib, " MiB (",
                                plain.message, "); free some, or import elsewhere")};
}

Result<UniqueFd> create_shard_file(const SpaceReport& report, const std::string& path,
                                   std::int64_t most_bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return report.error(concat("cannot create ", path), errno);
  if (::ftruncate(fd.get(), most_bytes) != 0)
    return report.error(concat("cannot make room for ", path), errno);
  return fd;
}

Status write_shard(const SpaceReport& report, const std::string& path, const UniqueFd& fd,
                   const ShardImage& image, ShardEntry& entry) {
  if (::ftruncate(fd.get(), image.bytes) != 0)
    return report.error(concat("cannot make room for ", path), errno);
  std::vector<std::byte> block(std::size_t{1} << 20);
  for (std::int64_t done = 0; done < image.bytes;) {
    const auto bytes = std::min(static_cast<std::size_t>(image.bytes - done), block.size());
    PACELINE_TRY(read_exactly(image.file.get(), std::span(block).first(bytes), done, "a shard in memory"));
    const int error_number = write_exactly(fd.get(), std::span(block).first(bytes), done);
    if (error_number != 0) return report.error(concat("cannot write ", path), error_number);
    done += static_cast<std::int64_t>(bytes);
  }
  if (::fsync(fd.get()) != 0) return report.error(concat("cannot sync ", path), errno);
  entry.bytes = image.bytes;
  entry.index_offset = image.index_offset;
  entry.labels_offset = image.labels_offset;
  PACELINE_ASSIGN(entry.metadata_checksum,
                  checksum_metadata(image.file.get(), path, record_ranges(entry, image.chunks), image.bytes));
  return {};
}

Status sync_path(const SpaceReport& report, const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return system_error(concat("cannot open ", path));
  // Some filesystems can't sync a folder and say EINVAL; there its entries need none.
  if (::fsync(fd.get()) != 0 && errno != EINVAL) return report.error(concat("cannot sync ", path), errno);
  return {};
}

Status write_new_file(const SpaceReport& report, const std::string& path, std::string_view content) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd.valid()) return report.error(concat("cannot create ", path), errno);
  const int error_number = write_exactly(fd.get(), std::as_bytes(std::span(content)), 0);
  if (error_number != 0) return report.error(concat("cannot write ", path), error_number);
  if (::fsync(fd.get()) != 0) return report.error(concat("cannot sync ", path), errno);
  // A network filesystem may tell of a full disk only here.
  if (::close(fd.release()) != 0) return report.error(concat("cannot close ", path), errno);
  return {};
}

}  // namespace paceline
