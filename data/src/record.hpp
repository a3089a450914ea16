#pragma once

#include <cstdint>

#include "manifest.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

// A record is all that is stored of one chunk: its values, then with jpeg the length of each sample's file,
// then labels; or its tokens and the one that follows them.

/// The lengths of a record's parts as manifest and shard entry give them. How long the values are when they
/// are coded, only the index knows.
struct RecordShape {
  std::int64_t samples = 0;       ///< real ones; of tokens: how many tokens
  std::int64_t values_bytes = 0;  ///< decoded, with what pads them
  std::int64_t lengths_bytes = 0;
  std::int64_t labels_bytes = 0;  ///< or the following token's
  [[nodiscard]] std::int64_t tail_bytes() const noexcept { return lengths_bytes + labels_bytes; }
};
[[nodiscard]] RecordShape record_shape(const Manifest& manifest, const ShardEntry& shard,
                                       std::int64_t chunk) noexcept;
/// The most that a chunk of a dataset takes in memory.
[[nodiscard]] std::int64_t largest_chunk_bytes(const Manifest& manifest) noexcept;

/// How samples are cut out of a chunk of tokens.
struct Windows {
  std::int64_t tokens = 0;  ///< of one window
  bool last_chunk = false;  ///< of the dataset: no token follows it
};
[[nodiscard]] std::int64_t windows_in(std::int64_t chunk_tokens, const Windows& windows) noexcept;

/// A chunk from its record, whose checksum has been found right; takes `stored` over where it needs no
/// decoding. `stored` is longer than the shape's tail. `windows` is for tokens only. Errors begin in the
/// middle of a sentence.
[[nodiscard]] Result<Chunk> decode_record(const Manifest& manifest, const RecordShape& shape,
                                          const Windows& windows, ByteBuffer stored, BufferPool& pool);

}  // namespace paceline
