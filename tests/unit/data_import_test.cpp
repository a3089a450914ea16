#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <functional>
#include <thread>

#include "data_damage.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

TEST(Import, EverySampleComesBackExactly) {
  const TemporaryFolder folder;
  write_source(folder / "source", 437, 33);
  const Status imported = import_dataset(small_import(folder / "source", folder / "set"));
  ASSERT_TRUE(imported.ok()) << imported.error().message;
  expect_samples(folder / "set/train", 437);
  expect_samples(folder / "set/test", 33);
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"set", "source"}));
  EXPECT_EQ(entries_of(folder / "set/train"),
            (std::vector<std::string>{"manifest.json", "shard-00000.h5", "shard-00001.h5", "shard-00002.h5",
                                      "shard-00003.h5", "shard-00004.h5"}));

  const Result<Dataset> dataset = Dataset::open(folder / "set/train");
  const DatasetInfo& info = dataset->info();
  EXPECT_EQ(info.name, "fashion-mnist/train");
  EXPECT_EQ(info.task, "image-classification");
  EXPECT_EQ(info.sample_shape, (std::vector<std::int64_t>{1, 28, 28}));
  EXPECT_EQ(info.sample_bytes, 784);
  EXPECT_EQ(info.classes, 10);
  EXPECT_EQ(info.chunk_samples, 16);
  EXPECT_EQ(info.shards, 5);
  EXPECT_EQ(info.chunks, 4 * 7 + 3);  // 100 samples are 6 chunks and a rest of 4; 37 are 2 and 5
  EXPECT_TRUE(verify_dataset(folder / "set/train")->empty());
}

TEST(Import, MeanAndDeviationAreThoseOfTheValues) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 120));
  ASSERT_TRUE(dataset.ok());
  double sum = 0;
  double squares = 0;
  for (std::int64_t sample = 0; sample < 120; ++sample)
    for (std::int64_t at = 0; at < image_bytes; ++at) {
      const double value = pixel(sample, at) / 255.0;
      sum += value;
      squares += value * value;
    }
  const double mean = sum / (120 * image_bytes);
  EXPECT_NEAR(dataset->info().mean.at(0), mean, 1e-12);
  EXPECT_NEAR(dataset->info().standard_deviation.at(0),
              std::sqrt(squares / (120 * image_bytes) - mean * mean), 1e-12);
}

