#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec.hpp"
#include "paceline/base/result.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {

/// The type of a dataset's values; images have u8.
enum class ElementType { u8, u16, i32 };
[[nodiscard]] std::int64_t bytes_of(ElementType type) noexcept;
[[nodiscard]] std::string_view to_string(ElementType type) noexcept;

/// How the three sizes of an image are to be read: channels first or last.
enum class ImageLayout { chw, hwc };
[[nodiscard]] std::string_view to_string(ImageLayout layout) noexcept;

/// Where the values of a shard lie in an HDF5 file that someone else made.
struct ForeignValues {
  std::string file;                ///< absolute, or a path within the dataset's folder
  std::int64_t bytes = 0;          ///< the file's size
  std::string dataset;             ///< in the file, e.g. "/images"; only verification needs it
  std::int64_t chunk_samples = 0;  ///< of this file; the last chunk of the shard may have fewer
  bool padded = false;             ///< whether a last chunk with fewer samples is stored in full
};

/// One shard, as the manifest describes it. Offsets are from the file's first byte.
struct ShardEntry {
  std::string file;                     ///< a plain name within the dataset's folder
  std::int64_t samples = 0;             ///< at least 1; of tokens: how many tokens
  std::int64_t bytes = 0;               ///< the file's size
  std::int64_t index_offset = 0;        ///< of `index`: u64[chunks][4]
  std::uint64_t metadata_checksum = 0;  ///< of all bytes of the file that belong to no record
  std::optional<ForeignValues> values;  ///< only where they are not in `file`
  std::int64_t labels_offset = 0;       ///< of `labels`: i32[samples]; only with `values`
};

/// manifest.json; docs/dataset-format.md specifies it.
struct Manifest {
  std::string name;
  SampleKind kind = SampleKind::image;
  ElementType type = ElementType::u8;
  Storage storage = Storage::raw;
  std::int64_t samples = 0;        ///< of tokens: how many tokens
  std::int64_t chunk_samples = 0;  ///< of tokens: how many tokens
  std::vector<ShardEntry> shards;

  // Images.
  ImageLayout layout = ImageLayout::chw;
  std::vector<std::int64_t> sample_shape;
  std::int64_t classes = 0;
  std::vector<std::string> class_names;    ///< none, or one for each class
  std::vector<double> mean;                ///< by channel, of values / 255
  std::vector<double> standard_deviation;  ///< by channel
  std::int64_t largest_record_bytes = 0;   ///< only with jpeg, where the shape doesn't tell

  // Tokens.
  std::int64_t vocabulary = 0;
  std::string tokenizer;  ///< "bytes", or a file beside the dataset's folder or in it
};

/// Bytes of one decoded sample; of tokens: of one token.
[[nodiscard]] std::int64_t sample_bytes(const Manifest& manifest) noexcept;
/// How many `mean` and `standard_deviation` there are: the channels of shapes with three sizes, else 1.
[[nodiscard]] std::int64_t channels(const std::vector<std::int64_t>& sample_shape,
                                    ImageLayout layout) noexcept;
/// HDF5 has no chunk larger than its fixed-size dataset, so a small shard has smaller chunks.
[[nodiscard]] std::int64_t samples_per_chunk(const Manifest& manifest, const ShardEntry& shard) noexcept;
[[nodiscard]] std::int64_t chunks_in(const Manifest& manifest, const ShardEntry& shard) noexcept;

inline constexpr std::int64_t manifest_limit_bytes = std::int64_t{16} << 20;
inline constexpr std::int64_t chunk_samples_limit = std::int64_t{1} << 26;
inline constexpr std::int64_t chunk_limit_bytes = std::int64_t{1} << 30;
inline constexpr std::int64_t sample_count_limit = 0x7fffffff;  ///< positions and addresses stay small
inline constexpr std::int64_t token_count_limit = std::int64_t{1} << 42;

/// Checks everything that can be checked without the shards. `path` is the file's, for messages.
[[nodiscard]] Result<Manifest> parse_manifest(std::string text, const std::string& path);
[[nodiscard]] std::string render_manifest(const Manifest& manifest);

}  // namespace paceline
