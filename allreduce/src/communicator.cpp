#include <poll.h>

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "abort_signal.hpp"
#include "between_nodes.hpp"
#include "collectives.hpp"
#include "control.hpp"
#include "node_identity.hpp"
#include "operation.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/base/text.hpp"
#include "rendezvous.hpp"
#include "shm/handshake.hpp"
#include "shm/node_group.hpp"
#include "tcp/links.hpp"
#include "tcp/socket.hpp"
#include "topology.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration hearing_time = std::chrono::milliseconds(50);

}  // namespace

struct SharedBuffer::Holder {
  std::shared_ptr<shm::NodeGroup> group;
  std::uint32_t allocation = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  ~Holder() { group->release(allocation); }
};

std::byte* SharedBuffer::data() const noexcept {
  return holder_ ? holder_->data : nullptr;
}
std::size_t SharedBuffer::bytes() const noexcept {
  return holder_ ? holder_->bytes : 0;
}

struct Work::State {
  Descriptor descriptor;
  std::byte* data = nullptr;
  std::mutex mutex;
  std::condition_variable ended;
  std::atomic<bool> done = false;
  Status status;

  void end(Status with) {
    {
      const std::lock_guard lock(mutex);
      status = std::move(with);
      done.store(true, std::memory_order_release);
    }
    ended.notify_all();
  }
};

Status Work::wait() {
  if (state_ == nullptr) return {};
  std::unique_lock lock(state_->mutex);
  state_->ended.wait(lock, [this] { return state_->done.load(); });  // ended by the collective's deadline
  return state_->status;
}

bool Work::done() const noexcept {
  return state_ == nullptr || state_->done.load(std::memory_order_acquire);
}

/// What a communicator is made of. Members are destroyed in reverse order, users before what they use.
class Communicator::Impl {
 public:
  explicit Impl(CommunicatorOptions options) : options_(std::move(options)) {}
  ~Impl();

  [[nodiscard]] Status connect(int rank, std::span<const Member> members);
  [[nodiscard]] const Layout& layout() const { return *layout_; }
  [[nodiscard]] Result<std::pair<std::shared_ptr<shm::NodeGroup>, std::uint32_t>> allocate(std::size_t bytes);
  [[nodiscard]] Status run(const Descriptor& descriptor, void* data);
  [[nodiscard]] std::shared_ptr<Work::State> start(const Descriptor& descriptor, void* data);
  void abort(Error error) { control_->abort(std::move(error)); }
  [[nodiscard]] Status health() const { return abort_.status(); }
  [[nodiscard]] Duration busy() const { return Duration(busy_ns_.load(std::memory_order_relaxed)); }
  [[nodiscard]] Status check(const Descriptor& descriptor, const void* data) const;

 private:
  [[nodiscard]] Status establish(int rank, std::span<const Member> members);
  [[nodiscard]] Error fail(const Error& error);
  Status carry_out(const Descriptor& descriptor, std::byte* data, bool may_spin);
  void serve();

  CommunicatorOptions options_;
  AbortSignal abort_;
  std::unique_ptr<Layout> layout_;
  std::unique_ptr<Control> control_;
  std::shared_ptr<shm::NodeGroup> group_;
  std::unique_ptr<BetweenNodes> between_;
  std::unique_ptr<Collectives> collectives_;

  std::mutex driver_mutex_;  // held by whoever carries out a collective
  std::uint64_t operations_ = 0;
  std::atomic<std::int64_t> busy_ns_ = 0;

  std::mutex queue_mutex_;
  std::condition_variable queue_changed_;
  std::deque<std::shared_ptr<Work::State>> queue_;  // its front may be in progress
  bool closing_ = false;
  std::thread server_;  // carries out the queue; started by the first asynchronous call
};

Communicator::Impl::~Impl() {
  bool pending = false;
  {
    const std::lock_guard lock(queue_mutex_);
    closing_ = true;
    pending = !queue_.empty();
  }
  queue_changed_.notify_all();
  if (pending && control_ != nullptr)
    abort({ErrorCode::aborted,
           concat("rank ", layout_->rank(), " closed its communicator with collectives in flight"),
           layout_->rank()});
  if (server_.joinable()) server_.join();
  if (control_ != nullptr) control_->leave(operations_);
}

Status Communicator::Impl::connect(int rank, std::span<const Member> members) {
  const Status established = establish(rank, members);
  if (!established.ok() && control_ != nullptr) return fail(established.error());
  return established;
}

