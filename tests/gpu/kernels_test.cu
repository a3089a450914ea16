// Every kernel on the GPU: random data with denormals, infinities and NaN, odd counts, misaligned arrays with
// guards around them, and more than 2^31 elements. What is compared with: formulas in double precision, the
// CPU library's own kernels bit for bit, and what the kernels' arithmetic gives on the host.

#include <cmath>
#include <cstring>
#include <memory>

#include "../../allreduce/src/codec.hpp"
#include "../../allreduce/src/cuda/kernels/cast.cuh"
#include "../../allreduce/src/cuda/kernels/codec.cuh"
#include "../../allreduce/src/cuda/kernels/fixed_point.cuh"
#include "../../allreduce/src/cuda/kernels/optimizer.cuh"
#include "../../allreduce/src/cuda/kernels/squares.cuh"
#include "../../allreduce/src/kernels/kernels.hpp"
#include "gpu/check.hpp"
#include "paceline/cuda_kernels.hpp"
#include "support/gpu_values.hpp"

namespace paceline::gpu_testing {
namespace {

using namespace cuda::kernels;
using testing::normal;
using testing::same_bits_or_nan;
using testing::values_of_all_kinds;

constexpr std::size_t counts[] = {1, 7, 255, 4099, 1000003};
constexpr std::size_t shifts[] = {0, 1, 3};
bool small_only = false;  // under compute-sanitizer, which is a hundred times slower

/// `count` elements on the GPU, `shift` elements behind a multiple of 256 bytes, with guards on both sides.
template <class T>
class OnGpu {
 public:
  OnGpu(std::size_t count, std::size_t shift) : count_(count), offset_(guard_bytes + shift * sizeof(T)) {
    REQUIRE_CUDA(cudaMalloc(&memory_, bytes()));
    REQUIRE_CUDA(cudaMemset(memory_, guard, bytes()));
    REQUIRE_CUDA(cudaMemset(data(), 0, count * sizeof(T)));
  }
  OnGpu(const std::vector<T>& values, std::size_t shift) : OnGpu(values.size(), shift) { upload(values); }
  OnGpu(const OnGpu&) = delete;
  ~OnGpu() { static_cast<void>(cudaFree(memory_)); }