TEST(Import, CompressedOrNotGivesTheSameBytes) {
  const TemporaryFolder folder;
  write_source(folder / "source", 130, 10);
  fs::create_directory(folder / "compressed");
  for (const std::string& name : entries_of(folder / "source"))
    write_gzip(folder / "compressed/" + name + ".gz", read_bytes(folder / "source/" + name));
  ASSERT_TRUE(import_dataset(small_import(folder / "source", folder / "a")).ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // HDF5 likes to store seconds
  ASSERT_TRUE(import_dataset(small_import(folder / "compressed", folder / "b")).ok());
  for (const std::string& name : entries_of(folder / "a/train"))
    EXPECT_TRUE(read_bytes(folder / "a/train/" + name) == read_bytes(folder / "b/train/" + name)) << name;
}

TEST(Import, AnyChunkAndShardSizeWorks) {
  const TemporaryFolder folder;
  write_source(folder / "source", 61, 1);
  int number = 0;
  for (const std::int64_t chunk : {1, 7, 60, 61, 62, 1000})
    for (const std::int64_t shard : {1, 20, 60, 61, 62}) {
      ImportOptions options = small_import(folder / "source", folder / concat("set", number++));
      options.chunk_samples = chunk;
      options.shard_samples = shard;
      const Status imported = import_dataset(options);
      ASSERT_TRUE(imported.ok()) << chunk << ", " << shard << ": " << imported.error().message;
      expect_samples(options.out + "/train", 61);
      expect_samples(options.out + "/test", 1);
    }
}

struct Malformed {
  const char* what;
  std::function<void(const std::string& source)> damage;
  const char* message;  // a part of it
};

std::vector<Malformed> malformed_sources() {
  const auto images = "/train-images-idx3-ubyte";
  const auto labels = "/t10k-labels-idx1-ubyte";
  const auto replace = [](const char* name, std::string bytes) {
    return [=](const std::string& source) { write_bytes(source + name, bytes); };
  };
  const std::string good = idx_images(40);
  const std::string narrow = big_endian(0x803) + big_endian(40) + big_endian(28) + big_endian(27);
  std::string bad_label = idx_labels(10);
  bad_label[8 + 7] = 17;
  return {
      {"empty", replace(images, ""), "it starts with 0x, and an IDX file"},
      {"wrong magic", replace(images, idx_labels(40)),
       "it starts with 0x00000801, and an IDX file of bytes with 3"},
      {"cut in the header", replace(images, good.substr(0, 9)), "it is truncated"},
      {"cut in the data", replace(images, good.substr(0, good.size() - 1)), "it is truncated"},
      {"trailing byte", replace(images, good + "x"), "more bytes follow than its header promises"},
      {"trailing label", replace(labels, idx_labels(10) + "x"), "more bytes follow than its header promises"},
      {"other size", replace(images, narrow), "its images are 28x27, and those of fashion-mnist are 28x28"},
      {"no images", replace(images, idx_images(0)), "0 images, but"},
      {"counts differ", replace(labels, idx_labels(9)), "has 10 images, but"},
      {"huge count", replace(images, big_endian(0x803) + big_endian(0xffffffff) + good.substr(8)),
       "has 4294967295 images, but"},
      {"bad label", replace(labels, bad_label), "label 7 is 17, and fashion-mnist has the classes 0 to 9"},
      {"missing", [=](const std::string& source) { fs::remove(source + images); },
       "has neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"},
      {"a folder",
       [=](const std::string& source) {
         fs::remove(source + images);
         fs::create_directory(source + images);
       },
       "is not a regular file"},
      {"cut gzip",
       [=](const std::string& source) {
         write_gzip(source + images, good);
         const std::string bytes = read_bytes(source + images);
         write_bytes(source + images, bytes.substr(0, bytes.size() - 5));
       },
       "its gzip stream is truncated"},
      {"damaged gzip",
       [=](const std::string& source) {
         write_gzip(source + images, good);
         std::string bytes = read_bytes(source + images);
         bytes[bytes.size() - 6] = static_cast<char>(bytes[bytes.size() - 6] ^ 1);  // in its checksum
         write_bytes(source + images, bytes);
       },
       "its gzip stream is damaged"},
  };
}

TEST(Import, EachMalformedSourceIsOneSentenceAndLeavesNothing) {
  for (const Malformed& malformed : malformed_sources()) {
    const TemporaryFolder folder;
    write_source(folder / "source", 40, 10);
    malformed.damage(folder / "source");
    const Status imported = import_dataset(small_import(folder / "source", folder / "new/parent/set"));
    ASSERT_FALSE(imported.ok()) << malformed.what;
    EXPECT_NE(imported.error().message.find(malformed.message), std::string::npos)
        << malformed.what << ": " << imported.error().message;
    EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"source"}) << malformed.what;
  }
}

