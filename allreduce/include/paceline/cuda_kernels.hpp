#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "paceline/allreduce.hpp"
#include "paceline/base/result.hpp"

/// What a gradient meets on its way over a GPU: casts, sums of several sources, codecs, fixed point, norms
/// and optimizers, each one pass over memory. Target paceline::cuda.
///
/// For every function here: arrays are device memory (or a peer's, mapped) of `count` elements, as many as
/// fit the memory. They are aligned to their elements; where all arrays of a call can be read by 16 bytes at
/// the same element (as they can if all begin at 16 bytes) it goes fastest. An output may be an input itself
/// if their elements have the same size, and must not overlap one otherwise. Work is put on `stream` of the
/// current device, and nothing is waited for; arrays must live until it has run. Any thread may call.
///
/// Results depend neither on the chip nor on the grid, and have the bits that the CPU library has; only of a
/// NaN that arithmetic made the sign and payload are the processor's own.
///
/// Errors: invalid_argument, before anything is started: a null or misaligned pointer, a type that the
/// function isn't for. io: CUDA's own, such as no GPU, or none that this was compiled for.
namespace paceline::cuda {

/// out[i] = in[i] * factor, among f32, f16, bf16 and f64: in f64 if either is f64, else in f32, rounded once
/// more into the output's type. In place only between types of one size.
[[nodiscard]] Status scale_and_cast(void* out, DataType out_type, const void* in, DataType in_type,
                                    std::size_t count, double factor, cudaStream_t stream);

/// Sources of one sum at most.
inline constexpr int max_sources = 64;

struct Reduction {
  DataType type = DataType::f32;
  ReduceOp op = ReduceOp::sum;
  /// By source; empty: all 1. Floating types, sum and average only.
  std::span<const double> weights = {};
  /// average: what the sum is divided by, such as the number of ranks; of integers a whole number.
  double divisor = 1;
};

/// out[i] = (sources[0][i] * weights[0] op sources[1][i] * weights[1] op ...) / divisor, in the order of the
/// sources, which must be the same on all ranks that are to have the same bits. f16 and bf16 are added up in
/// f32 and rounded once; integers wrap around. The arrays behind `sources` and `weights` are copied at once.
[[nodiscard]] Status reduce(void* out, std::span<const void* const> sources, std::size_t count,
                            const Reduction& reduction, cudaStream_t stream);

// ---- Codecs: what travels between nodes, readable by ranks on CPUs ----

/// Bytes of `count` encoded elements; 0 for codecs that do not encode.
[[nodiscard]] std::size_t encoded_bytes(Codec codec, std::size_t count) noexcept;

/// Codec::f16, bf16 or int8. `residual` (or null): `count` floats, zero before the first call; it is added
/// before and receives what is lost. `wire` is aligned to 2 bytes for f16 and bf16, and to 4 for speed for
/// int8.
[[nodiscard]] Status encode(Codec codec, void* wire, const float* values, std::size_t count, float* residual,
                            cudaStream_t stream);
[[nodiscard]] Status decode(Codec codec, float* values, const void* wire, std::size_t count,
                            cudaStream_t stream);

// ---- Fixed point: Codec::fixed_point, f32 or f64 as 64-bit integers, exponent -60 to 60 ----

/// sums[i] = round(sources[0][i] * weights[0] * 2^exponent) + ...; what is out of range makes the sum NaN.
[[nodiscard]] Status fixed_partial(std::int64_t* sums, std::span<const void* const> sources,
                                   std::span<const double> weights, DataType type, int exponent,
                                   std::size_t count, cudaStream_t stream);
/// sum = parts[0] + parts[1] + ...; any of them may be `sum` itself.
[[nodiscard]] Status fixed_add(std::int64_t* sum, std::span<const std::int64_t* const> parts,
                               std::size_t count, cudaStream_t stream);
/// out[i] = sums[i] / 2^exponent / divisor.
[[nodiscard]] Status fixed_decode(void* out, const std::int64_t* sums, DataType type, int exponent,
                                  double divisor, std::size_t count, cudaStream_t stream);

// ---- Fixed point of reproducible training (docs/reproducible.md), exponent -128 to 192 ----

/// sums[i] = (if `first`) or += round(values[i] * 2^exponent), ties to even, of products below 2^62.
/// *greatest (device memory) becomes the bits of the greatest |values[i]| if that is more than what was
/// there; those of infinity and NaN are more than all others'.
[[nodiscard]] Status fixed_accumulate(std::int64_t* sums, const float* values, int exponent, bool first,
                                      std::uint32_t* greatest, std::size_t count, cudaStream_t stream);
/// values[i] = sums[i] / 2^exponent, rounded to f64 and then to f32.
[[nodiscard]] Status fixed_convert(float* values, const std::int64_t* sums, int exponent, std::size_t count,
                                   cudaStream_t stream);

// ---- Norms ----

/// Device memory for the functions below; it is free again when their work has run.
[[nodiscard]] std::size_t squares_workspace_bytes(DataType type, std::size_t count) noexcept;

/// *result (device memory) = or (`accumulate`) += the sum of values[i]^2, in f64, added up in an order that
/// depends on `type` and `count` alone: the same bits each time, on any chip and at any alignment. Floating
/// types.
[[nodiscard]] Status sum_of_squares(double* result, const void* values, DataType type, std::size_t count,
                                    bool accumulate, void* workspace, cudaStream_t stream);

/// What the gradient noise scale (McCandlish et al. 2018, appendix A.1) takes of a step, for each bucket:
/// results[0] = or += |local * local_scale|^2 and results[1] = or += |mean|^2, each added up as above.
/// `local` is this rank's gradient before the reduction and `mean` the one after it; where the local one was
/// divided by the global batch B already, `local_scale` is B over the rank's own samples.
[[nodiscard]] Status noise_statistics(double* results, const void* local, double local_scale,
                                      const void* mean, DataType type, std::size_t count, bool accumulate,
                                      void* workspace, cudaStream_t stream);

/// *factor = scale * min(1, clip_norm / (norm + 1e-6)), where norm = sqrt(*squares) * scale; clip_norm 0
/// never clips. `scale` is 1, or one over the loss scale. NaN if *squares is not finite, which makes
/// optimizers leave everything as it was: read it before an update is counted.
[[nodiscard]] Status gradient_factor(float* factor, const double* squares, double clip_norm, double scale,
                                     cudaStream_t stream);

// ---- Optimizers: one pass over flat memory ----

/// The arrays of a bucket (or of all of them, if they lie behind each other), with the same places.
struct FlatArrays {
  float* parameters = nullptr;
  const void* gradients = nullptr;
  DataType gradient_type = DataType::f32;  ///< f32, f16 or bf16
  std::size_t count = 0;
  /// Device memory: ascending places at which weight decay begins, ends, begins again. {0}: all is decayed.
  const std::size_t* decay_boundaries = nullptr;
  std::size_t boundary_count = 0;
  /// Device memory: what gradients are multiplied by first. Null: 1. Not finite: nothing is changed at all.
  const float* gradient_factor = nullptr;
  /// The new parameters in 16 bits, for the next forward pass. Null: none.
  void* copy = nullptr;
  DataType copy_type = DataType::bf16;  ///< bf16 or f16
};

/// In PyTorch's form: g += weight_decay * p; m = momentum * m + g; p -= learning_rate * (nesterov ? g +
/// momentum
/// * m : m) (Sutskever et al. 2013).
struct SgdOptions {
  double learning_rate = 0;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
};
/// `momentum`: zeros before the first update; null where options.momentum is 0.
[[nodiscard]] Status sgd(const FlatArrays& arrays, float* momentum, const SgdOptions& options,
                         cudaStream_t stream);

/// Loshchilov and Hutter 2019, in PyTorch's form: weight decay is apart from the gradient.
struct AdamWOptions {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  std::int64_t update = 1;  ///< which update of these parameters this is, from 1
};
/// The moments: zeros before the first update.
[[nodiscard]] Status adamw(const FlatArrays& arrays, float* first_moment, float* second_moment,
                           const AdamWOptions& options, cudaStream_t stream);

}  // namespace paceline::cuda
