#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "allreduce/measure.hpp"
#include "allreduce/options.hpp"
#include "allreduce/placement.hpp"
#include "allreduce/probe_kernel.hpp"
#include "allreduce/report.hpp"
#include "allreduce/sizes.hpp"
#include "allreduce/statistics.hpp"
#include "allreduce/table.hpp"
#include "data/options.hpp"
#include "paceline/base/text.hpp"
#include "peers/values.h"

namespace paceline::bench {
namespace {

using Sizes = std::vector<std::uint64_t>;

TEST(BenchSizes, ParsesBytes) {
  EXPECT_EQ(parse_bytes("0"), 0U);
  EXPECT_EQ(parse_bytes("4"), 4U);
  EXPECT_EQ(parse_bytes("256K"), 256U << 10);
  EXPECT_EQ(parse_bytes("64M"), 64U << 20);
  EXPECT_EQ(parse_bytes("1G"), 1U << 30);
  for (const char* bad : {"", "K", "4k", "4KB", "-4", "4.5M", "99999999999G", "4 M"})
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
}

TEST(BenchSizes, AreWholeElementsAndNoneTwice) {
  AllreduceOptions options;
  options.max_bytes = 300;
  EXPECT_EQ(sizes_of(options), (Sizes{4, 16, 64, 256}));
  options.dtype = "f64";
  EXPECT_EQ(sizes_of(options), (Sizes{8, 16, 64, 256}));
  options.min_bytes = 1;
  options.factor = 3;
  EXPECT_EQ(sizes_of(options), (Sizes{8, 24, 80, 240}));
  options.max_bytes = 7;
  EXPECT_EQ(sizes_of(options), Sizes{});
}

TEST(BenchSizes, RepeatsSmallSumsMoreOften) {
  EXPECT_EQ(repeat_of(1), 200);
  EXPECT_EQ(repeat_of(4096), 64);
  EXPECT_EQ(repeat_of(256 << 10), 1);
  EXPECT_EQ(repeat_of(std::uint64_t{1} << 30), 1);
}

TEST(BenchSizes, Layouts) {
  EXPECT_EQ(even_layout(8, 4), (std::vector<int>{2, 2, 2, 2}));
  EXPECT_EQ(even_layout(5, 3), (std::vector<int>{2, 2, 1}));
  EXPECT_EQ(nodes_of_ranks({3, 1, 2}), (std::vector<int>{0, 0, 0, 1, 2, 2}));
}

TEST(BenchStatistics, MedianAndSlowest) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 5}), 5);
  EXPECT_EQ(median({4, 1, 3, 2}), 2.5);
  EXPECT_EQ(slowest_of_each({{1, 5, 3}, {2, 4, 3}}), (std::vector<double>{2, 5, 3}));
}

TEST(BenchStatistics, Bandwidths) {
  EXPECT_DOUBLE_EQ(algorithm_bandwidth(1000, 1), 1);  // 1,000 bytes in a microsecond are 1 GB/s
  EXPECT_DOUBLE_EQ(bus_bandwidth(1000, 1, 1), 0);
  EXPECT_DOUBLE_EQ(bus_bandwidth(1000, 1, 2), 1);
  EXPECT_DOUBLE_EQ(bus_bandwidth(1000, 1, 4), 1.5);
  // 16 MiB over four hosts: 1.5 times that over each wire, at 125 bytes per microsecond.
  EXPECT_NEAR(wire_limit_us(16 << 20, 4, 1), 201326.6, 0.1);
  EXPECT_NEAR(wire_limit_us(16 << 20, 4, 10), 20132.7, 0.1);
}

TEST(BenchStatistics, ToleranceIsForFewBitsOnly) {
  EXPECT_EQ(tolerance_of("f32", "none", 1024, 1), 0);
  EXPECT_EQ(tolerance_of("bf16", "none", 8, 4), 0);
  EXPECT_GT(tolerance_of("bf16", "none", 64, 1), 0);
  EXPECT_EQ(tolerance_of("f32", "f16", 8, 4), 0);
  EXPECT_GT(tolerance_of("f32", "int8", 2, 2), 0);
  EXPECT_LT(tolerance_of("f32", "int8", 2, 2), 1);  // or the check would let any value through
}

