#include <gtest/gtest.h>
#include <zlib.h>

#include <string>
#include <vector>

#include "codec.hpp"
#include "paceline/base/hash.hpp"

// Chunk decoders: exact round trips, and no length is believed.

namespace paceline {
namespace {

using Bytes = std::vector<std::byte>;

/// `distinct` 1: all the same; 256: cannot be compressed.
Bytes values_of(std::size_t count, std::uint64_t distinct) {
  SplitMix64 random(count + distinct);
  Bytes values(count);
  for (std::byte& value : values) value = static_cast<std::byte>(random.below(distinct));
  return values;
}

Bytes deflated(const Bytes& values) {
  uLongf bytes = ::compressBound(values.size());
  Bytes stored(bytes);
  ::compress(reinterpret_cast<Bytef*>(stored.data()), &bytes, reinterpret_cast<const Bytef*>(values.data()),
             values.size());
  stored.resize(bytes);
  return stored;
}

Bytes coded(Storage storage, const Bytes& values) {
  Bytes stored;
  if (storage == Storage::deflate) return deflated(values);
  EXPECT_TRUE(encode_values(storage, values, stored));
  return stored;
}

bool decodes(Storage storage, const Bytes& stored, std::size_t bytes) {
  Bytes values(bytes);
  return decode_values(storage, stored, values).ok();
}

constexpr Storage coding[] = {Storage::zstd, Storage::lz4, Storage::deflate};

TEST(Codec, RoundTrips) {
  for (const Storage storage : coding)
    for (const std::size_t count : {1000, 4096, 100000, 1 << 20})
      for (const std::uint64_t distinct : {1, 2, 3}) {
        const Bytes values = values_of(count, distinct);
        const Bytes stored = coded(storage, values);
        Bytes back(count);
        const Status decoded = decode_values(storage, stored, back);
        ASSERT_TRUE(decoded.ok()) << to_string(storage) << " " << count << ": " << decoded.error().message;
        EXPECT_EQ(back, values);
      }
}

TEST(Codec, NothingIsAppendedWhereItWouldNotBeShorter) {
  for (const Storage storage : {Storage::raw, Storage::zstd, Storage::lz4})
    for (const std::size_t count : {0, 1, 2, 5, 16, 17, 18, 40, 5000}) {
      Bytes stored = {std::byte{7}};
      const Bytes values = values_of(count, 256);
      EXPECT_FALSE(encode_values(storage, values, stored)) << to_string(storage) << " " << count;
      EXPECT_EQ(stored.size(), 1U);
    }
}

TEST(Codec, OtherLengthsAreErrors) {
  for (const Storage storage : coding) {
    const Bytes values = values_of(5000, 3);
    const Bytes stored = coded(storage, values);
    for (const std::size_t bytes : {0, 1, 4999, 5001, 100000})
      EXPECT_FALSE(decodes(storage, stored, bytes)) << to_string(storage) << " " << bytes;
    for (std::size_t left = 0; left < stored.size(); left += 1 + left / 50)
      EXPECT_FALSE(
          decodes(storage, Bytes(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(left)), 5000))
          << to_string(storage) << " " << left;
    Bytes longer = stored;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(decodes(storage, longer, 5000)) << to_string(storage);
    Bytes twice = stored;  // two frames, whose contents together have the length
    twice.insert(twice.end(), stored.begin(), stored.end());
    EXPECT_FALSE(decodes(storage, twice, 10000)) << to_string(storage);
  }
}

TEST(Codec, DamagedBytesAreErrorsOrBytesAndNeverMore) {
  for (const Storage storage : coding) {
    const Bytes values = values_of(3000, 5);
    const Bytes stored = coded(storage, values);
    SplitMix64 random(static_cast<std::uint64_t>(storage));
    for (int i = 0; i < 3000; ++i) {
      Bytes bad = stored;
      for (int flips = 0; flips <= i % 4; ++flips)
        bad[random.below(i % 2 == 0 ? 24 : bad.size())] = static_cast<std::byte>(random.next());
      (void)decodes(storage, bad, 3000);
    }
  }
}

void append_big_endian(Bytes& into, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) into.push_back(static_cast<std::byte>(value >> (8 * i)));
}

/// What the HDF5 filter writes with blocks of `block_bytes`: `first` is the length that the first block
/// claims.
Bytes lz4_blocks(const Bytes& values, std::uint64_t total, std::uint64_t block_bytes,
                 std::int64_t first = -1) {
  Bytes stored;
  append_big_endian(stored, total, 8);
  append_big_endian(stored, block_bytes, 4);
  for (std::size_t at = 0; at < values.size(); at += block_bytes) {
    const std::size_t here = std::min<std::size_t>(block_bytes, values.size() - at);
    append_big_endian(stored, at == 0 && first >= 0 ? static_cast<std::uint64_t>(first) : here, 4);
    stored.insert(stored.end(), values.begin() + static_cast<std::ptrdiff_t>(at),
                  values.begin() + static_cast<std::ptrdiff_t>(at + here));
  }
  return stored;
}

TEST(Codec, Lz4ReadsManyBlocksAndThoseThatAreAsTheyAre) {
  const Bytes values = values_of(1000, 256);
  for (const std::uint64_t block : {1, 7, 100, 999, 1000}) {
    Bytes back(1000);
    ASSERT_TRUE(decode_values(Storage::lz4, lz4_blocks(values, 1000, block), back).ok()) << block;
    EXPECT_EQ(back, values);
  }
  EXPECT_TRUE(decodes(Storage::lz4, lz4_blocks(values, 1000, 1000), 1000));
  EXPECT_FALSE(decodes(Storage::lz4, lz4_blocks(values, 999, 1000), 1000));
  EXPECT_FALSE(decodes(Storage::lz4, lz4_blocks(values, ~std::uint64_t{0}, 1000), 1000));
  for (const std::int64_t first : {0LL, 99LL, 101LL, 0xffffffffLL, 0x80000000LL})
    EXPECT_FALSE(decodes(Storage::lz4, lz4_blocks(values, 1000, 100, first), 1000)) << first;
  Bytes no_blocks;
  append_big_endian(no_blocks, 1000, 8);
  append_big_endian(no_blocks, 0, 4);
  EXPECT_FALSE(decodes(Storage::lz4, no_blocks, 1000));
}

}  // namespace
}  // namespace paceline