Status Communicator::Impl::establish(int rank, std::span<const Member> members) {
  const Deadline deadline(steady_clock, options_.connect_timeout);
  const tcp::Patience patience{deadline, abort_};
  PACELINE_TRY(abort_.open());
  PACELINE_ASSIGN(const shm::LocalListener local, shm::listen_locally());

  wire::Hello self;
  self.secret = options_.secret;
  self.generation = options_.generation;
  self.rank = rank;
  self.size = static_cast<std::int32_t>(members.size());
  const NodeIdentity identity = node_identity(members[static_cast<std::size_t>(rank)].node);
  self.node_key = identity.key;
  self.node_name = identity.name;
  self.local_socket = local.name;

  Meeting meeting;
  if (members.size() == 1) {
    meeting.roster = {self};
    options_.listener.reset();
  } else {
    PACELINE_ASSIGN(meeting, meet(self, members, options_, deadline, abort_));
  }
  std::vector<std::string> keys;
  std::vector<std::string> names;
  for (const wire::Hello& hello : meeting.roster) {
    keys.push_back(hello.node_key);
    names.push_back(hello.node_name);
  }
  layout_ = std::make_unique<Layout>(rank, keys, names);
  // From here on the loss of a rank ends this rank's waits too.
  control_ = std::make_unique<Control>(*layout_, std::move(meeting.control), abort_);
  PACELINE_TRY(control_->start());
  PACELINE_ASSIGN(shm::Handshake handshake,
                  shm::Handshake::connect(*layout_, local, meeting.roster, patience));
  PACELINE_ASSIGN(group_,
                  shm::NodeGroup::make(*layout_, std::move(handshake), options_.spin, abort_, deadline));
  if (layout_->nodes() > 1) {
    PACELINE_ASSIGN(between_, tcp::make_links(*layout_, meeting.roster, meeting.data_listener,
                                              options_.secret, options_.generation, deadline, abort_));
  }
  collectives_ = std::make_unique<Collectives>(*layout_, *group_, between_.get());
  // Nobody is connected before everybody is: so what comes later can only meet whole communicators.
  return collectives_->run({}, nullptr, deadline, true);
}

Result<std::pair<std::shared_ptr<shm::NodeGroup>, std::uint32_t>> Communicator::Impl::allocate(
    std::size_t bytes) {
  PACELINE_TRY(health());
  const Deadline deadline(steady_clock, options_.operation_timeout);
  auto allocation = group_->allocate(bytes, deadline);
  if (!allocation.ok()) return fail(allocation.error());
  return std::pair(group_, *allocation);
}

/// What can be said of a call without asking the other ranks. Mistakes kill nothing: no rank has begun.
Status Communicator::Impl::check(const Descriptor& d, const void* data) const {
  PACELINE_TRY(health());
  const std::size_t bytes = element_bytes(d.type);
  if (d.count > 0 && data == nullptr)
    return Error{ErrorCode::invalid_argument, concat("null data for ", describe(d))};
  if (reinterpret_cast<std::uintptr_t>(data) % bytes != 0)
    return Error{ErrorCode::invalid_argument,
                 concat("data for ", describe(d), " is not aligned to ", bytes, " bytes")};
  const auto blocks = d.kind == CollectiveKind::all_gather ? layout_->topology().node_of_rank.size() : 1;
  if (d.count > static_cast<std::uint64_t>(PTRDIFF_MAX) / bytes / blocks)
    return Error{ErrorCode::invalid_argument, concat(describe(d), " does not fit into memory")};
  if (d.root < 0 || static_cast<std::size_t>(d.root) >= layout_->topology().node_of_rank.size())
    return Error{ErrorCode::invalid_argument, concat(describe(d), ": there is no such rank")};
  return {};
}

Status Communicator::Impl::run(const Descriptor& descriptor, void* data) {
  PACELINE_TRY(check(descriptor, data));
  std::unique_lock lock(queue_mutex_);
  if (!queue_.empty()) {  // behind what was begun before
    lock.unlock();
    Work work;
    work.state_ = start(descriptor, data);
    return work.wait();
  }
  lock.unlock();
  return carry_out(descriptor, static_cast<std::byte*>(data), true);
}

std::shared_ptr<Work::State> Communicator::Impl::start(const Descriptor& descriptor, void* data) {
  auto state = std::make_shared<Work::State>();
  state->descriptor = descriptor;
  state->data = static_cast<std::byte*>(data);
  const Status checked = check(descriptor, data);
  if (!checked.ok()) {
    state->end(checked);
    return state;
  }
  {
    const std::lock_guard lock(queue_mutex_);
    queue_.push_back(state);
    if (!server_.joinable()) server_ = std::thread([this] { serve(); });
  }
  queue_changed_.notify_one();
  return state;
}

