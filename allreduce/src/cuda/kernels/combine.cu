#include "combine.cuh"

#include <algorithm>
#include <cmath>

#include "launch.cuh"
#include "paceline/cuda_kernels.hpp"

namespace paceline::cuda {
namespace {

using namespace kernels;

static_assert(max_sources == most_sources);

template <class E, class Op>
Status combine(void* out, std::span<const void* const> sources, std::size_t count, const Reduction& reduction,
               cudaStream_t stream) {
  using Stored = typename E::Stored;
  using Wide = typename E::Wide;
  using C = Combine<E, Op>;
  C share{};
  share.out = static_cast<Stored*>(out);
  share.in_count = static_cast<int>(sources.size());
  share.weighted = !reduction.weights.empty();
  share.divided = reduction.divisor != 1;
  share.divisor = static_cast<Wide>(reduction.divisor);
  Split parts = split({{out, sizeof(Stored)}}, C::group, count);
  for (std::size_t k = 0; k < sources.size(); ++k) {
    share.in[k] = static_cast<const Stored*>(sources[k]);
    if (share.weighted) share.weight[k] = static_cast<Wide>(reduction.weights[k]);
    const Split common = split({{out, sizeof(Stored)}, {sources[k], sizeof(Stored)}}, C::group, count);
    if (common.groups == 0) parts = common;  // one that cannot go in groups keeps the others from it
  }
  return launch_walk(share, parts, stream, "a reduction");
}

template <class E>
Status combine_by(void* out, std::span<const void* const> sources, std::size_t count,
                  const Reduction& reduction, cudaStream_t stream) {
  switch (reduction.op) {
    case ReduceOp::sum:
    case ReduceOp::average: return combine<E, Sum>(out, sources, count, reduction, stream);
    case ReduceOp::min: return combine<E, Min>(out, sources, count, reduction, stream);
    case ReduceOp::max: return combine<E, Max>(out, sources, count, reduction, stream);
  }
  return invalid("there is no such reduction");
}

bool is_integer(DataType type) {
  return type == DataType::i32 || type == DataType::i64 || type == DataType::u8;
}

Status check_reduction(const Reduction& r, std::size_t sources) {
  const bool adds = r.op == ReduceOp::sum || r.op == ReduceOp::average;
  if (!r.weights.empty() && r.weights.size() != sources)
    return invalid(concat("a reduction of ", sources, " sources has ", r.weights.size(), " weights"));
  if (!r.weights.empty() && (!adds || is_integer(r.type)))
    return invalid("weights need a floating type, and sum or average");
  if (!std::ranges::all_of(r.weights, [](double w) { return std::isfinite(w); }))
    return invalid("the weights of a reduction must be finite");
  if (r.op != ReduceOp::average && r.divisor != 1) return invalid("only averages are divided");
  const double most = r.type == DataType::u8 ? 255 : 2147483647;  // integers are divided by integers
  if (!(r.divisor > 0) || (is_integer(r.type) && (r.divisor > most || r.divisor != std::floor(r.divisor))))
    return invalid(concat("an average of ", to_string(r.type), " cannot be divided by ", r.divisor));
  return {};
}

}  // namespace

Status reduce(void* out, std::span<const void* const> sources, std::size_t count, const Reduction& reduction,
              cudaStream_t stream) {
  if (sources.empty() || sources.size() > max_sources)
    return invalid(concat("a reduction has 1 to ", max_sources, " sources, not ", sources.size()));
  PACELINE_TRY(check_reduction(reduction, sources.size()));
  if (count == 0) return {};
  const std::size_t bytes = element_bytes(reduction.type);
  PACELINE_TRY(check_pointer(out, bytes, "the output of a reduction"));
  for (const void* source : sources) PACELINE_TRY(check_pointer(source, bytes, "a source of a reduction"));
  switch (reduction.type) {
    case DataType::f32: return combine_by<Plain<float>>(out, sources, count, reduction, stream);
    case DataType::f64: return combine_by<Plain<double>>(out, sources, count, reduction, stream);
    case DataType::i32: return combine_by<Plain<std::int32_t>>(out, sources, count, reduction, stream);
    case DataType::i64: return combine_by<Plain<std::int64_t>>(out, sources, count, reduction, stream);
    case DataType::f16: return combine_by<F16>(out, sources, count, reduction, stream);
    case DataType::bf16: return combine_by<BF16>(out, sources, count, reduction, stream);
    case DataType::u8: return combine_by<Plain<std::uint8_t>>(out, sources, count, reduction, stream);
  }
  return invalid("there is no such data type");
}

}  // namespace paceline::cuda
