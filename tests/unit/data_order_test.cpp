#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "paceline/base/hash.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/order.hpp"

namespace paceline {
namespace {

using Chunks = std::vector<std::int32_t>;

Chunks random_chunks(SplitMix64& random) {
  Chunks chunks(1 + random.below(30));
  for (std::int32_t& samples : chunks) samples = 1 + static_cast<std::int32_t>(random.below(20));
  return chunks;
}

OrderSpec random_spec(SplitMix64& random) {
  OrderSpec spec;
  spec.seed = random.next();
  spec.row = 1 + static_cast<std::int64_t>(random.below(60));
  spec.lanes = 1 + static_cast<std::int64_t>(random.below(12));
  spec.lane_chunks = 1 + static_cast<std::int64_t>(random.below(4));
  return spec;
}

bool address_less(const SampleAddress& a, const SampleAddress& b) {
  return a.chunk != b.chunk ? a.chunk < b.chunk : a.index < b.index;
}

std::vector<SampleAddress> all_addresses(const Chunks& chunks) {
  std::vector<SampleAddress> all;
  for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk)
    for (std::int32_t index = 0; index < chunks[chunk]; ++index)
      all.push_back({static_cast<std::int32_t>(chunk), index});
  return all;
}

std::vector<SampleAddress> whole(const Chunks& chunks, const OrderSpec& spec, std::int64_t epoch) {
  EpochOrder order(chunks, spec, epoch);
  return order.addresses(0, order.samples());
}

std::set<std::int32_t> chunks_of(std::span<const SampleAddress> addresses) {
  std::set<std::int32_t> chunks;
  for (const SampleAddress& address : addresses) chunks.insert(address.chunk);
  return chunks;
}

TEST(EpochOrder, HoldsEverySampleExactlyOnceForAnyShape) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SplitMix64 random(seed);
    const Chunks chunks = random_chunks(random);
    auto addresses = whole(chunks, random_spec(random), static_cast<std::int64_t>(random.below(5)));
    std::sort(addresses.begin(), addresses.end(), address_less);
    ASSERT_EQ(addresses, all_addresses(chunks)) << "seed " << seed;
  }
}

TEST(EpochOrder, AnyRangeIsThatPartOfTheWhole) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SplitMix64 random(seed);
    const Chunks chunks = random_chunks(random);
    const OrderSpec spec = random_spec(random);
    const auto all = whole(chunks, spec, 1);
    EpochOrder order(chunks, spec, 1);
    for (int i = 0; i < 20; ++i) {  // forwards and back, by the same object
      const auto first = static_cast<std::int64_t>(random.below(all.size() + 1));
      const auto count =
          static_cast<std::int64_t>(random.below(all.size() - static_cast<std::size_t>(first) + 1));
      const std::vector<SampleAddress> part(all.begin() + first, all.begin() + first + count);
      ASSERT_EQ(order.addresses(first, count), part) << "seed " << seed;
    }
  }
}

// 128 chunks of 64 samples in 16 lanes, rows of 128: every lane gives 8 samples to every row. A rank with a
// quarter of each row meets a quarter of the chunks, each of them in one run of rows.
TEST(EpochOrder, TheSamePartOfEveryRowNeedsTheSameLanes) {
  const Chunks chunks(128, 64);
  const OrderSpec spec{.seed = 5, .row = 128, .lanes = 16, .lane_chunks = 1};
  EpochOrder order(chunks, spec, 3);
  ASSERT_EQ(order.lanes(), 16);
  std::set<std::int32_t> met;
  for (std::int64_t rank = 0; rank < 4; ++rank) {
    std::vector<SampleAddress> share;
    for (std::int64_t row = 0; row < 64; ++row) order.append(row * 128 + rank * 32, 32, share);
    const std::set<std::int32_t> own = chunks_of(share);
    EXPECT_EQ(own.size(), 32U);
    met.insert(own.begin(), own.end());
    for (std::size_t row = 0; row < 64; row += 8)  // a chunk lasts for 8 rows
      EXPECT_EQ(chunks_of(std::span(share).subspan(row * 32, 8 * 32)).size(), 4U);
  }
  EXPECT_EQ(met.size(), 128U);
}

TEST(EpochOrder, UnevenLanesShareTheirRowsInProportion) {
  const Chunks chunks(23, 100);  // 5 lanes: three of 5 chunks, two of 4
  const OrderSpec spec{.seed = 1, .row = 100, .lanes = 5, .lane_chunks = 2};
  EpochOrder order(chunks, spec, 0);
  ASSERT_EQ(order.lanes(), 5);
  const auto open = [&](std::int64_t row) { return chunks_of(order.addresses(row * 100, 100)).size(); };
  for (std::int64_t row = 0; row < 23; ++row) {
    EXPECT_GE(open(row), 5U) << "a row without one of the lanes";
    EXPECT_LE(open(row), 5U * 4) << "a row with chunks of more than two windows of a lane";
  }
}

