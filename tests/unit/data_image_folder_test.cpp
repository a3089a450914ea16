#include <gtest/gtest.h>

#include <cstring>

#include "data_damage.hpp"
#include "data_import.hpp"
#include "paceline/data/preview.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

TEST(ImageFolder, EveryImageComesBackOnceWithItsClass) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 60);
  write_bytes(folder / "pets/cats/notes.txt", "not an image");
  write_bytes(folder / "pets/cats/.hidden.png", "neither");
  ImportOptions options = options_for("image-folder", {folder / "pets/"}, folder / "set");
  options.chunk_samples = 4;
  options.shard_samples = 10;
  ASSERT_EQ(message_of(options), "imported");
  const WholeDataset train = read_all(folder / "set/train");
  const WholeDataset test = read_all(folder / "set/test");
  EXPECT_EQ(train.info.name, "pets/train");
  EXPECT_EQ(train.info.storage, "raw");
  EXPECT_EQ(train.info.layout, "hwc");
  EXPECT_EQ(train.info.sample_shape, (std::vector<std::int64_t>{12, 10, 3}));
  EXPECT_EQ(train.info.class_names, (std::vector<std::string>{"cats", "dogs"}));
  EXPECT_GE(test.samples.size(), 1U);
  EXPECT_LE(test.samples.size(), 15U);
  std::vector<bool> seen(60);
  bool ascending = true;
  int before = -1;
  for (const WholeDataset* read : {&train, &test})
    for (std::size_t i = 0; i < read->samples.size(); ++i) {
      const int number = static_cast<unsigned char>(read->samples[i][0]);
      ASSERT_LT(number, 60);
      EXPECT_FALSE(seen[static_cast<std::size_t>(number)]);
      seen[static_cast<std::size_t>(number)] = true;
      EXPECT_EQ(read->labels[i], number % 2);
      const Picture picture = picture_of(number);
      EXPECT_EQ(std::memcmp(read->samples[i].data(), picture.values.data(), picture.values.size()), 0);
      ascending = ascending && (i == 0 || number > before);
      before = number;
    }
  EXPECT_EQ(train.samples.size() + test.samples.size(), 60U);
  EXPECT_FALSE(ascending);  // shuffled
}

TEST(ImageFolder, TheNumberOfThreadsChangesNothing) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 80, ".jpg");
  write_bytes(folder / "pets/cats/bad.jpg", "bad");
  for (const int threads : {1, 2, 5}) {
    ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / concat("set", threads));
    options.threads = threads;
    options.shard_samples = 9;
    ASSERT_EQ(message_of(options), "imported");
  }
  const auto first = files_below(folder / "set1");
  EXPECT_GT(first.size(), 8U);
  EXPECT_TRUE(files_below(folder / "set2") == first);
  EXPECT_TRUE(files_below(folder / "set5") == first);
}

TEST(ImageFolder, AJpegOfTheRightSizeIsKeptByteByByte) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 20, ".jpg");
  write_picture(folder / "pets/cats/large.jpg", picture_of(200, 24, 20));
  write_picture(folder / "pets/cats/png.png", picture_of(201));
  ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / "set");
  options.size = ImageExtent{12, 10};
  options.storage = "jpeg";
  options.test_fraction = 0;
  ASSERT_EQ(message_of(options), "imported");
  EXPECT_FALSE(fs::exists(folder / "set/test"));
  const WholeDataset train = read_all(folder / "set/train");
  ASSERT_EQ(train.samples.size(), 22U);
  std::vector<std::string> kept;
  for (int i = 0; i < 20; ++i)
    kept.push_back(read_bytes(concat(folder / "pets", i % 2 == 0 ? "/cats/" : "/dogs/", i, ".jpg")));
  int others = 0;
  for (const std::string& sample : train.samples) {
    const auto found = std::find(kept.begin(), kept.end(), sample);
    if (found != kept.end())
      kept.erase(found);
    else
      ++others;
    std::vector<std::byte> out(12 * 10 * 3);
    EXPECT_TRUE(decode_jpeg(std::as_bytes(std::span(sample)), 12, 10, 3, out.data()).ok());
  }
  EXPECT_TRUE(kept.empty());
  EXPECT_EQ(others, 2);
  // Left alone, JPEG files stay JPEG.
  fs::remove(folder / "pets/cats/large.jpg");
  fs::remove(folder / "pets/cats/png.png");
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "pets"}, folder / "set2")), "imported");
  EXPECT_EQ(read_all(folder / "set2/train").info.storage, "jpeg");
}