  T* data() const { return reinterpret_cast<T*>(memory_ + offset_); }
  void upload(const std::vector<T>& values) {
    REQUIRE_CUDA(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> download() const {
    std::vector<unsigned char> all(bytes());
    REQUIRE_CUDA(cudaMemcpy(all.data(), memory_, bytes(), cudaMemcpyDeviceToHost));
    bool untouched = true;
    const std::size_t end = offset_ + count_ * sizeof(T);
    for (std::size_t i = 0; i < all.size(); ++i)
      if (i < offset_ || i >= end) untouched = untouched && all[i] == guard;
    EXPECT(untouched, "memory around an array was written to");
    std::vector<T> values(count_);
    std::memcpy(values.data(), all.data() + offset_, count_ * sizeof(T));
    return values;
  }

 private:
  static constexpr unsigned char guard = 0xa5;
  static constexpr std::size_t guard_bytes = 256;
  std::size_t bytes() const { return offset_ + count_ * sizeof(T) + guard_bytes; }
  std::size_t count_, offset_;
  unsigned char* memory_ = nullptr;
};

template <class E, class Values>
void expect_same(const Values& got, const Values& expected, const std::string& what) {
  for (std::size_t i = 0; i < got.size(); ++i)
    if (!same_bits_or_nan<E>(got[i], expected[i]))
      return EXPECT(
          false, what + ": element " + std::to_string(i) + " of " + std::to_string(got.size()) + " differs");
}

std::string where(std::size_t count, std::size_t shift) {
  return std::to_string(count) + " elements, shift " + std::to_string(shift);
}

// ---- Conversions ----

__global__ void compare_conversions(unsigned long long* different) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < (std::size_t{1} << 32); i += step) {
    const float value = bits_as<float>(static_cast<std::uint32_t>(i));
    bool same = narrow_f16(value) == narrow_f16_by_integers(value);
    if (i < 65536) {
      const auto half = static_cast<std::uint16_t>(i);
      same = same &&
             bits_as<std::uint32_t>(widen_f16(half)) == bits_as<std::uint32_t>(widen_f16_by_integers(half));
    }
    if (!same) atomicAdd(different, 1ULL);
  }
}

std::string conversions() {
  if (small_only) return "2^32 values are too many here";
  OnGpu<unsigned long long> different(1, 0);
  compare_conversions<<<4096, 256>>>(different.data());
  EXPECT(different.download()[0] == 0, "the GPU's conversions are not those by integers");
  return {};
}

// ---- Casts ----

template <class To, class From>
void cast_case(DataType out_type, DataType in_type, double (*reference)(double)) {
  using Wide = typename Cast<To, From>::Wide;
  for (const std::size_t count : counts)
    for (const std::size_t shift : shifts)
      for (const std::size_t out_shift : {std::size_t{0}, shift})
        for (const double factor : {1.0, 1.0 / 3}) {
          std::vector<typename From::Stored> in;
          for (const Wide value : values_of_all_kinds<Wide>(count, count)) in.push_back(From::narrow(value));
          const OnGpu<typename From::Stored> source(in, shift);
          const OnGpu<typename To::Stored> target(count, out_shift);
          EXPECT_OK(
              cuda::scale_and_cast(target.data(), out_type, source.data(), in_type, count, factor, nullptr));
          const auto out = target.download();
          for (std::size_t i = 0; i < count; ++i) {
            const double exact =
                static_cast<double>(static_cast<Wide>(From::widen(in[i])) * static_cast<Wide>(factor));
            const double got = static_cast<double>(To::widen(out[i]));
            const bool right = std::isnan(exact) ? std::isnan(got) : got == reference(exact);
            if (!right) {
              EXPECT(false, where(count, shift) + ": element " + std::to_string(i));
              break;
            }
          }
        }
}

template <class From>
void casts_from(DataType type) {
  cast_case<Plain<float>, From>(DataType::f32, type, testing::reference_f32);
  cast_case<Plain<double>, From>(DataType::f64, type, testing::reference_f64);
  cast_case<F16, From>(DataType::f16, type, testing::reference_f16);
  cast_case<BF16, From>(DataType::bf16, type, testing::reference_bf16);
}

std::string casts() {
  casts_from<Plain<float>>(DataType::f32);
  casts_from<Plain<double>>(DataType::f64);
  casts_from<F16>(DataType::f16);
  casts_from<BF16>(DataType::bf16);
  return {};
}

// ---- Reductions ----

template <class E>
void reduction_case(DataType type, ReduceOp op, std::size_t sources, bool weighted, double divisor,
                    std::size_t count, std::size_t shift) {
  using T = typename E::Stored;
  std::vector<std::vector<T>> ins;
  std::vector<std::unique_ptr<OnGpu<T>>> on_gpu;
  std::vector<const void*> pointers, host_pointers;
  std::vector<double> weights;
  for (std::size_t k = 0; k < sources; ++k) {
    ins.push_back(values_of_all_kinds<T>(count, k + count));
    on_gpu.push_back(std::make_unique<OnGpu<T>>(ins[k], k == 1 ? shift : 0));
    pointers.push_back(on_gpu[k]->data());
    weights.push_back(0.3 + static_cast<double>(k));
  }
  for (const auto& in : ins) host_pointers.push_back(in.data());
  std::vector<T> expected(count);
  void* out = expected.data();
  const std::size_t row = op == ReduceOp::average ? 0 : static_cast<std::size_t>(op);
  kernel_table().combine[static_cast<std::size_t>(type)][row](
      {&out, 1, host_pointers.data(), static_cast<int>(sources), weighted ? weights.data() : nullptr, divisor,
       count});
  cuda::Reduction reduction{type, op, {}, divisor};
  if (weighted) reduction.weights = weights;
  EXPECT_OK(cuda::reduce(on_gpu[0]->data(), pointers, count, reduction, nullptr));  // in place
  expect_same<E>(
      on_gpu[0]->download(), expected,
      std::string(to_string(type)) + " " + std::string(to_string(op)) + " of " + std::to_string(sources));
}

template <class E>
void reductions_of(DataType type) {
  constexpr bool floating = std::is_floating_point_v<typename E::Wide>;
  for (const std::size_t count : counts)
    for (const std::size_t shift : {0, 1})
      for (const std::size_t sources : {1, 2, 5, 8}) {
        if (count > 100000 && sources > 2) continue;
        for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max})
          reduction_case<E>(type, op, sources, false, 1, count, shift);
        reduction_case<E>(type, ReduceOp::average, sources, floating, 3, count, shift);
      }
}

