#include "record.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t label_bytes = sizeof(std::int32_t);
constexpr std::int64_t length_bytes = sizeof(std::uint32_t);

/// The values decoded, with the tail behind them as it is.
Result<ByteBuffer> decoded(const Manifest& manifest, const RecordShape& shape, ByteBuffer stored,
                           BufferPool& pool) {
  const std::int64_t decoded_bytes = shape.values_bytes + shape.tail_bytes();
  if (manifest.storage == Storage::jpeg || stored.size() == decoded_bytes) return stored;
  ByteBuffer buffer = pool.take(decoded_bytes);
  const auto values = static_cast<std::size_t>(shape.values_bytes);
  const auto tail = static_cast<std::size_t>(shape.tail_bytes());
  const std::span<const std::byte> from = std::as_const(stored).span();
  PACELINE_TRY(decode_values(manifest.storage, from.first(from.size() - tail), buffer.span().first(values)));
  std::memcpy(buffer.data() + values, from.data() + from.size() - tail, tail);
  return buffer;
}

Status check_labels(const Manifest& manifest, const Chunk& chunk) {
  for (std::int64_t i = 0; i < chunk.samples(); ++i) {
    const std::int32_t label = chunk.label(i);
    if (label < 0 || label >= manifest.classes)
      return Error{ErrorCode::corrupt, concat("its sample ", i, " has the label ", label, " where there are ",
                                              manifest.classes, " classes")};
  }
  return {};
}

/// Where each sample's JPEG file begins. They fill the values, and what pads the chunk has no length.
Result<std::vector<std::int64_t>> cut_files(const ByteBuffer& record, const RecordShape& shape) {
  std::vector<std::int64_t> begins = {0};
  begins.reserve(static_cast<std::size_t>(shape.samples) + 1);
  const std::int64_t files_bytes = record.size() - shape.tail_bytes();
  for (std::int64_t i = 0; i < shape.lengths_bytes / length_bytes; ++i) {
    std::uint32_t length = 0;
    std::memcpy(&length, record.data() + files_bytes + i * length_bytes, sizeof length);
    const bool real = i < shape.samples;
    if (real != (length > 0) || length > files_bytes - begins.back())
      return Error{ErrorCode::corrupt, concat("its sample ", i, " has a JPEG file of ", length,
                                              " bytes where all of them together have ", files_bytes)};
    if (real) begins.push_back(begins.back() + length);
  }
  if (begins.back() == files_bytes) return begins;
  return Error{ErrorCode::corrupt, concat("its JPEG files have ", begins.back(), " bytes together, and ",
                                          files_bytes, " are stored")};
}

Result<Chunk> image_chunk(const Manifest& manifest, const RecordShape& shape, ByteBuffer record) {
  Chunk::Layout layout;
  layout.samples = shape.samples;
  layout.stride_bytes = layout.sample_bytes = sample_bytes(manifest);
  layout.labels_offset = record.size() - shape.labels_bytes;
  if (manifest.storage == Storage::jpeg) {
    PACELINE_ASSIGN(layout.begins, cut_files(record, shape));
  }
  Chunk chunk(std::move(record), std::move(layout));
  PACELINE_TRY(check_labels(manifest, chunk));
  return chunk;
}

Chunk token_chunk(const Manifest& manifest, const RecordShape& shape, const Windows& windows,
                  ByteBuffer record) {
  const std::int64_t token = bytes_of(manifest.type);
  // In a chunk that is not full, the token that follows moves up to where it belongs.
  std::memmove(record.data() + shape.samples * token, record.data() + shape.values_bytes,
               static_cast<std::size_t>(token));
  Chunk::Layout layout;
  layout.samples = windows_in(shape.samples, windows);
  layout.stride_bytes = windows.tokens * token;
  layout.sample_bytes = (windows.tokens + 1) * token;
  return {std::move(record), std::move(layout)};
}

}  // namespace

RecordShape record_shape(const Manifest& manifest, const ShardEntry& shard, std::int64_t chunk) noexcept {
  const std::int64_t per_chunk = samples_per_chunk(manifest, shard);
  RecordShape shape;
  shape.samples = std::min(per_chunk, shard.samples - chunk * per_chunk);
  const bool full = !shard.values || shard.values->padded;
  shape.values_bytes = (full ? per_chunk : shape.samples) * sample_bytes(manifest);
  if (manifest.kind == SampleKind::tokens)
    shape.labels_bytes = bytes_of(manifest.type);
  else
    shape.labels_bytes = (shard.values ? shape.samples : per_chunk) * label_bytes;
  if (manifest.storage == Storage::jpeg) shape.lengths_bytes = per_chunk * length_bytes;
  return shape;
}

std::int64_t largest_chunk_bytes(const Manifest& manifest) noexcept {
  std::int64_t most = manifest.largest_record_bytes;
  for (const ShardEntry& shard : manifest.shards) {
    if (manifest.storage == Storage::jpeg) break;
    const RecordShape shape = record_shape(manifest, shard, 0);
    most = std::max(most, shape.values_bytes + shape.tail_bytes());
  }
  const std::int64_t begins = manifest.storage == Storage::jpeg ? manifest.chunk_samples + 1 : 0;
  return BufferPool::capacity_for(most) + begins * std::int64_t{sizeof(std::int64_t)};
}

std::int64_t windows_in(std::int64_t chunk_tokens, const Windows& windows) noexcept {
  return (windows.last_chunk ? chunk_tokens - 1 : chunk_tokens) / windows.tokens;
}

Result<Chunk> decode_record(const Manifest& manifest, const RecordShape& shape, const Windows& windows,
                            ByteBuffer stored, BufferPool& pool) {
  PACELINE_ASSERT(stored.size() > shape.tail_bytes(), "a record has values");
  PACELINE_ASSIGN(ByteBuffer record, decoded(manifest, shape, std::move(stored), pool));
  if (manifest.kind == SampleKind::tokens) return token_chunk(manifest, shape, windows, std::move(record));
  return image_chunk(manifest, shape, std::move(record));
}

}  // namespace paceline
