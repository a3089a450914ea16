#include <algorithm>

#include "impl.hpp"

namespace paceline::cuda {
namespace {

Request request_of(CollectiveKind kind, const void* input, void* output, std::size_t count, DataType type) {
  Request request;
  request.descriptor.kind = kind;
  request.descriptor.count = count;
  request.descriptor.type = type;
  request.input = static_cast<const std::byte*>(input);
  request.output = static_cast<std::byte*>(output);
  return request;
}

Request request_of(CollectiveKind kind, const void* input, void* output, std::size_t count, DataType type,
                   const ReduceOptions& options) {
  Request request = request_of(kind, input, output, count, type);
  request.descriptor.op = options.op;
  request.descriptor.codec = options.codec;
  if (options.codec == Codec::fixed_point)
    request.descriptor.exponent =
        static_cast<std::int16_t>(std::clamp(options.fixed_point_exponent, -999, 999));
  request.weight = options.weight;
  request.residual = options.residual;
  return request;
}

}  // namespace

DeviceCommunicator::DeviceCommunicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
DeviceCommunicator::DeviceCommunicator(DeviceCommunicator&&) noexcept = default;
DeviceCommunicator& DeviceCommunicator::operator=(DeviceCommunicator&&) noexcept = default;
DeviceCommunicator::~DeviceCommunicator() = default;

Result<DeviceCommunicator> DeviceCommunicator::make(Communicator& host, DeviceOptions options) {
  auto impl = std::make_unique<Impl>(std::move(options));
  PACELINE_TRY(impl->open(host));
  return DeviceCommunicator(std::move(impl));
}

int DeviceCommunicator::rank() const noexcept {
  return impl_->rank();
}
int DeviceCommunicator::size() const noexcept {
  return impl_->size();
}
int DeviceCommunicator::device() const noexcept {
  return impl_->device();
}

Status DeviceCommunicator::all_reduce(const void* input, void* output, std::size_t count, DataType type,
                                      const ReduceOptions& options, Stream stream) {
  return impl_->run(request_of(CollectiveKind::all_reduce, input, output, count, type, options), stream);
}

Status DeviceCommunicator::reduce_scatter(const void* input, void* output, std::size_t count, DataType type,
                                          const ReduceOptions& options, Stream stream) {
  return impl_->run(request_of(CollectiveKind::reduce_scatter, input, output, count, type, options), stream);
}

Status DeviceCommunicator::all_gather(const void* input, void* output, std::size_t count, DataType type,
                                      Stream stream) {
  return impl_->run(request_of(CollectiveKind::all_gather, input, output, count, type), stream);
}

Status DeviceCommunicator::broadcast(void* data, std::size_t count, DataType type, int root, Stream stream) {
  Request request = request_of(CollectiveKind::broadcast, data, data, count, type);
  request.descriptor.root = root;
  return impl_->run(request, stream);
}

Status DeviceCommunicator::barrier(Stream stream) {
  return impl_->run(request_of(CollectiveKind::barrier, nullptr, nullptr, 0, DataType::i32), stream);
}

Status DeviceCommunicator::wait() {
  return impl_->wait();
}
Status DeviceCommunicator::health() const {
  return impl_->health();
}
void DeviceCommunicator::abort(const std::string& reason) {
  impl_->abort(reason);
}
void DeviceCommunicator::release() {
  impl_->release();
}

Way DeviceCommunicator::way_of(std::size_t bytes) const {
  Descriptor sum;
  sum.kind = CollectiveKind::all_reduce;
  sum.count = (bytes + 3) / 4;
  const Result<Way> way = impl_->plan().choose(sum);
  return way.ok() ? *way : Way::automatic;
}

std::string DeviceCommunicator::describe() const {
  return impl_->describe();
}

}  // namespace paceline::cuda
