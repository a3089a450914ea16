// Headers and pixels of JPEG and PNG files, as the importer and the loader read them. Inputs get the first
// bytes of the one or the other, so that the fuzzer needn't find those.
#include <cstring>
#include <vector>

#include "../../data/src/import/picture.hpp"

namespace {

void try_decoding(std::span<const std::byte> file) {
  using namespace paceline;
  const Result<ImageHeader> header = read_picture_header(file);
  if (!header.ok()) return;
  if (header->rows * header->columns > 1 << 16) return;  // in time, many small ones find more
  const Result<Picture> picture = decode_picture(file, header->channels);
  if (picture.ok()) (void)fit_picture(*picture, 5, 9);
  if (picture_format(file).value() != PictureFormat::jpeg) return;
  std::vector<std::byte> out(static_cast<std::size_t>(header->rows * header->columns * 3));
  (void)decode_jpeg(file, header->rows, header->columns, 3, out.data());
  (void)decode_jpeg(file, header->columns, header->rows, 3, out.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, unsigned long size) {
  const std::vector<std::byte> input(reinterpret_cast<const std::byte*>(data),
                                     reinterpret_cast<const std::byte*>(data) + size);
  try_decoding(input);
  static const unsigned char png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n',
                                      0,    0,   0,   13,  'I',  'H',  'D',  'R'};
  // A grey JPEG of 16x16 up to its frame header, which the input goes on from.
  static const unsigned char jpeg[] = {0xff, 0xd8, 0xff, 0xc0, 0, 11, 8, 0, 16, 0, 16, 1, 1, 0x11, 0};
  std::vector<std::byte> file(sizeof png + size);
  std::memcpy(file.data(), png, sizeof png);
  if (size > 0) std::memcpy(file.data() + sizeof png, data, size);
  try_decoding(file);
  file.resize(sizeof jpeg + size);
  std::memcpy(file.data(), jpeg, sizeof jpeg);
  if (size > 0) std::memcpy(file.data() + sizeof jpeg, data, size);
  try_decoding(file);
  return 0;
}