void Communicator::Impl::serve() {
  std::unique_lock lock(queue_mutex_);
  while (true) {
    queue_changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::shared_ptr<Work::State> state = queue_.front();
    lock.unlock();
    // Not spinning: this thread often shares its core with the one that computes.
    Status status = carry_out(state->descriptor, state->data, false);
    lock.lock();
    queue_.pop_front();
    state->end(std::move(status));
  }
}

Status Communicator::Impl::carry_out(const Descriptor& descriptor, std::byte* data, bool may_spin) {
  const std::lock_guard driving(driver_mutex_);
  PACELINE_TRY(health());
  const Instant begin = steady_clock.now();
  const Deadline deadline(steady_clock, options_.operation_timeout);
  Descriptor numbered = descriptor;
  numbered.operation = operations_;
  control_->begin(operations_ + 1);
  Status status;
  try {
    status = collectives_->run(numbered, data, deadline, may_spin);
  } catch (const std::exception& exception) {  // no memory for scratch space
    status = Error{ErrorCode::internal, concat(describe(numbered), ": ", exception.what())};
  }
  busy_ns_ += (steady_clock.now() - begin).count();
  if (status.ok()) {
    ++operations_;
    return status;
  }
  return fail(status.error());
}

/// Ends the communicator with `error`, or with the reason behind it.
Error Communicator::Impl::fail(const Error& error) {
  // A broken link says that a rank is gone, the star of control connections why: hear it out.
  if (error.code == ErrorCode::peer_lost) {
    const Deadline hearing(steady_clock, hearing_time);
    [[maybe_unused]] const Status ignored = tcp::wait_for(abort_.fd(), POLLIN, {hearing, abort_});
  }
  abort(error);
  return health().error();  // the first error, which may be another rank's
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
  return static_cast<int>(topology().node_of_rank.size());
}
const Topology& Communicator::topology() const noexcept {
  return impl_->layout().topology();
}

Result<SharedBuffer> Communicator::allocate(std::size_t bytes) {
  const std::size_t size = bytes > 0 ? bytes : 1;
  PACELINE_ASSIGN(auto allocated, impl_->allocate(size));
  SharedBuffer buffer;
  buffer.holder_ = std::make_shared<SharedBuffer::Holder>();
  buffer.holder_->group = allocated.first;
  buffer.holder_->allocation = allocated.second;
  buffer.holder_->data = allocated.first->at(allocated.first->index(), {allocated.second, 0, true}, size);
  buffer.holder_->bytes = bytes;
  return buffer;
}

namespace {

Descriptor make_descriptor(CollectiveKind kind, std::size_t count, DataType type, ReduceOp op = ReduceOp::sum,
                           int root = 0) {
  return {.operation = 0, .count = count, .root = root, .kind = kind, .type = type, .op = op};
}

}  // namespace

Status Communicator::all_reduce(void* data, std::size_t count, DataType type, ReduceOp op) {
  return impl_->run(make_descriptor(CollectiveKind::all_reduce, count, type, op), data);
}

Status Communicator::broadcast(void* data, std::size_t count, DataType type, int root) {
  return impl_->run(make_descriptor(CollectiveKind::broadcast, count, type, ReduceOp::sum, root), data);
}

Status Communicator::all_gather(void* data, std::size_t count, DataType type) {
  return impl_->run(make_descriptor(CollectiveKind::all_gather, count, type), data);
}

Status Communicator::barrier() {
  return impl_->run(make_descriptor(CollectiveKind::barrier, 0, DataType::i32), nullptr);
}

Work Communicator::all_reduce_async(void* data, std::size_t count, DataType type, ReduceOp op) {
  Work work;
  work.state_ = impl_->start(make_descriptor(CollectiveKind::all_reduce, count, type, op), data);
  return work;
}

Work Communicator::broadcast_async(void* data, std::size_t count, DataType type, int root) {
  Work work;
  work.state_ =
      impl_->start(make_descriptor(CollectiveKind::broadcast, count, type, ReduceOp::sum, root), data);
  return work;
}

Work Communicator::all_gather_async(void* data, std::size_t count, DataType type) {
  Work work;
  work.state_ = impl_->start(make_descriptor(CollectiveKind::all_gather, count, type), data);
  return work;
}

void Communicator::abort(const std::string& reason) {
  impl_->abort({ErrorCode::aborted, concat("rank ", rank(), " aborted: ", reason), rank()});
}

Status Communicator::health() const {
  return impl_->health();
}
Duration Communicator::busy() const noexcept {
  return impl_->busy();
}

}  // namespace paceline
