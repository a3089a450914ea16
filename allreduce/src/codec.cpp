#include "codec.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/kernels.hpp"
#include "paceline/base/assert.hpp"

namespace paceline {
namespace {

using kernels::int8_block;

constexpr std::size_t int8_wire_block = sizeof(float) + int8_block;

std::size_t combine_row(ReduceOp op) {
  return op == ReduceOp::average ? 0 : static_cast<std::size_t>(op);
}

}  // namespace

Arithmetic::Arithmetic(const Descriptor& descriptor)
    : descriptor_(descriptor),
      unit_(descriptor.codec == Codec::fixed_point ? sizeof(std::int64_t) : element_bytes(descriptor.type)),
      factor_(descriptor.codec == Codec::fixed_point ? std::ldexp(1.0, descriptor.exponent) : 1.0) {
}

std::size_t Arithmetic::wire_bytes(std::size_t count) const {
  switch (descriptor_.codec) {
    case Codec::f16:
    case Codec::bf16: return count * 2;
    case Codec::int8: return count + (count + int8_block - 1) / int8_block * sizeof(float);
    case Codec::none:
    case Codec::fixed_point: break;
  }
  return count * unit_;
}

void Arithmetic::partial(std::byte* sum, const void* const* ins, int in_count, const double* weights,
                         std::size_t count) const {
  const kernels::Table& table = kernel_table();
  if (fixed_point()) {
    table.fixed_partial[descriptor_.type == DataType::f64 ? 1 : 0](reinterpret_cast<std::int64_t*>(sum),
                                                                   {ins, in_count, weights, factor_, count});
    return;
  }
  if (in_count == 1 && weights == nullptr) {
    if (ins[0] != sum && count > 0) std::memcpy(sum, ins[0], count * unit_);
    return;
  }
  void* out = sum;
  table.combine[static_cast<std::size_t>(descriptor_.type)][combine_row(descriptor_.op)](
      {&out, 1, ins, in_count, weights, 1.0, count});
}

void Arithmetic::whole(void* const* outs, int out_count, const void* const* ins, int in_count,
                       const double* weights, std::size_t count, double divisor) const {
  const kernels::Table& table = kernel_table();
  const kernels::Combine combine{outs, out_count, ins, in_count, weights, divisor, count};
  if (!fixed_point()) {
    table.combine[static_cast<std::size_t>(descriptor_.type)][combine_row(descriptor_.op)](combine);
    return;
  }
  PACELINE_ASSERT(in_count <= kernels::fixed_combine_inputs, "the sum is exact in doubles");
  table.fixed_combine[descriptor_.type == DataType::f64 ? 1 : 0](combine, factor_);
}

void Arithmetic::add(std::byte* sum, const void* const* parts, int part_count, std::size_t count,
                     double divisor) const {
  const kernels::Table& table = kernel_table();
  void* out = sum;
  if (!fixed_point()) {
    table.combine[static_cast<std::size_t>(descriptor_.type)][combine_row(descriptor_.op)](
        {&out, 1, parts, part_count, nullptr, divisor, count});
    return;
  }
  auto* total = reinterpret_cast<std::int64_t*>(sum);
  const auto part = [&](int k) { return static_cast<const std::int64_t*>(parts[k]); };
  // The order does not matter; a part that lies where the sum will be is the one to begin with.
  const int first = static_cast<int>(std::find(parts, parts + part_count, sum) - parts) % part_count;
  if (parts[first] != sum && count > 0) std::memcpy(sum, parts[first], count * unit_);
  for (int k = 0; k < part_count; ++k)
    if (k != first) table.fixed_add(total, total, part(k), count);
}

void Arithmetic::finish(void* const* outs, int out_count, const std::byte* sum, std::size_t count,
                        double divisor) const {
  if (fixed_point()) {
    kernel_table().fixed_decode[descriptor_.type == DataType::f64 ? 1 : 0](
        outs, out_count, reinterpret_cast<const std::int64_t*>(sum), factor_, divisor, count);
    return;
  }
  for (int k = 0; k < out_count; ++k)
    if (outs[k] != sum && count > 0) std::memcpy(outs[k], sum, count * unit_);
}

void Arithmetic::encode_plainly(std::byte* wire, const float* in, std::size_t count) const {
  const kernels::Table& table = kernel_table();
  if (descriptor_.codec == Codec::f16)
    return table.encode_f16(reinterpret_cast<std::uint16_t*>(wire), in, count);
  if (descriptor_.codec == Codec::bf16)
    return table.encode_bf16(reinterpret_cast<std::uint16_t*>(wire), in, count);
  for (std::size_t begin = 0; begin < count; begin += int8_block, wire += int8_wire_block) {
    float scale = 0;
    table.encode_int8(&scale, reinterpret_cast<std::int8_t*>(wire + sizeof scale), in + begin,
                      std::min(int8_block, count - begin));
    std::memcpy(wire, &scale, sizeof scale);
  }
}

void Arithmetic::decode(std::byte* sum, const std::byte* wire, std::size_t count) const {
  const kernels::Table& table = kernel_table();
  auto* out = reinterpret_cast<float*>(sum);
  if (descriptor_.codec == Codec::f16)
    return table.decode_f16(out, reinterpret_cast<const std::uint16_t*>(wire), count);
  if (descriptor_.codec == Codec::bf16)
    return table.decode_bf16(out, reinterpret_cast<const std::uint16_t*>(wire), count);
  for (std::size_t begin = 0; begin < count; begin += int8_block, wire += int8_wire_block) {
    float scale = 0;
    std::memcpy(&scale, wire, sizeof scale);
    table.decode_int8(out + begin, scale, reinterpret_cast<const std::int8_t*>(wire + sizeof scale),
                      std::min(int8_block, count - begin));
  }
}

void Arithmetic::encode(std::byte* wire, const std::byte* sum, std::size_t count, float* residual) const {
  const auto* in = reinterpret_cast<const float*>(sum);
  if (residual == nullptr) return encode_plainly(wire, in, count);
  // In blocks that stay in the cache, and that are whole blocks of the int8 codec.
  constexpr std::size_t step = 8 * int8_block;
  float corrected[step];
  float decoded[step];
  for (std::size_t begin = 0; begin < count; begin += step) {
    const std::size_t n = std::min(step, count - begin);
    float* lost = residual + begin;
    for (std::size_t i = 0; i < n; ++i) corrected[i] = in[begin + i] + lost[i];
    std::byte* at = wire + wire_bytes(begin);
    encode_plainly(at, corrected, n);
    decode(reinterpret_cast<std::byte*>(decoded), at, n);
    for (std::size_t i = 0; i < n; ++i) {
      const float error = corrected[i] - decoded[i];
      lost[i] =
          std::isfinite(error) ? error : 0.0F;  // an overflow is in the result; it must not stay for ever
    }
  }
}

}  // namespace paceline
