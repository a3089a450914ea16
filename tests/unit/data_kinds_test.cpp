#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <map>

#include "data_fixture.hpp"
#include "import/picture.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/preview.hpp"

// Importers other than the four IDX files of MNIST, which data_import_test.cpp has.
namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

struct Read {
  DatasetInfo info;
  std::vector<std::string> samples;
  std::vector<std::int32_t> labels;
};

Read read_all(const std::string& path, DatasetOptions options = {}) {
  Read read;
  const Result<Dataset> dataset = Dataset::open(path, options);
  EXPECT_TRUE(dataset.ok()) << (dataset.ok() ? "" : dataset.error().message);
  if (!dataset.ok()) return read;
  read.info = dataset->info();
  for (std::int64_t number = 0; number < read.info.chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    EXPECT_TRUE(chunk.ok()) << (chunk.ok() ? "" : chunk.error().message);
    if (!chunk.ok()) return read;
    for (std::int64_t i = 0; i < chunk->samples(); ++i) {
      const std::span<const std::byte> bytes = chunk->sample(i);
      read.samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
      read.labels.push_back(chunk->label(i));
    }
  }
  return read;
}

/// All bytes of all shards, by file: for comparing datasets.
std::map<std::string, std::string> files_below(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), folder)] = read_bytes(entry.path());
  return files;
}

ImportOptions options_for(const std::string& kind, std::vector<std::string> sources, const std::string& out) {
  ImportOptions options;
  options.kind = kind;
  options.sources = std::move(sources);
  options.out = out;
  options.threads = 2;
#ifdef PACELINE_TOKENIZER
  options.tokenizer_program = PACELINE_TOKENIZER;
#endif
  return options;
}

std::string message_of(const ImportOptions& options) {
  const Status imported = import_dataset(options);
  return imported.ok() ? std::string("imported") : imported.error().message;
}
void expect_part(const std::string& whole, const std::string& part) {
  EXPECT_NE(whole.find(part), std::string::npos) << whole << "\n  has not: " << part;
}

// ---- CIFAR -------------------------------------------------------------------------------------------

std::string cifar_record(int label, int number, bool fine_too) {
  std::string record(1, static_cast<char>(fine_too ? label / 5 : label));
  if (fine_too) record += static_cast<char>(label);
  for (int at = 0; at < 3072; ++at) record += static_cast<char>(number * 7 + at * 3);
  return record;
}

void write_cifar10(const std::string& folder, int records) {
  fs::create_directories(folder);
  int number = 0;
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                           "data_batch_5.bin", "test_batch.bin"}) {
    std::string bytes;
    for (int i = 0; i < records; ++i, ++number) bytes += cifar_record(number % 10, number, false);
    write_bytes(concat(folder, "/", name), bytes);
  }
}

