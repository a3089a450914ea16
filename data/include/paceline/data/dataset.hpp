#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/buffer.hpp"

namespace paceline {

enum class SampleKind {
  image,   ///< values of one shape, each with a label; task "image-classification"
  tokens,  ///< windows of one long stream of tokens; task "language-modelling"
};

/// What a dataset's manifest says: how many samples, and what each one is.
struct DatasetInfo {
  std::string path;  ///< of the dataset folder
  std::string name;  ///< e.g. "fashion-mnist/train"
  std::string task;  ///< "image-classification" or "language-modelling"
  SampleKind kind = SampleKind::image;
  std::string dtype;                       ///< of the values: "u8"; of tokens "u8", "u16" or "i32"
  std::string storage;                     ///< "raw", "zstd", "lz4", "jpeg" or, in files of others, "deflate"
  std::string layout;                      ///< of images: "chw" or "hwc"
  std::int64_t samples = 0;                ///< images, or windows
  std::vector<std::int64_t> sample_shape;  ///< e.g. {1, 28, 28}; of tokens {window}
  std::int64_t sample_bytes = 0;           ///< decoded; of tokens window + 1 of them
  std::int64_t classes = 0;                ///< of images: labels are 0 to classes - 1
  std::vector<std::string> class_names;    ///< none, or one for each class
  std::int64_t vocabulary = 0;             ///< of tokens: how many different ones
  std::int64_t tokens = 0;                 ///< of tokens: how many in all
  std::string tokenizer;                   ///< of tokens: "bytes", or the path of a SentencePiece model
  std::int64_t chunk_samples = 0;          ///< samples per chunk; the last of each shard may have fewer
  std::int64_t shards = 0;
  std::int64_t chunks = 0;
  std::int64_t stored_bytes = 0;           ///< of all files
  std::int64_t chunk_bytes = 0;            ///< the most that a chunk in memory takes
  std::vector<double> mean;                ///< of images, by channel: of values / 255, over the dataset
  std::vector<double> standard_deviation;  ///< of images, by channel
};

struct DatasetOptions {
  /// Tokens per sample, for a dataset of tokens; at most those of a chunk. 0: as many as a chunk has.
  std::int64_t window = 0;
};

/// A chunk in memory, decoded, which does not change any more; samples are views into it. Const members may
/// be called from any thread at once.
class Chunk {
 public:
  /// Where the samples lie in the chunk's bytes.
  struct Layout {
    std::int64_t samples = 0;
    std::int64_t stride_bytes = 0;     ///< from one sample to the next; samples of tokens overlap
    std::int64_t sample_bytes = 0;     ///< of each
    std::int64_t labels_offset = -1;   ///< of i32[samples], at any alignment; -1: there are none
    std::vector<std::int64_t> begins;  ///< instead of stride and size: samples + 1 offsets
  };

  Chunk() = default;
  /// `layout` must be right for `bytes`.
  Chunk(ByteBuffer bytes, Layout layout);

  [[nodiscard]] std::int64_t samples() const noexcept { return layout_.samples; }
  /// Memory that it holds.
  [[nodiscard]] std::int64_t bytes() const noexcept;
  /// An image: its values, or with storage "jpeg" its JPEG file. Tokens: a window and the token after it, so
  /// that the targets are the same shifted by one.
  [[nodiscard]] std::span<const std::byte> sample(std::int64_t i) const;
  /// 0 for tokens.
  [[nodiscard]] std::int32_t label(std::int64_t i) const;

 private:
  ByteBuffer bytes_;
  Layout layout_;
};

/// Where the bytes of a chunk lie: `count` extents, to be read one after the other into one buffer of
/// `bytes`.
struct ChunkPlace {
  struct Extent {
    std::shared_ptr<const UniqueFd> file;  ///< stays open as long as this is kept
    std::int64_t offset = 0;
    std::int64_t bytes = 0;
  };
  std::array<Extent, 2> extents;
  int count = 0;
  std::int64_t bytes = 0;
};

/// A dataset folder, opened: its manifest is checked and the sizes of its files are right. The index of a
/// shard is read, and checked against the shard's checksum, when its first chunk is wanted; so opening takes
/// no longer and no more memory for more samples. The HDF5 library takes no part in reading. A handle: copies
/// are the same dataset. Const members may be called from any thread at once.
class Dataset {
 public:
  /// Errors name the folder or shard and say what is wrong with it: not a dataset folder (and where one
  /// might be: a folder of datasets names its children), a missing or truncated shard, a window that no chunk
  /// can fill.
  [[nodiscard]] static Result<Dataset> open(const std::string& path, DatasetOptions options = {});

  [[nodiscard]] const DatasetInfo& info() const noexcept;
  /// Samples of each chunk, in the dataset's own order; their sum is info().samples. A chunk at the end of a
  /// shard of tokens may have none.
  [[nodiscard]] std::span<const std::int32_t> chunk_samples() const noexcept;

  /// Where a chunk is to be read from. Reads the shard's index if this is its first chunk; corrupt if that is
  /// wrong twice.
  [[nodiscard]] Result<ChunkPlace> place(std::int64_t chunk) const;
  /// A chunk from its stored bytes, which are taken over where they need no decoding. Their checksum is
  /// compared before anything else looks at them. corrupt errors name file, chunk, offset, and both checksums
  /// where those differ.
  [[nodiscard]] Result<Chunk> decode(std::int64_t chunk, ByteBuffer stored, BufferPool& pool) const;
  /// Before a second try: asks the kernel to drop what it has cached of a chunk, and opens its files anew, so
  /// that another replica may answer.
  void forget(std::int64_t chunk) const;
  /// "DIR/shard-00003.h5: chunk 7 at byte 1234", for messages; without the byte while it is not known.
  [[nodiscard]] std::string describe(std::int64_t chunk) const;
  /// All of the above at once: reads and decodes a chunk, a second time if the first gives an error.
  [[nodiscard]] Result<Chunk> read_chunk(std::int64_t chunk) const;

 private:
  struct Impl;
  explicit Dataset(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// Reads every chunk and checks it, labels and tokens included, then compares with what the HDF5 library
/// sees; the first ten faults, each one sentence. Empty: all is well. An error where there is no readable
/// manifest.
[[nodiscard]] Result<std::vector<std::string>> verify_dataset(const std::string& path);

}  // namespace paceline
