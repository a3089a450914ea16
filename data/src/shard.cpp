#include "shard.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "checksum.hpp"
#include "open_files.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian and read as they are");

constexpr std::string_view remedy = "; restore the file or import the dataset again";

Error bad_shard(const std::string& path, std::string_view what) {
  return {ErrorCode::corrupt, concat(path, ": ", what, remedy)};
}

Status check_file(int fd, const Shard& shard) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error(concat("cannot stat ", shard.path));
  if (!S_ISREG(status.st_mode)) return bad_shard(shard.path, "it is not a regular file");
  if (status.st_size == shard.entry.bytes) return {};
  const char* why = status.st_size < shard.entry.bytes ? "it was truncated" : "it was written to since";
  return bad_shard(shard.path, concat("it has ", status.st_size, " bytes, and the manifest says ",
                                      shard.entry.bytes, ": ", why));
}

bool overlap(std::int64_t a, std::int64_t a_bytes, std::int64_t b, std::int64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

/// Where the labels and the index lie. Both must be outside of the chunks, or no checksum would cover them.
struct Tables {
  std::int64_t labels_bytes = 0;
  std::int64_t index_bytes = 0;
};

Result<Tables> check_tables(const Manifest& manifest, const Shard& shard) {
  const ShardEntry& entry = shard.entry;
  const Tables tables = {entry.samples * std::int64_t{sizeof(std::int32_t)},
                         chunks_in(manifest, entry) * std::int64_t{sizeof(IndexRow)}};
  if (tables.labels_bytes > entry.bytes - entry.labels_offset)
    return bad_shard(shard.path, "its labels would reach beyond the file's end");
  if (tables.index_bytes > entry.bytes - entry.index_offset)
    return bad_shard(shard.path, "its index would reach beyond the file's end");
  if (overlap(entry.labels_offset, tables.labels_bytes, entry.index_offset, tables.index_bytes))
    return bad_shard(shard.path, "its labels and its index overlap");
  return tables;
}

Result<ChunkEntry> check_row(const IndexRow& row, const Manifest& manifest, const Shard& shard,
                             const Tables& tables) {
  const ShardEntry& entry = shard.entry;
  const std::string where = concat(shard.path, ": chunk ", shard.chunks.size());
  const std::int64_t per_chunk = samples_per_chunk(manifest, entry);
  const auto chunk_bytes = static_cast<std::uint64_t>(per_chunk * manifest.sample_bytes);
  if (row.stored_bytes != chunk_bytes || row.raw_bytes != chunk_bytes)
    return bad_shard(where, concat("the index says ", row.stored_bytes, " stored and ", row.raw_bytes,
                                   " raw bytes where raw chunks have ", chunk_bytes));
  const auto file_bytes = static_cast<std::uint64_t>(entry.bytes);
  if (chunk_bytes > file_bytes || row.offset > file_bytes - chunk_bytes)
    return bad_shard(where, concat("the index puts it at byte ", row.offset, ", beyond the file's end"));
  ChunkEntry chunk;
  chunk.offset = static_cast<std::int64_t>(row.offset);
  chunk.stored_bytes = static_cast<std::int64_t>(chunk_bytes);
  chunk.checksum = row.checksum;
  const auto before = static_cast<std::int64_t>(shard.chunks.size()) * per_chunk;
  chunk.samples = std::min(per_chunk, entry.samples - before);
  const std::int64_t free_from =
      shard.chunks.empty() ? 0 : shard.chunks.back().offset + shard.chunks.back().stored_bytes;
  if (chunk.offset < free_from)
    return bad_shard(where, concat("the index puts it at byte ", chunk.offset,
                                   ", before the end of the chunk before it at ", free_from));
  if (overlap(chunk.offset, chunk.stored_bytes, entry.labels_offset, tables.labels_bytes) ||
      overlap(chunk.offset, chunk.stored_bytes, entry.index_offset, tables.index_bytes))
    return bad_shard(where, "it overlaps the labels or the index");
  return chunk;
}

Status read_index(int fd, const Manifest& manifest, const Tables& tables, Shard& shard) {
  std::vector<IndexRow> rows(static_cast<std::size_t>(tables.index_bytes) / sizeof(IndexRow));
  PACELINE_TRY(
      read_exactly(fd, std::as_writable_bytes(std::span(rows)), shard.entry.index_offset, shard.path));
  shard.chunks.reserve(rows.size());
  for (const IndexRow& row : rows) {
    PACELINE_ASSIGN(const ChunkEntry chunk, check_row(row, manifest, shard, tables));
    shard.chunks.push_back(chunk);
  }
  return {};
}

/// A file that is mostly neither chunks nor tables is not one of ours; reading it all could take for ever.
Status check_overhead(const Tables& tables, const Shard& shard) {
  const auto chunks = static_cast<std::int64_t>(shard.chunks.size());
  const std::int64_t known =
      tables.labels_bytes + tables.index_bytes + chunks * shard.chunks.front().stored_bytes;
  const std::int64_t most = (std::int64_t{16} << 20) + chunks * 256;
  if (shard.entry.bytes - known <= most) return {};
  return bad_shard(shard.path,
                   concat(shard.entry.bytes - known, " of its bytes are neither chunks nor tables"));
}

Status read_labels(int fd, const Manifest& manifest, Shard& shard) {
  shard.labels.resize(static_cast<std::size_t>(shard.entry.samples));
  PACELINE_TRY(read_exactly(fd, std::as_writable_bytes(std::span(shard.labels)), shard.entry.labels_offset,
                            shard.path));
  const auto bad = std::find_if(shard.labels.begin(), shard.labels.end(),
                                [&](std::int32_t label) { return label < 0 || label >= manifest.classes; });
  if (bad == shard.labels.end()) return {};
  return bad_shard(shard.path, concat("sample ", bad - shard.labels.begin(), " has the label ", *bad,
                                      " where there are ", manifest.classes, " classes"));
}

Result<Shard> load_once(int fd, const std::string& path, const Manifest& manifest, const ShardEntry& entry) {
  Shard shard;
  shard.path = path;
  shard.entry = entry;
  PACELINE_TRY(check_file(fd, shard));
  PACELINE_ASSIGN(const Tables tables, check_tables(manifest, shard));
  PACELINE_TRY(read_index(fd, manifest, tables, shard));
  PACELINE_TRY(check_overhead(tables, shard));
  PACELINE_ASSIGN(const std::uint64_t checksum, checksum_metadata(fd, path, shard.chunks, entry.bytes));
  if (checksum != entry.metadata_checksum)
    return bad_shard(
        path, concat("the checksum of its index, labels and HDF5 structures is ", checksum_text(checksum),
                     ", and the manifest says ", checksum_text(entry.metadata_checksum)));
  PACELINE_TRY(read_labels(fd, manifest, shard));
  return shard;
}

}  // namespace

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