TEST(Cifar, EveryRecordOfTheBatchesComesBack) {
  const TemporaryFolder folder;
  write_cifar10(folder / "cifar-10-batches-bin", 7);
  write_bytes(folder / "cifar-10-batches-bin/batches.meta.txt",
              "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
  ImportOptions options =
      options_for("cifar10", {folder.path()}, folder / "set");  // the folder above will do
  options.shard_samples = 10;                                   // parts begin and end within files
  options.chunk_samples = 4;
  ASSERT_EQ(message_of(options), "imported");
  const Read train = read_all(folder / "set/train");
  ASSERT_EQ(train.samples.size(), 35U);
  for (int i = 0; i < 35; ++i) {
    EXPECT_EQ(train.labels[static_cast<std::size_t>(i)], i % 10);
    EXPECT_TRUE(train.samples[static_cast<std::size_t>(i)] == cifar_record(0, i, false).substr(1)) << i;
  }
  EXPECT_EQ(train.info.sample_shape, (std::vector<std::int64_t>{3, 32, 32}));
  EXPECT_EQ(train.info.layout, "chw");
  EXPECT_EQ(train.info.class_names[9], "truck");
  EXPECT_EQ(train.info.mean.size(), 3U);
  EXPECT_EQ(read_all(folder / "set/test").samples.size(), 7U);
}

TEST(Cifar, HundredHasTheFineLabels) {
  const TemporaryFolder folder;
  for (const auto& [name, records] : {std::pair("train.bin", 100), {"test.bin", 3}}) {
    std::string bytes;
    for (int i = 0; i < records; ++i) bytes += cifar_record(i, i, true);
    write_bytes(folder / name, bytes);
  }
  ImportOptions options = options_for("cifar100", {folder.path()}, folder / "set");
  options.storage = "jpeg";
  ASSERT_EQ(message_of(options), "imported");
  const Read train = read_all(folder / "set/train");
  ASSERT_EQ(train.samples.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(train.labels[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(train.info.sample_shape, (std::vector<std::int64_t>{32, 32, 3}));
  EXPECT_EQ(train.info.layout, "hwc");
  EXPECT_EQ(train.info.classes, 100);
}

TEST(Cifar, WhatIsWrongIsSaidWithTheFile) {
  const TemporaryFolder folder;
  const auto message_with = [&](const std::string& name, const std::string& bytes) {
    fs::remove_all(folder / "source");
    write_cifar10(folder / "source", 3);
    if (bytes.empty())
      fs::remove(folder / "source/" + name);
    else
      write_bytes(folder / "source/" + name, bytes == "empty" ? "" : bytes);
    const std::string message = message_of(options_for("cifar10", {folder / "source"}, folder / "set"));
    expect_part(message, name);
    EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"source"});
    return message;
  };
  const std::string three = cifar_record(1, 1, false) + cifar_record(2, 2, false) + cifar_record(3, 3, false);
  expect_part(message_with("data_batch_2.bin", three + "x"), "its 9220 bytes are not whole records of 3073");
  expect_part(message_with("test_batch.bin", "empty"), "its 0 bytes are not whole records");
  expect_part(message_with("data_batch_4.bin", three.substr(3073)), "has 2 images, but");
  expect_part(message_with("data_batch_1.bin", three.substr(3073) + cifar_record(10, 0, false)),
              "label 2 is 10, and there are the classes 0 to 9");
  expect_part(message_with("data_batch_1.bin", ""), "has no data_batch_1.bin: give the folder");
  expect_part(message_with("data_batch_5.bin", ""), "cannot open");
  expect_part(message_of(options_for("cifar100", {folder / "nowhere"}, folder / "set")),
              "nowhere is not there");
}

// ---- IDX of any shape --------------------------------------------------------------------------------

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
    const Read read = read_all(out + "/train");
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
    const Read read = read_all(folder / storage + "/train");
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

// ---- folders of images -------------------------------------------------------------------------------

/// Noise, so that no two are alike; the first pixel is the number.
Picture picture_of(int number, std::int64_t rows = 12, std::int64_t columns = 10, std::int64_t channels = 3) {
  Picture picture{rows, columns, channels, {}};
  SplitMix64 random(static_cast<std::uint64_t>(number));
  for (std::int64_t i = 0; i < rows * columns * channels; ++i)
    picture.values.push_back(static_cast<std::byte>(random.next()));
  picture.values[0] = static_cast<std::byte>(number);
  return picture;
}

void write_picture(const std::string& path, const Picture& picture) {
  const bool jpeg = path.ends_with(".jpg") || path.ends_with(".JPEG");
  const Result<std::vector<std::byte>> file = jpeg ? encode_jpeg(picture, 90) : encode_png(picture);
  ASSERT_TRUE(file.ok());
  fs::create_directories(fs::path(path).parent_path());
  write_bytes(path, {reinterpret_cast<const char*>(file->data()), file->size()});
}

/// `count` images in two classes.
void write_folder(const std::string& source, int count, const std::string& ending = ".png") {
  for (int i = 0; i < count; ++i)
    write_picture(concat(source, i % 2 == 0 ? "/cats/" : "/dogs/", i, ending), picture_of(i));
}

TEST(ImageFolder, EveryImageComesBackOnceWithItsClass) {
  const TemporaryFolder folder;
  write_folder(folder / "pets", 60);
  write_bytes(folder / "pets/cats/notes.txt", "not an image");
  write_bytes(folder / "pets/cats/.hidden.png", "neither");
  ImportOptions options = options_for("image-folder", {folder / "pets/"}, folder / "set");
  options.chunk_samples = 4;
  options.shard_samples = 10;
  ASSERT_EQ(message_of(options), "imported");
  const Read train = read_all(folder / "set/train");
  const Read test = read_all(folder / "set/test");
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
  for (const Read* read : {&train, &test})
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
  const Read train = read_all(folder / "set/train");
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
    const Read read = read_all(folder / storage + "/train");
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

// ---- text --------------------------------------------------------------------------------------------

/// The tokens of a dataset of bytes, windows and what follows the last.
std::string all_bytes(const std::string& path) {
  const Read read = read_all(path, {.window = 1});
  std::string bytes;
  for (const std::string& sample : read.samples) bytes += sample[0];
  if (!read.samples.empty()) bytes += read.samples.back()[1];
  return bytes;
}

std::string sentence(int number) {
  std::string text = concat("Document ", number, " says:\n");
  for (int i = 0; i < 40; ++i)
    text +=
        concat("  line ", i, " of the text, which tells of ", number * 31 % 17, " sheep and a shepherd.\n");
  return text;
}

TEST(TextImport, EveryDocumentComesBackWithASeparator) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "books/deep");
  std::vector<std::string> left;
  for (int i = 0; i < 30; ++i) {
    const std::string path = folder / concat("books/", i % 3 == 0 ? "deep/" : "", "book ", i, ".txt");
    left.push_back(sentence(i) + std::string(1, '\0'));
    if (i % 4 == 0)
      write_gzip(path + ".gz", sentence(i));
    else
      write_bytes(path, sentence(i));
  }
  write_bytes(folder / "books/empty.txt", "");
  write_gzip(folder / "books/empty.gz", "");
  ImportOptions options = options_for("text", {folder / "books/"}, folder / "set");
  options.chunk_samples = 1000;
  options.shard_samples = 5000;
  options.test_fraction = 0.2;
  ASSERT_EQ(message_of(options), "imported");
  const Read info = read_all(folder / "set/train");
  EXPECT_EQ(info.info.kind, SampleKind::tokens);
  EXPECT_EQ(info.info.dtype, "u8");
  EXPECT_EQ(info.info.vocabulary, 256);
  EXPECT_EQ(info.info.tokenizer, "bytes");
  EXPECT_GT(info.info.shards, 2);
  std::string text = all_bytes(folder / "set/train") + all_bytes(folder / "set/test");
  while (!text.empty()) {
    const std::size_t end = text.find('\0') + 1;
    const auto found = std::find(left.begin(), left.end(), text.substr(0, end));
    ASSERT_NE(found, left.end()) << text.substr(0, 50);
    left.erase(found);
    text.erase(0, end);
  }
  EXPECT_TRUE(left.empty());
  EXPECT_GE(read_all(folder / "set/test").info.tokens, 1000);
}

TEST(TextImport, ASingleFileIsSplitAtALineNearItsEnd) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 40; ++i) text += sentence(i);
  write_bytes(folder / "book.txt", text);
  write_gzip(folder / "book.gz", text);
  int number = 0;
  for (const char* name : {"book.txt", "book.gz"}) {
    ImportOptions options = options_for("text", {folder / name}, folder / concat("set", ++number));
    options.test_fraction = 0.25;
    ASSERT_EQ(message_of(options), "imported");
    const std::string train = all_bytes(options.out + "/train");
    const std::string test = all_bytes(options.out + "/test");
    ASSERT_FALSE(train.empty());
    EXPECT_EQ(train.back(), '\0');
    EXPECT_EQ(train[train.size() - 2], '\n');
    EXPECT_TRUE(train.substr(0, train.size() - 1) + test == text + std::string(1, '\0')) << name;
    EXPECT_NEAR(static_cast<double>(test.size()), 0.25 * static_cast<double>(text.size()), 100);
  }
}

