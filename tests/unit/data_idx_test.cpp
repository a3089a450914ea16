#include <gtest/gtest.h>

#include "data_damage.hpp"
#include "data_import.hpp"

// IDX files of any shape; the four files of MNIST are in data_import_test.cpp.
namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

std::string idx_of(const std::vector<std::uint32_t>& sizes) {
  std::string bytes = big_endian(0x800U + static_cast<std::uint32_t>(sizes.size()));
  std::size_t values = 1;
  for (const std::uint32_t size : sizes) {
    bytes += big_endian(size);
    values *= size;
  }
  for (std::size_t i = 0; i < values; ++i) bytes += static_cast<char>(i * 13);
  return bytes;
}

TEST(Idx, FilesOfAnyShapeAsTheyAreGiven) {
  const TemporaryFolder folder;
  struct Case {
    std::vector<std::uint32_t> sizes;
    std::vector<std::int64_t> shape;
    const char* layout;
  };
  int number = 0;
  for (const Case& each : {Case{{20, 9}, {9}, "chw"}, Case{{20, 5, 4}, {1, 5, 4}, "chw"},
                           Case{{20, 5, 4, 3}, {5, 4, 3}, "hwc"}, Case{{20, 3, 5, 6}, {3, 5, 6}, "chw"}}) {
    const std::string images = folder / concat("images", ++number);
    const std::string labels = folder / concat("labels", number);
    write_bytes(images, idx_of(each.sizes));
    write_bytes(labels, idx_labels(20));
    const std::string out = folder / concat("set", number);
    ASSERT_EQ(message_of(options_for("idx", {images, labels}, out)), "imported");
    const WholeDataset read = read_all(out + "/train");
    EXPECT_EQ(read.info.sample_shape, each.shape);
    EXPECT_EQ(read.info.layout, each.layout);
    EXPECT_EQ(read.info.classes, 10);
    std::string values;
    for (const std::string& sample : read.samples) values += sample;
    EXPECT_TRUE(values == idx_of(each.sizes).substr(4 + 4 * each.sizes.size()));
    EXPECT_FALSE(fs::exists(out + "/test"));
  }
}

TEST(Idx, WrongFilesAreNamed) {
  const TemporaryFolder folder;
  write_bytes(folder / "i20", idx_of({20, 4, 4}));
  write_bytes(folder / "i20w", idx_of({20, 4, 5}));
  write_bytes(folder / "l20", idx_labels(20));
  write_bytes(folder / "l19", idx_labels(19));
  write_bytes(folder / "none", idx_of({0, 4, 4}));
  write_bytes(folder / "l0", idx_labels(0));
  write_bytes(folder / "two\nlines \"x\"", "no IDX");
  const auto message = [&](std::vector<std::string> names) {
    for (std::string& name : names) name = folder / name;
    return message_of(options_for("idx", names, folder / "set"));
  };
  expect_part(message({"i20", "l19"}), "i20 has 20 images, but ");
  expect_part(message({"i20", "missing"}), "missing");
  expect_part(message({"none", "l0"}), "it has 0 images");
  expect_part(message({"l20", "i20"}),
              "l20: it starts with 0x00000801, and an IDX file of bytes with 2 to 4");
  expect_part(message({"i20", "l20", "i20w", "l20"}), "images are 4x4 in ");
  expect_part(message({"two\nlines \"x\"", "l20"}), "/two\\nlines \\\"x\\\"\": it starts with 0x");
  expect_part(message({"i20", "l20", "i20"}), "3 sources for idx: give one folder, or the files");
  expect_part(message_of(options_for("idx", {}, folder / "set")), "needs the folder with its IDX files");
  ImportOptions options = options_for("idx", {folder / "i20", folder / "l20"}, folder / "set");
  options.storage = "lz5";
  expect_part(message_of(options), "there is no storage lz5: use raw, lz4, zstd or jpeg (did you mean lz4?)");
  EXPECT_FALSE(fs::exists(folder / "set"));
}

TEST(Idx, EveryStorageGivesTheSameValues) {
  const TemporaryFolder folder;
  write_source(folder / "source", 300, 20);
  for (const char* storage : {"raw", "lz4", "zstd", "jpeg"}) {
    ImportOptions options = options_for("mnist", {folder / "source"}, folder / storage);
    options.storage = storage;
    ASSERT_EQ(message_of(options), "imported");
    const WholeDataset read = read_all(folder / storage + "/train");
    ASSERT_EQ(read.samples.size(), 300U);
    EXPECT_EQ(read.info.storage, storage);
    for (std::int64_t i = 0; i < 300; ++i) {
      const std::string& sample = read.samples[static_cast<std::size_t>(i)];
      if (std::string_view(storage) == "jpeg") {
        Picture picture{28, 28, 1, std::vector<std::byte>(784)};
        EXPECT_TRUE(decode_jpeg(std::as_bytes(std::span(sample)), 28, 28, 1, picture.values.data()).ok());
      } else {
        EXPECT_EQ(sample_of(std::as_bytes(std::span(sample)).data()), i);
      }
    }
  }
}

}  // namespace
}  // namespace paceline
