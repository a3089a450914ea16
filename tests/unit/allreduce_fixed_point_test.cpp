// Fixed point over many layouts of ranks: the same bits for any number of ranks, topology and order.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

/// The sum of 24 parts, of which a rank brings those that are its share: as a hash, the same on all ranks.
std::string hash_of_sum(const std::string& nodes, bool shared, std::uint64_t& hash) {
  const auto failures =
      run_ranks({nodes, RunAs::threads}, [&](Result<Communicator>& c, int rank) -> std::string {
        if (!c.ok()) return c.error().message;
        constexpr std::size_t count = 50021;
        auto buffer = make_buffer(*c, shared, count * sizeof(float));
        auto partial = make_buffer(*c, shared, count * sizeof(std::int64_t));
        if (!buffer.ok() || !partial.ok()) return "no memory";
        auto* data = static_cast<float*>(buffer->data());
        // One part per collective, so that every world size adds up the same parts.
        std::uint64_t own = 1469598103934665603U;
        const int n = c->size();
        for (int part = 0; part < 24; part += n) {
          for (std::size_t i = 0; i < count; ++i) {
            const int mine = part + rank;
            data[i] = mine < 24 ? std::sin(static_cast<float>(i * 24 + static_cast<std::size_t>(mine))) / 3.0F
                                : 0.0F;
          }
          // Accumulated in integers, as reproducible mode does between collectives.
          auto* sums = static_cast<std::int64_t*>(partial->data());
          for (std::size_t i = 0; i < count; ++i) {
            const auto q =
                static_cast<std::int64_t>(std::nearbyint(std::ldexp(static_cast<double>(data[i]), 30)));
            sums[i] = part == 0 ? q : sums[i] + q;
          }
        }
        if (const Status s = c->all_reduce(partial->data(), count, DataType::i64); !s.ok())
          return s.error().message;
        for (std::size_t i = 0; i < count; ++i)
          own = (own ^ static_cast<std::uint64_t>(static_cast<std::int64_t*>(partial->data())[i])) *
                1099511628211U;
        // And the codec: all 24 parts as one input per rank, of which only the first 24 / n carry anything.
        for (std::size_t i = 0; i < count; ++i)
          data[i] = rank == 0 ? std::sin(static_cast<float>(i))
                              : (rank < 3 ? std::cos(static_cast<float>(i + 1)) / 7 : 0);
        if (n == 1)
          for (std::size_t i = 0; i < count; ++i) data[i] = std::sin(static_cast<float>(i));
        ReduceOptions options;
        options.codec = Codec::fixed_point;
        options.fixed_point_exponent = 28;
        if (const Status s = c->all_reduce(data, data, count, DataType::f32, options); !s.ok())
          return s.error().message;
        if (rank == 0) hash = own;
        return {};
      });
  for (const std::string& failure : failures)
    if (!failure.empty()) return failure;
  return {};
}

TEST(FixedPoint, PartialSumsAreTheSameForEveryWorldSizeAndTopology) {
  std::uint64_t first = 0;
  ASSERT_EQ(hash_of_sum("a", true, first), "");
  for (const char* nodes : {"aa", "ab", "aaa", "aabb", "abcd", "aaabccdd"})
    for (const bool shared : {true, false}) {
      std::uint64_t hash = 0;
      ASSERT_EQ(hash_of_sum(nodes, shared, hash), "") << nodes;
      EXPECT_EQ(hash, first) << nodes;
    }
}

/// 8 inputs, which the ranks of a layout bring in different groups: the codec's bits must not depend on it. A
/// rank with several inputs sums them up exactly beforehand, because they are multiples of the resolution.
TEST(FixedPoint, TheCodecGivesTheSameBitsForEveryTopologyAndOrder) {
  constexpr std::size_t count = 30011;
  std::vector<float> expected(count);
  const auto input = [](std::size_t i, int part) {
    return static_cast<float>(
               static_cast<int>((i * 2654435761U + static_cast<std::size_t>(part) * 40503U) % 20011) -
               10005) /
           1024;
  };
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;
    for (int part = 0; part < 8; ++part) sum += static_cast<double>(input(i, part));
    expected[i] = static_cast<float>(sum);
  }
  for (const char* nodes : {"a", "aa", "ab", "aabb", "aaaabbbb", "abcdabcd"})
    expect_all_well(run_ranks({nodes, RunAs::threads}, [&](Result<Communicator>& c, int rank) -> std::string {
      if (!c.ok()) return c.error().message;
      const int each = 8 / c->size();
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i) {
        double sum = 0;
        for (int part = 0; part < each; ++part) sum += static_cast<double>(input(i, rank * each + part));
        data[i] = static_cast<float>(sum);
      }
      ReduceOptions options;
      options.codec = Codec::fixed_point;
      for (const bool small : {false, true}) {
        std::vector<float> sum(count);
        const std::size_t n = small ? 400 : count;
        const Status s = c->all_reduce(data.data(), sum.data(), n, DataType::f32, options);
        if (!s.ok()) return s.error().message;
        if (std::memcmp(sum.data(), expected.data(), n * sizeof(float)) != 0)
          return concat("other bits with ", n);
      }
      return {};
    }));
}

TEST(FixedPoint, WhatIsOutOfRangeIsNaNForEveryone) {
  for (const char* nodes : {"aa", "ab", "aabb"})
    expect_all_well(run_ranks({nodes, RunAs::threads}, [&](Result<Communicator>& c, int rank) -> std::string {
      if (!c.ok()) return c.error().message;
      for (const std::size_t count : {std::size_t{64}, std::size_t{40000}}) {
        std::vector<double> data(count, 0.5);
        if (rank == c->size() - 1) data[count - 1] = std::ldexp(1.0, 18);  // 2^(42 - 24)
        ReduceOptions options;
        options.codec = Codec::fixed_point;
        const Status s = c->all_reduce(data.data(), data.data(), count, DataType::f64, options);
        if (!s.ok()) return s.error().message;
        if (!std::isnan(data[count - 1])) return concat("it is ", data[count - 1]);
        if (data[count - 2] != 0.5 * c->size()) return concat("its neighbour is ", data[count - 2]);
      }
      return {};
    }));
}

}  // namespace
}  // namespace paceline::testing