std::string reductions() {
  reductions_of<Plain<float>>(DataType::f32);
  reductions_of<Plain<double>>(DataType::f64);
  reductions_of<Plain<std::int32_t>>(DataType::i32);
  reductions_of<Plain<std::int64_t>>(DataType::i64);
  reductions_of<F16>(DataType::f16);
  reductions_of<BF16>(DataType::bf16);
  reductions_of<Plain<std::uint8_t>>(DataType::u8);
  return {};
}

std::string reductions_against_doubles() {
  constexpr std::size_t count = 70001, sources = 6;
  std::vector<double> expected(count, 0.0), magnitude(count, 0.0);
  std::vector<std::unique_ptr<OnGpu<float>>> on_gpu;
  std::vector<const void*> pointers;
  SplitMix64 random(3);
  for (std::size_t k = 0; k < sources; ++k) {
    std::vector<float> in(count);
    for (std::size_t i = 0; i < count; ++i) {
      in[i] = static_cast<float>(normal(random));
      expected[i] += static_cast<double>(in[i]) / sources;
      magnitude[i] += std::abs(static_cast<double>(in[i])) / sources;
    }
    on_gpu.push_back(std::make_unique<OnGpu<float>>(in, 0));
    pointers.push_back(on_gpu[k]->data());
  }
  const OnGpu<float> out(count, 1);
  EXPECT_OK(
      cuda::reduce(out.data(), pointers, count, {DataType::f32, ReduceOp::average, {}, sources}, nullptr));
  const auto got = out.download();
  for (std::size_t i = 0; i < count; ++i)
    EXPECT(std::abs(static_cast<double>(got[i]) - expected[i]) <= magnitude[i] * sources * 0x1p-24,
           std::to_string(i));
  return {};
}

// ---- Codecs ----

void codec_case(Codec codec, std::size_t count, std::size_t shift, bool feedback) {
  Descriptor descriptor;
  descriptor.kind = CollectiveKind::all_reduce;
  descriptor.codec = codec;
  const Arithmetic cpu(descriptor);
  const std::string what = std::string(to_string(codec)) + ", " + where(count, shift);
  EXPECT(cuda::encoded_bytes(codec, count) == cpu.wire_bytes(count), what + ": bytes");
  std::vector<std::uint8_t> expected_wire(cpu.wire_bytes(count));
  std::vector<float> in(count), expected_residual(count, 0.0F), expected_out(count);
  OnGpu<float> values(count, shift);
  const OnGpu<float> residual(count, shift), out(count, shift);
  const OnGpu<std::uint8_t> wire(expected_wire.size(), codec == Codec::int8 ? shift : 2 * shift);
  for (std::uint64_t step = 0; step < 3; ++step) {
    SplitMix64 random(count * 10 + step);
    for (std::size_t i = 0; i < count; ++i) {
      in[i] = static_cast<float>(std::ldexp(normal(random), static_cast<int>(i / 256 * 37 % 250) - 140));
      if (i / 256 % 7 == 3 && i % 97 == 5) in[i] = step == 1 ? -INFINITY : std::nanf("7");
    }
    // What comes out of a NaN and a residual is a NaN on both, but not the same.
    if (feedback && codec != Codec::int8)
      for (float& value : in)
        if (std::isnan(value)) value = 1;
    values.upload(in);
    cpu.encode(reinterpret_cast<std::byte*>(expected_wire.data()),
               reinterpret_cast<const std::byte*>(in.data()), count,
               feedback ? expected_residual.data() : nullptr);
    EXPECT_OK(cuda::encode(codec, wire.data(), values.data(), count, feedback ? residual.data() : nullptr,
                           nullptr));
    EXPECT(wire.download() == expected_wire, what + ": wire");
    if (feedback) expect_same<Plain<float>>(residual.download(), expected_residual, what + ": residual");
    cpu.decode(reinterpret_cast<std::byte*>(expected_out.data()),
               reinterpret_cast<const std::byte*>(expected_wire.data()), count);
    EXPECT_OK(cuda::decode(codec, out.data(), wire.data(), count, nullptr));
    expect_same<Plain<float>>(out.download(), expected_out, what + ": decoded");
    if (codec == Codec::int8) continue;
    for (std::size_t i = 0; i < count; ++i) {  // and against the nearest number, in doubles
      if (feedback || !std::isfinite(in[i])) continue;
      const double exact = static_cast<double>(in[i]);
      const double nearest =
          codec == Codec::f16 ? testing::reference_f16(exact) : testing::reference_bf16(exact);
      EXPECT(static_cast<double>(expected_out[i]) == nearest, what + ": not the nearest");
    }
  }
}

