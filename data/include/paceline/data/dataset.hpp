#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// What a dataset's manifest says: how many samples, and what each one is.
struct DatasetInfo {
  std::string path;  ///< of the dataset folder
  std::string name;  ///< e.g. "fashion-mnist/train"
  std::string task;  ///< e.g. "image-classification"
  std::int64_t samples = 0;
  std::vector<std::int64_t> sample_shape;  ///< e.g. {1, 28, 28}: channels, rows, columns; u8
  std::int64_t sample_bytes = 0;           ///< product of the shape
  std::int64_t classes = 0;
  std::int64_t chunk_samples = 0;  ///< samples per chunk; the last of each shard may have fewer
  std::int64_t shards = 0;
  std::int64_t chunks = 0;
  std::int64_t stored_bytes = 0;
  double mean = 0;  ///< of all values / 255, over the dataset
  double standard_deviation = 1;
};

/// A chunk as it is read: `samples` samples of u8 values and their labels.
struct Chunk {
  std::int64_t samples = 0;
  std::vector<std::byte> values;     ///< samples * sample_bytes, row-major
  std::vector<std::int64_t> labels;  ///< samples
};

/// A dataset folder, opened and validated: manifest, shard sizes, indexes and labels, with their checksums.
/// Chunks are read with pread at offsets of the dataset's own index, so the HDF5 library, with its global
/// lock and its trust in the bytes that it reads, is needed only to import and to verify. Const members may
/// be called from any thread at once.
class Dataset {
 public:
  /// Errors name the folder or shard and say what is wrong with it: not a dataset folder (and where one
  /// might be: a folder of datasets names its children), missing or truncated shard, bad index.
  [[nodiscard]] static Result<Dataset> open(const std::string& path);

  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) noexcept;
  ~Dataset();

  [[nodiscard]] const DatasetInfo& info() const noexcept;
  /// Samples of each chunk, in the dataset's own order; their sum is info().samples.
  [[nodiscard]] std::span<const std::int64_t> chunk_samples() const noexcept;
  /// Reads and checks one chunk. A checksum that does not match is read again (another replica may be
  /// right), then is a corrupt error with shard, chunk and both checksums.
  [[nodiscard]] Result<Chunk> read_chunk(std::int64_t chunk) const;

 private:
  struct Impl;
  explicit Dataset(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Reads every chunk and checks it, then compares with what the HDF5 library sees; the first ten faults, each
/// one sentence. Empty: all is well. An error where there is no readable manifest.
[[nodiscard]] Result<std::vector<std::string>> verify_dataset(const std::string& path);

}  // namespace paceline
