#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "import/picture.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/image.hpp"

namespace paceline {
namespace {

using Bytes = std::vector<std::byte>;

/// Value of a pixel in closed form: smooth, so that JPEG keeps it nearly.
Picture ramp(std::int64_t rows, std::int64_t columns, std::int64_t channels) {
  Picture picture{rows, columns, channels, {}};
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t column = 0; column < columns; ++column)
      for (std::int64_t channel = 0; channel < channels; ++channel)
        picture.values.push_back(static_cast<std::byte>(row + 2 * column + 20 * channel));
  return picture;
}

Bytes jpeg_of(const Picture& picture) {
  Result<Bytes> file = encode_jpeg(picture, 95);
  EXPECT_TRUE(file.ok());
  return file.ok() ? std::move(file).value() : Bytes();
}
Bytes png_of(const Picture& picture) {
  Result<Bytes> file = encode_png(picture);
  EXPECT_TRUE(file.ok());
  return file.ok() ? std::move(file).value() : Bytes();
}

std::uint32_t crc32_of(std::span<const std::byte> bytes) {
  std::uint32_t crc = 0xffffffff;
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0);
  }
  return ~crc;
}

void put_big_endian(Bytes& bytes, std::size_t at, std::uint32_t value, int count) {
  for (int i = 0; i < count; ++i)
    bytes[at + static_cast<std::size_t>(i)] = static_cast<std::byte>(value >> (8 * (count - 1 - i)));
}

/// A JPEG whose frame header claims another size.
Bytes lying_jpeg(Bytes file, std::uint32_t rows, std::uint32_t columns) {
  for (std::size_t at = 0; at + 9 < file.size(); ++at)
    if (file[at] == std::byte{0xff} && file[at + 1] == std::byte{0xc0}) {
      put_big_endian(file, at + 5, rows, 2);
      put_big_endian(file, at + 7, columns, 2);
      return file;
    }
  ADD_FAILURE() << "no frame header";
  return file;
}

/// A PNG whose header claims another size, with the right checksum.
Bytes lying_png(Bytes file, std::uint32_t rows, std::uint32_t columns) {
  put_big_endian(file, 16, columns, 4);
  put_big_endian(file, 20, rows, 4);
  put_big_endian(file, 29, crc32_of(std::span(file).subspan(12, 17)), 4);
  return file;
}

int difference(const Picture& a, const Picture& b) {
  int most = a.values.size() == b.values.size() ? 0 : 1000;
  for (std::size_t i = 0; i < a.values.size() && i < b.values.size(); ++i)
    most = std::max(most, std::abs(std::to_integer<int>(a.values[i]) - std::to_integer<int>(b.values[i])));
  return most;
}

TEST(Picture, PngComesBackExactlyAndJpegNearly) {
  for (const std::int64_t channels : {1, 3}) {
    const Picture picture = ramp(21, 34, channels);
    const Result<Picture> from_png = decode_picture(png_of(picture), channels);
    ASSERT_TRUE(from_png.ok()) << from_png.error().message;
    EXPECT_EQ(difference(*from_png, picture), 0);
    const Result<Picture> from_jpeg = decode_picture(jpeg_of(picture), channels);
    ASSERT_TRUE(from_jpeg.ok()) << from_jpeg.error().message;
    EXPECT_EQ(from_jpeg->rows, 21);
    EXPECT_EQ(from_jpeg->columns, 34);
    EXPECT_LE(difference(*from_jpeg, picture), channels == 1 ? 4 : 30);  // colour is kept at half the size
    for (const Bytes& file : {png_of(picture), jpeg_of(picture)}) {
      const Result<ImageHeader> header = read_picture_header(file);
      ASSERT_TRUE(header.ok());
      EXPECT_EQ(header->rows, 21);
      EXPECT_EQ(header->columns, 34);
      EXPECT_EQ(header->channels, channels);
    }
  }
}

