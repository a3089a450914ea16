#include "stored_dataset.hpp"

#include <utility>

#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {

StoredDataset::StoredDataset(std::string folder, Manifest manifest)
    : folder_(std::move(folder)),
      manifest_(std::move(manifest)),
      slots_(std::make_unique<Slot[]>(manifest_.shards.size())) {
  std::vector<std::string> paths;
  for (const ShardEntry& entry : manifest_.shards) paths.push_back(shard_path(folder_, entry));
  for (const ShardEntry& entry : manifest_.shards) paths.push_back(values_path(folder_, entry));
  files_ = std::make_unique<OpenFiles>(std::move(paths));
}

std::size_t StoredDataset::values_file(std::size_t shard) const noexcept {
  return manifest_.shards[shard].values ? manifest_.shards.size() + shard : shard;
}

Result<std::vector<ChunkEntry>> StoredDataset::load(std::size_t shard) const {
  const ShardEntry& entry = manifest_.shards[shard];
  const std::string path = shard_path(folder_, entry);
  PACELINE_ASSIGN(OpenFiles::File file, files_->get(shard));
  Result<std::vector<ChunkEntry>> chunks = load_index(file->get(), path, manifest_, entry);
  if (chunks.ok()) return chunks;
  forget_cached(file->get(), 0, entry.bytes);
  files_->forget(shard);
  PACELINE_ASSIGN(file, files_->get(shard));
  return load_index(file->get(), path, manifest_, entry);
}

Result<std::span<const ChunkEntry>> StoredDataset::index(std::size_t shard) const {
  Slot& slot = slots_[shard];
  if (!slot.loaded.load(std::memory_order_acquire)) {
    const std::lock_guard lock(slot.mutex);
    if (!slot.loaded.load(std::memory_order_relaxed)) {
      PACELINE_ASSIGN(slot.chunks, load(shard));
      slot.loaded.store(true, std::memory_order_release);
    }
  }
  return std::span<const ChunkEntry>(slot.chunks);
}

Result<ChunkPlace> StoredDataset::place(const ChunkAddress& at) const {
  PACELINE_ASSIGN(const std::span<const ChunkEntry> chunks, index(at.shard));
  const ChunkEntry& chunk = chunks[static_cast<std::size_t>(at.chunk)];
  ChunkPlace place;
  place.bytes = chunk.stored_bytes;
  place.count = 1;
  PACELINE_ASSIGN(place.extents[0].file, files_->get(values_file(at.shard)));
  place.extents[0].offset = chunk.offset;
  place.extents[0].bytes = chunk.stored_bytes;
  const ShardEntry& entry = manifest_.shards[at.shard];
  if (!entry.values) return place;

  const std::int64_t labels_bytes = record_shape(manifest_, entry, at.chunk).labels_bytes;
  place.count = 2;
  place.extents[0].bytes -= labels_bytes;
  PACELINE_ASSIGN(place.extents[1].file, files_->get(at.shard));
  place.extents[1].offset =
      entry.labels_offset + at.chunk * entry.values->chunk_samples * std::int64_t{sizeof(std::int32_t)};
  place.extents[1].bytes = labels_bytes;
  return place;
}

Result<ByteBuffer> StoredDataset::read(const ChunkAddress& at, BufferPool& pool) const {
  PACELINE_ASSIGN(const ChunkPlace place, this->place(at));
  ByteBuffer stored = pool.take(place.bytes);
  std::int64_t done = 0;
  for (int i = 0; i < place.count; ++i) {
    const ChunkPlace::Extent& extent = place.extents[static_cast<std::size_t>(i)];
    const auto into =
        stored.span().subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(extent.bytes));
    const Status read = read_exactly(extent.file->get(), into, extent.offset, describe(at));
    if (!read.ok()) return read.error();
    done += extent.bytes;
  }
  return stored;
}

Status StoredDataset::check(const ChunkAddress& at, std::span<const std::byte> stored) const {
  PACELINE_ASSIGN(const std::span<const ChunkEntry> chunks, index(at.shard));
  const ChunkEntry& chunk = chunks[static_cast<std::size_t>(at.chunk)];
  if (static_cast<std::int64_t>(stored.size()) != chunk.stored_bytes)
    return bad_shard(describe(at),
                     concat("it has ", stored.size(), " bytes, and the index says ", chunk.stored_bytes));
  const std::uint64_t checksum = checksum_of(stored);
  if (checksum == chunk.checksum) return {};
  return bad_shard(describe(at), concat("its checksum is ", checksum_text(checksum), ", the index says ",
                                        checksum_text(chunk.checksum)));
}

Result<Chunk> StoredDataset::decode(const ChunkAddress& at, const Windows& windows, ByteBuffer stored,
                                    BufferPool& pool) const {
  PACELINE_TRY(check(at, std::as_const(stored).span()));
  const RecordShape shape = record_shape(manifest_, manifest_.shards[at.shard], at.chunk);
  Result<Chunk> chunk = decode_record(manifest_, shape, windows, std::move(stored), pool);
  if (chunk.ok()) return chunk;
  return bad_shard(describe(at), chunk.error().message);
}

void StoredDataset::forget(const ChunkAddress& at) const {
  if (slots_[at.shard].loaded) {
    const Result<ChunkPlace> known = place(at);
    for (int i = 0; known.ok() && i < known->count; ++i) {
      const ChunkPlace::Extent& extent = known->extents[static_cast<std::size_t>(i)];
      forget_cached(extent.file->get(), extent.offset, extent.bytes);
    }
  }
  files_->forget(at.shard);
  files_->forget(values_file(at.shard));
}

std::string StoredDataset::describe(const ChunkAddress& at) const {
  const std::string text = concat(values_path(folder_, manifest_.shards[at.shard]), ": chunk ", at.chunk);
  const Slot& slot = slots_[at.shard];
  if (!slot.loaded.load(std::memory_order_acquire)) return text;
  return concat(text, " at byte ", slot.chunks[static_cast<std::size_t>(at.chunk)].offset);
}

}  // namespace paceline
