// What each way takes on these ranks, measured when they meet. Also what loads NCCL's kernels before the
// first step.

#include <algorithm>

#include "impl.hpp"
#include "paceline/base/text.hpp"

namespace paceline::cuda {
namespace {

const SteadyClock steady_clock;
constexpr std::size_t short_bytes = std::size_t{4} << 10;
constexpr std::size_t long_bytes = std::size_t{8} << 20;

Request sum_of(std::byte* data, std::size_t bytes) {
  Request request;
  request.descriptor.kind = CollectiveKind::all_reduce;
  request.descriptor.type = DataType::f32;
  request.descriptor.count = bytes / sizeof(float);
  request.input = data;
  request.output = data;
  return request;
}

/// Seconds of one of `repeats`; `put` puts one into the stream.
Result<double> time_of(Communicator& control, cudaStream_t stream, int repeats,
                       const std::function<Status()>& put) {
  PACELINE_TRY(put());  // warm
  PACELINE_TRY(check(cudaStreamSynchronize(stream), "a measurement failed"));
  PACELINE_TRY(control.health());
  const Instant begin = steady_clock.now();
  for (int i = 0; i < repeats; ++i) PACELINE_TRY(put());
  PACELINE_TRY(check(cudaStreamSynchronize(stream), "a measurement failed"));
  return to_seconds(steady_clock.now() - begin) / repeats;
}

/// NCCL loads a kernel when it is first used.
Status load_nccl(nccl::Group& group, std::byte* data, int size, cudaStream_t stream) {
  for (const CollectiveKind kind : {CollectiveKind::all_reduce, CollectiveKind::reduce_scatter,
                                    CollectiveKind::all_gather, CollectiveKind::broadcast}) {
    for (const DataType type : {DataType::f32, DataType::f16, DataType::bf16}) {
      Request request = sum_of(data, 0);
      request.descriptor.kind = kind;
      request.descriptor.type = type;
      request.descriptor.count = 16;
      request.output = data + 16 * sizeof(float) * static_cast<std::size_t>(size);
      PACELINE_TRY(group.run(request, stream));
    }
  }
  return check(cudaStreamSynchronize(stream), "NCCL's first collectives failed");
}

}  // namespace

Status DeviceCommunicator::Impl::measure_ways() {
  const std::size_t scratch_bytes = long_bytes + 2 * 16 * sizeof(float) * static_cast<std::size_t>(size_);
  DeviceMemory scratch;
  UniqueStream stream;
  const auto prepare = [&]() -> Status {
    PACELINE_ASSIGN(scratch, allocate_device(scratch_bytes));
    PACELINE_ASSIGN(stream, make_stream());
    if (nccl_ != nullptr) return load_nccl(*nccl_, scratch.get(), size_, stream.get());
    return {};
  };
  PACELINE_TRY(all_well(prepare()));
  std::vector<WayFound> found;
  for (const Way way : all_ways) {
    WayFound each;
    each.way = way;
    each.why_not = why_not(way);
    const Request small = sum_of(scratch.get(), short_bytes);
    const Request large = sum_of(scratch.get(), long_bytes);
    if (each.why_not.empty()) each.why_not = objection(way, small.descriptor, nodes());
    if (each.why_not.empty()) {
      double seconds[2] = {};
      const auto measure = [&]() -> Status {
        PACELINE_ASSIGN(seconds[0],
                        time_of(*control_, stream.get(), 10, [&] { return put(small, way, stream.get()); }));
        PACELINE_ASSIGN(seconds[1],
                        time_of(*control_, stream.get(), 3, [&] { return put(large, way, stream.get()); }));
        if (ipc_ != nullptr) return ipc_->outcome();
        return {};
      };
      PACELINE_TRY(all_well(measure()));
      PACELINE_TRY(control_->all_reduce(seconds, 2, DataType::f64, ReduceOp::max));
      fit(each, short_bytes, seconds[0], long_bytes, seconds[1]);
    }
    found.push_back(std::move(each));
  }
  plan_ = WayPlan(std::move(found), options_.tuning.way, nodes(), size_);
  // One that was asked for and is not there is an error now, and not in the first step.
  const Result<Way> usable = plan_.choose(sum_of(scratch.get(), short_bytes).descriptor);
  return usable.ok() ? Status() : usable.error();
}

}  // namespace paceline::cuda
