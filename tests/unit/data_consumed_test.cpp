#include "paceline/data/consumed.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "data_fixture.hpp"

namespace paceline {
namespace {

std::uint64_t hash_of(std::uint64_t key, std::int64_t epoch, std::int64_t first,
                      const std::vector<std::uint64_t>& checksums) {
  ConsumedHash hash(key);
  for (std::size_t i = 0; i < checksums.size(); ++i)
    hash.add(epoch, first + static_cast<std::int64_t>(i), checksums[i]);
  return hash.value();
}

TEST(SampleChecksum, IsOfBytesAndLabel) {
  const std::vector<std::byte> bytes(784, std::byte{7});
  std::vector<std::byte> other = bytes;
  other[783] ^= std::byte{1};
  EXPECT_EQ(sample_checksum(bytes, 3), sample_checksum(bytes, 3));
  EXPECT_NE(sample_checksum(bytes, 3), sample_checksum(bytes, 4));
  EXPECT_NE(sample_checksum(bytes, 3), sample_checksum(other, 3));
  // docs/journal.md: mix64 of XXH3-64, and of that with the label. XXH3-64 of nothing is a published
  // constant.
  EXPECT_EQ(sample_checksum({}, 5), mix64(mix64(0x2d06800538d394c2U) ^ 5U));
}

TEST(ConsumedHash, AddsUpFromPartsInAnyOrder) {
  const std::vector<std::uint64_t> sums = {11, 22, 33, 44};
  const std::uint64_t whole = hash_of(9, 2, 100, sums);
  EXPECT_EQ(whole, hash_of(9, 2, 102, {33, 44}) + hash_of(9, 2, 100, {11, 22}));
  EXPECT_EQ(ConsumedHash(9).value(), 0U);
}

TEST(ConsumedHash, ChangesWithEverythingThatMatters) {
  const std::set<std::uint64_t> different = {
      hash_of(9, 2, 100, {11, 22, 33}), hash_of(8, 2, 100, {11, 22, 33}),   // key
      hash_of(9, 3, 100, {11, 22, 33}), hash_of(9, 2, 101, {11, 22, 33}),   // epoch, position
      hash_of(9, 2, 100, {22, 11, 33}), hash_of(9, 2, 100, {11, 22}),       // swapped, left out
      hash_of(9, 2, 100, {11, 22, 32}), hash_of(9, 2, 100, {11, 22, 22})};  // changed, repeated
  EXPECT_EQ(different.size(), 8U);
}

/// The dataset of the fixture, opened.
class SampleChecksums : public ::testing::Test {
 protected:
  static constexpr std::int64_t samples = 333;
  TemporaryFolder folder_;
  std::string path_ = data_testing::make_dataset(folder_, samples);
};

TEST_F(SampleChecksums, AreThoseOfAllSamplesInStoredOrder) {
  const auto dataset = Dataset::open(path_);
  ASSERT_TRUE(dataset.ok()) << dataset.error().message;
  std::vector<std::uint64_t> expected;
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    std::vector<std::byte> image;
    for (std::int64_t at = 0; at < data_testing::image_bytes; ++at)
      image.push_back(std::byte{data_testing::pixel(sample, at)});
    expected.push_back(sample_checksum(image, static_cast<std::int32_t>(data_testing::label_of(sample))));
  }
  for (const int threads : {1, 3}) {
    std::int64_t last = 0;
    const auto found = all_sample_checksums(*dataset, {threads, [&](std::int64_t done) {
                                                         EXPECT_EQ(done, ++last);
                                                         return true;
                                                       }});
    ASSERT_TRUE(found.ok()) << found.error().message;
    EXPECT_EQ(*found, expected);
    EXPECT_EQ(last, dataset->info().chunks);
  }
}

TEST_F(SampleChecksums, CanBeGivenUp) {
  const auto dataset = Dataset::open(path_);
  ASSERT_TRUE(dataset.ok());
  const auto found = all_sample_checksums(*dataset, {2, [](std::int64_t done) { return done < 3; }});
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().code, ErrorCode::aborted);
}

TEST_F(SampleChecksums, ADamagedChunkIsAnErrorWithItsPlace) {
  const auto dataset = Dataset::open(path_);
  ASSERT_TRUE(dataset.ok());
  const std::string shard = path_ + "/shard-00001.h5";
  std::string bytes = data_testing::read_bytes(shard);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  data_testing::write_bytes(shard, bytes);
  const auto found = all_sample_checksums(*dataset, {2, nullptr});
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.error().message.find("shard-00001.h5"), std::string::npos) << found.error().message;
}

TEST_F(SampleChecksums, TheManifestStandsForAllOfThem) {
  const auto before = manifest_checksum(path_);
  ASSERT_TRUE(before.ok());
  std::filesystem::remove_all(folder_ / "set");
  EXPECT_EQ(*manifest_checksum(data_testing::make_dataset(folder_, samples)), *before) << "imported again";
  // One bit of one image.
  std::filesystem::remove_all(folder_ / "set");
  const std::string source = folder_ / "source/train-images-idx3-ubyte";
  std::string bytes = data_testing::read_bytes(source);
  bytes[16 + 250 * data_testing::image_bytes + 99] ^= 1;
  data_testing::write_bytes(source, bytes);
  ASSERT_TRUE(import_dataset(data_testing::small_import(folder_ / "source", folder_ / "set")).ok());
  EXPECT_NE(*manifest_checksum(path_), *before);
}

}  // namespace
}  // namespace paceline
