// The kernels' launch functions, as far as they go without a GPU: what they refuse, and what they say then.

#include "paceline/cuda_kernels.hpp"

#include <gtest/gtest.h>

#include "paceline/cuda.hpp"

namespace paceline::cuda {
namespace {

// Never read: everything here is refused before, or there is no GPU to read it.
alignas(16) float memory[64];

void expect_refused(const Status& status, std::string_view part) {
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
}

TEST(CudaKernels, RefuseNullAndMisalignedPointers) {
  auto* bytes = reinterpret_cast<unsigned char*>(memory);
  const void* odd = bytes + 2;
  expect_refused(scale_and_cast(nullptr, DataType::f32, memory, DataType::f32, 4, 1, nullptr),
                 "null pointer");
  expect_refused(scale_and_cast(memory, DataType::f32, odd, DataType::f32, 4, 1, nullptr), "aligned");
  const void* const sources[] = {memory, odd};
  expect_refused(reduce(memory, sources, 4, {}, nullptr), "aligned");
  expect_refused(encode(Codec::f16, bytes + 1, memory, 4, nullptr, nullptr), "encoded data is not aligned");
  expect_refused(sum_of_squares(nullptr, memory, DataType::f32, 4, false, memory, nullptr), "null pointer");
  FlatArrays arrays{memory, memory, DataType::f32, 4};
  expect_refused(adamw(arrays, nullptr, memory, {}, nullptr), "first moment");
  expect_refused(sgd(arrays, nullptr, {0.1, 0.9, false, 0}, nullptr), "momentum");
}

TEST(CudaKernels, RefuseWhatMakesNoSense) {
  expect_refused(scale_and_cast(memory, DataType::i32, memory, DataType::f32, 4, 1, nullptr),
                 "floating types");
  expect_refused(scale_and_cast(memory, DataType::f16, memory, DataType::f32, 4, 1, nullptr), "in place");
  expect_refused(reduce(memory, {}, 4, {}, nullptr), "1 to 64 sources");
  const void* const sources[] = {memory, memory + 32};
  const double weight[] = {1.0};
  const double weights[] = {1.0, 2.0};
  expect_refused(reduce(memory, sources, 4, {DataType::f32, ReduceOp::sum, weight}, nullptr), "1 weights");
  expect_refused(reduce(memory, sources, 4, {DataType::i32, ReduceOp::sum, weights}, nullptr),
                 "floating type");
  expect_refused(reduce(memory, sources, 4, {DataType::f32, ReduceOp::max, weights}, nullptr),
                 "sum or average");
  expect_refused(reduce(memory, sources, 4, {DataType::f32, ReduceOp::sum, {}, 2}, nullptr), "averages");
  expect_refused(reduce(memory, sources, 4, {DataType::u8, ReduceOp::average, {}, 300}, nullptr), "u8");
  expect_refused(encode(Codec::none, memory, memory + 32, 4, nullptr, nullptr), "does not encode");
  expect_refused(fixed_partial(nullptr, sources, {}, DataType::f16, 24, 4, nullptr), "f32 or f64");
  expect_refused(fixed_partial(nullptr, sources, {}, DataType::f32, 61, 4, nullptr), "from -60 to 60");
  expect_refused(fixed_convert(memory, nullptr, 193, 4, nullptr), "from -128 to 192");
  expect_refused(gradient_factor(memory, reinterpret_cast<double*>(memory), -1, 1, nullptr), "norm of -1");
  FlatArrays arrays{memory, memory, DataType::f64, 4};
  expect_refused(adamw(arrays, memory, memory, {}, nullptr), "f64");
  AdamWOptions never;
  never.update = 0;
  expect_refused(adamw(arrays, memory, memory, never, nullptr), "count from 1");
}

TEST(CudaKernels, OfNothingNeedNoGpu) {
  EXPECT_TRUE(scale_and_cast(nullptr, DataType::f32, nullptr, DataType::f16, 0, 1, nullptr).ok());
  EXPECT_TRUE(encode(Codec::int8, nullptr, nullptr, 0, nullptr, nullptr).ok());
  EXPECT_TRUE(adamw({}, nullptr, nullptr, {}, nullptr).ok());
}

TEST(CudaKernels, KnowHowManyBytesCodesTake) {
  EXPECT_EQ(encoded_bytes(Codec::f16, 3), 6U);
  EXPECT_EQ(encoded_bytes(Codec::bf16, std::size_t{1} << 32), std::size_t{1} << 33);
  EXPECT_EQ(encoded_bytes(Codec::int8, 256), 260U);
  EXPECT_EQ(encoded_bytes(Codec::int8, 257), 265U);
  EXPECT_EQ(encoded_bytes(Codec::none, 9), 0U);
}

TEST(CudaKernels, SayThatThereIsNoGpu) {
  if (const auto count = device_count(); count.ok() && *count > 0) GTEST_SKIP() << "there is a GPU";
  const Status status = scale_and_cast(memory, DataType::f32, memory + 32, DataType::f32, 4, 1, nullptr);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::unsupported);
  EXPECT_NE(status.error().message.find("cudaError"), std::string::npos) << status.error().message;
}

}  // namespace
}  // namespace paceline::cuda
