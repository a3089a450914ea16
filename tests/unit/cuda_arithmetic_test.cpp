// What GPU kernels compute with an element, a group or a block, run here on the CPU by every "thread" in
// turn: against references in double precision, and bit for bit against the CPU library's own kernels and
// codecs.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "../../allreduce/src/codec.hpp"
#include "../../allreduce/src/cuda/kernels/cast.cuh"
#include "../../allreduce/src/cuda/kernels/codec.cuh"
#include "../../allreduce/src/cuda/kernels/combine.cuh"
#include "../../allreduce/src/cuda/kernels/fixed_point.cuh"
#include "../../allreduce/src/cuda/kernels/squares.cuh"
#include "../../allreduce/src/kernels/kernels.hpp"
#include "../../worker/src/fixed_point/kernels.hpp"
#include "support/gpu_values.hpp"

namespace paceline::cuda::kernels {
namespace {

using testing::Misaligned;
using testing::reference_bf16;
using testing::reference_f16;
using testing::reference_f32;
using testing::reference_f64;
using testing::same_bits_or_nan;
using testing::values_of_all_kinds;
using testing::walk_all;

// ---- Conversions ----

TEST(CudaConversions, WidenEveryNumberAsTheCpuDoes) {
  std::vector<std::uint16_t> all(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  std::vector<float> f16(all.size()), bf16(all.size());
  kernel_table().decode_f16(f16.data(), all.data(), all.size());
  kernel_table().decode_bf16(bf16.data(), all.data(), all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(bits_as<std::uint32_t>(widen_f16(all[i])), bits_as<std::uint32_t>(f16[i])) << i;
    ASSERT_EQ(bits_as<std::uint32_t>(widen_bf16(all[i])), bits_as<std::uint32_t>(bf16[i])) << i;
  }
}

TEST(CudaConversions, NarrowToTheNearestAndAsTheCpuDoes) {
  std::vector<float> values = values_of_all_kinds<float>(400000, 1);
  for (int i = 0; i < 65535; ++i)  // halfway between neighbours, and next to that
    for (const auto& [a, b] :
         {std::pair{widen_f16(static_cast<std::uint16_t>(i)), widen_f16(static_cast<std::uint16_t>(i + 1))},
          std::pair{widen_bf16(static_cast<std::uint16_t>(i)),
                    widen_bf16(static_cast<std::uint16_t>(i + 1))}}) {
      const float tie = a / 2 + b / 2;
      values.insert(values.end(), {tie, std::nextafter(tie, a), std::nextafter(tie, b)});
    }
  std::vector<std::uint16_t> f16(values.size()), bf16(values.size());
  kernel_table().encode_f16(f16.data(), values.data(), values.size());
  kernel_table().encode_bf16(bf16.data(), values.data(), values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(narrow_f16(values[i]), f16[i]) << values[i];
    ASSERT_EQ(narrow_bf16(values[i]), bf16[i]) << values[i];
    if (std::isnan(values[i])) continue;
    ASSERT_EQ(widen_f16(narrow_f16(values[i])), reference_f16(values[i])) << values[i];
    ASSERT_EQ(widen_bf16(narrow_bf16(values[i])), reference_bf16(values[i])) << values[i];
  }
}

TEST(CudaConversions, NarrowDoublesByOneRounding) {
  std::vector<double> values = values_of_all_kinds<double>(200000, 2);
  for (int i = 0; i < 65535; ++i) {
    const double half = (static_cast<double>(widen_f16(static_cast<std::uint16_t>(i))) +
                         static_cast<double>(widen_f16(static_cast<std::uint16_t>(i + 1)))) /
                        2;
    const double brain = static_cast<double>(widen_bf16(static_cast<std::uint16_t>(i))) / 2 +
                         static_cast<double>(widen_bf16(static_cast<std::uint16_t>(i + 1))) / 2;
    // So near to a tie that f32 cannot tell: rounding twice would go wrong.
    for (const double tie : {half, brain})
      values.insert(values.end(), {tie, tie * (1 + 0x1p-40), tie * (1 - 0x1p-40)});
  }
  int twice_differs = 0;
  for (const double value : values) {
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(widen_f16(F16::narrow(value))));
      ASSERT_TRUE(std::isnan(widen_bf16(BF16::narrow(value))));
      continue;
    }
    ASSERT_EQ(widen_f16(F16::narrow(value)), reference_f16(value)) << value;
    ASSERT_EQ(widen_bf16(BF16::narrow(value)), reference_bf16(value)) << value;
    if (F16::narrow(value) != F16::narrow(static_cast<float>(value))) ++twice_differs;
  }
  EXPECT_GT(twice_differs, 1000);
}

// ---- Walking ----

TEST(CudaWalk, SplitsSoThatGroupsAreAlignedAndNothingIsLeftOut) {
  alignas(64) static std::byte memory[256];
  for (std::size_t a = 0; a < 32; a += 4)
    for (std::size_t b = 0; b < 32; b += 2)
      for (std::size_t count = 0; count < 20; ++count) {
        const Split s = split({{memory + a, 4}, {memory + 64 + b, 2}, {nullptr, 8}}, 4, count);
        ASSERT_EQ(s.head + s.groups * 4 + s.tail, count);
        const bool can = (a / 4) % 4 == (b / 2) % 4 && b % 2 == 0;
        const std::size_t head = (4 - a / 4 % 4) % 4;
        if (!can || count < head + 4) {
          ASSERT_EQ(s.groups, 0U) << a << ' ' << b << ' ' << count;
          continue;
        }
        ASSERT_EQ(s.head, head);
        ASSERT_EQ(s.groups, (count - head) / 4);
        ASSERT_EQ((a + 4 * s.head) % 16, 0U);
        ASSERT_EQ((b + 2 * s.head) % 8, 0U);
      }
}

// ---- Casts ----

template <class To, class From>
void check_cast(double (*round)(double)) {
  using C = Cast<To, From>;
  using Wide = typename C::Wide;
  for (const std::size_t count : {1, 7, 64, 1001})
    for (const std::size_t shift : {0, 1, 3})
      for (const std::size_t out_shift : {std::size_t{0}, shift})
        for (const double factor : {1.0, 0.125, 1.0 / 3}) {
          const auto raw = values_of_all_kinds<Wide>(count, count + shift);
          Misaligned<typename C::In> in(count, shift);
          Misaligned<typename C::Out> out(count, out_shift);
          for (std::size_t i = 0; i < count; ++i) in[i] = From::narrow(raw[i]);
          C share{out.data(), in.data(), static_cast<Wide>(factor), factor != 1};
          walk_all(share, split({{out.data(), sizeof(typename C::Out)}, {in.data(), sizeof(typename C::In)}},
                                C::group, count));
          for (std::size_t i = 0; i < count; ++i) {
            // The one product in the wide type, then the reference's rounding.
            const Wide value = static_cast<Wide>(From::widen(in[i])) * static_cast<Wide>(factor);
            const double got = static_cast<double>(To::widen(out[i]));
            if (std::isnan(value))
              ASSERT_TRUE(std::isnan(got));
            else
              ASSERT_EQ(got, round(static_cast<double>(value))) << value;
          }
          ASSERT_TRUE(out.untouched_around());
        }
}

template <class From>
void check_casts_from() {
  check_cast<Plain<float>, From>(reference_f32);
  check_cast<Plain<double>, From>(reference_f64);
  check_cast<F16, From>(reference_f16);
  check_cast<BF16, From>(reference_bf16);
}

TEST(CudaCasts, ScaleAndRoundOnceAmongAllTypesAtEveryAlignment) {
  check_casts_from<Plain<float>>();
  check_casts_from<Plain<double>>();
  check_casts_from<F16>();
  check_casts_from<BF16>();
}

// ---- Sums, minima, maxima ----

template <class E, class Op>
void check_combine(DataType type, std::size_t row) {
  using Stored = typename E::Stored;
  using Wide = typename E::Wide;
  constexpr bool floating = std::is_floating_point_v<Wide>;
  constexpr std::size_t count = 203;
  for (const int sources : {1, 2, 3, 4, 5, 9, 64})
    for (const bool weighted : {false, floating && row == 0})
      for (const double divisor : {1.0, row == 0 ? 3.0 : 1.0})
        for (const std::size_t shift : {0, 1}) {
          std::vector<Misaligned<Stored>> ins;
          std::vector<const void*> pointers;
          std::vector<double> weights;
          for (int k = 0; k < sources; ++k) {
            ins.emplace_back(count, k == 1 ? shift : 0);
            const auto raw = values_of_all_kinds<Stored>(count, static_cast<std::uint64_t>(k * 8 + sources));
            for (std::size_t i = 0; i < count; ++i) ins.back()[i] = raw[i];
            weights.push_back(0.3 + k);
          }
          for (const auto& in : ins) pointers.push_back(in.data());
          std::vector<Stored> expected(count);
          void* expected_at = expected.data();
          kernel_table().combine[static_cast<std::size_t>(type)][row](
              {&expected_at, 1, pointers.data(), sources, weighted ? weights.data() : nullptr, divisor,
               count});

          Combine<E, Op> share{};
          share.out = ins[0].data();  // in place
          share.in_count = sources;
          share.weighted = weighted;
          share.divided = divisor != 1;
          share.divisor = static_cast<Wide>(divisor);
          for (int k = 0; k < sources; ++k) {
            const auto at = static_cast<std::size_t>(k);
            share.in[k] = ins[at].data();
            share.weight[k] = static_cast<Wide>(weights[at]);
          }
          const Array second{sources > 1 ? ins[1].data() : nullptr, sizeof(Stored)};
          walk_all(share, split({{share.out, sizeof(Stored)}, second}, Combine<E, Op>::group, count));
          for (std::size_t i = 0; i < count; ++i)
            ASSERT_TRUE(same_bits_or_nan<E>(share.out[i], expected[i]))
                << to_string(type) << ", " << sources << " sources, element " << i;
          ASSERT_TRUE(ins[0].untouched_around());
        }
}

template <class E>
void check_combine_type(DataType type) {
  check_combine<E, Sum>(type, 0);
  check_combine<E, Min>(type, 1);
  check_combine<E, Max>(type, 2);
}

TEST(CudaSums, HaveTheCpusBitsForEveryTypeAndOperation) {
  check_combine_type<Plain<float>>(DataType::f32);
  check_combine_type<Plain<double>>(DataType::f64);
  check_combine_type<Plain<std::int32_t>>(DataType::i32);
  check_combine_type<Plain<std::int64_t>>(DataType::i64);
  check_combine_type<F16>(DataType::f16);
  check_combine_type<BF16>(DataType::bf16);
  check_combine_type<Plain<std::uint8_t>>(DataType::u8);
}

TEST(CudaSums, OfHalvesAreRoundedOnce) {
  constexpr std::size_t count = 5000;
  SplitMix64 random(4);
  std::vector<std::vector<std::uint16_t>> ins(5, std::vector<std::uint16_t>(count));
  for (auto& in : ins)
    for (auto& value : in) value = narrow_f16(static_cast<float>(testing::normal(random)));
  std::vector<std::uint16_t> out(count);
  Combine<F16, Sum> share{};
  share.out = out.data();
  share.in_count = 5;
  for (std::size_t k = 0; k < ins.size(); ++k) share.in[k] = ins[k].data();
  walk_all(share, split({{out.data(), 2}}, 8, count));
  for (std::size_t i = 0; i < count; ++i) {
    double sum = 0;  // five numbers of 11 bits within 2^11 of each other: exact in f32 as in f64
    for (const auto& in : ins) sum += static_cast<double>(widen_f16(in[i]));
    const double error = std::abs(static_cast<double>(widen_f16(out[i])) - reference_f16(sum));
    ASSERT_LE(error, std::abs(sum) * 0x1p-22 + 0x1p-24) << i;
  }
}

// ---- Codecs ----

Descriptor coded(Codec codec) {
  Descriptor d;
  d.kind = CollectiveKind::all_reduce;
  d.codec = codec;
  return d;
}

void encode_as_gpu(Codec codec, std::uint8_t* wire, const float* values, float* residual, std::size_t count) {
  if (codec == Codec::int8) {
    const Int8Arrays arrays{wire,
                            const_cast<float*>(values),
                            residual,
                            count,
                            all_aligned({{values, 4}, {residual, 4}}, 0, 4),
                            all_aligned({{wire, 1}}, 0, 4)};
    for (std::size_t block = 0; block < arrays.blocks(); ++block) {
      std::vector<Int8EncodeLane> lanes;
      std::uint32_t largest = 0;
      for (int lane = 0; lane < warp_lanes; ++lane) {
        lanes.push_back({arrays, block, lane});
        largest = std::max(largest, lanes.back().read());
      }
      for (const Int8EncodeLane& lane : lanes) lane.write(largest);
    }
    return;
  }
  auto* halves = reinterpret_cast<std::uint16_t*>(wire);
  const auto go = [&](auto share) {
    walk_all(share, split({{wire, 2}, {values, 4}, {residual, 4}}, decltype(share)::group, count));
  };
  if (codec == Codec::f16 && residual != nullptr) go(EncodeWithFeedback<F16>{halves, values, residual});
  if (codec == Codec::bf16 && residual != nullptr) go(EncodeWithFeedback<BF16>{halves, values, residual});
  if (codec == Codec::f16 && residual == nullptr) go(Cast<F16, Plain<float>>{halves, values, 1, false});
  if (codec == Codec::bf16 && residual == nullptr) go(Cast<BF16, Plain<float>>{halves, values, 1, false});
}

void decode_as_gpu(Codec codec, float* values, std::uint8_t* wire, std::size_t count) {
  if (codec == Codec::int8) {
    const Int8Arrays arrays{
        wire, values, nullptr, count, all_aligned({{values, 4}}, 0, 4), all_aligned({{wire, 1}}, 0, 4)};
    for (std::size_t block = 0; block < arrays.blocks(); ++block)
      for (int lane = 0; lane < warp_lanes; ++lane) decode_int8_lane(arrays, block, lane);
    return;
  }
  const auto* halves = reinterpret_cast<const std::uint16_t*>(wire);
  const auto go = [&](auto share) {
    walk_all(share, split({{wire, 2}, {values, 4}}, decltype(share)::group, count));
  };
  if (codec == Codec::f16) go(Cast<Plain<float>, F16>{values, halves, 1, false});
  if (codec == Codec::bf16) go(Cast<Plain<float>, BF16>{values, halves, 1, false});
}

class CudaCodec : public ::testing::TestWithParam<Codec> {};

TEST_P(CudaCodec, WritesAndReadsTheCpusBytes) {
  const Arithmetic cpu(coded(GetParam()));
  for (const std::size_t count : {1, 3, 255, 256, 257, 1023, 2048, 5003})
    for (const std::size_t shift : {0, 1})
      for (const bool feedback : {false, true}) {
        // Each block of 256 has values of its own size; some have denormals, infinities or NaN.
        std::vector<float> values(count), cpu_residual(count, 0.0F);
        Misaligned<float> in(count, shift), residual(count, shift), decoded(count, shift);
        for (std::size_t i = 0; i < count; ++i) residual[i] = 0;
        Misaligned<std::uint8_t> wire(cpu.wire_bytes(count), GetParam() == Codec::int8 ? shift : 0);
        std::vector<std::byte> expected(cpu.wire_bytes(count));
        std::vector<float> expected_decoded(count);
        for (int step = 0; step < 4; ++step) {
          SplitMix64 random(count * 100 + static_cast<std::uint64_t>(step));
          for (std::size_t i = 0; i < count; ++i) {
            const int magnitude = static_cast<int>(i / 256 * 37 % 250) - 140;
            values[i] = static_cast<float>(std::ldexp(testing::normal(random), magnitude));
            if (i / 256 % 7 == 3 && i % 97 == 5)
              values[i] = step % 2 == 0 ? std::numeric_limits<float>::infinity() : -std::nanf("7");
            in[i] = values[i];
          }
          cpu.encode(expected.data(), reinterpret_cast<const std::byte*>(values.data()), count,
                     feedback ? cpu_residual.data() : nullptr);
          encode_as_gpu(GetParam(), wire.data(), in.data(), feedback ? residual.data() : nullptr, count);
          ASSERT_EQ(std::memcmp(wire.data(), expected.data(), expected.size()), 0)
              << count << " elements, shift " << shift << ", step " << step;
          for (std::size_t i = 0; i < count; ++i)
            ASSERT_EQ(bits_as<std::uint32_t>(residual[i]), bits_as<std::uint32_t>(cpu_residual[i])) << i;
          cpu.decode(reinterpret_cast<std::byte*>(expected_decoded.data()), expected.data(), count);
          decode_as_gpu(GetParam(), decoded.data(), wire.data(), count);
          for (std::size_t i = 0; i < count; ++i)
            ASSERT_TRUE(same_bits_or_nan<Plain<float>>(decoded[i], expected_decoded[i])) << i;
        }
        ASSERT_TRUE(wire.untouched_around() && residual.untouched_around() && decoded.untouched_around());
      }
}

TEST_P(CudaCodec, LosesNothingInTheLongRun) {
  constexpr std::size_t count = 1000;
  const Arithmetic cpu(coded(GetParam()));
  std::vector<float> in(count), residual(count, 0.0F), decoded(count);
  alignas(16) static std::uint8_t wire[2 * count];
  ASSERT_LE(cpu.wire_bytes(count), sizeof wire);
  std::vector<double> sent(count, 0.0), received(count, 0.0);
  SplitMix64 random(11);
  for (int step = 0; step < 50; ++step) {
    for (std::size_t i = 0; i < count; ++i) {
      in[i] = static_cast<float>(testing::normal(random));
      sent[i] += static_cast<double>(in[i]);
    }
    encode_as_gpu(GetParam(), wire, in.data(), residual.data(), count);
    decode_as_gpu(GetParam(), decoded.data(), wire, count);
    for (std::size_t i = 0; i < count; ++i) received[i] += static_cast<double>(decoded[i]);
  }
  // What is missing is what is in the residual, but for the roundings of 50 additions in f32.
  for (std::size_t i = 0; i < count; ++i)
    ASSERT_NEAR(sent[i], received[i] + static_cast<double>(residual[i]), 50 * 8 * 0x1p-24) << i;
}

INSTANTIATE_TEST_SUITE_P(All, CudaCodec, ::testing::Values(Codec::f16, Codec::bf16, Codec::int8),
                         [](const auto& param) { return std::string(to_string(param.param)); });

TEST(CudaCodec, Int8IsWithinHalfAStepOfEachBlocksLargest) {
  constexpr std::size_t count = 256 * 9 + 31;
  SplitMix64 random(12);
  std::vector<float> in(count), out(count);
  for (std::size_t i = 0; i < count; ++i) in[i] = static_cast<float>(testing::normal(random));
  std::vector<std::uint8_t> wire(Arithmetic(coded(Codec::int8)).wire_bytes(count));
  encode_as_gpu(Codec::int8, wire.data(), in.data(), nullptr, count);
  decode_as_gpu(Codec::int8, out.data(), wire.data(), count);
  for (std::size_t begin = 0; begin < count; begin += 256) {
    double largest = 0;
    const std::size_t end = std::min(count, begin + 256);
    for (std::size_t i = begin; i < end; ++i)
      largest = std::max(largest, std::abs(static_cast<double>(in[i])));
    for (std::size_t i = begin; i < end; ++i)
      ASSERT_LE(std::abs(static_cast<double>(in[i]) - static_cast<double>(out[i])),
                largest / 254 * (1 + 1e-5));
  }
}

// ---- Fixed point ----

template <class T>
void check_fixed_sums(std::size_t index) {
  constexpr std::size_t count = 3001;
  for (const int exponent : {-60, -3, 0, 24, 60})
    for (const std::size_t shift : {0, 1}) {
      const double factor = std::ldexp(1.0, exponent);
      std::vector<Misaligned<T>> ins;
      std::vector<const void*> pointers;
      const double weights[] = {1.0, 0.3, -2.5};
      for (std::size_t k = 0; k < 3; ++k) {
        ins.emplace_back(count, shift);
        SplitMix64 random(k + 77);
        const auto special = values_of_all_kinds<T>(count, k);
        for (std::size_t i = 0; i < count; ++i) {
          const int magnitude = static_cast<int>(random.below(50)) - 8 - exponent;
          ins[k][i] =
              i % 10 == 0 ? special[i] : static_cast<T>(std::ldexp(testing::normal(random), magnitude));
          if (i % 10 == 1) ins[k][i] = static_cast<T>(std::ldexp(static_cast<double>(i) + 0.5, -exponent));
        }
      }
      for (const auto& in : ins) pointers.push_back(in.data());
      std::vector<std::int64_t> expected(count), added(count);
      kernel_table().fixed_partial[index](expected.data(), {pointers.data(), 3, weights, factor, count});

      Misaligned<std::int64_t> sums(count, 0);
      FixedPartial<T> partial{};
      partial.out = sums.data();
      partial.in_count = 3;
      partial.factor = factor;
      for (std::size_t k = 0; k < 3; ++k) {
        partial.in[k] = ins[k].data();
        partial.weight[k] = static_cast<T>(weights[k]);
      }
      walk_all(partial, split({{sums.data(), 8}, {ins[0].data(), sizeof(T)}}, FixedPartial<T>::group, count));
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_EQ(sums[i], expected[i]) << i;
        std::int64_t reference = 0;
        for (std::size_t k = 0; k < 3; ++k) {
          const long double term = std::ldexp(
              static_cast<long double>(static_cast<T>(ins[k][i] * static_cast<T>(weights[k]))), exponent);
          const bool fits = term > -0x1p42L && term < 0x1p42L;
          if (reference != poison)
            reference = fits ? reference + static_cast<std::int64_t>(std::rint(term)) : poison;
        }
        ASSERT_EQ(sums[i], reference) << i;
      }

      kernel_table().fixed_add(added.data(), expected.data(), expected.data(), count);
      Combine<FixedElement, FixedSum> add{};
      Misaligned<std::int64_t> twice(count, shift);
      add.out = twice.data();
      add.in_count = 2;
      add.in[0] = add.in[1] = sums.data();
      walk_all(add, split({{twice.data(), 8}, {sums.data(), 8}}, 2, count));
      for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(twice[i], added[i]);

      for (const double divisor : {1.0, 3.0}) {
        std::vector<T> decoded(count);
        void* at = decoded.data();
        kernel_table().fixed_decode[index](&at, 1, added.data(), factor, divisor, count);
        Misaligned<T> out(count, shift);
        FixedDecode<T> decode{out.data(), twice.data(), std::ldexp(1.0, -exponent), divisor};
        walk_all(decode, split({{out.data(), sizeof(T)}, {twice.data(), 8}}, 2, count));
        int poisoned = 0;
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_TRUE(same_bits_or_nan<Plain<T>>(out[i], decoded[i])) << i;
          if (std::isnan(out[i])) ++poisoned;
        }
        ASSERT_GT(poisoned, 0);
        ASSERT_LT(poisoned, static_cast<int>(count / 3));
      }
    }
}

