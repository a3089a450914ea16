#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "open_files.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"
#include "record.hpp"
#include "shard.hpp"

namespace paceline {

/// A chunk by its place in its shard.
struct ChunkAddress {
  std::size_t shard = 0;
  std::int64_t chunk = 0;
};

/// The shards of a dataset with their indexes, each read when it is first wanted. What Dataset and
/// verification have in common. Const members may be called from any thread at once; addresses must be right.
class StoredDataset {
 public:
  StoredDataset(std::string folder, Manifest manifest);

  [[nodiscard]] const Manifest& manifest() const noexcept { return manifest_; }
  [[nodiscard]] const std::string& folder() const noexcept { return folder_; }

  /// A shard's index. An error is not kept: the next call reads again.
  [[nodiscard]] Result<std::span<const ChunkEntry>> index(std::size_t shard) const;
  [[nodiscard]] Result<ChunkPlace> place(const ChunkAddress& at) const;
  /// The bytes of a record, unchecked.
  [[nodiscard]] Result<ByteBuffer> read(const ChunkAddress& at, BufferPool& pool) const;
  /// Whether these are the bytes that the index tells of.
  [[nodiscard]] Status check(const ChunkAddress& at, std::span<const std::byte> stored) const;
  /// Checked, then decoded. `windows` is for tokens.
  [[nodiscard]] Result<Chunk> decode(const ChunkAddress& at, const Windows& windows, ByteBuffer stored,
                                     BufferPool& pool) const;
  void forget(const ChunkAddress& at) const;
  [[nodiscard]] std::string describe(const ChunkAddress& at) const;

 private:
  struct Slot {
    std::mutex mutex;  // held while the index is read
    std::vector<ChunkEntry> chunks;
    std::atomic<bool> loaded = false;  // from then on `chunks` does not change
  };

  [[nodiscard]] Result<std::vector<ChunkEntry>> load(std::size_t shard) const;
  /// The open file of a shard's values.
  [[nodiscard]] std::size_t values_file(std::size_t shard) const noexcept;

  const std::string folder_;
  const Manifest manifest_;
  std::unique_ptr<OpenFiles> files_;  // each shard's own, then those that hold the values of each
  std::unique_ptr<Slot[]> slots_;
};

}  // namespace paceline