TEST(Import, WrongOptionsSayWhatIsRight) {
  const TemporaryFolder folder;
  write_source(folder / "source", 20, 10);
  const auto message = [&](const std::function<void(ImportOptions&)>& change) {
    ImportOptions options = small_import(folder / "source", folder / "set");
    change(options);
    const Status imported = import_dataset(options);
    return imported.ok() ? std::string("imported") : imported.error().message;
  };
  expect_part(message([](auto& o) { o.kind = "fasion-mnist"; }), "did you mean fashion-mnist?");
  expect_part(message([](auto& o) { o.kind = "mnist", o.sources.clear(); }),
              "needs the folder with its IDX files");
  expect_part(message([&](auto& o) { o.sources = {folder / "nowhere"}; }), "nowhere is not a folder");
  expect_part(message([](auto& o) { o.chunk_samples = -1; }), "chunks of -1 samples: use 1 to ");
  expect_part(message([](auto& o) { o.chunk_samples = std::int64_t{1} << 60; }), "use 1 to ");
  expect_part(message([](auto& o) { o.shard_samples = -1; }), "shards of -1 samples: use 1 to ");
  expect_part(message([](auto& o) { o.out = ""; }), "name a folder that does not exist yet");
  expect_part(message([&](auto& o) { o.out = folder / "."; }), "name a folder that does not exist yet");
  expect_part(message([&](auto& o) { o.out = "/proc/nowhere/set"; }), "cannot create /proc/nowhere");
  EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"source"});
}

TEST(Import, NeverReplacesWhatIsThere) {
  const TemporaryFolder folder;
  make_dataset(folder, 20);
  const std::string before = read_bytes(folder / "set/train/manifest.json");
  const Status again = import_dataset(small_import(folder / "source", folder / "set/"));
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, ErrorCode::already_exists);
  EXPECT_NE(again.error().message.find("set already holds a dataset"), std::string::npos)
      << again.error().message;
  EXPECT_EQ(read_bytes(folder / "set/train/manifest.json"), before);

  const Status onto_source = import_dataset(small_import(folder / "source", folder / "source"));
  EXPECT_EQ(onto_source.error().code, ErrorCode::already_exists);
  write_bytes(folder / "file", "x");
  EXPECT_EQ(import_dataset(small_import(folder / "source", folder / "file")).error().code,
            ErrorCode::already_exists);
  fs::create_directory(folder / "empty");
  EXPECT_TRUE(import_dataset(small_import(folder / "source", folder / "empty")).ok());
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"empty", "file", "set", "source"}));
}

TEST(Import, TwoAtOnceMakeOneDataset) {
  const TemporaryFolder folder;
  write_source(folder / "source", 300, 10);
  std::array<Status, 3> results;
  std::vector<std::thread> threads;
  for (Status& result : results)
    threads.emplace_back([&] { result = import_dataset(small_import(folder / "source", folder / "set")); });
  for (std::thread& thread : threads) thread.join();
  int made = 0;
  for (const Status& result : results) {
    made += result.ok() ? 1 : 0;
    if (result.ok()) continue;
    EXPECT_EQ(result.error().code, ErrorCode::already_exists) << result.error().message;
  }
  EXPECT_EQ(made, 1);
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"set", "source"}));
  expect_samples(folder / "set/train", 300);
}

TEST(Import, CancelledAtAnyChunkLeavesNothing) {
  const TemporaryFolder folder;
  write_source(folder / "source", 70, 10);
  for (int chunk = 0; chunk < 6; ++chunk) {  // 5 chunks of train, 1 of test
    ImportOptions options = small_import(folder / "source", folder / "set");
    options.cancelled = [left = chunk]() mutable { return left-- == 0; };
    const Status imported = import_dataset(options);
    ASSERT_FALSE(imported.ok());
    EXPECT_EQ(imported.error().code, ErrorCode::aborted);
    EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"source"});
  }
}

TEST(Import, KilledInTheMiddleLeavesNothingThatLooksLikeADataset) {
  const TemporaryFolder folder;
  write_source(folder / "source", 70, 10);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ImportOptions options = small_import(folder / "source", folder / "set");
    options.cancelled = [left = 3]() mutable { return left-- == 0 && ::raise(SIGKILL) == 0; };
    (void)import_dataset(options);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  EXPECT_FALSE(fs::exists(folder / "set"));
  EXPECT_TRUE(import_dataset(small_import(folder / "source", folder / "set")).ok());
}

