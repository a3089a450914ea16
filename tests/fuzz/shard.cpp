// A shard of any bytes, under a manifest that promises things of it. The first bytes choose the manifest, and
// whether all rows of the index but one are put right; checksums are always right, so that decoding is
// reached.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../../data/src/record.hpp"
#include "../../data/src/shard.hpp"
#include "paceline/data/checksum.hpp"

using namespace paceline;

namespace {

Manifest manifest_from(const unsigned char* choice) {
  Manifest manifest;
  manifest.storage = static_cast<Storage>(choice[0] % 5);
  manifest.kind =
      choice[0] % 16 < 8 || manifest.storage > Storage::lz4 ? SampleKind::image : SampleKind::tokens;
  manifest.type =
      manifest.kind == SampleKind::image ? ElementType::u8 : static_cast<ElementType>(choice[1] % 3);
  manifest.chunk_samples = 1 + choice[2] % 20;
  manifest.classes = 10;
  manifest.vocabulary = 200;
  if (manifest.kind == SampleKind::image) manifest.sample_shape = {1 + choice[1] % 9};
  manifest.largest_record_bytes = 4096;
  return manifest;
}

ShardEntry entry_from(const unsigned char* choice, const Manifest& manifest, std::size_t bytes) {
  ShardEntry entry;
  entry.samples = 1 + choice[3] % 60;
  entry.bytes = static_cast<std::int64_t>(bytes);
  if (manifest.storage == Storage::deflate ||
      (manifest.storage == Storage::raw && choice[4] % 4 == 0 && manifest.kind == SampleKind::image)) {
    entry.values = ForeignValues{"values.h5", static_cast<std::int64_t>(bytes), "/v", 1 + choice[5] % 30,
                                 choice[4] % 2 == 0};
    entry.labels_offset = choice[6];
  }
  entry.index_offset = choice[7];
  return entry;
}

/// Rows whose records follow each other after the index, with lengths that can be. The file grows as it must.
void put_rows_right(std::vector<std::byte>& file, const unsigned char* choice, const Manifest& manifest,
                    ShardEntry& entry) {
  const std::int64_t chunks = chunks_in(manifest, entry);
  std::uint64_t offset =
      static_cast<std::uint64_t>(entry.index_offset + chunks * std::int64_t{sizeof(IndexRow)});
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const RecordShape shape = record_shape(manifest, entry, chunk);
    const auto values = static_cast<std::uint64_t>(shape.values_bytes);
    const auto tail = static_cast<std::uint64_t>(shape.tail_bytes());
    std::byte* at = file.data() + entry.index_offset + chunk * std::int64_t{sizeof(IndexRow)};
    IndexRow row;
    std::memcpy(&row, at, sizeof row);
    row.offset = offset;
    row.raw_bytes = values + tail;
    row.stored_bytes =
        manifest.storage == Storage::raw ? row.raw_bytes : tail + 1 + row.stored_bytes % values;
    if (manifest.storage == Storage::jpeg) row.raw_bytes = row.stored_bytes;
    offset += row.stored_bytes;
    if (file.size() < offset) file.resize(offset);
    at = file.data() + entry.index_offset + chunk * std::int64_t{sizeof(IndexRow)};
    if (chunk != choice[6] % (chunks + 1)) std::memcpy(at, &row, sizeof row);
  }
  entry.bytes = static_cast<std::int64_t>(file.size());
  if (entry.values) entry.values->bytes = entry.bytes;
}

/// Gives every row the checksum of what it points to, and the shard that of all else.
void sign(std::vector<std::byte>& file, const Manifest& manifest, ShardEntry& entry, int fd) {
  const std::int64_t chunks = chunks_in(manifest, entry);
  std::vector<ChunkEntry> entries;
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    std::byte* at = file.data() + entry.index_offset + chunk * std::int64_t{sizeof(IndexRow)};
    IndexRow row;
    std::memcpy(&row, at, sizeof row);
    if (row.offset < file.size() && row.stored_bytes <= file.size() - row.offset)
      row.checksum = checksum_of(std::span(file).subspan(row.offset, row.stored_bytes));
    std::memcpy(at, &row, sizeof row);
    entries.push_back(
        {static_cast<std::int64_t>(row.offset), static_cast<std::int64_t>(row.stored_bytes), 0});
  }
  if (::pwrite(fd, file.data(), file.size(), 0) != static_cast<ssize_t>(file.size())) return;
  std::int64_t end = 0;
  for (const FileRange& range : record_ranges(entry, entries)) {
    if (range.offset < end || range.bytes < 0 || range.offset > entry.bytes - range.bytes) return;
    end = range.offset + range.bytes;
  }
  const auto checksum = checksum_metadata(fd, "shard", record_ranges(entry, entries), entry.bytes);
  if (checksum.ok()) entry.metadata_checksum = *checksum;
}

void look_at(const Chunk& chunk) {
  unsigned sum = 0;
  for (std::int64_t i = 0; i < chunk.samples(); ++i) {
    for (const std::byte byte : chunk.sample(i)) sum += std::to_integer<unsigned>(byte);
    sum += static_cast<unsigned>(chunk.label(i));
  }
  volatile unsigned kept = sum;
  (void)kept;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  constexpr std::size_t choices = 8;
  if (size < choices + 1) return 0;
  static const int fd = ::memfd_create("shard", 0);
  std::vector<std::byte> file(size - choices);
  std::memcpy(file.data(), data + choices, file.size());
  const Manifest manifest = manifest_from(data);
  ShardEntry entry = entry_from(data, manifest, file.size());
  // parse_manifest() promises that the index lies in the file.
  if (entry.index_offset + chunks_in(manifest, entry) * std::int64_t{sizeof(IndexRow)} > entry.bytes)
    return 0;
  if (data[4] % 8 >= 2) put_rows_right(file, data, manifest, entry);
  if (::ftruncate(fd, static_cast<off_t>(file.size())) != 0) return 0;
  sign(file, manifest, entry, fd);
  const auto index = load_index(fd, "shard", manifest, entry);
  if (!index.ok()) return 0;
  BufferPool pool(1 << 16);
  for (std::size_t chunk = 0; chunk < index->size(); ++chunk) {
    const RecordShape shape = record_shape(manifest, entry, static_cast<std::int64_t>(chunk));
    ByteBuffer stored = pool.take((*index)[chunk].stored_bytes);
    // In files of others the labels lie elsewhere: any will do.
    std::memset(stored.data(), 0, static_cast<std::size_t>(stored.size()));
    const std::int64_t there = stored.size() - (entry.values ? shape.labels_bytes : 0);
    if (!read_exactly(fd, stored.span().first(static_cast<std::size_t>(there)), (*index)[chunk].offset,
                      "shard")
             .ok())
      __builtin_trap();  // what the index was checked for
    const Windows windows = {1 + data[1] % 5, chunk + 1 == index->size()};
    const auto decoded = decode_record(manifest, shape, windows, std::move(stored), pool);
    if (decoded.ok()) look_at(*decoded);
  }
  return 0;
}
