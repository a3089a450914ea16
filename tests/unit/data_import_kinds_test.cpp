#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>

#include "data_damage.hpp"
#include "data_import.hpp"

// What all importers have in common. That of HDF5 files is in data_foreign_test.cpp, but for what it refuses
// as one of them.
namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

TEST(Hdf5Import, NeedsFilesAndNamesThem) {
  const TemporaryFolder folder;
  expect_part(message_of(options_for("hdf5", {}, folder / "set")), "needs one or more HDF5 files as SOURCE");
  write_bytes(folder / "no.h5", "no HDF5");
  expect_part(message_of(options_for("hdf5", {folder / "no.h5"}, folder / "set")), "no.h5");
  EXPECT_EQ(entries_of(folder.path()), std::vector<std::string>{"no.h5"});
}

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

/// No thread can start while it lives: there is no room for the stack of one.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    EXPECT_EQ(::pthread_getattr_default_np(&before_), 0);
    pthread_attr_t attributes;
    EXPECT_EQ(::pthread_attr_init(&attributes), 0);
    EXPECT_EQ(::pthread_attr_setstacksize(&attributes, std::size_t{1} << 50), 0);
    EXPECT_EQ(::pthread_setattr_default_np(&attributes), 0);
    ::pthread_attr_destroy(&attributes);
  }
  ~NoMoreThreads() {
    EXPECT_EQ(::pthread_setattr_default_np(&before_), 0);
    ::pthread_attr_destroy(&before_);
  }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

 private:
  pthread_attr_t before_{};
};

TEST(ImportKinds, AnImportDoesWithTheThreadsThatCanStart) {
  const TemporaryFolder folder;
  write_source(folder / "source", 300, 20);
  write_bytes(folder / "book.txt", sentence(1) + sentence(2));
  ImportOptions images = options_for("mnist", {folder / "source"}, folder / "images");
  images.threads = 4;
  ImportOptions text = options_for("text", {folder / "book.txt"}, folder / "text");
  text.threads = 4;
  {
    const NoMoreThreads none;
    EXPECT_THROW(std::thread([] {}).join(), std::system_error);
    EXPECT_EQ(message_of(images), "imported");
    EXPECT_EQ(message_of(text), "imported");
  }
  expect_samples(images.out + "/train", 300);
  EXPECT_EQ(fault_of(text.out + "/train"), "");
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
