#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "paceline/base/result.hpp"

namespace paceline {

/// Images beyond these are refused before memory is taken for them, whatever their headers say.
inline constexpr std::int64_t image_side_limit = 16384;
inline constexpr std::int64_t image_pixels_limit = std::int64_t{64} << 20;

/// What an image file's header says.
struct ImageHeader {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;  ///< 1 (grey) or 3 (anything with colour)
};

/// Reads the header of a JPEG file in memory. unsupported beyond the limits, corrupt where it is no JPEG; the
/// message doesn't name the file.
[[nodiscard]] Result<ImageHeader> read_jpeg_header(std::span<const std::byte> file);

/// Decodes a JPEG file in memory into rows * columns * channels bytes at `out`, channels (1: grey, 3: red,
/// green, blue) innermost. The header is compared with rows and columns before anything else; grey is made of
/// colour and colour of grey where asked for. corrupt where the file is not a whole JPEG of that size; `out`
/// is then undefined. Each thread keeps a decompressor.
[[nodiscard]] Status decode_jpeg(std::span<const std::byte> file, std::int64_t rows, std::int64_t columns,
                                 std::int64_t channels, std::byte* out);

}  // namespace paceline