TEST(TextImport, LargeFilesAreReadInPiecesThatFitTogether) {
  const TemporaryFolder folder;
  std::string text;
  SplitMix64 random(7);
  while (text.size() <
         9'500'000) {  // three pieces; lines of up to 200 KB, so that some borders have none near
    text.append(static_cast<std::size_t>(random.below(200'000)), static_cast<char>('a' + random.below(26)));
    text += "\xe2\x82\xac\n";
  }
  write_bytes(folder / "large.txt", text);
  ImportOptions options = options_for("text", {folder / "large.txt"}, folder / "set");
  options.test_fraction = 0;
  options.threads = 3;
  ASSERT_EQ(message_of(options), "imported");
  const Result<Dataset> dataset = Dataset::open(folder / "set/train", {.window = 0});
  ASSERT_TRUE(dataset.ok());
  EXPECT_EQ(dataset->info().tokens, static_cast<std::int64_t>(text.size()) + 1);
  std::string read;
  for (std::int64_t number = 0; number < dataset->info().chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    ASSERT_TRUE(chunk.ok());
    for (std::int64_t i = 0; i < chunk->samples(); ++i)
      read.append(reinterpret_cast<const char*>(chunk->sample(i).data()), chunk->sample(i).size() - 1);
  }
  EXPECT_TRUE(text.starts_with(read));
  EXPECT_GT(read.size(), 9'000'000U);
}

TEST(TextImport, ATrainedTokenizerGivesTheTextBack) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "books");
  for (int i = 0; i < 40; ++i)
    write_bytes(folder / concat("books/", i), sentence(i) + "  h\xc3\xa9llo \xf0\x9f\x98\x80\tx\n");
  ImportOptions options = options_for("text", {folder / "books"}, folder / "set");
  options.tokenizer = "train:400";
  options.test_fraction = 0;
  options.chunk_samples = 500;
  ASSERT_EQ(message_of(options), "imported");
  EXPECT_EQ(entries_of(folder / "set"), (std::vector<std::string>{"tokenizer.model", "train"}));
  const Read train = read_all(folder / "set/train");
  EXPECT_EQ(train.info.dtype, "u16");
  EXPECT_GT(train.info.vocabulary, 256);
  EXPECT_LE(train.info.vocabulary, 400);
  PreviewOptions preview_options;
  preview_options.tokenizer_program = options.tokenizer_program;
  const Result<Preview> preview = preview_dataset(folder / "set/train", preview_options);
  ASSERT_TRUE(preview.ok()) << preview.error().message;
  ASSERT_EQ(preview->texts.size(), 4U);
  std::string all;
  for (int i = 0; i < 40; ++i) all += read_bytes(folder / concat("books/", i));
  // A window of 256 tokens is a part of some documents one after the other; at least its first 60 bytes are
  // of one.
  EXPECT_NE(all.find(preview->texts[0].substr(0, 60)), std::string::npos) << preview->texts[0];
  expect_part(preview->texts[0] + preview->texts[1] + preview->texts[2] + preview->texts[3], "\n  line ");
  EXPECT_NE(read_bytes(folder / "set/tokenizer.model").size(), 0U);

  // The model can be given to another import, on any number of threads.
  for (const int threads : {1, 3}) {
    ImportOptions again = options;
    again.tokenizer = folder / "set/tokenizer.model";
    again.out = folder / concat("again", threads);
    again.threads = threads;
    ASSERT_EQ(message_of(again), "imported");
    EXPECT_TRUE(files_below(again.out) == files_below(folder / "set"));
  }
}

TEST(TextImport, WhatIsWrongIsSaid) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.txt", sentence(1));
  const auto message = [&](const std::function<void(ImportOptions&)>& change) {
    ImportOptions options = options_for("text", {folder / "a.txt"}, folder / "set");
    change(options);
    return message_of(options);
  };
  fs::create_directory(folder / "empty");
  write_bytes(folder / "nothing.txt", "");
  write_bytes(folder / "no model", "this is no model");
  expect_part(message([&](auto& o) { o.sources = {folder / "empty"}; }), "there are no files in ");
  expect_part(message([&](auto& o) { o.sources = {folder / "nothing.txt"}; }), "there is no text for train");
  expect_part(message([&](auto& o) { o.sources = {folder / "no\nwhere"}; }), "no\\nwhere\": No such file");
  expect_part(message([&](auto& o) { o.sources.clear(); }), "needs files or folders as SOURCE");
  expect_part(message([&](auto& o) { o.storage = "jpeg"; }), "--storage jpeg is for images");
  expect_part(message([&](auto& o) { o.test_fraction = 1.5; }), "--test-fraction 1.5: use 0 to less than 1");
  expect_part(message([&](auto& o) { o.tokenizer = folder / "no model"; }),
              "no model\": it is no SentencePiece model");
  expect_part(message([&](auto& o) { o.tokenizer = folder / "missing"; }), "cannot open the tokenizer ");
  expect_part(message([&](auto& o) { o.tokenizer = "train:7"; }),
              "can't be trained with 7 tokens: write train:8000");
  expect_part(message([&](auto& o) { o.tokenizer = "train:500", o.tokenizer_program = "/nowhere/tok"; }),
              "there is no program /nowhere/tok");
  EXPECT_FALSE(fs::exists(folder / "set"));
}

