#include "optimizer.cuh"

#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

template <class Rule, class Gradient, class Copy>
// Four blocks at once are asked for, since the compiler otherwise aims at more and spills a register.
__global__ void __launch_bounds__(block_threads, 4)
    update_kernel(const __grid_constant__ Update<Rule, Gradient, Copy> update, Split split) {
  Update<Rule, Gradient, Copy> mine = update;
  mine.factor = update.factor_at == nullptr ? 1.0F : *update.factor_at;
  if (!is_finite(mine.factor)) return;  // everything stays as it was
  const std::size_t worker = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  walk(mine, split, worker, static_cast<std::size_t>(gridDim.x) * blockDim.x);
}

struct State {
  float* first;
  float* second;  ///< null: sgd
};

template <class Rule, class Gradient, class Copy>
Status update(const FlatArrays& a, State state, const Coefficients& c, cudaStream_t stream) {
  using U = Update<Rule, Gradient, Copy>;
  static ResidentBlocks known;
  const U share{a.parameters,
                static_cast<const typename U::G*>(a.gradients),
                state.first,
                state.second,
                static_cast<std::uint16_t*>(a.copy),
                a.decay_boundaries,
                a.boundary_count,
                a.gradient_factor,
                c,
                1.0F};
  const Split parts = split({{a.parameters, sizeof(float)},
                             {a.gradients, sizeof(typename U::G)},
                             {state.first, sizeof(float)},
                             {state.second, sizeof(float)},
                             {a.copy, sizeof(std::uint16_t)}},
                            U::group, a.count);
  return launch(&update_kernel<Rule, Gradient, Copy>, known, workers_for(parts), stream,
                "an optimizer's update", share, parts);
}

template <class Rule, class Gradient>
Status update_copying(const FlatArrays& a, State state, const Coefficients& c, cudaStream_t stream) {
  if (a.copy == nullptr) return update<Rule, Gradient, NoCopy>(a, state, c, stream);
  if (a.copy_type == DataType::f16) return update<Rule, Gradient, F16>(a, state, c, stream);
  return update<Rule, Gradient, BF16>(a, state, c, stream);
}

template <class Rule>
Status update_by(const FlatArrays& a, State state, const Coefficients& c, cudaStream_t stream) {
  if (a.gradient_type == DataType::f32) return update_copying<Rule, Plain<float>>(a, state, c, stream);
  if (a.gradient_type == DataType::f16) return update_copying<Rule, F16>(a, state, c, stream);
  return update_copying<Rule, BF16>(a, state, c, stream);
}

bool is_half(DataType type) {
  return type == DataType::f16 || type == DataType::bf16;
}

Status check_arrays(const FlatArrays& a) {
  if (a.gradient_type != DataType::f32 && !is_half(a.gradient_type))
    return invalid(concat("an optimizer's gradients are f32, f16 or bf16, not ", to_string(a.gradient_type)));
  if (a.copy != nullptr && !is_half(a.copy_type))
    return invalid(concat("the copy of the parameters is f16 or bf16, not ", to_string(a.copy_type)));
  PACELINE_TRY(check_pointer(a.parameters, sizeof(float), "the parameters"));
  PACELINE_TRY(check_pointer(a.gradients, element_bytes(a.gradient_type), "the gradients"));
  if (a.copy != nullptr) PACELINE_TRY(check_pointer(a.copy, 2, "the copy of the parameters"));
  if (a.gradient_factor != nullptr)
    PACELINE_TRY(check_pointer(a.gradient_factor, sizeof(float), "the gradients' factor"));
  if (a.boundary_count > 0)
    PACELINE_TRY(check_pointer(a.decay_boundaries, sizeof(std::size_t), "the boundaries of weight decay"));
  return {};
}

}  // namespace

Status sgd(const FlatArrays& arrays, float* momentum, const SgdOptions& o, cudaStream_t stream) {
  if (arrays.count == 0) return {};
  PACELINE_TRY(check_arrays(arrays));
  if (momentum != nullptr || o.momentum != 0)
    PACELINE_TRY(check_pointer(momentum, sizeof(float), "the momentum of sgd"));
  const Coefficients c = sgd_coefficients(o.learning_rate, o.momentum, o.nesterov, o.weight_decay);
  return update_by<Sgd>(arrays, {momentum, nullptr}, c, stream);
}

Status adamw(const FlatArrays& arrays, float* first_moment, float* second_moment, const AdamWOptions& o,
             cudaStream_t stream) {
  if (o.update < 1) return invalid(concat("adamw's updates count from 1, and this is ", o.update));
  if (arrays.count == 0) return {};
  PACELINE_TRY(check_arrays(arrays));
  PACELINE_TRY(check_pointer(first_moment, sizeof(float), "the first moment of adamw"));
  PACELINE_TRY(check_pointer(second_moment, sizeof(float), "the second moment of adamw"));
  const Coefficients c =
      adamw_coefficients(o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay, o.update);
  return update_by<AdamW>(arrays, {first_moment, second_moment}, c, stream);
}

}  // namespace paceline::cuda
