#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "paceline/base/hash.hpp"
#include "paceline/data/order.hpp"

namespace paceline {
namespace {

std::vector<std::int64_t> random_chunks(SplitMix64& random) {
  std::vector<std::int64_t> chunks(1 + random.below(30));
  for (std::int64_t& samples : chunks) samples = 1 + static_cast<std::int64_t>(random.below(20));
  return chunks;
}

bool address_less(const SampleAddress& a, const SampleAddress& b) {
  return a.chunk != b.chunk ? a.chunk < b.chunk : a.index < b.index;
}

std::vector<SampleAddress> all_addresses(const std::vector<std::int64_t>& chunks) {
  std::vector<SampleAddress> all;
  for (std::size_t chunk = 0; chunk < chunks.size(); ++chunk)
    for (std::int32_t index = 0; index < chunks[chunk]; ++index)
      all.push_back({static_cast<std::int32_t>(chunk), index});
  return all;
}

TEST(EpochOrder, HoldsEverySampleExactlyOnceForAnyShape) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    SplitMix64 random(seed);
    const auto chunks = random_chunks(random);
    const auto window = static_cast<std::int64_t>(1 + random.below(40));
    const EpochOrder order(chunks, seed, static_cast<std::int64_t>(random.below(5)), window);
    ASSERT_EQ(order.samples(), std::accumulate(chunks.begin(), chunks.end(), std::int64_t{0}));
    auto addresses = order.addresses(0, order.samples());
    std::sort(addresses.begin(), addresses.end(), address_less);
    ASSERT_EQ(addresses, all_addresses(chunks)) << "seed " << seed;
  }
}

TEST(EpochOrder, AnyRangeIsThatPartOfTheWhole) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SplitMix64 random(seed);
    const auto chunks = random_chunks(random);
    const EpochOrder order(chunks, seed, 1, static_cast<std::int64_t>(1 + random.below(6)));
    const auto whole = order.addresses(0, order.samples());
    for (int i = 0; i < 20; ++i) {
      const auto first = static_cast<std::int64_t>(random.below(whole.size() + 1));
      const auto count =
          static_cast<std::int64_t>(random.below(whole.size() - static_cast<std::size_t>(first) + 1));
      const std::vector<SampleAddress> part(whole.begin() + first, whole.begin() + first + count);
      ASSERT_EQ(order.addresses(first, count), part) << "seed " << seed;
    }
  }
}

TEST(EpochOrder, AWindowDrawsFromItsOwnChunksAlone) {
  const std::vector<std::int64_t> chunks(23, 5);
  const EpochOrder order(chunks, 7, 0, 4);
  for (std::int64_t first = 0; first < order.samples(); first += 20) {
    const PositionRange window = order.window_at(first + (first < 100 ? 19 : 0));
    EXPECT_EQ(window, (PositionRange{first, std::min<std::int64_t>(20, 115 - first)}));
    std::set<std::int32_t> seen;
    for (const SampleAddress& address : order.addresses(window.first, window.count))
      seen.insert(address.chunk);
    EXPECT_EQ(seen.size(), static_cast<std::size_t>(window.count / 5));
  }
}

TEST(EpochOrder, OtherSeedsAndEpochsAreOtherOrders) {
  const std::vector<std::int64_t> chunks(16, 16);
  const auto order = [&](std::uint64_t seed, std::int64_t epoch) {
    return EpochOrder(chunks, seed, epoch, 4).addresses(0, 256);
  };
  EXPECT_EQ(order(1, 0), order(1, 0));
  std::vector<std::vector<SampleAddress>> orders;
  for (std::uint64_t seed = 0; seed < 10; ++seed)
    for (std::int64_t epoch = 0; epoch < 10; ++epoch) orders.push_back(order(seed, epoch));
  for (std::size_t a = 0; a < orders.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) ASSERT_NE(orders[a], orders[b]) << a << " and " << b;
}

TEST(EpochOrder, SpreadsLikeChance) {
  // One window over 10 chunks of 10: the chance that a position holds chunk 0 is 1/10. Over 5,000 epochs the
  // count of position 0 has mean 500 and standard deviation 21; six of those is the bound.
  const std::vector<std::int64_t> chunks(10, 10);
  int hits = 0;
  for (std::int64_t epoch = 0; epoch < 5000; ++epoch)
    hits += EpochOrder(chunks, 3, epoch, 10).addresses(0, 1)[0].chunk == 0 ? 1 : 0;
  EXPECT_NEAR(hits, 500, 127);
}

TEST(EpochOrder, SequentialIsTheStoredOrder) {
  const std::vector<std::int64_t> chunks = {3, 1, 4, 1, 5};
  EXPECT_EQ(EpochOrder::sequential(chunks).addresses(0, 14), all_addresses(chunks));
  EXPECT_EQ(EpochOrder::sequential(chunks).addresses(3, 2), (std::vector<SampleAddress>{{1, 0}, {2, 0}}));
  EXPECT_EQ(EpochOrder::sequential(chunks).window_at(4), (PositionRange{4, 4}));
}

// A run that was begun by one version and resumed by another must go on in the same order, so the order is
// part of the interface: these values never change.
TEST(EpochOrder, IsTheSameInEveryVersion) {
  const std::vector<std::int64_t> chunks(20, 256);
  const EpochOrder order(chunks, 1, 0, 8);
  const std::vector<SampleAddress> first = {{0, 48}, {6, 109}, {15, 179}, {4, 107}};
  const std::vector<SampleAddress> middle = {{0, 88}, {1, 20}, {14, 126}, {3, 31}};
  EXPECT_EQ(order.addresses(0, 4), first);
  EXPECT_EQ(order.addresses(2046, 4), middle);
}

}  // namespace
}  // namespace paceline