TEST(TextImport, ADamagedGzipFileIsLeftOutAndNamed) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "books");
  for (int i = 0; i < 30; ++i) write_bytes(folder / concat("books/", i), sentence(i));
  write_gzip(folder / "books/cut.gz", sentence(99));
  const std::string whole = read_bytes(folder / "books/cut.gz");
  write_bytes(folder / "books/cut.gz", whole.substr(0, whole.size() - 6));
  ImportOptions options = options_for("text", {folder / "books"}, folder / "set");
  std::string warnings;
  options.warning = [&](const std::string& sentence) { warnings += sentence + "\n"; };
  ASSERT_EQ(message_of(options), "imported");
  expect_part(warnings, "cut.gz: its gzip stream is truncated\n");
  options.out = folder / "strict";
  options.strict = true;
  expect_part(message_of(options), "cut.gz: its gzip stream is truncated");
}

// ---- HDF5 files of others ----------------------------------------------------------------------------

TEST(Hdf5Import, NeedsFilesAndNamesThem) {
  const TemporaryFolder folder;
  expect_part(message_of(options_for("hdf5", {}, folder / "set")), "needs one or more HDF5 files as SOURCE");
  write_bytes(folder / "no.h5", "no HDF5");
  expect_part(message_of(options_for("hdf5", {folder / "no.h5"}, folder / "set")), "no.h5");
  EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"no.h5"});
}

