#include <algorithm>

#include "impl.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

std::byte* SharedBuffer::data() const noexcept {
  return holder_ ? holder_->data : nullptr;
}
std::size_t SharedBuffer::bytes() const noexcept {
  return holder_ ? holder_->bytes : 0;
}

Status Work::wait() {
  if (state_ == nullptr || state_->item == nullptr) return state_ == nullptr ? Status() : state_->refused;
  return state_->queue->wait(*state_->item);
}

bool Work::done() const noexcept {
  return state_ == nullptr || state_->item == nullptr || state_->item->done.load(std::memory_order_acquire);
}

Status wait_all(std::span<Work> works) {
  Status first;
  for (Work& work : works) {
    Status status = work.wait();
    if (first.ok() && !status.ok()) first = std::move(status);
  }
  return first;
}

ConnectCancel::ConnectCancel() : state_(std::make_shared<State>()) {
}

void ConnectCancel::cancel(const std::string& reason) {
  const std::lock_guard lock(state_->mutex);
  if (state_->reason) return;
  state_->reason = Error{ErrorCode::aborted, reason, -1};
  for (AbortSignal* connect : state_->under_way) connect->raise(*state_->reason);
}

Communicator::Communicator(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

Result<Communicator> Communicator::connect(int rank, std::span<const Member> members,
                                           CommunicatorOptions options) {
  if (members.empty()) return Error{ErrorCode::invalid_argument, "a communicator needs at least one member"};
  if (rank < 0 || static_cast<std::size_t>(rank) >= members.size())
    return Error{ErrorCode::invalid_argument,
                 concat("rank ", rank, " is not in the list of ", members.size(), " members")};
  if (options.secret.size() > 256)
    return Error{ErrorCode::invalid_argument, "the secret is longer than 256 bytes"};
  if (options.encrypt && options.secret.empty())
    return Error{ErrorCode::invalid_argument, "encryption needs a secret: set the same one for all ranks"};
  if (members.size() > 1 && rank != 0 && (members[0].host.empty() || members[0].port == 0))
    return Error{ErrorCode::invalid_argument, "rank 0's host and port must be known to the other ranks"};
  auto impl = std::make_unique<Impl>(std::move(options));
  const Status connected = impl->connect(rank, members);
  if (!connected.ok()) return connected.error();
  return Communicator(std::move(impl));
}

int Communicator::rank() const noexcept {
  return impl_->layout().rank();
}
int Communicator::size() const noexcept {
  return impl_->size();
}
const Topology& Communicator::topology() const noexcept {
  return impl_->layout().topology();
}

Result<SharedBuffer> Communicator::allocate(std::size_t bytes) {
  SharedBuffer buffer;
  PACELINE_ASSIGN(buffer.holder_, impl_->allocate(bytes > 0 ? bytes : 1));
  buffer.holder_->bytes = bytes;
  return buffer;
}

namespace {

Request make_request(CollectiveKind kind, const void* input, void* output, std::size_t count, DataType type) {
  Request request;
  request.descriptor.kind = kind;
  request.descriptor.count = count;
  request.descriptor.type = type;
  request.input = static_cast<const std::byte*>(input);
  request.output = static_cast<std::byte*>(output);
  return request;
}

Request make_request(CollectiveKind kind, const void* input, void* output, std::size_t count, DataType type,
                     const ReduceOptions& options) {
  Request request = make_request(kind, input, output, count, type);
  request.descriptor.op = options.op;
  request.descriptor.codec = options.codec;
  request.descriptor.priority = options.priority;
  if (options.codec == Codec::fixed_point)
    request.descriptor.exponent =
        static_cast<std::int16_t>(std::clamp(options.fixed_point_exponent, -999, 999));
  request.descriptor.feedback = options.residual != nullptr ? 1 : 0;
  request.weight = options.weight;
  request.residual = options.residual;
  return request;
}

Request make_broadcast_request(void* data, std::size_t count, DataType type, int root, int priority) {
  Request request = make_request(CollectiveKind::broadcast, data, data, count, type);
  request.descriptor.root = root;
  request.descriptor.priority = priority;
  return request;
}

/// This rank's block of `data`, which all ranks' blocks lie in.
const void* own_block(const void* data, int rank, std::size_t count, DataType type) {
  if (data == nullptr) return nullptr;
  // Sizes that do not fit into memory are found out later; until then nothing is computed that could
  // overflow.
  const auto offset = static_cast<std::uintptr_t>(rank) * count * element_bytes(type);
  return reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(data) + offset);
}

}  // namespace