TEST(CudaFixedPoint, SumsHaveTheCpusBitsAndPoisonStays) {
  check_fixed_sums<float>(0);
  check_fixed_sums<double>(1);
}

TEST(CudaFixedPoint, TermsHaveTheWorkersBits) {
  constexpr std::size_t count = 4003;
  for (const int exponent : {-120, -30, 0, 24, 43, 149, 192})
    for (const std::size_t shift : {0, 1}) {
      Misaligned<float> values(count, shift), back(count, shift);
      SplitMix64 random(static_cast<std::uint64_t>(exponent + 500));
      for (std::size_t i = 0; i < count; ++i) {
        const int magnitude = std::min(static_cast<int>(random.below(66)) - 6 - exponent, 127);
        values[i] = static_cast<float>(std::ldexp(testing::uniform(random) - 0.5, magnitude));
        if (i % 7 == 0 && exponent > -100)
          values[i] = static_cast<float>(std::ldexp(static_cast<double>(i) - 1999.5, -exponent));
      }
      std::vector<std::int64_t> expected(count);
      Misaligned<std::int64_t> sums(count, 0);
      for (const bool first : {true, false, false}) {
        const auto cpu = fixed_point::generic::kernels();
        const std::uint32_t greatest =
            (first ? cpu.set : cpu.add)(values.data(), count, std::ldexp(1.0, exponent), expected.data());
        AccumulateTerms share{sums.data(), values.data(), std::ldexp(1.0, exponent), first, 0};
        walk_all(share, split({{sums.data(), 8}, {values.data(), 4}}, 2, count));
        EXPECT_EQ(share.greatest, greatest);
        for (std::size_t i = 0; i < count; ++i) {
          ASSERT_EQ(sums[i], expected[i]) << i;
          if (first) {
            ASSERT_EQ(sums[i], static_cast<std::int64_t>(
                                   std::rint(std::ldexp(static_cast<long double>(values[i]), exponent))));
          }
        }
      }
      std::vector<float> converted(count);
      sums[0] = expected[0] = std::numeric_limits<std::int64_t>::max();
      sums[1] = expected[1] = std::numeric_limits<std::int64_t>::min();
      fixed_point::generic::kernels().convert(expected.data(), count, std::ldexp(1.0, -exponent),
                                              converted.data());
      ConvertTerms convert{back.data(), sums.data(), std::ldexp(1.0, -exponent)};
      walk_all(convert, split({{back.data(), 4}, {sums.data(), 8}}, 2, count));
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(bits_as<std::uint32_t>(back[i]), bits_as<std::uint32_t>(converted[i])) << i;
    }
}