// ---- all of them -------------------------------------------------------------------------------------

TEST(ImportKinds, OptionsOfOtherKindsAreRefused) {
  const TemporaryFolder folder;
  const auto message = [&](const char* kind, const std::function<void(ImportOptions&)>& change) {
    ImportOptions options = options_for(kind, {folder.path()}, folder / "set");
    change(options);
    return message_of(options);
  };
  EXPECT_EQ(message("mnist",
                    [](auto& o) {
                      o.size = ImageExtent{8, 8};
                    }),
            "--size is for image-folder, and not for mnist");
  EXPECT_EQ(message("cifar10", [](auto& o) { o.test_fraction = 0.1; }),
            "--test-fraction is for image-folder and text, and not for cifar10");
  EXPECT_EQ(message("idx", [](auto& o) { o.tokenizer = "train:9"; }),
            "--tokenizer is for text, and not for idx");
  EXPECT_EQ(message("text", [](auto& o) { o.values = "/x"; }), "--values is for hdf5, and not for text");
  expect_part(message("hdf5", [](auto& o) { o.storage = "zstd"; }),
              "--storage is for fashion-mnist, mnist, idx");
}

TEST(ImportKinds, WhatAKilledImportLeftIsRemovedByTheNext) {
  const TemporaryFolder folder;
  write_source(folder / "source", 20, 10);
  char host[256] = "";
  ::gethostname(host, sizeof host - 1);
  const pid_t dead = ::fork();
  if (dead == 0) ::_exit(0);
  ASSERT_EQ(::waitpid(dead, nullptr, 0), dead);
  const auto left_behind = [&](const std::string& name) {
    fs::create_directories(folder / name + "/train");
    write_bytes(folder / name + "/train/shard-00000.h5", "half");
    return name;
  };
  left_behind(concat(".set.partial-", host, "-", dead));
  left_behind(concat(".set.partial-", host, "-", dead, "-3"));
  const std::string alive = left_behind(concat(".set.partial-", host, "-", ::getpid(), "-7"));
  const std::string elsewhere = left_behind(concat(".set.partial-not-", host, "-", dead));
  const std::string other = left_behind(concat(".other.partial-", host, "-", dead));
  const std::string locked = left_behind(concat(".set.partial-", host, "-", dead, "-9"));
  const UniqueFd lock(::open((folder / locked).c_str(), O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
  ASSERT_TRUE(import_dataset(small_import(folder / "source", folder / "set")).ok());
  std::vector<std::string> expected = {"set", "source", alive, elsewhere, other, locked};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(entries_of(folder.path()), expected);
}

TEST(ImportKinds, FullDiskIsSaidAndLeavesNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const TemporaryFolder folder;
  write_folder(folder / "pets", 150);
  fs::create_directory(folder / "books");
  for (int i = 0; i < 30; ++i) write_bytes(folder / concat("books/", i), sentence(i));
  fs::create_directory(folder / "disk");
  for (const auto& [kind, source] : {std::pair("image-folder", "pets"), {"text", "books"}}) {
    int full = 0;
    for (std::int64_t pages = 1; pages <= 34; pages += 3) {
      if (::mount("tmpfs", (folder / "disk").c_str(), "tmpfs", 0, concat("size=", pages * 4096).c_str()) != 0)
        GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
      ImportOptions options = options_for(kind, {folder / source}, folder / "disk/set");
      options.chunk_samples = std::string_view(kind) == "text" ? 2000 : 8;
      options.shard_samples = std::string_view(kind) == "text" ? 8000 : 24;
      const std::string message = message_of(options);
      if (message != "imported") {
        expect_part(message, "no space left while importing into ");
        EXPECT_TRUE(fs::is_empty(folder / "disk")) << pages;
        ++full;
      }
      ASSERT_EQ(::umount((folder / "disk").c_str()), 0);
    }
    EXPECT_GT(full, 3) << kind;
  }
}

}  // namespace
}  // namespace paceline