Status Communicator::all_reduce(const void* input, void* output, std::size_t count, DataType type,
                                const ReduceOptions& options) {
  return impl_->run(make_request(CollectiveKind::all_reduce, input, output, count, type, options));
}

Status Communicator::all_reduce(void* data, std::size_t count, DataType type, ReduceOp op) {
  ReduceOptions options;
  options.op = op;
  return all_reduce(data, data, count, type, options);
}

Status Communicator::reduce_scatter(const void* input, void* output, std::size_t count, DataType type,
                                    const ReduceOptions& options) {
  return impl_->run(make_request(CollectiveKind::reduce_scatter, input, output, count, type, options));
}

Status Communicator::all_gather(const void* input, void* output, std::size_t count, DataType type) {
  return impl_->run(make_request(CollectiveKind::all_gather, input, output, count, type));
}

Status Communicator::all_gather(void* data, std::size_t count, DataType type) {
  return all_gather(own_block(data, rank(), count, type), data, count, type);
}

Status Communicator::broadcast(void* data, std::size_t count, DataType type, int root) {
  return impl_->run(make_broadcast_request(data, count, type, root, 0));
}

Status Communicator::barrier() {
  return impl_->run(make_request(CollectiveKind::barrier, nullptr, nullptr, 0, DataType::i32));
}

Work Communicator::all_reduce_async(const void* input, void* output, std::size_t count, DataType type,
                                    const ReduceOptions& options) {
  Work work;
  work.state_ = impl_->start(make_request(CollectiveKind::all_reduce, input, output, count, type, options));
  return work;
}

Work Communicator::all_reduce_async(void* data, std::size_t count, DataType type, ReduceOp op) {
  ReduceOptions options;
  options.op = op;
  return all_reduce_async(data, data, count, type, options);
}

Work Communicator::reduce_scatter_async(const void* input, void* output, std::size_t count, DataType type,
                                        const ReduceOptions& options) {
  Work work;
  work.state_ =
      impl_->start(make_request(CollectiveKind::reduce_scatter, input, output, count, type, options));
  return work;
}

Work Communicator::all_gather_async(const void* input, void* output, std::size_t count, DataType type,
                                    int priority) {
  Request request = make_request(CollectiveKind::all_gather, input, output, count, type);
  request.descriptor.priority = priority;
  Work work;
  work.state_ = impl_->start(request);
  return work;
}

Work Communicator::broadcast_async(void* data, std::size_t count, DataType type, int root, int priority,
                                   bool has_it) {
  Request request = make_broadcast_request(data, count, type, root, priority);
  request.has_it = has_it;
  Work work;
  work.state_ = impl_->start(request);
  return work;
}

void Communicator::abort(const std::string& reason) {
  impl_->abort({ErrorCode::aborted, concat("rank ", rank(), " aborted: ", reason), rank()});
}

Status Communicator::health() const {
  return impl_->health();
}
Status Communicator::quiesce(Duration timeout) {
  return impl_->quiesce(timeout);
}
Duration Communicator::busy() const noexcept {
  return impl_->busy();
}
std::vector<WireStatistics> Communicator::wire_statistics() const {
  return impl_->wire_statistics();
}
std::string Communicator::describe_plan() const {
  return impl_->describe_plan();
}

}  // namespace paceline