TEST(BenchTable, NumbersHaveThreeDigitsThatCount) {
  EXPECT_EQ(short_number(0.456), "0.46");
  EXPECT_EQ(short_number(9.99), "9.99");
  EXPECT_EQ(short_number(9.996), "10.0");
  EXPECT_EQ(short_number(54.44), "54.4");
  EXPECT_EQ(short_number(99.96), "100");
  EXPECT_EQ(short_number(54980.3), "54980");
  EXPECT_EQ(short_number(std::numeric_limits<double>::quiet_NaN()), "-");
}

Row example_row() {
  return {4194304,
          1048576,
          {{"paceline", 128}, {"probe", 64}, {"openmpi", 512}},
          {{"paceline", 0}, {"openmpi", 3}},
          64};
}

Placement one_machine() {
  Placement placement;
  placement.layout = {2};
  placement.node_of_rank = {0, 0};
  return placement;
}

TEST(BenchTable, HeadAndRowsHaveTheSameColumns) {
  AllreduceOptions options;
  options.peers = {"openmpi"};
  const std::string head = table_head(options, one_machine());
  const std::string row = table_row(example_row(), options);
  EXPECT_EQ(row,
            "    4194304    1048576   f32        128    32.8    32.8       0       64.0    0.50        512   "
            " 4.00\n");
  EXPECT_EQ(head.find('\n') + 1, row.size());
  EXPECT_NE(head.find("probe"), std::string::npos);
  Row unlimited = example_row();
  unlimited.limit_us = 0;
  EXPECT_NE(table_row(unlimited, options).find(" - "), std::string::npos);
}

TEST(BenchTable, TheLimitIsTheProbeOrTheWire) {
  AllreduceOptions options;
  Placement placement = one_machine();
  EXPECT_EQ(limit_name(options, placement), "probe");
  placement.layout = {1, 1};
  EXPECT_EQ(limit_name(options, placement), "");
  placement.hosts = {{"h1", "10.0.0.1", {}}, {"h2", "10.0.0.2", {}}};
  EXPECT_EQ(limit_name(options, placement), "");
  options.wire_gbits = 1;
  EXPECT_EQ(limit_name(options, placement), "wire");
}

TEST(BenchReport, HasWhatItPromises) {
  AllreduceOptions options;
  options.peers = {"openmpi"};
  const auto report = nlohmann::json::parse(report_json({example_row()}, options, one_machine(), {}));
  const auto& row = report["rows"][0];
  EXPECT_EQ(row["bytes"], 4194304);
  EXPECT_EQ(row["us_p50"], 128);
  EXPECT_EQ(row["probe_us_p50"], 64);
  EXPECT_EQ(row["fraction_of_probe"], 0.5);
  EXPECT_EQ(row["errors"], 0);
  EXPECT_EQ(row["peers"]["openmpi"]["us_p50"], 512);
  EXPECT_EQ(row["peers"]["openmpi"]["ratio"], 4);
  EXPECT_EQ(row["peers"]["openmpi"]["errors"], 3);
  EXPECT_EQ(report["settings"]["layout"], (std::vector<int>{2}));
}

TEST(BenchPlacement, HostsFile) {
  const auto hosts = parse_hosts("# two\nh1 10.0.0.1 ssh h1\n\n  h2\t10.0.0.2\n");
  ASSERT_TRUE(hosts.ok());
  ASSERT_EQ(hosts->size(), 2U);
  EXPECT_EQ((*hosts)[0].command, (std::vector<std::string>{"ssh", "h1"}));
  EXPECT_EQ((*hosts)[1].address, "10.0.0.2");
  EXPECT_TRUE((*hosts)[1].command.empty());
  for (const char* bad : {"", "# none\n", "h1\n", "h1 10.0.0.1\nh1 10.0.0.2\n"})
    EXPECT_FALSE(parse_hosts(bad).ok());
}

