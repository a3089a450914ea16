#include "cast.cuh"
#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

template <class To, class From>
Status cast(void* out, const void* in, std::size_t count, double factor, cudaStream_t stream) {
  using C = Cast<To, From>;
  const C share{static_cast<typename C::Out*>(out), static_cast<const typename C::In*>(in),
                static_cast<typename C::Wide>(factor), factor != 1};
  const Split parts = split({{out, sizeof(typename C::Out)}, {in, sizeof(typename C::In)}}, C::group, count);
  return launch_walk(share, parts, stream, "a cast");
}

template <class To>
Status cast_to(void* out, const void* in, DataType in_type, std::size_t count, double factor,
               cudaStream_t stream) {
  switch (in_type) {
    case DataType::f32: return cast<To, Plain<float>>(out, in, count, factor, stream);
    case DataType::f64: return cast<To, Plain<double>>(out, in, count, factor, stream);
    case DataType::f16: return cast<To, F16>(out, in, count, factor, stream);
    case DataType::bf16: return cast<To, BF16>(out, in, count, factor, stream);
    default: return invalid("a cast is from and to floating types");
  }
}

}  // namespace

Status scale_and_cast(void* out, DataType out_type, const void* in, DataType in_type, std::size_t count,
                      double factor, cudaStream_t stream) {
  if (count == 0) return {};
  PACELINE_TRY(check_pointer(out, element_bytes(out_type), "the output of a cast"));
  PACELINE_TRY(check_pointer(in, element_bytes(in_type), "the input of a cast"));
  if (out == in && element_bytes(out_type) != element_bytes(in_type))
    return invalid("a cast between types of different sizes cannot be in place");
  switch (out_type) {
    case DataType::f32: return cast_to<Plain<float>>(out, in, in_type, count, factor, stream);
    case DataType::f64: return cast_to<Plain<double>>(out, in, in_type, count, factor, stream);
    case DataType::f16: return cast_to<F16>(out, in, in_type, count, factor, stream);
    case DataType::bf16: return cast_to<BF16>(out, in, in_type, count, factor, stream);
    default: return invalid("a cast is from and to floating types");
  }
}

}  // namespace paceline::cuda
