#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "lookahead.hpp"
#include "paceline/base/hash.hpp"

namespace paceline {
namespace {

constexpr std::int64_t page = 4096;  // what the smallest buffer takes, so chunks of the tests do too

PlannedRequest request_of(std::vector<std::int32_t> chunks, std::int64_t samples = 1) {
  PlannedRequest planned;
  planned.request.count = samples;
  planned.chunks = std::move(chunks);
  return planned;
}

Lookahead::Shared content() {
  BufferPool pool(0);
  return std::make_shared<const Chunk>(pool.take(page), Chunk::Layout{});
}

std::vector<std::int32_t> all_reads(Lookahead& book) {
  std::vector<std::int32_t> reads;
  while (const auto chunk = book.take_read()) reads.push_back(*chunk);
  return reads;
}

using Reads = std::vector<std::int32_t>;

TEST(Lookahead, ReadsWhatIsNeededOnceAndInOrder) {
  Lookahead book(page, 10 * page, 1000);
  book.add(request_of({3, 1}));
  book.add(request_of({1, 2}));
  EXPECT_TRUE(book.schedule());
  EXPECT_EQ(all_reads(book), (Reads{3, 1, 2}));
  EXPECT_FALSE(book.front().ready());
  book.arrived(1, content());
  EXPECT_FALSE(book.front().ready());
  book.arrived(3, content());
  EXPECT_TRUE(book.front().ready());
  EXPECT_EQ(book.chunks_of(book.front()).size(), 2U);
  book.deliver_front();
  EXPECT_FALSE(book.front().ready());
  book.arrived(2, content());
  EXPECT_TRUE(book.front().ready());
}

TEST(Lookahead, PlansNoFurtherThanTheBudgetAndKeepsWhatThereIsRoomFor) {
  Lookahead book(page, 3 * page, 1000);
  book.add(request_of({0, 1}));
  book.add(request_of({2, 3}));
  EXPECT_TRUE(book.schedule());
  EXPECT_EQ(all_reads(book), (Reads{0, 1, 2})) << "chunk 3 has no room";
  EXPECT_FALSE(book.wants_request());
  for (const int chunk : {0, 1, 2}) book.arrived(chunk, content());
  EXPECT_FALSE(book.schedule()) << "nothing is unneeded yet";
  book.deliver_front();
  EXPECT_TRUE(book.schedule());
  EXPECT_EQ(all_reads(book), Reads{3}) << "in the place of chunk 0, which was needed longest ago";
  book.arrived(3, content());
  book.add(request_of({1}));
  EXPECT_FALSE(book.schedule()) << "chunk 1 is still there";
  book.deliver_front();
  EXPECT_TRUE(book.front().ready());
  EXPECT_EQ(book.most_bytes_held(), 3 * page);
}

TEST(Lookahead, TheFirstRequestMayExceedTheBudget) {
  Lookahead book(page, page, 1000);
  book.add(request_of({0, 1, 2}));
  book.add(request_of({3}));
  EXPECT_TRUE(book.schedule());
  EXPECT_EQ(all_reads(book), (Reads{0, 1, 2}));
}

TEST(Lookahead, AsksForRequestsInBursts) {
  Lookahead book(page, 100 * page, 40);
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(book.wants_request());
    book.add(request_of({i}, 10));
    EXPECT_FALSE(book.wants_request()) << "not before the last one is scheduled";
    book.schedule();
  }
  EXPECT_FALSE(book.wants_request());
  for (int i = 0; i < 4; ++i) book.arrived(*book.take_read(), content());
  book.deliver_front();
  EXPECT_TRUE(book.wants_request()) << "a quarter was delivered";
}

TEST(Lookahead, AFailedReadIsTheErrorOfThoseThatNeedIt) {
  Lookahead book(page, 10 * page, 1000);
  book.add(request_of({0}));
  book.add(request_of({1, 2}));
  book.add(request_of({2}));
  book.schedule();
  all_reads(book);
  book.arrived(0, content());
  book.failed(1, {ErrorCode::corrupt, "chunk 1"});
  book.arrived(2, content());
  EXPECT_FALSE(book.front().error);
  book.deliver_front();
  ASSERT_TRUE(book.front().error);
  EXPECT_EQ(book.front().error->message, "chunk 1");
  book.deliver_front();
  EXPECT_TRUE(book.front().ready());
  EXPECT_FALSE(book.front().error);
}

TEST(Lookahead, DroppedRequestsTakeTheirReadsWithThem) {
  Lookahead book(page, 10 * page, 1000);
  book.add(request_of({0}));
  book.add(request_of({0, 1}));
  book.add(request_of({2}));
  book.schedule();
  EXPECT_EQ(book.take_read(), 0);
  EXPECT_EQ(book.take_read(), 1);
  book.drop_from(1);
  EXPECT_EQ(book.take_read(), std::nullopt) << "chunk 2 is not wanted any more";
  book.arrived(1, content());  // was under way: kept as not needed
  book.arrived(0, content());
  book.add(request_of({1, 3}));
  book.schedule();
  EXPECT_EQ(all_reads(book), Reads{3});
  EXPECT_EQ(book.next_number(), 2);
}

// Whatever happens in whatever order, the book ends empty-handed: every chunk that stays is one that nobody
// needs.
TEST(Lookahead, RandomHistories) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SplitMix64 random(seed);
    const auto budget = static_cast<std::int64_t>(1 + random.below(12)) * page;
    Lookahead book(page, budget, 60);
    Reads reading;
    for (int step = 0; step < 400; ++step) {
      if (book.wants_request() && random.below(2) == 0) {
        std::set<std::int32_t> chunks;
        for (std::uint64_t n = random.below(5); chunks.size() < n + 1;)
          chunks.insert(static_cast<std::int32_t>(random.below(20)));
        book.add(request_of({chunks.begin(), chunks.end()}, 5));
      }
      book.schedule();
      if (const auto chunk = book.take_read()) reading.push_back(*chunk);
      if (!reading.empty() && random.below(2) == 0) {
        std::swap(reading[random.below(reading.size())], reading.back());
        if (random.below(10) == 0)
          book.failed(reading.back(), {ErrorCode::io, "planted"});
        else
          book.arrived(reading.back(), content());
        reading.pop_back();
      }
      if (!book.empty() && book.front().ready() && random.below(2) == 0) {
        if (!book.front().error) {
          for (const auto& chunk : book.chunks_of(book.front())) ASSERT_NE(chunk, nullptr);
        }
        book.deliver_front();
      }
      if (!book.empty() && random.below(30) == 0)
        book.drop_from(book.first_number() + static_cast<std::int64_t>(random.below(3)));
    }
    for (int i = 0; i < 200 && !book.empty(); ++i) {
      book.schedule();
      while (const auto chunk = book.take_read()) reading.push_back(*chunk);
      for (const std::int32_t chunk : reading) book.arrived(chunk, content());
      reading.clear();
      ASSERT_TRUE(book.front().ready()) << "seed " << seed;
      book.deliver_front();
    }
    EXPECT_TRUE(book.empty()) << "seed " << seed;
    // The budget, the first request's chunks beyond it, and reads under way that were dropped.
    EXPECT_LE(book.most_bytes_held(), budget + 15 * page);
  }
}

}  // namespace
}  // namespace paceline
