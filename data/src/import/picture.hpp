#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/data/image.hpp"

namespace paceline {

/// Pixels in memory: rows * columns * channels bytes, channels innermost.
struct Picture {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;
  std::vector<std::byte> values;
};

enum class PictureFormat { jpeg, png };

/// What the first bytes of a file say that it is; corrupt for anything else.
[[nodiscard]] Result<PictureFormat> picture_format(std::span<const std::byte> file);

/// Header of a JPEG or PNG file in memory, within the limits of image.hpp. Messages don't name the file.
[[nodiscard]] Result<ImageHeader> read_picture_header(std::span<const std::byte> file);
/// All of it, as `channels` channels (1 or 3). Transparency is dropped, 16 bits become 8.
[[nodiscard]] Result<Picture> decode_picture(std::span<const std::byte> file, std::int64_t channels);

[[nodiscard]] Result<std::vector<std::byte>> encode_jpeg(const Picture& picture, int quality);
[[nodiscard]] Result<std::vector<std::byte>> encode_png(const Picture& picture);

/// Shrinks or enlarges so that the shorter side fits rows x columns, and takes the middle of the longer.
[[nodiscard]] Picture fit_picture(const Picture& picture, std::int64_t rows, std::int64_t columns);

}  // namespace paceline
