#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// How the values of a chunk are stored. Names and HDF5 filters are those of docs/dataset-format.md.
enum class Storage {
  raw,
  zstd,
  lz4,
  jpeg,     ///< the samples' own JPEG files; a chunk is cut and not decoded
  deflate,  ///< only in HDF5 files of others
};

[[nodiscard]] std::string_view to_string(Storage storage) noexcept;
/// The identifier of the HDF5 filter that is declared for it; 0 for none.
[[nodiscard]] unsigned filter_of(Storage storage) noexcept;

/// `values` coded as zstd or lz4, appended to `into`. Nothing is appended, and false returned, where that
/// would not be shorter: then the chunk is stored as it is. For raw always false.
[[nodiscard]] bool encode_values(Storage storage, std::span<const std::byte> values,
                                 std::vector<std::byte>& into);

/// Decodes zstd, lz4 or deflate into exactly `values`; nothing that `stored` says about lengths is trusted.
/// corrupt, with a message that begins in the middle of a sentence ("its zstd frame ..."), if anything is
/// left over or missing. Each thread keeps its own working memory between calls.
[[nodiscard]] Status decode_values(Storage storage, std::span<const std::byte> stored,
                                   std::span<std::byte> values);

}  // namespace paceline
