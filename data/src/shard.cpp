#include "shard.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"
#include "record.hpp"

namespace paceline {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read as they are");

constexpr std::int64_t label_bytes = sizeof(std::int32_t);

Status check_file(const std::string& path, std::int64_t bytes) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR)
      return Error{ErrorCode::not_found,
                   concat(path, " is missing; restore the file or import the dataset again")};
    return system_error(concat("cannot stat ", path));
  }
  if (!S_ISREG(status.st_mode)) return bad_shard(path, "it is not a regular file");
  if (status.st_size == bytes) return {};
  const char* why = status.st_size < bytes ? "it was truncated" : "it was written to since";
  return bad_shard(path,
                   concat("it has ", status.st_size, " bytes, and the manifest says ", bytes, ": ", why));
}

bool overlap(const FileRange& a, const FileRange& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

FileRange index_range(const Manifest& manifest, const ShardEntry& entry) {
  return {entry.index_offset, chunks_in(manifest, entry) * std::int64_t{sizeof(IndexRow)}};
}

FileRange labels_range(const ShardEntry& entry) {
  return {entry.labels_offset, entry.samples * label_bytes};
}

/// The index must lie outside of the records, or no checksum would cover it.
Status check_labels_table(const std::string& path, const Manifest& manifest, const ShardEntry& entry) {
  if (!entry.values) return {};
  const FileRange labels = labels_range(entry);
  if (labels.bytes > entry.bytes - labels.offset)
    return bad_shard(path, "its labels would reach beyond the file's end");
  if (overlap(labels, index_range(manifest, entry)))
    return bad_shard(path, "its labels and its index overlap");
  return {};
}

/// Whether the lengths in an index row can be those of a record of this shape.
bool lengths_fit(const IndexRow& row, const Manifest& manifest, const RecordShape& shape) {
  const auto tail = static_cast<std::uint64_t>(shape.tail_bytes());
  const auto decoded = static_cast<std::uint64_t>(shape.values_bytes) + tail;
  switch (manifest.storage) {
    case Storage::raw: return row.stored_bytes == decoded && row.raw_bytes == decoded;
    case Storage::zstd:
    case Storage::lz4:
      return row.stored_bytes > tail && row.stored_bytes <= decoded && row.raw_bytes == decoded;
    case Storage::jpeg:
      return row.stored_bytes > tail && row.raw_bytes == row.stored_bytes &&
             row.stored_bytes <= static_cast<std::uint64_t>(manifest.largest_record_bytes);
    case Storage::deflate:  // may have grown by what zlib adds to bytes that can't be compressed
      return row.stored_bytes > tail && row.stored_bytes <= decoded + decoded / 64 + 64 &&
             row.raw_bytes == decoded;
  }
  return false;
}

/// One row after the other, each checked against the manifest and the rows before it.
class IndexChecker {
 public:
  IndexChecker(const std::string& path, const Manifest& manifest, const ShardEntry& entry)
      : path_(path), manifest_(manifest), entry_(entry), index_(index_range(manifest, entry)) {}

  Result<ChunkEntry> check(std::int64_t chunk, const IndexRow& row) {
    const RecordShape shape = record_shape(manifest_, entry_, chunk);
    if (!lengths_fit(row, manifest_, shape))
      return bad(chunk, concat("the index says ", row.stored_bytes, " stored and ", row.raw_bytes,
                               " raw bytes, and ", to_string(manifest_.storage), " chunks decode to ",
                               shape.values_bytes + shape.tail_bytes()));
    ChunkEntry entry;
    entry.stored_bytes = static_cast<std::int64_t>(row.stored_bytes);  // about 1 GiB at the most
    entry.checksum = row.checksum;
    // In a file of someone else, only the values lie at the offset.
    const std::int64_t bytes = entry.stored_bytes - (entry_.values ? shape.labels_bytes : 0);
    const std::int64_t file_bytes = entry_.values ? entry_.values->bytes : entry_.bytes;
    if (bytes > file_bytes || row.offset > static_cast<std::uint64_t>(file_bytes - bytes))
      return bad(chunk, concat("the index puts it at byte ", row.offset, ", beyond the file's end"));
    entry.offset = static_cast<std::int64_t>(row.offset);
    if (entry_.values) return entry;
    if (entry.offset < free_from_)
      return bad(chunk, concat("the index puts it at byte ", entry.offset,
                               ", before the end of the chunk before it at ", free_from_));
    if (overlap({entry.offset, bytes}, index_)) return bad(chunk, "it overlaps the index");
    free_from_ = entry.offset + bytes;
    return entry;
  }

 private:
  [[nodiscard]] Error bad(std::int64_t chunk, std::string_view what) const {
    return bad_shard(concat(path_, ": chunk ", chunk), what);
  }

  const std::string& path_;
  const Manifest& manifest_;
  const ShardEntry& entry_;
  const FileRange index_;
  std::int64_t free_from_ = 0;
};

/// A file that is mostly neither records nor index is not one of ours; reading it all could take for ever.
Status check_overhead(const std::string& path, const ShardEntry& entry, std::size_t chunks,
                      std::span<const FileRange> records) {
  std::int64_t other = entry.bytes;
  for (const FileRange& range : records) other -= range.bytes;
  const std::int64_t most = (std::int64_t{16} << 20) + static_cast<std::int64_t>(chunks) * 512;
  if (other <= most) return {};
  return bad_shard(path, concat(other, " of its bytes belong to no chunk"));
}

}  // namespace