TEST(EpochOrder, SmallRowsAndShortLanesLeaveFewerLanes) {
  const Chunks chunks = {100, 100, 1, 100};
  for (std::int64_t epoch = 0; epoch < 20; ++epoch) {
    const EpochOrder order(chunks, {.seed = 1, .row = 8, .lanes = 4, .lane_chunks = 1}, epoch);
    EXPECT_LT(order.lanes(), 4) << "the chunk of one sample cannot be a lane";
    EXPECT_EQ(EpochOrder(chunks, {.seed = 1, .row = 1, .lanes = 4, .lane_chunks = 1}, epoch).lanes(), 1);
  }
}

TEST(EpochOrder, OtherSeedsAndEpochsAreOtherOrders) {
  const Chunks chunks(16, 16);
  const auto order = [&](std::uint64_t seed, std::int64_t epoch) {
    return whole(chunks, {.seed = seed, .row = 32, .lanes = 4, .lane_chunks = 1}, epoch);
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  std::vector<std::vector<SampleAddress>> orders;
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (std::int64_t epoch = 0; epoch < 10; ++epoch) orders.push_back(order(seed, epoch));
  for (std::size_t a = 0; a < orders.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) ASSERT_NE(orders[a], orders[b]) << a << " and " << b;
}

// Over 5,000 epochs of 10 chunks the first position falls into chunk 0 with chance 1/10: mean 500, standard
// deviation 21; six of those is the bound. Within its chunk it is any of 10 samples with the same chance.
TEST(EpochOrder, SpreadsLikeChance) {
  const Chunks chunks(10, 10);
  int chunk_hits = 0;
  int index_hits = 0;
  for (std::int64_t epoch = 0; epoch < 5000; ++epoch) {
    const OrderSpec spec{.seed = 3, .row = 20, .lanes = 5, .lane_chunks = 1};
    const SampleAddress first = EpochOrder(chunks, spec, epoch).addresses(0, 1)[0];
    chunk_hits += first.chunk == 0 ? 1 : 0;
    index_hits += first.index == 0 ? 1 : 0;
  }
  EXPECT_NEAR(chunk_hits, 500, 127);
  EXPECT_NEAR(index_hits, 500, 127);
}

// Shards sorted by label are the worst case. With 240 chunks of 250 samples and 10 labels in a row, the
// batches' chi-squared against equal labels (9 degrees of freedom) would be 9 on average for a full shuffle.
TEST(EpochOrder, MixesShardsThatAreSortedByLabel) {
  const Chunks chunks(240, 250);
  EpochOrder order(chunks, {.seed = 1, .row = 256, .lanes = 64, .lane_chunks = 1}, 0);
  double sum = 0;
  int batches = 0;
  for (std::int64_t first = 0; first + 256 <= order.samples(); first += 256, ++batches) {
    std::array<int, 10> counts{};
    for (const SampleAddress& address : order.addresses(first, 256))
      ++counts[static_cast<std::size_t>(address.chunk / 24)];
    for (const int count : counts) sum += (count - 25.6) * (count - 25.6) / 25.6;
  }
  EXPECT_LT(sum / batches, 4 * 9) << "single chunks per batch would give 2304";
}

TEST(EpochOrder, WithoutShuffleIsTheStoredOrder) {
  const Chunks chunks = {3, 1, 4, 1, 5};
  const OrderSpec stored{.shuffle = false, .row = 7, .lanes = 4};
  EXPECT_EQ(whole(chunks, stored, 0), all_addresses(chunks));
  EpochOrder order(chunks, stored, 0);
  EXPECT_EQ(order.addresses(3, 2), (std::vector<SampleAddress>{{1, 0}, {2, 0}}));
}

TEST(EpochOrder, TheSpecFollowsFromDatasetBatchAndBudget) {
  DatasetInfo info;
  info.chunk_bytes = std::int64_t{256} << 10;
  const auto spec = [&](std::int64_t batch, std::int64_t budget) {
    return shuffled_order(info, 9, batch, budget);
  };
  constexpr std::int64_t mib = std::int64_t{1} << 20;
  EXPECT_EQ(spec(256, 256 * mib), (OrderSpec{9, true, 256, 64, 1}));
  EXPECT_EQ(spec(32, 256 * mib), (OrderSpec{9, true, 32, 8, 8}));
  EXPECT_EQ(spec(256, 8 * mib), (OrderSpec{9, true, 256, 16, 1})) << "two times 16 chunks fill 8 MiB";
  EXPECT_EQ(spec(1, 0), (OrderSpec{9, true, 1, 1, 1}));
}

}  // namespace
}  // namespace paceline