void expect_no_space(const Status& imported, const std::string& folder, std::int64_t at) {
  ASSERT_FALSE(imported.ok()) << at;
  EXPECT_EQ(imported.error().message.find(
                concat("no space left while importing into ", folder, ": needs about 1 MiB")),
            0U)
      << at << ": " << imported.error().message;
}

TEST(Import, FullDiskIsSaidAndLeavesNothing) {
  if (::geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const TemporaryFolder folder;
  write_source(folder / "source", 500, 10);
  ASSERT_EQ(::mkdir((folder / "disk").c_str(), 0755), 0);
  // From no room at all to nearly enough for the 0.42 MB, page by page at first: every kind of write runs out
  // once.
  int full = 0;
  for (std::int64_t pages = 1; pages <= 140; pages += pages < 30 ? 1 : 7) {
    if (::mount("tmpfs", (folder / "disk").c_str(), "tmpfs", 0, concat("size=", pages * 4096).c_str()) != 0)
      GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
    const std::string out = folder / "disk/set";
    const Status imported = import_dataset(small_import(folder / "source", out));
    if (imported.ok()) {
      EXPECT_GE(pages * 4096, 510 * image_bytes);
    } else {
      expect_no_space(imported, out, pages);
      EXPECT_TRUE(fs::is_empty(folder / "disk")) << pages;
      ++full;
    }
    ASSERT_EQ(::umount((folder / "disk").c_str()), 0);
  }
  EXPECT_GT(full, 30);
}

TEST(Import, FileSizeLimitIsSaidAndLeavesNothing) {
  const TemporaryFolder folder;
  write_source(folder / "source", 100, 10);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  int limited = 0;
  for (rlim_t bytes = 0; bytes <= 96000; bytes += bytes < 4000 ? 97 : 4001) {
    rlimit limit = before;
    limit.rlim_cur = bytes;
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
    const Status imported = import_dataset(small_import(folder / "source", folder / "set"));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    if (imported.ok()) {
      fs::remove_all(folder / "set");
    } else {
      expect_no_space(imported, folder / "set", static_cast<std::int64_t>(bytes));
      ++limited;
    }
    EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"source"});
  }
  EXPECT_GT(limited, 50);
  // And the process is as before: an import works.
  EXPECT_TRUE(import_dataset(small_import(folder / "source", folder / "set")).ok());
}

TEST(Import, FashionMnistOfTheDebianPackage) {
  if (!fs::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"))
    GTEST_SKIP() << "install dataset-fashion-mnist";
  const TemporaryFolder folder;
  ImportOptions options;
  options.kind = "fashion-mnist";
  options.out = folder / "fashion-mnist";
  const Status imported = import_dataset(options);
  ASSERT_TRUE(imported.ok()) << imported.error().message;
  const Result<Dataset> train = Dataset::open(folder / "fashion-mnist/train");
  const Result<Dataset> test = Dataset::open(folder / "fashion-mnist/test");
  ASSERT_TRUE(train.ok() && test.ok());
  EXPECT_EQ(train->info().samples, 60000);
  EXPECT_EQ(train->info().shards, 6);  // of 8 MiB
  EXPECT_EQ(train->info().classes, 10);
  EXPECT_EQ(test->info().samples, 10000);
  EXPECT_EQ(train->read_chunk(0)->label(0), 9);
  EXPECT_NEAR(train->info().mean.at(0), 0.2860, 1e-4);  // as widely published
  EXPECT_NEAR(train->info().standard_deviation.at(0), 0.3530, 1e-4);
  std::array<int, 10> count{};
  for (std::int64_t chunk = 0; chunk < train->info().chunks; ++chunk) {
    const Result<Chunk> read = train->read_chunk(chunk);
    ASSERT_TRUE(read.ok());
    for (std::int64_t i = 0; i < read->samples(); ++i) ++count[static_cast<std::size_t>(read->label(i))];
  }
  for (const int samples : count) EXPECT_EQ(samples, 6000);
}

}  // namespace
}  // namespace paceline
