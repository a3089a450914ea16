#include "paceline/data/image.hpp"

#include <turbojpeg.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

struct Destroy {
  void operator()(void* handle) const noexcept { tjDestroy(handle); }
};

/// This thread's decompressor; null without memory.
tjhandle decompressor() {
  thread_local const std::unique_ptr<void, Destroy> handle(tjInitDecompress());
  return handle.get();
}

const unsigned char* bytes_of(std::span<const std::byte> file) {
  return reinterpret_cast<const unsigned char*>(file.data());
}

Error bad_jpeg(std::string_view what) {
  return {ErrorCode::corrupt, concat("it is not a whole JPEG (", what, ")")};
}

/// Zero, or what is wrong. Bytes between markers are common and harmless; every other complaint means that
/// pixels are missing or invented.
Status judge(tjhandle handle, int result) {
  if (result == 0) return {};
  const std::string_view what = tjGetErrorStr2(handle);
  const bool harmless = tjGetErrorCode(handle) == TJERR_WARNING &&
                        what.find("extraneous bytes before marker") != std::string_view::npos;
  if (harmless) return {};
  return bad_jpeg(what);
}

struct JpegHeader : ImageHeader {
  bool is_cmyk = false;
};

Result<JpegHeader> read_header(tjhandle handle, std::span<const std::byte> file) {
  int columns = 0;
  int rows = 0;
  int subsampling = 0;
  int colours = 0;
  if (handle == nullptr) return Error{ErrorCode::internal, "no memory for a JPEG decompressor"};
  if (file.size() < 4) return bad_jpeg("it has fewer than 4 bytes");
  PACELINE_TRY(judge(handle, tjDecompressHeader3(handle, bytes_of(file), file.size(), &columns, &rows,
                                                 &subsampling, &colours)));
  if (rows < 1 || columns < 1) return bad_jpeg("it has no pixels");
  if (rows > image_side_limit || columns > image_side_limit ||
      std::int64_t{rows} * columns > image_pixels_limit)
    return Error{ErrorCode::unsupported,
                 concat("it has ", rows, "x", columns, " pixels, and images may have up to ",
                        image_side_limit, " in a side and ", image_pixels_limit >> 20, " Mi in all")};
  JpegHeader header;
  header.rows = rows;
  header.columns = columns;
  header.channels = colours == TJCS_GRAY ? 1 : 3;
  header.is_cmyk = colours == TJCS_CMYK || colours == TJCS_YCCK;
  return header;
}

/// Four inks, stored inverted as all writers do, to colours: the decompressor does not.
Status decode_cmyk(tjhandle handle, std::span<const std::byte> file, const JpegHeader& header,
                   std::int64_t channels, std::byte* out) {
  const auto pixels = static_cast<std::size_t>(header.rows * header.columns);
  std::vector<unsigned char> inks(pixels * 4);
  PACELINE_TRY(judge(handle, tjDecompress2(handle, bytes_of(file), file.size(), inks.data(),
                                           static_cast<int>(header.columns), 0, static_cast<int>(header.rows),
                                           TJPF_CMYK, TJFLAG_LIMITSCANS)));
  for (std::size_t i = 0; i < pixels; ++i) {
    const unsigned char* ink = inks.data() + 4 * i;
    const auto colour = [&](int which) { return static_cast<unsigned>(ink[which] * ink[3] + 127) / 255; };
    if (channels == 3)
      for (int which = 0; which < 3; ++which) *out++ = static_cast<std::byte>(colour(which));
    else
      *out++ = static_cast<std::byte>((299 * colour(0) + 587 * colour(1) + 114 * colour(2) + 500) / 1000);
  }
  return {};
}

}  // namespace

Result<ImageHeader> read_jpeg_header(std::span<const std::byte> file) {
  PACELINE_ASSIGN(const JpegHeader header, read_header(decompressor(), file));
  return ImageHeader(header);
}

Status decode_jpeg(std::span<const std::byte> file, std::int64_t rows, std::int64_t columns,
                   std::int64_t channels, std::byte* out) {
  PACELINE_ASSERT(channels == 1 || channels == 3, "an image has 1 or 3 channels");
  tjhandle handle = decompressor();
  PACELINE_ASSIGN(const JpegHeader header, read_header(handle, file));
  if (header.rows != rows || header.columns != columns)
    return Error{ErrorCode::corrupt, concat("its header says ", header.rows, "x", header.columns,
                                            " pixels, and there should be ", rows, "x", columns)};
  if (header.is_cmyk) return decode_cmyk(handle, file, header, channels, out);
  return judge(handle,
               tjDecompress2(handle, bytes_of(file), file.size(), reinterpret_cast<unsigned char*>(out),
                             static_cast<int>(columns), 0, static_cast<int>(rows),
                             channels == 1 ? TJPF_GRAY : TJPF_RGB, TJFLAG_LIMITSCANS));
}

}  // namespace paceline