TEST(CudaFixedPoint, TheGreatestTermTellsWhatIsNotFinite) {
  std::vector<float> values(33, -2.0F);
  std::vector<std::int64_t> sums(values.size());
  const auto greatest = [&] {
    AccumulateTerms share{sums.data(), values.data(), 1.0, true, 0};
    walk_all(share, split({{sums.data(), 8}, {values.data(), 4}}, 2, values.size()));
    return bits_as<float>(share.greatest);
  };
  EXPECT_EQ(greatest(), 2.0F);
  values[32] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(greatest(), std::numeric_limits<float>::infinity());
  values[7] = -std::nanf("");
  EXPECT_TRUE(std::isnan(greatest()));
}

// ---- Sums of squares ----

template <class E>
double squares_as_gpu(const typename E::Stored* values, std::size_t count) {
  const bool wide = reinterpret_cast<std::uintptr_t>(values) % 16 == 0;
  std::vector<double> partials;
  for (std::size_t begin = 0; begin < count; begin += chunk_elements<E>) {
    double threads[square_threads];
    for (int thread = 0; thread < square_threads; ++thread)
      threads[thread] = square_share<E>(values + begin, count - begin, thread, wide);
    partials.push_back(tree_sum(threads));
  }
  double threads[partial_threads];
  for (int thread = 0; thread < partial_threads; ++thread)
    threads[thread] = partial_share(partials.data(), partials.size(), thread);
  return tree_sum(threads);
}