std::string codecs() {
  for (const Codec codec : {Codec::f16, Codec::bf16, Codec::int8})
    for (const std::size_t count : counts)
      for (const std::size_t shift : shifts)
        for (const bool feedback : {false, true}) codec_case(codec, count, shift, feedback);
  return {};
}

// ---- Fixed point ----

template <class T>
void fixed_sums_case(DataType type, std::size_t count, std::size_t shift, int exponent) {
  const std::size_t index = type == DataType::f64 ? 1 : 0;
  const double factor = std::ldexp(1.0, exponent), weights[] = {1, 0.3};
  std::vector<std::vector<T>> ins(2, std::vector<T>(count));
  SplitMix64 random(count);
  for (auto& in : ins) {
    const auto special = values_of_all_kinds<T>(count, count);
    for (std::size_t i = 0; i < count; ++i)
      in[i] =
          i % 10 == 3
              ? special[i]
              : static_cast<T>(std::ldexp(normal(random), static_cast<int>(random.below(50)) - 8 - exponent));
  }
  const OnGpu<T> first(ins[0], shift), second(ins[1], shift);
  const OnGpu<std::int64_t> sums(count, 0), twice(count, shift);
  const void* const sources[] = {first.data(), second.data()};
  const void* const host_sources[] = {ins[0].data(), ins[1].data()};
  EXPECT_OK(cuda::fixed_partial(sums.data(), sources, weights, type, exponent, count, nullptr));
  const std::int64_t* const parts[] = {sums.data(), sums.data()};
  EXPECT_OK(cuda::fixed_add(twice.data(), parts, count, nullptr));
  std::vector<std::int64_t> expected(count), expected_twice(count);
  kernel_table().fixed_partial[index](expected.data(), {host_sources, 2, weights, factor, count});
  kernel_table().fixed_add(expected_twice.data(), expected.data(), expected.data(), count);
  EXPECT(sums.download() == expected, "fixed-point sums");
  EXPECT(twice.download() == expected_twice, "fixed-point addition");
  for (const double divisor : {1.0, 3.0}) {
    const OnGpu<T> out(count, shift);
    std::vector<T> decoded(count);
    void* at = decoded.data();
    kernel_table().fixed_decode[index](&at, 1, expected_twice.data(), factor, divisor, count);
    EXPECT_OK(cuda::fixed_decode(out.data(), twice.data(), type, exponent, divisor, count, nullptr));
    expect_same<Plain<T>>(out.download(), decoded, "fixed-point decoding");
  }
}

std::string fixed_sums() {
  for (const std::size_t count : counts)
    for (const std::size_t shift : shifts)
      for (const int exponent : {-3, 24}) {
        fixed_sums_case<float>(DataType::f32, count, shift, exponent);
        fixed_sums_case<double>(DataType::f64, count, shift, exponent);
      }
  return {};
}