TEST(ImageFolder, GivenSplitsAreKept) {
  const TemporaryFolder folder;
  write_folder(folder / "pets/train", 12);
  write_folder(folder / "pets/val", 4);
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "pets"}, folder / "set")), "imported");
  EXPECT_EQ(read_all(folder / "set/train").samples.size(), 12U);
  EXPECT_EQ(read_all(folder / "set/test").samples.size(), 4U);
  write_folder(folder / "pets/test", 6);
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "pets"}, folder / "set2")), "imported");
  EXPECT_EQ(read_all(folder / "set2/test").samples.size(), 6U);
  EXPECT_EQ(read_all(folder / "set2/val").samples.size(), 4U);
  ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / "set3");
  options.test_fraction = 0.5;
  expect_part(message_of(options), "has a test set of its own: leave --test-fraction out");
  write_picture(folder / "pets/test/birds/1.png", picture_of(1));
  expect_part(message_of(options_for("image-folder", {folder / "pets"}, folder / "set3")),
              "birds/1.png is of the class birds, which has no images to train on");
}

TEST(ImageFolder, SizesThatDifferAreNamed) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 10);
  write_picture(folder / "pets/cats/odd one.png", picture_of(77, 12, 11));
  const std::string message = message_of(options_for("image-folder", {folder / "pets"}, folder / "set"));
  expect_part(message, "the images are not all of one size: ");
  expect_part(message, "has 12x10 pixels");
  expect_part(message, "pets/cats/odd one.png\"");
  expect_part(message, "has 12x11: say");
  expect_part(message, "--size ROWSxCOLUMNS");
  ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / "set");
  options.size = ImageExtent{8, 8};
  ASSERT_EQ(message_of(options), "imported");
  EXPECT_EQ(read_all(folder / "set/train").info.sample_shape, (std::vector<std::int64_t>{8, 8, 3}));
}

TEST(ImageFolder, GreyStaysGreyUnlessThereIsColour) {
  const TemporaryFolder folder;
  for (int i = 0; i < 6; ++i) write_picture(folder / concat("grey/a/", i, ".png"), picture_of(i, 8, 8, 1));
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "grey"}, folder / "set")), "imported");
  EXPECT_EQ(read_all(folder / "set/train").info.sample_shape, (std::vector<std::int64_t>{8, 8, 1}));
  write_picture(folder / "grey/a/colour.png", picture_of(9, 8, 8, 3));
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "grey"}, folder / "set2")), "imported");
  EXPECT_EQ(read_all(folder / "set2/train").info.sample_shape, (std::vector<std::int64_t>{8, 8, 3}));
  ImportOptions options = options_for("image-folder", {folder / "grey"}, folder / "set3");
  options.channels = 1;
  ASSERT_EQ(message_of(options), "imported");
  EXPECT_EQ(read_all(folder / "set3/train").info.sample_shape, (std::vector<std::int64_t>{8, 8, 1}));
  options.channels = 2;
  options.out = folder / "set4";
  expect_part(message_of(options), "--channels 2: images have 1 (grey) or 3 (colour)");
}

/// A PNG that says it is this large.
std::string huge_png() {
  std::string file("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0N \0\0N \x08\x02\0\0\0", 29);
  const auto crc =
      static_cast<std::uint32_t>(::crc32(0, reinterpret_cast<const Bytef*>(file.data()) + 12, 17));
  return file + big_endian(crc);
}

TEST(ImageFolder, BadImagesAreNamedAndLeftOut) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 200);
  write_bytes(folder / "pets/cats/a \"bad\"\none.png", "nonsense");
  write_bytes(folder / "pets/cats/huge.png", huge_png());
  const std::string whole = read_bytes(folder / "pets/cats/0.png");
  write_bytes(folder / "pets/dogs/cut.png", whole.substr(0, whole.size() / 2));
  write_bytes(folder / "pets/dogs/empty.jpg", "");
  fs::create_symlink("/nowhere", folder / "pets/dogs/link.png");
  ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / "set");
  std::string warnings;
  options.warning = [&](const std::string& sentence) { warnings += sentence + "\n"; };
  options.test_fraction = 0.2;
  ASSERT_EQ(message_of(options), "imported");
  expect_part(warnings, "/a \\\"bad\\\"\\none.png\": it is neither a JPEG nor a PNG\n");
  expect_part(warnings, "huge.png: it has 20000x20000 pixels, and images may have up to 16384 in a side");
  expect_part(warnings, "cut.png: it is not a whole PNG");
  expect_part(warnings, "empty.jpg: it is empty");
  expect_part(warnings, "cannot open " + (folder / "pets/dogs/link.png"));
  expect_part(warnings, "left out 5 of 205 files that can't be used (--strict makes that an error)\n");
  EXPECT_EQ(read_all(folder / "set/train").samples.size() + read_all(folder / "set/test").samples.size(),
            200U);

  options.out = folder / "strict";
  options.strict = true;
  EXPECT_FALSE(import_dataset(options).ok());
  EXPECT_FALSE(fs::exists(folder / "strict"));
}