Result<std::uint64_t> checksum_metadata(int fd, const std::string& path, std::span<const ChunkEntry> chunks,
                                        std::int64_t file_bytes) {
  RunningChecksum checksum;
  std::vector<std::byte> block(std::size_t{256} << 10);
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
  for (const ChunkEntry& chunk : chunks) {
    PACELINE_TRY(add(begin, chunk.offset));
    begin = chunk.offset + chunk.stored_bytes;
  }
  PACELINE_TRY(add(begin, file_bytes));
  return checksum.value();
}

Result<Shard> load_shard(const std::string& folder, const Manifest& manifest, const ShardEntry& entry) {
  const std::string path = concat(folder, "/", entry.file);
  PACELINE_ASSIGN(UniqueFd fd, open_for_reading(path));
  Result<Shard> shard = load_once(fd.get(), path, manifest, entry);
  if (shard.ok()) return shard;
  forget_cached(fd.get(), 0, entry.bytes);
  PACELINE_ASSIGN(fd, open_for_reading(path));
  return load_once(fd.get(), path, manifest, entry);
}

Result<std::vector<std::byte>> read_stored_chunk(int fd, const Shard& shard, std::size_t chunk) {
  const ChunkEntry& entry = shard.chunks[chunk];
  std::vector<std::byte> bytes(static_cast<std::size_t>(entry.stored_bytes));
  PACELINE_TRY(read_exactly(fd, bytes, entry.offset, concat(shard.path, ": chunk ", chunk)));
  const std::uint64_t checksum = checksum_of(bytes);
  if (checksum == entry.checksum) return bytes;
  return bad_shard(shard.path,
                   concat("chunk ", chunk, " at byte ", entry.offset, ": its checksum is ",
                          checksum_text(checksum), ", the index says ", checksum_text(entry.checksum)));
}

}  // namespace paceline
