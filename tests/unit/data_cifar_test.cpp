#include <gtest/gtest.h>

#include "data_damage.hpp"
#include "data_import.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

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
  const WholeDataset train = read_all(folder / "set/train");
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
  const WholeDataset train = read_all(folder / "set/train");
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

}  // namespace
}  // namespace paceline