TEST(Picture, GreyIsMadeOfColourAndColourOfGrey) {
  Picture colours{1, 4, 3, {}};
  for (const int value : {255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255})
    colours.values.push_back(static_cast<std::byte>(value));
  const Result<Picture> grey = decode_picture(png_of(colours), 1);
  ASSERT_TRUE(grey.ok());
  EXPECT_EQ(std::to_integer<int>(grey->values[0]), 76);  // 0.299, 0.587 and 0.114 of 255, rounded
  EXPECT_EQ(std::to_integer<int>(grey->values[1]), 150);
  EXPECT_EQ(std::to_integer<int>(grey->values[2]), 29);
  EXPECT_EQ(std::to_integer<int>(grey->values[3]), 255);
  for (const Bytes& file : {png_of(ramp(8, 8, 1)), jpeg_of(ramp(8, 8, 1))}) {
    const Result<Picture> three = decode_picture(file, 3);
    ASSERT_TRUE(three.ok());
    for (std::size_t i = 0; i < three->values.size(); i += 3) {
      EXPECT_EQ(three->values[i], three->values[i + 1]);
      EXPECT_EQ(three->values[i], three->values[i + 2]);
    }
  }
}

TEST(Picture, JpegOfAnotherSizeIsRefusedBeforeAnythingIsWritten) {
  const Bytes file = jpeg_of(ramp(16, 24, 3));
  const Status status = decode_jpeg(file, 24, 16, 3, nullptr);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().message, "its header says 16x24 pixels, and there should be 24x16");
  Bytes out(16 * 24 * 3);
  EXPECT_TRUE(decode_jpeg(file, 16, 24, 3, out.data()).ok());
}

TEST(Picture, WhatIsTooLargeIsRefusedByItsHeader) {
  const Picture picture = ramp(16, 16, 3);
  for (const Bytes& file :
       {lying_jpeg(jpeg_of(picture), 20000, 20000), lying_png(png_of(picture), 20000, 20000),
        lying_jpeg(jpeg_of(picture), 16000, 16000), lying_png(png_of(picture), 1, 1U << 30)}) {
    const Result<Picture> decoded = decode_picture(file, 3);
    ASSERT_FALSE(decoded.ok());
    EXPECT_EQ(decoded.error().code, ErrorCode::unsupported);
    EXPECT_NE(decoded.error().message.find("images may have up to 16384 in a side and 64 Mi in all"),
              std::string::npos)
        << decoded.error().message;
  }
}

TEST(Picture, ACutFileIsRefusedWhereverItIsCut) {
  const Picture picture = ramp(32, 32, 3);
  for (const Bytes& file : {jpeg_of(picture), png_of(picture)}) {
    ASSERT_TRUE(decode_picture(file, 3).ok());
    for (std::size_t kept = 0; kept + 12 < file.size(); kept += 1 + kept / 16) {
      const Result<Picture> decoded = decode_picture(std::span(file).first(kept), 3);
      EXPECT_FALSE(decoded.ok()) << kept << " of " << file.size();
    }
  }
}

TEST(Picture, ALyingHeaderIsRefused) {
  const Picture picture = ramp(32, 32, 3);
  // More pixels than there are: the data ends too early.
  EXPECT_FALSE(decode_picture(lying_jpeg(jpeg_of(picture), 900, 700), 3).ok());
  EXPECT_FALSE(decode_picture(lying_png(png_of(picture), 900, 700), 3).ok());
  EXPECT_FALSE(decode_picture(lying_jpeg(jpeg_of(picture), 0, 32), 3).ok());
  EXPECT_FALSE(decode_picture(lying_png(png_of(picture), 0, 32), 3).ok());
  Bytes wrong_checksum = png_of(picture);
  wrong_checksum[20] = std::byte{1};
  EXPECT_FALSE(decode_picture(wrong_checksum, 3).ok());
  EXPECT_EQ(decode_picture(Bytes(100, std::byte{'x'}), 3).error().message, "it is neither a JPEG nor a PNG");
  EXPECT_EQ(decode_picture({}, 3).error().message, "it is empty");
}

TEST(Resize, OneColourStaysThatColour) {
  for (const auto& [rows, columns] : {std::pair(7, 5), {28, 28}, {97, 13}, {1, 1}, {64, 200}}) {
    Picture picture{31, 45, 3, {}};
    picture.values.assign(31 * 45 * 3, std::byte{201});
    const Picture resized = fit_picture(picture, rows, columns);
    ASSERT_EQ(resized.rows, rows);
    ASSERT_EQ(resized.columns, columns);
    ASSERT_EQ(resized.values.size(), static_cast<std::size_t>(rows * columns * 3));
    for (const std::byte value : resized.values) ASSERT_EQ(std::to_integer<int>(value), 201);
  }
}