void fixed_terms_case(std::size_t count, std::size_t shift, int exponent) {
  std::vector<float> in(count);
  SplitMix64 random(count + shift);
  for (std::size_t i = 0; i < count; ++i) {
    const int magnitude = std::min(static_cast<int>(random.below(66)) - 6 - exponent, 127);
    in[i] = static_cast<float>(std::ldexp(testing::uniform(random) - 0.5, magnitude));
    if (i % 7 == 0 && exponent > -100)
      in[i] = static_cast<float>(std::ldexp(static_cast<double>(i % 4000) - 1999.5, -exponent));
  }
  const OnGpu<float> values(in, shift), back(count, shift);
  const OnGpu<std::int64_t> sums(count, 0);
  const OnGpu<std::uint32_t> greatest(1, 0);
  EXPECT_OK(
      cuda::fixed_accumulate(sums.data(), values.data(), exponent, true, greatest.data(), count, nullptr));
  EXPECT_OK(
      cuda::fixed_accumulate(sums.data(), values.data(), exponent, false, greatest.data(), count, nullptr));
  EXPECT_OK(cuda::fixed_convert(back.data(), sums.data(), exponent, count, nullptr));
  const auto got = sums.download();
  const auto converted = back.download();
  float most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    most = std::max(most, std::abs(in[i]));
    const auto term =
        static_cast<std::int64_t>(std::rint(std::ldexp(static_cast<long double>(in[i]), exponent)));
    EXPECT(got[i] == 2 * term, "term " + std::to_string(i));
    const auto value = static_cast<float>(std::ldexp(static_cast<double>(got[i]), -exponent));
    EXPECT(converted[i] == value, "converted " + std::to_string(i));
  }
  EXPECT(bits_as<float>(greatest.download()[0]) == most, "the greatest term");
}

std::string fixed_terms() {
  for (const std::size_t count : counts)
    for (const std::size_t shift : shifts)
      for (const int exponent : {-120, 0, 24, 149}) fixed_terms_case(count, shift, exponent);
  return {};
}

// ---- Norms ----

/// In the kernels' order, on the host.
template <class E>
double squares_on_host(const std::vector<typename E::Stored>& values) {
  std::vector<double> partials;
  for (std::size_t begin = 0; begin < values.size(); begin += chunk_elements<E>) {
    double threads[square_threads];
    for (int t = 0; t < square_threads; ++t)
      threads[t] = square_share<E>(values.data() + begin, values.size() - begin, t, false);
    partials.push_back(tree_sum(threads));
  }
  double threads[partial_threads];
  for (int t = 0; t < partial_threads; ++t) threads[t] = partial_share(partials.data(), partials.size(), t);
  return tree_sum(threads);
}

template <class E>
void squares_case(DataType type, std::size_t count) {
  std::vector<typename E::Stored> values(count);
  SplitMix64 random(count);
  long double reference = 0;
  for (auto& value : values) {
    value = E::narrow(static_cast<float>(normal(random)));
    const auto wide = static_cast<long double>(E::widen(value));
    reference += wide * wide;
  }
  const OnGpu<typename E::Stored> aligned(values, 0), shifted(values, 1);
  const OnGpu<double> results(2, 0);
  const OnGpu<std::uint8_t> workspace(cuda::squares_workspace_bytes(type, count), 0);
  const auto squares = [&](const OnGpu<typename E::Stored>& array, double* result, bool accumulate) {
    EXPECT_OK(cuda::sum_of_squares(result, array.data(), type, count, accumulate, workspace.data(), nullptr));
  };
  squares(aligned, results.data(), false);
  squares(shifted, results.data() + 1, false);
  const auto got = results.download();
  EXPECT(std::abs(got[0] - static_cast<double>(reference)) <= 1e-13 * static_cast<double>(reference),
         "the sum");
  EXPECT(got[0] == got[1], "the sum depends on the alignment");
  EXPECT(got[0] == squares_on_host<E>(values), "the order is not the one that is promised");
  squares(aligned, results.data(), true);
  EXPECT(results.download()[0] == got[0] + got[0], "accumulation");
  EXPECT_OK(cuda::noise_statistics(results.data(), shifted.data(), 3, aligned.data(), type, count, false,
                                   workspace.data(), nullptr));
  const auto noise = results.download();
  EXPECT(noise[0] == got[0] * 9 && noise[1] == got[0], "noise statistics");
}

