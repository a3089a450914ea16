#include "codec.cuh"

#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

__global__ void __launch_bounds__(block_threads)
    encode_int8_kernel(const __grid_constant__ Int8Arrays arrays) {
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const std::size_t warps = static_cast<std::size_t>(gridDim.x) * (block_threads / warp_lanes);
  const std::size_t blocks = arrays.blocks();
  std::size_t block =
      static_cast<std::size_t>(blockIdx.x) * (block_threads / warp_lanes) + threadIdx.x / warp_lanes;
  for (; block < blocks; block += warps) {
    Int8EncodeLane share{arrays, block, lane};
    share.write(__reduce_max_sync(0xffffffffU, share.read()));
  }
}

__global__ void __launch_bounds__(block_threads)
    decode_int8_kernel(const __grid_constant__ Int8Arrays arrays) {
  const int lane = static_cast<int>(threadIdx.x % warp_lanes);
  const std::size_t warps = static_cast<std::size_t>(gridDim.x) * (block_threads / warp_lanes);
  const std::size_t blocks = arrays.blocks();
  std::size_t block =
      static_cast<std::size_t>(blockIdx.x) * (block_threads / warp_lanes) + threadIdx.x / warp_lanes;
  for (; block < blocks; block += warps) decode_int8_lane(arrays, block, lane);
}

template <class Half>
Status encode_half(void* wire, const float* values, std::size_t count, float* residual, cudaStream_t stream) {
  using E = EncodeWithFeedback<Half>;
  const E share{static_cast<std::uint16_t*>(wire), values, residual};
  const Split parts = split(
      {{wire, sizeof(std::uint16_t)}, {values, sizeof(float)}, {residual, sizeof(float)}}, E::group, count);
  return launch_walk(share, parts, stream, "encoding");
}

Int8Arrays int8_arrays(void* wire, float* values, float* residual, std::size_t count) {
  const bool wide = all_aligned({{values, sizeof(float)}, {residual, sizeof(float)}}, 0, 4);
  return {static_cast<std::uint8_t*>(wire), values, residual, count, wide, all_aligned({{wire, 1}}, 0, 4)};
}

Status check_codec(Codec codec, const void* wire, const void* values) {
  if (codec != Codec::f16 && codec != Codec::bf16 && codec != Codec::int8)
    return invalid(concat("the codec ", to_string(codec), " does not encode"));
  PACELINE_TRY(check_pointer(wire, codec == Codec::int8 ? 1 : 2, "the encoded data"));
  return check_pointer(values, sizeof(float), "the data of a codec");
}

}  // namespace

std::size_t encoded_bytes(Codec codec, std::size_t count) noexcept {
  if (codec == Codec::int8) return count + (count + int8_block - 1) / int8_block * sizeof(float);
  return codec == Codec::f16 || codec == Codec::bf16 ? 2 * count : 0;
}

Status encode(Codec codec, void* wire, const float* values, std::size_t count, float* residual,
              cudaStream_t stream) {
  if (count == 0) return {};
  PACELINE_TRY(check_codec(codec, wire, values));
  if (residual != nullptr) PACELINE_TRY(check_pointer(residual, sizeof(float), "the residual"));
  if (codec == Codec::int8) {
    static ResidentBlocks known;
    // Never written to by the encoder, which takes the same arrays as the decoder.
    const Int8Arrays arrays = int8_arrays(wire, const_cast<float*>(values), residual, count);
    return launch(&encode_int8_kernel, known, arrays.blocks() * warp_lanes, stream, "encoding", arrays);
  }
  const DataType half = codec == Codec::f16 ? DataType::f16 : DataType::bf16;
  if (residual == nullptr) return scale_and_cast(wire, half, values, DataType::f32, count, 1, stream);
  if (codec == Codec::f16) return encode_half<F16>(wire, values, count, residual, stream);
  return encode_half<BF16>(wire, values, count, residual, stream);
}

Status decode(Codec codec, float* values, const void* wire, std::size_t count, cudaStream_t stream) {
  if (count == 0) return {};
  PACELINE_TRY(check_codec(codec, wire, values));
  if (codec == Codec::int8) {
    static ResidentBlocks known;
    const Int8Arrays arrays = int8_arrays(const_cast<void*>(wire), values, nullptr, count);  // as above
    return launch(&decode_int8_kernel, known, arrays.blocks() * warp_lanes, stream, "decoding", arrays);
  }
  const DataType half = codec == Codec::f16 ? DataType::f16 : DataType::bf16;
  return scale_and_cast(values, DataType::f32, wire, half, count, 1, stream);
}

}  // namespace paceline::cuda