TEST(ImageFolder, TooManyBadImagesAreAnError) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 30);
  write_bytes(folder / "pets/cats/bad1.png", "x");
  ASSERT_EQ(message_of(options_for("image-folder", {folder / "pets"}, folder / "set")), "imported");
  write_bytes(folder / "pets/cats/bad2.png", "x");
  expect_part(message_of(options_for("image-folder", {folder / "pets"}, folder / "set2")),
              "2 of 32 files can't be used, and up to one in 20 may be; the last one: ");
  fs::remove_all(folder / "pets");
  fs::create_directories(folder / "pets/cats");
  write_bytes(folder / "pets/cats/bad.png", "x");
  expect_part(message_of(options_for("image-folder", {folder / "pets"}, folder / "set2")),
              "none of the first 1 image can be used; the last one: ");
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"pets", "set"}));
}

TEST(ImageFolder, FoldersThatAreNoneAreSaid) {
  const TemporaryFolder folder;
  const auto message = [&](const std::string& source) {
    return message_of(options_for("image-folder", {source}, folder / "set"));
  };
  expect_part(message(folder / "nowhere"), "nowhere is not a folder");
  fs::create_directory(folder / "empty");
  expect_part(message(folder / "empty"), "empty has no folders in it: give a folder with one folder");
  write_folder(folder / "pets", 4);
  fs::create_directory(folder / "pets/empty class");
  expect_part(message(folder / "pets"),
              "pets/empty class\" has no .jpg, .jpeg or .png files: remove the folder");
  fs::remove(folder / "pets/empty class");
  write_picture(folder / "pets/b\xff/1.png", picture_of(1));
  expect_part(message(folder / "pets"), "/b\\xff\": the name of a class must be UTF-8: rename the folder");
  expect_part(message_of(options_for("image-folder", {}, folder / "set")), "needs one folder as SOURCE");
  EXPECT_FALSE(parse_image_extent("12").ok());
  EXPECT_FALSE(parse_image_extent("0x5").ok());
  EXPECT_FALSE(parse_image_extent("16384x16384").ok());
  EXPECT_EQ(parse_image_extent("224x192")->rows, 224);
  EXPECT_EQ(parse_image_extent("224x192")->columns, 192);
}

TEST(ImageFolder, CancelledAtAnyTimeLeavesNothing) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 40);
  for (int asked = 0; asked < 40; asked += 3) {
    ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / "set");
    options.chunk_samples = 4;
    options.cancelled = [left = asked]() mutable { return left-- <= 0; };
    const Status imported = import_dataset(options);
    ASSERT_FALSE(imported.ok());
    EXPECT_EQ(imported.error().code, ErrorCode::aborted) << imported.error().message;
    EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"pets"});
  }
}

TEST(ImageFolder, PreviewShowsTheImagesWithTheirClasses) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 30);
  for (const char* storage : {"raw", "jpeg"}) {
    ImportOptions options = options_for("image-folder", {folder / "pets"}, folder / storage);
    options.storage = storage;
    options.test_fraction = 0;
    ASSERT_EQ(message_of(options), "imported");
    const WholeDataset read = read_all(folder / storage + "/train");
    PreviewOptions preview_options;
    preview_options.count = 9;
    const Result<Preview> preview = preview_dataset(folder / storage + "/train", preview_options);
    ASSERT_TRUE(preview.ok()) << preview.error().message;
    const Result<Picture> sheet = decode_picture(std::as_bytes(std::span(preview->png)), 3);
    ASSERT_TRUE(sheet.ok());
    EXPECT_EQ(sheet->rows, 3 * (12 * 4 + 2) + 2);  // each pixel four times, so that the larger side has 48
    EXPECT_EQ(sheet->columns, 3 * (10 * 4 + 2) + 2);
    ASSERT_EQ(preview->labels.size(), 3U);
    for (std::size_t i = 0; i < 9; ++i) {
      const std::size_t sample = i * 30 / 9;
      EXPECT_EQ(preview->labels[i / 3][i % 3], read.labels[sample] == 0 ? "cats" : "dogs");
      if (std::string_view(storage) == "raw") {
        const std::size_t pixel = ((i / 3 * 50 + 2) * 128 + i % 3 * 42 + 2) * 3;
        EXPECT_EQ(sheet->values[pixel], static_cast<std::byte>(read.samples[sample][0])) << i;
      }
    }
  }
  EXPECT_FALSE(preview_dataset(folder / "nowhere").ok());
}

}  // namespace
}  // namespace paceline
