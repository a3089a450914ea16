#include "shard_writer.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "checksum.hpp"
#include "paceline/base/assert.hpp"
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

Result<ShardWriter> ShardWriter::create(const SpaceReport& report, const std::string& folder,
                                        const std::string& file, const Manifest& manifest,
                                        std::int64_t samples) {
  ShardWriter writer(report, concat(folder, "/", file));
  writer.entry_.file = file;
  writer.entry_.samples = samples;
  ShardShape& shape = writer.shape_;
  shape.sample_shape = manifest.sample_shape;
  shape.samples = samples;
  shape.chunk_samples = samples_per_chunk(manifest, writer.entry_);
  shape.chunks = chunks_in(manifest, writer.entry_);
  shape.chunk_bytes = shape.chunk_samples * manifest.sample_bytes;
  writer.fd_.reset(::open(writer.path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!writer.fd_.valid()) return report.error(concat("cannot create ", writer.path_), errno);
  PACELINE_TRY(writer.make_room());
  return writer;
}

/// Structures first, then room for all data where the filesystem can promise it, rather than a failure after
/// minutes.
Status ShardWriter::make_room() {
  const std::int64_t table_bytes =
      shape_.samples * std::int64_t{sizeof(std::int32_t)} + shape_.chunks * std::int64_t{sizeof(IndexRow)};
  // A file-size limit holds for files in memory too, so this tells before the HDF5 library meets it.
  if (::ftruncate(fd_.get(), shape_.chunks * shape_.chunk_bytes + table_bytes + skeleton_most_bytes) != 0)
    return report_.error(concat("cannot make room for ", path_), errno);
  PACELINE_ASSIGN(const ShardSkeleton skeleton, make_skeleton(shape_));
  layout_ = skeleton.layout;
  entry_.bytes = skeleton.bytes;
  entry_.labels_offset = layout_.labels_offset;
  entry_.index_offset = layout_.index_offset;
  if (::ftruncate(fd_.get(), entry_.bytes) != 0)
    return report_.error(concat("cannot make room for ", path_), errno);
  int result = 0;
  do result = ::fallocate(fd_.get(), 0, 0, entry_.bytes);
  while (result != 0 && errno == EINTR);
  if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
    return report_.error(concat("cannot make room for ", path_), errno);
  return copy_structures(skeleton);
}

/// Copies what is neither values, labels nor index: those are holes in the skeleton.
Status ShardWriter::copy_structures(const ShardSkeleton& skeleton) const {
  std::array<std::array<std::int64_t, 2>, 3> holes = {
      {{layout_.values_offset, shape_.chunks * shape_.chunk_bytes},
       {layout_.labels_offset, shape_.samples * std::int64_t{sizeof(std::int32_t)}},
       {layout_.index_offset, shape_.chunks * std::int64_t{sizeof(IndexRow)}}}};
  std::sort(holes.begin(), holes.end());
  std::int64_t begin = 0;
  const auto copy_until = [&](std::int64_t end) -> Status {
    std::vector<std::byte> bytes(static_cast<std::size_t>(end - begin));
    PACELINE_TRY(read_exactly(skeleton.fd.get(), bytes, begin, path_));
    return write_at(bytes, begin);
  };
  for (const auto& [offset, hole_bytes] : holes) {
    PACELINE_TRY(copy_until(offset));
    begin = offset + hole_bytes;
  }
  return copy_until(skeleton.bytes);
}

Status ShardWriter::write_at(std::span<const std::byte> bytes, std::int64_t offset) const {
  const int error_number = write_exactly(fd_.get(), bytes, offset);
  if (error_number == 0) return {};
  return report_.error(concat("cannot write ", path_), error_number);
}

Status ShardWriter::append(std::span<const std::byte> values, std::span<const std::int32_t> labels) {
  const auto chunk = static_cast<std::int64_t>(chunks_.size());
  const std::int64_t sample_bytes = shape_.chunk_bytes / shape_.chunk_samples;
  const std::int64_t expected = std::min(shape_.chunk_samples, shape_.samples - chunk * shape_.chunk_samples);
  PACELINE_ASSERT(static_cast<std::int64_t>(labels.size()) == expected &&
                      static_cast<std::int64_t>(values.size()) == expected * sample_bytes,
                  "a chunk is full, but for the shard's last");
  ChunkEntry entry;
  entry.offset = layout_.values_offset + chunk * shape_.chunk_bytes;
  entry.stored_bytes = shape_.chunk_bytes;
  entry.samples = expected;
  if (static_cast<std::int64_t>(values.size()) == shape_.chunk_bytes) {
    entry.checksum = checksum_of(values);
    PACELINE_TRY(write_at(values, entry.offset));
  } else {
    std::vector<std::byte> padded(values.begin(), values.end());
    padded.resize(static_cast<std::size_t>(shape_.chunk_bytes));
    entry.checksum = checksum_of(padded);
    PACELINE_TRY(write_at(padded, entry.offset));
  }
  chunks_.push_back(entry);
  labels_.insert(labels_.end(), labels.begin(), labels.end());
  return {};
}

Result<ShardEntry> ShardWriter::finish() {
  PACELINE_ASSERT(static_cast<std::int64_t>(labels_.size()) == shape_.samples, "every sample was appended");
  std::vector<IndexRow> rows;
  rows.reserve(chunks_.size());
  for (const ChunkEntry& chunk : chunks_) {
    const auto bytes = static_cast<std::uint64_t>(chunk.stored_bytes);
    rows.push_back({static_cast<std::uint64_t>(chunk.offset), bytes, bytes, chunk.checksum});
  }
  PACELINE_TRY(write_at(std::as_bytes(std::span(labels_)), layout_.labels_offset));
  PACELINE_TRY(write_at(std::as_bytes(std::span(rows)), layout_.index_offset));
  if (::fsync(fd_.get()) != 0) return report_.error(concat("cannot sync ", path_), errno);
  PACELINE_ASSIGN(entry_.metadata_checksum, checksum_metadata(fd_.get(), path_, chunks_, entry_.bytes));
  return entry_;
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