std::string norms() {
  for (const std::size_t count : {1, 7, 16383, 16385, 1000003}) {
    squares_case<Plain<float>>(DataType::f32, count);
    squares_case<Plain<double>>(DataType::f64, count);
    squares_case<F16>(DataType::f16, count);
    squares_case<BF16>(DataType::bf16, count);
  }
  OnGpu<double> squares(1, 0);
  const OnGpu<float> factor(1, 0);
  for (const double value : {25.0, 0.0, HUGE_VAL, std::nan("")})
    for (const double clip : {0.0, 1.0, 10.0}) {
      squares.upload({value});
      EXPECT_OK(cuda::gradient_factor(factor.data(), squares.data(), clip, 0.5, nullptr));
      const float expected = factor_for(value, clip, 0.5), got = factor.download()[0];
      EXPECT(std::isfinite(value) ? got == expected : std::isnan(got), "the gradients' factor");
    }
  return {};
}

// ---- Optimizers ----

constexpr double rate = 0.01, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, decay = 0.1;

struct Model {
  Model(std::size_t count, std::size_t shift)
      : parameters(count, shift),
        first(count, shift),
        second(count, shift),
        copy(count, shift),
        boundaries(std::vector<std::size_t>{3, 90, 4000}, 0) {
    SplitMix64 random(count);
    for (std::size_t i = 0; i < count; ++i) before.push_back(static_cast<float>(normal(random)));
    parameters.upload(before);
    reference.assign(before.begin(), before.end());
    m.assign(count, 0);
    v.assign(count, 0);
    host_first.assign(count, 0);
    host_second.assign(count, 0);
  }
  OnGpu<float> parameters, first, second;
  OnGpu<std::uint16_t> copy;
  OnGpu<std::size_t> boundaries;
  std::vector<float> before, host_first, host_second;  // in f32, by the same arithmetic on the host
  std::vector<double> reference, m, v;                 // in f64, by the formulas
};

bool is_decayed(std::size_t i) {
  return (i >= 3 && i < 90) || i >= 4000;
}

/// One update of both references.
template <class Rule>
void update_references(Model& model, const Coefficients& c, double gradient, double factor, int t,
                       std::size_t i) {
  const float weight_decay = is_decayed(i) ? c.weight_decay : 0;
  const Place place = Rule::update(c, weight_decay, static_cast<float>(factor), static_cast<float>(gradient),
                                   {model.before[i], model.host_first[i], model.host_second[i]});
  model.before[i] = place.parameter;
  model.host_first[i] = place.first;
  model.host_second[i] = place.second;
  double& p = model.reference[i];
  const double scaled = factor * gradient, own_decay = is_decayed(i) ? decay : 0;
  if constexpr (Rule::has_second) {
    model.m[i] = beta1 * model.m[i] + (1 - beta1) * scaled;
    model.v[i] = beta2 * model.v[i] + (1 - beta2) * scaled * scaled;
    p -= rate * own_decay * p;
    p -= rate * (model.m[i] / (1 - std::pow(beta1, t))) /
         (std::sqrt(model.v[i] / (1 - std::pow(beta2, t))) + epsilon);
  } else {
    const double g = scaled + own_decay * p;
    model.m[i] = 0.9 * model.m[i] + g;
    p -= rate * (g + 0.9 * model.m[i]);
  }
}

template <class Rule>
Status start_update(const Model& model, const cuda::FlatArrays& arrays, int t) {
  if constexpr (Rule::has_second)
    return cuda::adamw(arrays, model.first.data(), model.second.data(),
                       {rate, beta1, beta2, epsilon, decay, t}, nullptr);
  else
    return cuda::sgd(arrays, model.first.data(), {rate, 0.9, true, decay}, nullptr);
}