Error bad_shard(const std::string& path, std::string_view what) {
  return {ErrorCode::corrupt, concat(path, ": ", what, "; restore the file or import the dataset again")};
}

std::string shard_path(const std::string& folder, const ShardEntry& entry) {
  return concat(folder, "/", entry.file);
}

std::string values_path(const std::string& folder, const ShardEntry& entry) {
  if (!entry.values) return shard_path(folder, entry);
  return entry.values->file.starts_with('/') ? entry.values->file : concat(folder, "/", entry.values->file);
}

Status check_files(const std::string& folder, const ShardEntry& entry) {
  PACELINE_TRY(check_file(shard_path(folder, entry), entry.bytes));
  if (!entry.values) return {};
  return check_file(values_path(folder, entry), entry.values->bytes);
}

Status read_exactly(int fd, std::span<std::byte> into, std::int64_t offset, const std::string& path) {
  while (!into.empty()) {
    const ssize_t got = ::pread(fd, into.data(), into.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error(concat("cannot read ", path, " at byte ", offset));
    if (got == 0) return bad_shard(path, concat("it ends at byte ", offset, " and should go on"));
    into = into.subspan(static_cast<std::size_t>(got));
    offset += got;
  }
  return {};
}

void forget_cached(int fd, std::int64_t offset, std::int64_t bytes) noexcept {
  // The kernel keeps pages that are only partly in the range.
  constexpr std::int64_t page = 65536;
  const std::int64_t begin = offset / page * page;
  ::posix_fadvise(fd, begin, offset + bytes + page - begin, POSIX_FADV_DONTNEED);
}

std::vector<FileRange> record_ranges(const ShardEntry& entry, std::span<const ChunkEntry> chunks) {
  if (entry.values) return {labels_range(entry)};
  std::vector<FileRange> ranges;
  ranges.reserve(chunks.size());
  for (const ChunkEntry& chunk : chunks) ranges.push_back({chunk.offset, chunk.stored_bytes});
  return ranges;
}

Result<std::uint64_t> checksum_metadata(int fd, const std::string& path, std::span<const FileRange> records,
                                        std::int64_t file_bytes) {
  RunningChecksum checksum;
  std::vector<std::byte> block(std::size_t{64} << 10);
  const auto add = [&](std::int64_t begin, std::int64_t end) -> Status {
    while (begin < end) {
      const auto bytes = std::min(static_cast<std::size_t>(end - begin), block.size());
      PACELINE_TRY(read_exactly(fd, std::span(block).first(bytes), begin, path));
      checksum.add(std::span(block).first(bytes));
      begin += static_cast<std::int64_t>(bytes);
    }
    return {};
  };
  std::int64_t begin = 0;
  for (const FileRange& range : records) {
    PACELINE_TRY(add(begin, range.offset));
    begin = range.offset + range.bytes;
  }
  PACELINE_TRY(add(begin, file_bytes));
  return checksum.value();
}

Result<std::vector<ChunkEntry>> load_index(int fd, const std::string& path, const Manifest& manifest,
                                           const ShardEntry& entry) {
  PACELINE_TRY(check_labels_table(path, manifest, entry));
  std::vector<IndexRow> rows(static_cast<std::size_t>(chunks_in(manifest, entry)));
  PACELINE_TRY(read_exactly(fd, std::as_writable_bytes(std::span(rows)), entry.index_offset, path));
  std::vector<ChunkEntry> chunks;
  chunks.reserve(rows.size());
  IndexChecker checker(path, manifest, entry);
  for (const IndexRow& row : rows) {
    PACELINE_ASSIGN(const ChunkEntry chunk, checker.check(static_cast<std::int64_t>(chunks.size()), row));
    chunks.push_back(chunk);
  }
  const std::vector<FileRange> records = record_ranges(entry, chunks);
  PACELINE_TRY(check_overhead(path, entry, chunks.size(), records));
  PACELINE_ASSIGN(const std::uint64_t checksum, checksum_metadata(fd, path, records, entry.bytes));
  if (checksum == entry.metadata_checksum) return chunks;
  return bad_shard(path, concat("the checksum of its index and HDF5 structures is ", checksum_text(checksum),
                                ", and the manifest says ", checksum_text(entry.metadata_checksum)));
}

}  // namespace paceline
