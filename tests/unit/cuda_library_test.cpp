// What the library for GPUs says where there is none, and of GPUs that fail. Collectives that run are tested
// on a GPU: tests/gpu/communicator_test.cu.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cuda/device.hpp"
#include "paceline/cuda.h"
#include "paceline/cuda.hpp"
#include "support/ranks.hpp"

namespace paceline::cuda {
namespace {

using paceline::testing::expect_all_well;
using paceline::testing::run_ranks;
using ::testing::AllOf;
using ::testing::HasSubstr;

bool there_is_a_gpu() {
  const Result<int> count = device_count();
  return count.ok() && *count > 0;
}

TEST(WithoutAGpu, EveryRankIsToldWhichOneHasNone) {
  if (there_is_a_gpu()) GTEST_SKIP() << "there is a GPU here";
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& host, int) -> std::string {
    if (!host.ok()) return host.error().message;
    const auto device = DeviceCommunicator::make(*host);
    if (device.ok()) return "a communicator of GPUs that are not there";
    if (device.error().code != ErrorCode::unsupported) return device.error().message;
    if (device.error().rank != 0) return "another rank is named";
    if (device.error().message.find("rank 0") != 0) return device.error().message;
    if (device.error().message.find(": install") == std::string::npos &&
        device.error().message.find("nvidia-smi") == std::string::npos)
      return "it does not say what to do: " + device.error().message;
    std::int32_t one = 1;  // the host communicator stays well
    const Status status = host->all_reduce(&one, 1, DataType::i32);
    return status.ok() && one == 3 ? "" : "the host communicator did not survive";
  }));
}

TEST(CInterface, RefusesWhatMakesNoSense) {
  paceline_device_options options;
  EXPECT_EQ(paceline_device_options_init(nullptr, sizeof options), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_device_options_init(&options, 8), PACELINE_INVALID_ARGUMENT);
  ASSERT_EQ(paceline_device_options_init(&options, sizeof options), PACELINE_OK);
  EXPECT_EQ(options.device, -1);
  EXPECT_EQ(options.use_ipc, 1);
  EXPECT_EQ(options.ipc_bytes, std::size_t{32} << 20);
  paceline_member alone{};
  paceline_comm* host = nullptr;
  ASSERT_EQ(paceline_connect(0, &alone, 1, nullptr, &host), PACELINE_OK);
  paceline_device_comm* device = nullptr;
  options.way = 17;
  EXPECT_EQ(paceline_device_comm_create(host, &options, &device), PACELINE_INVALID_ARGUMENT);
  EXPECT_THAT(paceline_last_error(), HasSubstr("way is 17: there is no such way"));
  options.way = PACELINE_WAY_AUTOMATIC;
  options.share_device = 2;
  EXPECT_EQ(paceline_device_comm_create(host, &options, &device), PACELINE_INVALID_ARGUMENT);
  options.share_device = 0;
  options.operation_timeout_ms = 0;
  EXPECT_EQ(paceline_device_comm_create(host, &options, &device), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(device, nullptr);
  EXPECT_EQ(paceline_device_comm_create(nullptr, nullptr, &device), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_device_all_reduce(nullptr, nullptr, nullptr, 0, PACELINE_F32, nullptr, nullptr),
            PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_device_wait(nullptr), PACELINE_INVALID_ARGUMENT);
  EXPECT_EQ(paceline_device_comm_free(nullptr), PACELINE_OK);
  if (!there_is_a_gpu()) {
    EXPECT_EQ(paceline_device_comm_create(host, nullptr, &device), PACELINE_UNSUPPORTED);
    EXPECT_EQ(paceline_last_error_rank(), 0);
  }
  EXPECT_EQ(paceline_close(host), PACELINE_OK);
}

TEST(Troubles, OfAGpuSayWhatToDo) {
  EXPECT_THAT(cuda_error(cudaErrorMemoryAllocation, "no 2.0 GiB of the GPU's memory").message,
              AllOf(HasSubstr("no 2.0 GiB of the GPU's memory: cudaErrorMemoryAllocation"),
                    HasSubstr("use smaller buckets or DeviceOptions::ipc_bytes")));
  for (const cudaError_t gone :
       {cudaErrorECCUncorrectable, cudaErrorIllegalAddress, cudaErrorLaunchFailure}) {
    EXPECT_TRUE(is_fatal(gone));
    EXPECT_THAT(cuda_error(gone, "a collective failed").message, HasSubstr("look for Xid messages in dmesg"));
  }
  EXPECT_FALSE(is_fatal(cudaErrorMemoryAllocation));
  EXPECT_EQ(cuda_error(cudaErrorInsufficientDriver, "x").code, ErrorCode::unsupported);
  EXPECT_THAT(cuda_error(cudaErrorDevicesUnavailable, "the GPU cannot be used").message,
              HasSubstr("another process has it to itself"));
}

}  // namespace
}  // namespace paceline::cuda