TEST(Resize, ARampStaysARamp) {
  Picture picture{1, 101, 1, {}};
  for (int column = 0; column < 101; ++column) picture.values.push_back(static_cast<std::byte>(2 * column));
  // The middle of pixel i of n is at (i + 1/2) * 101/n of the old ones, where the value is twice that
  // minus 1.
  for (const std::int64_t columns : {10, 50, 202, 350}) {
    Picture tall{columns, 101, 1, {}};
    for (std::int64_t row = 0; row < columns; ++row)
      tall.values.insert(tall.values.end(), picture.values.begin(), picture.values.end());
    const Picture resized = fit_picture(tall, columns, columns);
    const double scale = std::max(1.0, static_cast<double>(columns) / 101);
    for (std::int64_t i = 0; i < columns; ++i) {
      const std::int64_t all = std::lround(101 * scale);
      const double middle =
          (static_cast<double>(i + (all - columns) / 2) + 0.5) * 101 / static_cast<double>(all);
      if (middle < 1.5 || middle > 99.5) continue;  // at the border there is nothing beyond to average with
      EXPECT_NEAR(std::to_integer<int>(resized.values[static_cast<std::size_t>(i)]), 2 * middle - 1, 0.8)
          << columns << " " << i;
    }
  }
}

TEST(Resize, ShrinkingAveragesWhatIsThere) {
  // Stripes of 0 and 200, one pixel wide, become grey: nothing is picked out.
  Picture picture{64, 64, 1, {}};
  for (int i = 0; i < 64 * 64; ++i) picture.values.push_back(static_cast<std::byte>(i % 2 * 200));
  const Picture resized = fit_picture(picture, 16, 16);
  for (std::size_t i = 0; i < resized.values.size(); ++i)
    if (i % 16 != 0 && i % 16 != 15) {
      EXPECT_NEAR(std::to_integer<int>(resized.values[i]), 100, 1);
    }
}

TEST(Resize, TheMiddleIsKept) {
  // 8x24 in three squares of one colour each: of a square only the middle one is left.
  Picture picture{8, 24, 1, {}};
  for (int i = 0; i < 8 * 24; ++i) picture.values.push_back(static_cast<std::byte>(i % 24 / 8 * 100));
  for (const Picture& resized : {fit_picture(picture, 8, 8), fit_picture(picture, 16, 8)})
    for (std::int64_t row = 0; row < resized.rows; ++row)
      for (std::int64_t column = 1; column + 1 < resized.columns; ++column)
        EXPECT_EQ(
            std::to_integer<int>(resized.values[static_cast<std::size_t>(row * resized.columns + column)]),
            100);
}

TEST(Text, NamesAreShownHarmlessly) {
  EXPECT_EQ(shown("/data/a-b_c.png"), "/data/a-b_c.png");
  EXPECT_EQ(shown("h\xc3\xa9llo"), "h\xc3\xa9llo");
  EXPECT_EQ(shown("a b"), "\"a b\"");
  EXPECT_EQ(shown("a\nb"), "\"a\\nb\"");
  EXPECT_EQ(shown("say \"x\\y\""), "\"say \\\"x\\\\y\\\"\"");
  EXPECT_EQ(shown("\x1b[2J"), "\"\\x1b[2J\"");
  EXPECT_EQ(shown("\xff\xc2\x9b\x7f"), "\"\\xff\\xc2\\x9b\\x7f\"");
  EXPECT_EQ(shown(""), "\"\"");
  EXPECT_EQ(utf8_length("\xed\xa0\x80"), 0U);      // half of a surrogate pair
  EXPECT_EQ(utf8_length("\xc0\xaf"), 0U);          // overlong
  EXPECT_EQ(utf8_length("\xf4\x90\x80\x80"), 0U);  // beyond the last character
  EXPECT_EQ(utf8_length("\xf0\x9f\x98\x80"), 4U);
  EXPECT_EQ(utf8_length("\xe2\x82"), 0U);
}

}  // namespace
}  // namespace paceline