template <class Rule, class Gradient>
void optimizer_case(DataType gradient_type, bool copies, std::size_t count, std::size_t shift) {
  Model model(count, shift);
  OnGpu<typename Gradient::Stored> gradients(count, shift);
  OnGpu<float> factor(std::vector<float>{0.25F}, 0);
  const cuda::FlatArrays arrays{model.parameters.data(), gradients.data(),
                                gradient_type,           count,
                                model.boundaries.data(), 3,
                                factor.data(),           copies ? model.copy.data() : nullptr};
  SplitMix64 random(count + 9);
  for (int t = 1; t <= 4; ++t) {
    std::vector<typename Gradient::Stored> values(count);
    for (auto& value : values)
      value = Gradient::narrow(
          static_cast<float>(std::ldexp(normal(random), static_cast<int>(random.below(30)) - 24)));
    gradients.upload(values);
    const Coefficients c = Rule::has_second ? adamw_coefficients(rate, beta1, beta2, epsilon, decay, t)
                                            : sgd_coefficients(rate, 0.9, true, decay);
    EXPECT_OK(start_update<Rule>(model, arrays, t));
    for (std::size_t i = 0; i < count; ++i)
      update_references<Rule>(model, c, static_cast<double>(Gradient::widen(values[i])), 0.25, t, i);
  }
  const auto parameters = model.parameters.download();
  expect_same<Plain<float>>(parameters, model.before, "parameters, " + where(count, shift));
  expect_same<Plain<float>>(model.first.download(), model.host_first, "the first moment");
  if (Rule::has_second)
    expect_same<Plain<float>>(model.second.download(), model.host_second, "the second moment");
  const auto copy = model.copy.download();
  for (std::size_t i = 0; i < count; ++i) {
    const double off = std::abs(static_cast<double>(parameters[i]) - model.reference[i]);
    EXPECT(off <= 2e-5 * (1 + std::abs(model.reference[i])), "far from doubles at " + std::to_string(i));
    EXPECT(copy[i] == (copies ? narrow_bf16(parameters[i]) : 0), "the copy at " + std::to_string(i));
  }
  factor.upload({std::nanf("")});
  EXPECT_OK(start_update<Rule>(model, arrays, 5));
  expect_same<Plain<float>>(model.parameters.download(), parameters, "a factor of NaN changed parameters");
  expect_same<Plain<float>>(model.first.download(), model.host_first, "a factor of NaN changed the state");
}

std::string optimizers() {
  for (const std::size_t count : counts)
    for (const std::size_t shift : shifts)
      for (const bool copies : {false, true}) {
        optimizer_case<Sgd, Plain<float>>(DataType::f32, copies, count, shift);
        optimizer_case<AdamW, Plain<float>>(DataType::f32, copies, count, shift);
        optimizer_case<AdamW, BF16>(DataType::bf16, copies, count, shift);
        optimizer_case<AdamW, F16>(DataType::f16, copies, count, shift);
      }
  return {};
}

// ---- More than 2^31 elements ----

constexpr std::size_t huge = (std::size_t{1} << 31) + 12347;

