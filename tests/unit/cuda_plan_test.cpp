// What the collectives on device memory decide: which way, and whether these GPUs can work together.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda/plan/devices.hpp"
#include "cuda/plan/ways.hpp"

namespace paceline::cuda {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Descriptor call_of(CollectiveKind kind, DataType type, std::size_t count, ReduceOp op = ReduceOp::sum,
                   Codec codec = Codec::none) {
  Descriptor call;
  call.kind = kind;
  call.type = type;
  call.count = count;
  call.op = op;
  call.codec = codec;
  return call;
}

Descriptor sum_of_bytes(std::size_t bytes) {
  return call_of(CollectiveKind::all_reduce, DataType::f32, bytes / 4);
}

/// 8 us and 20 GB/s, 15 us and 100 GB/s, 40 us and 150 GB/s, 300 us and 5 GB/s.
std::vector<WayFound> one_node() {
  return {{Way::one_shot, "", 8e-6, 20e9},
          {Way::two_shot, "", 15e-6, 100e9},
          {Way::nccl, "", 40e-6, 150e9},
          {Way::staged, "", 300e-6, 5e9},
          {Way::hierarchical, "", 1e-6, 1e12}};
}

TEST(Ways, TheFastestForTheSizeIsTaken) {
  const WayPlan plan(one_node(), Way::automatic, 1, 4);
  EXPECT_EQ(plan.choose(sum_of_bytes(4)).value(), Way::one_shot);
  EXPECT_EQ(plan.choose(sum_of_bytes(160'000)).value(), Way::one_shot);  // 16.0 us and 16.6
  EXPECT_EQ(plan.choose(sum_of_bytes(200'000)).value(), Way::two_shot);  // 18.0 us and 17.0
  EXPECT_EQ(plan.choose(sum_of_bytes(64 << 20)).value(), Way::nccl);
  const std::string text = plan.describe();
  EXPECT_THAT(text, HasSubstr("two_shot: 15.0 us, 100.00 GB/s\n"));
  EXPECT_THAT(text, HasSubstr("sums to 128.0 KiB: one_shot\nsums from 256.0 KiB to 4.0 MiB: two_shot\n"));
}

TEST(Ways, WhatAWayCannotDoGoesAnotherWay) {
  const WayPlan plan(one_node(), Way::automatic, 1, 4);
  const std::size_t many = 64 << 20;
  EXPECT_EQ(plan.choose(call_of(CollectiveKind::all_reduce, DataType::i32, many, ReduceOp::average)).value(),
            Way::two_shot);
  EXPECT_EQ(
      plan.choose(call_of(CollectiveKind::all_reduce, DataType::f32, many, ReduceOp::sum, Codec::fixed_point))
          .value(),
      Way::two_shot);
  const WayPlan two_nodes(one_node(), Way::automatic, 2, 4);
  EXPECT_EQ(two_nodes.choose(sum_of_bytes(4)).value(), Way::hierarchical);
  EXPECT_EQ(two_nodes.choose(call_of(CollectiveKind::all_gather, DataType::f32, 4)).value(), Way::nccl);
  EXPECT_EQ(
      two_nodes
          .choose(call_of(CollectiveKind::all_reduce, DataType::f32, 4, ReduceOp::sum, Codec::fixed_point))
          .value(),
      Way::staged);
  EXPECT_EQ(
      two_nodes.choose(call_of(CollectiveKind::all_reduce, DataType::f32, 4, ReduceOp::sum, Codec::int8))
          .value(),
      Way::hierarchical);
}

TEST(Ways, OneThatWasAskedForIsTakenOrRefusedWithTheReason) {
  EXPECT_EQ(WayPlan(one_node(), Way::staged, 1, 4).choose(sum_of_bytes(4)).value(), Way::staged);
  const auto refused =
      WayPlan(one_node(), Way::nccl, 1, 4)
          .choose(call_of(CollectiveKind::all_reduce, DataType::f32, 4, ReduceOp::sum, Codec::fixed_point));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::unsupported);
  EXPECT_THAT(refused.error().message, HasSubstr("NCCL has no fixed point"));
  std::vector<WayFound> found = one_node();
  found[2].why_not = "rank 1: Paceline was built without NCCL";
  EXPECT_THAT(WayPlan(found, Way::nccl, 1, 4).choose(sum_of_bytes(4)).error().message,
              HasSubstr("rank 1: Paceline was built without NCCL"));
  EXPECT_NE(WayPlan(found, Way::automatic, 1, 4).choose(sum_of_bytes(1 << 30)).value(), Way::nccl);
  EXPECT_THAT(WayPlan(found, Way::automatic, 1, 4).describe(),
              HasSubstr("nccl: not used: rank 1: Paceline was"));
}

TEST(Ways, AStraightLineGoesThroughBothTimes) {
  WayFound way;
  fit(way, 1000, 12e-6, 1'001'000, 112e-6);
  EXPECT_NEAR(way.bytes_per_s, 1e10, 1);
  EXPECT_NEAR(way.latency_s, 11.9e-6, 1e-12);
  fit(way, 1000, 50e-6, 1'000'000, 40e-6);  // disturbed
  EXPECT_NEAR(way.bytes_per_s, 2.5e10, 1);
  EXPECT_EQ(way.latency_s, 50e-6);
}

TEST(Ways, TheEnvironmentFillsInWhatIsLeftOpen) {
  ::setenv("PACELINE_DEVICE_WAY", "two_shot", 1);
  ::setenv("PACELINE_DEVICE_FRAGMENT_BYTES", "65536", 1);
  const DeviceTuning from_environment = device_tuning_from_environment({}).value();
  EXPECT_EQ(from_environment.way, Way::two_shot);
  EXPECT_EQ(from_environment.fragment_bytes, 65536U);
  EXPECT_EQ(device_tuning_from_environment({Way::nccl, 4096}).value().way, Way::nccl);
  ::setenv("PACELINE_DEVICE_WAY", "fastest", 1);
  EXPECT_THAT(device_tuning_from_environment({}).error().message,
              HasSubstr("PACELINE_DEVICE_WAY is fastest: use one of automatic, one_shot"));
  ::unsetenv("PACELINE_DEVICE_WAY");
  ::setenv("PACELINE_DEVICE_FRAGMENT_BYTES", "12", 1);
  EXPECT_FALSE(device_tuning_from_environment({}).ok());
  ::unsetenv("PACELINE_DEVICE_FRAGMENT_BYTES");
}

DeviceFacts gpu(int number, const char* name = "NVIDIA H100") {
  DeviceFacts facts;
  facts.uuid[0] = static_cast<unsigned char>(number);
  facts.device = number;
  put(facts.name, name);
  facts.compute_capability = 90;
  facts.toolkit = 13000;
  facts.driver = 13000;
  facts.nccl_header = 22809;
  facts.nccl_library = 22809;
  return facts;
}

TEST(Devices, OneGpuForTwoRanksIsAMistakeUnlessAllowed) {
  const std::vector<DeviceFacts> facts = {gpu(0), gpu(1), gpu(1)};
  const Status status = check_devices(facts, false);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::invalid_argument);
  EXPECT_EQ(status.error().rank, 2);
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr("rank 2, GPU 1 (NVIDIA H100): it is the GPU of rank 1, too"),
                    HasSubstr("share_device")));
  EXPECT_TRUE(check_devices(facts, true).ok());
  EXPECT_THAT(describe_devices(facts), HasSubstr("shared with rank 1"));
}

TEST(Devices, ARankWithTroubleIsNamedToAll) {
  std::vector<DeviceFacts> facts = {gpu(0), DeviceFacts{}};
  put(facts[1].trouble, objection_to_driver(12040, 13000));
  facts[1].trouble_code = static_cast<std::int32_t>(ErrorCode::unsupported);
  const Status status = check_devices(facts, false);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::unsupported);
  EXPECT_EQ(status.error().rank, 1);
  EXPECT_EQ(
      status.error().message,
      "rank 1: the NVIDIA driver supports CUDA 12.4 and Paceline was built with CUDA 13.0: install a newer "
      "driver, or build with CUDA 12");
}

TEST(Devices, DriversOfTheSameMajorVersionServe) {
  EXPECT_EQ(objection_to_driver(13000, 13020), "");
  EXPECT_EQ(objection_to_driver(14000, 13000), "");
  EXPECT_THAT(objection_to_driver(0, 13000), HasSubstr("there is no NVIDIA driver"));
}

TEST(Devices, KindsThatDifferAreANoteAndNoError) {
  const std::vector<DeviceFacts> facts = {gpu(0), gpu(1), gpu(2, "NVIDIA A100")};
  EXPECT_TRUE(check_devices(facts, false).ok());
  EXPECT_THAT(describe_devices(facts),
              HasSubstr("note: the GPUs are of different kinds (rank 0 has NVIDIA H100, "
                        "rank 2 NVIDIA A100)"));
  EXPECT_THAT(describe_devices(std::vector<DeviceFacts>{gpu(0), gpu(1)}), Not(HasSubstr("note:")));
}

TEST(Devices, NcclThatDoesNotFitIsSaidWithWhatToDo) {
  std::vector<DeviceFacts> facts = {gpu(0), gpu(1)};
  EXPECT_EQ(objection_to_nccl(facts), "");
  facts[1].nccl_library = 22005;
  EXPECT_THAT(
      objection_to_nccl(facts),
      AllOf(HasSubstr("rank 1, GPU 1 (NVIDIA H100): NCCL's library is 2.20.5 and its header was 2.28.9"),
            HasSubstr("LD_LIBRARY_PATH")));
  facts[1].nccl_library = 22900;
  EXPECT_THAT(objection_to_nccl(facts), HasSubstr("rank 0 has 2.28.9: install the same on all nodes"));
  facts[0].nccl_header = 0;
  EXPECT_THAT(objection_to_nccl(facts),
              HasSubstr("rank 0, GPU 0 (NVIDIA H100): Paceline was built without NCCL"));
}

}  // namespace
}  // namespace paceline::cuda
