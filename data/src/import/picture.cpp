#include "picture.hpp"

#include <spng.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <memory>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::array<unsigned char, 8> png_signature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
// Chunks beside the pixels (profiles, text) are read past, within reason.
constexpr std::size_t png_chunk_limit = std::size_t{64} << 20;

struct FreePng {
  void operator()(spng_ctx* context) const noexcept { spng_ctx_free(context); }
};
using PngContext = std::unique_ptr<spng_ctx, FreePng>;

Error bad_png(int code) {
  return {ErrorCode::corrupt, concat("it is not a whole PNG (", spng_strerror(code), ")")};
}

struct OpenPng {
  PngContext context;
  spng_ihdr header{};
};

Result<OpenPng> open_png(std::span<const std::byte> file) {
  OpenPng png;
  png.context.reset(spng_ctx_new(0));
  if (png.context == nullptr) return Error{ErrorCode::internal, "no memory for a PNG decoder"};
  spng_set_chunk_limits(png.context.get(), png_chunk_limit, png_chunk_limit);
  int code = spng_set_png_buffer(png.context.get(), file.data(), file.size());
  if (code == 0) code = spng_get_ihdr(png.context.get(), &png.header);
  if (code != 0) return bad_png(code);
  const std::int64_t rows = png.header.height;
  const std::int64_t columns = png.header.width;
  if (rows > image_side_limit || columns > image_side_limit || rows * columns > image_pixels_limit)
    return Error{ErrorCode::unsupported,
                 concat("it has ", rows, "x", columns, " pixels, and images may have up to ",
                        image_side_limit, " in a side and ", image_pixels_limit >> 20, " Mi in all")};
  return png;
}

std::int64_t channels_of(const spng_ihdr& header) {
  const bool grey =
      header.color_type == SPNG_COLOR_TYPE_GRAYSCALE || header.color_type == SPNG_COLOR_TYPE_GRAYSCALE_ALPHA;
  return grey ? 1 : 3;
}

Result<Picture> decode_png(std::span<const std::byte> file, std::int64_t channels) {
  PACELINE_ASSIGN(const OpenPng png, open_png(file));
  Picture picture{png.header.height, png.header.width, channels, {}};
  const auto pixels = static_cast<std::size_t>(picture.rows * picture.columns);
  std::vector<std::byte> colours(pixels * 3);
  const int code = spng_decode_image(png.context.get(), colours.data(), colours.size(), SPNG_FMT_RGB8, 0);
  if (code != 0) return bad_png(code);
  if (channels == 3) {
    picture.values = std::move(colours);
    return picture;
  }
  picture.values.resize(pixels);
  for (std::size_t i = 0; i < pixels; ++i) {
    const auto value = [&](std::size_t which) { return std::to_integer<unsigned>(colours[3 * i + which]); };
    picture.values[i] =
        static_cast<std::byte>((299 * value(0) + 587 * value(1) + 114 * value(2) + 500) / 1000);
  }
  return picture;
}

}  // namespace

Result<PictureFormat> picture_format(std::span<const std::byte> file) {
  const auto starts_with = [&](std::span<const unsigned char> magic) {
    return file.size() >= magic.size() &&
           std::equal(magic.begin(), magic.end(), file.begin(),
                      [](unsigned char a, std::byte b) { return a == std::to_integer<unsigned char>(b); });
  };
  constexpr std::array<unsigned char, 3> jpeg_start = {0xff, 0xd8, 0xff};
  if (starts_with(jpeg_start)) return PictureFormat::jpeg;
  if (starts_with(png_signature)) return PictureFormat::png;
  return Error{ErrorCode::corrupt, file.empty() ? "it is empty" : "it is neither a JPEG nor a PNG"};
}

Result<ImageHeader> read_picture_header(std::span<const std::byte> file) {
  PACELINE_ASSIGN(const PictureFormat format, picture_format(file));
  if (format == PictureFormat::jpeg) return read_jpeg_header(file);
  PACELINE_ASSIGN(const OpenPng png, open_png(file));
  return ImageHeader{png.header.height, png.header.width, channels_of(png.header)};
}

Result<Picture> decode_picture(std::span<const std::byte> file, std::int64_t channels) {
  PACELINE_ASSIGN(const PictureFormat format, picture_format(file));
  if (format == PictureFormat::png) return decode_png(file, channels);
  PACELINE_ASSIGN(const ImageHeader header, read_jpeg_header(file));
  Picture picture{header.rows, header.columns, channels, {}};
  picture.values.resize(static_cast<std::size_t>(picture.rows * picture.columns * channels));
  PACELINE_TRY(decode_jpeg(file, picture.rows, picture.columns, channels, picture.values.data()));
  return picture;
}

Result<std::vector<std::byte>> encode_jpeg(const Picture& picture, int quality) {
  struct Destroy {
    void operator()(void* handle) const noexcept { tjDestroy(handle); }
  };
  thread_local const std::unique_ptr<void, Destroy> handle(tjInitCompress());
  if (handle == nullptr) return Error{ErrorCode::internal, "no memory for a JPEG compressor"};
  const auto rows = static_cast<int>(picture.rows);
  const auto columns = static_cast<int>(picture.columns);
  const int subsampling = picture.channels == 1 ? TJSAMP_GRAY : TJSAMP_420;
  std::vector<std::byte> file(tjBufSize(columns, rows, subsampling));
  auto* place = reinterpret_cast<unsigned char*>(file.data());
  unsigned long size = file.size();
  const auto* values = reinterpret_cast<const unsigned char*>(picture.values.data());
  if (tjCompress2(handle.get(), values, columns, 0, rows, picture.channels == 1 ? TJPF_GRAY : TJPF_RGB,
                  &place, &size, subsampling, quality, TJFLAG_NOREALLOC) != 0)
    return Error{ErrorCode::internal, concat("cannot encode a JPEG: ", tjGetErrorStr2(handle.get()))};
  file.resize(size);
  return file;
}

Result<std::vector<std::byte>> encode_png(const Picture& picture) {
  const PngContext context(spng_ctx_new(SPNG_CTX_ENCODER));
  if (context == nullptr) return Error{ErrorCode::internal, "no memory for a PNG encoder"};
  spng_ihdr header{};
  header.width = static_cast<std::uint32_t>(picture.columns);
  header.height = static_cast<std::uint32_t>(picture.rows);
  header.bit_depth = 8;
  header.color_type = picture.channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
  spng_set_option(context.get(), SPNG_ENCODE_TO_BUFFER, 1);
  int code = spng_set_ihdr(context.get(), &header);
  if (code == 0)
    code = spng_encode_image(context.get(), picture.values.data(), picture.values.size(), SPNG_FMT_PNG,
                             SPNG_ENCODE_FINALIZE);
  if (code != 0) return Error{ErrorCode::internal, concat("cannot encode a PNG: ", spng_strerror(code))};
  std::size_t size = 0;
  struct Free {
    void operator()(void* memory) const noexcept { std::free(memory); }
  };
  const std::unique_ptr<void, Free> buffer(spng_get_png_buffer(context.get(), &size, &code));
  if (buffer == nullptr)
    return Error{ErrorCode::internal, concat("cannot encode a PNG: ", spng_strerror(code))};
  const auto* bytes = static_cast<const std::byte*>(buffer.get());
  return std::vector<std::byte>(bytes, bytes + size);
}

}  // namespace paceline