template <class T>
__global__ void fill(T* values, T value, std::size_t count) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) values[i] = value;
}
template <class T>
__global__ void count_others(const T* values, T value, std::size_t count, unsigned long long* others) {
  const std::size_t step = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  unsigned long long mine = 0;
  for (std::size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
    if (values[i] != value) ++mine;
  if (mine > 0) atomicAdd(others, mine);
}

/// Device memory without guards, which would be as much on the host again.
struct Plenty {
  explicit Plenty(std::size_t bytes) { REQUIRE_CUDA(cudaMalloc(&data, bytes)); }
  Plenty(const Plenty&) = delete;
  ~Plenty() { static_cast<void>(cudaFree(data)); }
  void* data = nullptr;
};

std::string no_room(std::size_t bytes) {
  if (small_only) return "too much memory here";
  std::size_t free = 0, total = 0;
  REQUIRE_CUDA(cudaMemGetInfo(&free, &total));
  if (free > bytes + (std::size_t{1} << 28)) return {};
  return "it takes " + std::to_string(bytes >> 20) + " MiB of GPU memory, and " + std::to_string(free >> 20) +
         " are free";
}

template <class T>
void expect_all(const void* values, T value, std::size_t count, const std::string& what) {
  const OnGpu<unsigned long long> others(1, 0);
  count_others<<<4096, 256>>>(static_cast<const T*>(values), value, count, others.data());
  const auto found = others.download()[0];
  EXPECT(found == 0, what + ": " + std::to_string(found) + " elements are wrong");
}

std::string huge_counts() {
  if (const std::string reason = no_room(huge * 10); !reason.empty()) return reason;
  const Plenty floats(huge * 4), halves(huge * 2), bytes(cuda::encoded_bytes(Codec::int8, huge)),
      more_bytes(huge);
  const auto* sources = static_cast<const std::uint8_t*>(bytes.data);
  fill<<<4096, 256>>>(static_cast<std::uint8_t*>(bytes.data), std::uint8_t{3}, huge);
  fill<<<4096, 256>>>(static_cast<std::uint8_t*>(more_bytes.data), std::uint8_t{250}, huge);
  const void* const two[] = {sources, more_bytes.data};
  EXPECT_OK(cuda::reduce(more_bytes.data, two, huge, {DataType::u8, ReduceOp::sum}, nullptr));
  expect_all(more_bytes.data, std::uint8_t{253}, huge, "a sum");

  fill<<<4096, 256>>>(static_cast<float*>(floats.data), 1.5F, huge);
  EXPECT_OK(cuda::scale_and_cast(halves.data, DataType::bf16, floats.data, DataType::f32, huge, 2, nullptr));
  expect_all(halves.data, narrow_bf16(3.0F), huge, "a cast");

  const OnGpu<double> result(1, 0);
  const OnGpu<std::uint8_t> workspace(cuda::squares_workspace_bytes(DataType::bf16, huge), 0);
  EXPECT_OK(cuda::sum_of_squares(result.data(), halves.data, DataType::bf16, huge, false, workspace.data(),
                                 nullptr));
  EXPECT(result.download()[0] == 9.0 * static_cast<double>(huge), "a sum of squares");

  EXPECT_OK(
      cuda::encode(Codec::int8, bytes.data, static_cast<const float*>(floats.data), huge, nullptr, nullptr));
  fill<<<4096, 256>>>(static_cast<float*>(floats.data), 0.0F, huge);
  EXPECT_OK(cuda::decode(Codec::int8, static_cast<float*>(floats.data), bytes.data, huge, nullptr));
  expect_all(floats.data, dequantize(127, 1.5F / 127.0F), huge, "int8 blocks");

  fill<<<4096, 256>>>(static_cast<float*>(floats.data), 1.0F, huge);
  cuda::FlatArrays arrays{static_cast<float*>(floats.data), halves.data, DataType::bf16, huge};
  EXPECT_OK(cuda::sgd(arrays, nullptr, {0.25, 0, false, 0}, nullptr));
  expect_all(floats.data, 0.25F, huge, "an update");
  return {};
}

}  // namespace
}  // namespace paceline::gpu_testing

/// kernels_test [--small] [part of a case's name]
int main(int argc, char** argv) {
  using namespace paceline::gpu_testing;
  std::string part;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--small")
      small_only = true;
    else
      part = argv[i];
  }
  require_gpu("kernels_test");
  return run_cases({{"conversions", conversions},
                    {"casts", casts},
                    {"reductions", reductions},
                    {"reductions against doubles", reductions_against_doubles},
                    {"codecs", codecs},
                    {"fixed-point sums", fixed_sums},
                    {"fixed-point terms", fixed_terms},
                    {"norms", norms},
                    {"optimizers", optimizers},
                    {"more than 2^31 elements", huge_counts}},
                   part);
}