TEST(BenchPlacement, PinsWhereThereIsACoreForEveryRank) {
  AllreduceOptions options;
  options.ranks = 1;
  options.layout = {1};
  EXPECT_EQ(place(options)->cpus.size(), 1U);
  options.ranks = 1024;
  options.layout = {1024};
  EXPECT_TRUE(place(options)->cpus.empty());
  options.layout = {512, 512};
  EXPECT_EQ(place(options)->node_of_rank[512], 1);
}

TEST(BenchOptions, RanksNodesAndLayoutAgree) {
  const auto plain = parse_allreduce({});
  ASSERT_TRUE(plain.ok());
  EXPECT_EQ(plain->layout, (std::vector<int>{2}));
  EXPECT_EQ(plain->max_bytes, 64U << 20);
  const auto uneven = parse_allreduce({"--layout", "3,1", "--peers", "", "--timeout", "0.5"});
  EXPECT_FALSE(uneven.ok());  // an empty peer is none that we know
  const auto layout = parse_allreduce({"--layout", "3,1", "--timeout", "0.5"});
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->ranks, 4);
  EXPECT_EQ(layout->nodes, 2);
  EXPECT_EQ(layout->timeout, std::chrono::milliseconds(500));
  const auto nodes = parse_allreduce({"--ranks", "5", "--nodes", "2"});
  ASSERT_TRUE(nodes.ok());
  EXPECT_EQ(nodes->layout, (std::vector<int>{3, 2}));
}

TEST(BenchOptions, WrongArgumentsAreOneSentenceWithTheCommandThatHelps) {
  EXPECT_EQ(parse_allreduce({"--help"}).error().code, ErrorCode::aborted);
  EXPECT_EQ(parse_data({"--help"}).error().code, ErrorCode::aborted);
  EXPECT_EQ(
      parse_allreduce({"--ranks", "0"}).error().message,
      "--ranks: Value 0 not in range 1 to 1024; `paceline bench allreduce --help` shows how it is used");
  EXPECT_EQ(parse_data({"--rounds", "0", "x"}).error().message,
            "--rounds: Value 0 not in range 1 to 1000; `paceline bench data --help` shows how it is used");
}

TEST(BenchProbe, AddsUpInAllBuffers) {
  for (const int ranks : {1, 2, 3, 4}) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{16}, std::size_t{255}, std::size_t{1000}}) {
      std::vector<std::vector<float>> values;
      std::vector<float*> buffers;
      for (int rank = 0; rank < ranks; ++rank) values.emplace_back(count + 16, static_cast<float>(rank + 1));
      for (std::vector<float>& each : values) buffers.push_back(each.data());
      probe_add_up(buffers.data(), ranks, 0, count);
      const auto sum = static_cast<float>(ranks * (ranks + 1) / 2);
      for (int rank = 0; rank < ranks; ++rank)
        for (std::size_t i = 0; i < count + 16; ++i)
          ASSERT_EQ(values[static_cast<std::size_t>(rank)][i], i < count ? sum : static_cast<float>(rank + 1))
              << ranks << " ranks, " << count << " elements, at " << i;
    }
  }
}

// One rank's values are their own sum, and a changed one is found, in every type.
TEST(BenchValues, WrongOnesAreCounted) {
  for (const char* name : {"f32", "f64", "f16", "bf16", "i32", "i64", "u8"}) {
    contender_job job{};
    job.ranks = 1;
    ASSERT_NE(type_by_name(name, &job.type), 0) << name;
    EXPECT_EQ(contender_element_bytes(job.type), bytes_of_type(name));
    constexpr std::size_t count = 1000;
    std::vector<unsigned char> data(count * contender_element_bytes(job.type));
    write_checked_values(&job, data.data(), count);
    EXPECT_EQ(count_wrong_values(&job, data.data(), count, 0), 0U) << name;
    for (std::size_t i = 0; i < contender_element_bytes(job.type); ++i) data[i] ^= 0x55U;
    EXPECT_EQ(count_wrong_values(&job, data.data(), count, 0), 1U) << name;
    write_timed_values(&job, data.data(), count);  // of one rank: zeros
    EXPECT_EQ(count_wrong_values(&job, data.data(), count, 0), count) << name;
  }
  contender_type type{};
  EXPECT_EQ(type_by_name("f8", &type), 0);
}

}  // namespace
}  // namespace paceline::bench