template <class E>
void check_squares() {
  for (const std::size_t count : {std::size_t{1}, std::size_t{5}, std::size_t{chunk_elements<E>} - 1,
                                  std::size_t{chunk_elements<E>} * 3 + 17}) {
    SplitMix64 random(count);
    Misaligned<typename E::Stored> aligned(count, 0), shifted(count, 1);
    long double reference = 0;
    for (std::size_t i = 0; i < count; ++i) {
      aligned[i] = shifted[i] = E::narrow(static_cast<float>(testing::normal(random)));
      const auto value = static_cast<long double>(E::widen(aligned[i]));
      reference += value * value;
    }
    const double sum = squares_as_gpu<E>(aligned.data(), count);
    EXPECT_NEAR(sum, static_cast<double>(reference), static_cast<double>(reference) * 1e-14);
    EXPECT_EQ(sum, squares_as_gpu<E>(shifted.data(), count));
  }
}

TEST(CudaSquares, AreRightAndTheSameAtEveryAlignment) {
  check_squares<Plain<float>>();
  check_squares<Plain<double>>();
  check_squares<F16>();
  check_squares<BF16>();
}

TEST(CudaSquares, OfTheSmallestAndLargestFloatsAreExact) {
  const float denormal = std::numeric_limits<float>::denorm_min();
  const float most = std::numeric_limits<float>::max();
  EXPECT_EQ(squares_as_gpu<Plain<float>>(&denormal, 1), 0x1p-298);
  EXPECT_EQ(squares_as_gpu<Plain<float>>(&most, 1), static_cast<double>(most) * static_cast<double>(most));
}

TEST(CudaSquares, BecomeTheGradientsFactor) {
  EXPECT_EQ(factor_for(25, 0, 1), 1.0F);
  EXPECT_EQ(factor_for(25, 10, 1), 1.0F);
  EXPECT_FLOAT_EQ(factor_for(25, 1, 1), static_cast<float>(1 / (5 + 1e-6)));
  EXPECT_FLOAT_EQ(factor_for(25 * 64 * 64.0, 1, 1.0 / 64), static_cast<float>(1 / (5 + 1e-6) / 64));
  EXPECT_EQ(factor_for(25 * 64 * 64.0, 6, 1.0 / 64), 1.0F / 64);
  EXPECT_TRUE(std::isnan(factor_for(std::numeric_limits<double>::infinity(), 1, 1)));
  EXPECT_TRUE(std::isnan(factor_for(std::nan(""), 0, 1)));
}

}  // namespace
}  // namespace paceline::cuda::kernels
