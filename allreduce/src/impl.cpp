#include "impl.hpp"

#include <poll.h>

#include <exception>

#include "measure.hpp"
#include "node_identity.hpp"
#include "paceline/base/text.hpp"
#include "shm/handshake.hpp"
#include "tcp/links.hpp"
#include "tcp/socket.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration hearing_time = std::chrono::milliseconds(50);

/// Connections per pair of ranks, unless they are chosen: a few, as long as that does not make too many.
int default_streams(std::size_t ranks) {
  return ranks <= 64 ? 4 : ranks <= 256 ? 2 : 1;
}

/// Where the others reach this rank. Rank 0 may have been given a name or listen everywhere, but one of the
/// others has found it.
Result<std::string> own_address(int rank, const Meeting& meeting) {
  if (meeting.roster.size() == 1) return std::string("127.0.0.1");
  if (rank > 0) return meeting.roster[static_cast<std::size_t>(rank)].host;
  return tcp::local_address(meeting.control[1].get());
}

}  // namespace

Communicator::Impl::~Impl() {
  if (queue_ != nullptr) {
    const bool pending = !queue_->idle();
    const Error closed{
        ErrorCode::aborted,
        concat("rank ", layout_->rank(), " closed its communicator with collectives in flight"),
        layout_->rank()};
    if (pending) abort(closed);
    queue_->close(pending ? health().error() : closed);
  }
  if (group_ != nullptr) group_->stop();
  if (control_ != nullptr) control_->leave(operations_);
}

Status Communicator::Impl::connect(int rank, std::span<const Member> members) {
  PACELINE_TRY(abort_.open());
  if (options_.cancel) options_.cancel->state_->attach(abort_);
  const Status established = establish(rank, members);
  if (options_.cancel) options_.cancel->state_->detach(abort_);
  if (!established.ok() && control_ != nullptr) return fail(established.error());
  return established;
}

Status Communicator::Impl::establish(int rank, std::span<const Member> members) {
  const Deadline deadline(steady_clock, options_.connect_timeout);
  const tcp::Patience patience{deadline, abort_};
  PACELINE_ASSIGN(options_.tuning, tuning_from_environment(options_.tuning));
  if (options_.interface.empty()) options_.interface = environment("PACELINE_INTERFACE").value_or("");
  if (options_.ports.empty()) options_.ports = environment("PACELINE_PORTS").value_or("");
  PACELINE_ASSIGN(const shm::LocalListener local, shm::listen_locally());
  PACELINE_ASSIGN(Meeting meeting, meet_others(rank, members, deadline, local.name));
  PACELINE_ASSIGN(address_, own_address(rank, meeting));
  node_by_hand_ = members[static_cast<std::size_t>(rank)].node;
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
                  shm::NodeGroup::make(*layout_, std::move(handshake), staging_bytes(layout_->nodes()),
                                       options_.spin, abort_, deadline));
  if (layout_->nodes() > 1) PACELINE_TRY(link(meeting, deadline));
  collectives_ =
      std::make_unique<Collectives>(*layout_, *group_, transport_.get(), options_.generation, abort_);
  collectives_->use(options_.tuning.plain_memory);
  if (transport_ != nullptr) PACELINE_TRY(agree_on_plan(deadline));
  queue_ = std::make_shared<OperationQueue>(
      [this](Request& request, std::uint64_t& submitted, bool may_spin) {
        return carry_out(request, submitted, may_spin);
      },
      transport_ == nullptr || !transport_->belongs_to_callers());
  // Who is not in a collective when the communicator dies never touches shared memory again; who is says so
  // at its end.
  abort_.on_raise([queue = queue_, group = group_] { queue->if_at_rest([&] { group->stop(); }); });
  return {};
}

Result<Meeting> Communicator::Impl::meet_others(int rank, std::span<const Member> members,
                                                const Deadline& deadline, const std::string& local_socket) {
  wire::Hello self;
  self.generation = options_.generation;
  self.rank = rank;
  self.size = static_cast<std::int32_t>(members.size());
  const NodeIdentity identity = node_identity(members[static_cast<std::size_t>(rank)].node);
  self.node_key = identity.key;
  self.node_name = identity.name;
  self.local_socket = local_socket;
  self.encrypts = options_.encrypt ? 1 : 0;
  self.own_transport = options_.transport ? 1 : 0;
  self.streams = options_.tuning.streams > 0 ? options_.tuning.streams : default_streams(members.size());
  if (members.size() > 1) return meet(self, members, options_, deadline, abort_);
  options_.listener.reset();
  Meeting alone;
  alone.roster = {self};
  return alone;
}

Status Communicator::Impl::link(const Meeting& meeting, const Deadline& deadline) {
  if (options_.transport) {
    TransportContext context;  // of a part, split.cpp adds to it
    context.rank = layout_->rank();
    context.size = size();
    context.peers = layout_->linked_ranks();
    context.generation = options_.generation;
    context.wake_fd = abort_.fd();
    PACELINE_ASSIGN(transport_, options_.transport(context));
    return {};
  }
  const tcp::LinkOptions links{options_.secret, options_.generation, meeting.roster.front().streams,
                               options_.encrypt};
  PACELINE_ASSIGN(transport_,
                  tcp::make_links(*layout_, meeting.roster, meeting.data_listener, links, deadline, abort_));
  return {};
}

/// Rank 0 measures, and all use what it measured.
Status Communicator::Impl::agree_on_plan(const Deadline& deadline) {
  PACELINE_ASSIGN(
      Wire wire, measure_wire(*transport_, *layout_, options_.generation, options_.tuning, abort_, deadline));
  Request request;
  request.descriptor.kind = CollectiveKind::broadcast;
  request.descriptor.type = DataType::u8;
  request.descriptor.count = sizeof wire;
  request.output = reinterpret_cast<std::byte*>(&wire);
  request.input = request.output;
  std::uint64_t submitted = 0;
  PACELINE_TRY(collectives_->run(request, submitted, {deadline, true}));
  collectives_->use(Plan(wire, layout_->nodes()));
  transport_->use_streams(wire.streams);
  return {};
}

Result<std::shared_ptr<SharedBuffer::Holder>> Communicator::Impl::allocate(std::size_t bytes) {
  PACELINE_TRY(health());
  const Deadline deadline(steady_clock, options_.operation_timeout);
  auto allocation = group_->allocate(bytes, deadline);
  if (!allocation.ok()) return fail(allocation.error());
  auto holder = std::make_shared<SharedBuffer::Holder>();
  holder->group = group_;
  holder->allocation = *allocation;
  holder->data = group_->at(group_->index(), {*allocation, 1, 0}, bytes);
  holder->bytes = bytes;
  return holder;
}

Status Communicator::Impl::run(const Request& request) {
  PACELINE_TRY(check_request(request, layout_->rank(), size()));
  return queue_->run(request);
}

std::shared_ptr<Work::State> Communicator::Impl::start(const Request& request) {
  auto state = std::make_shared<Work::State>();
  state->refused = health();
  if (state->refused.ok()) state->refused = check_request(request, layout_->rank(), size());
  if (!state->refused.ok()) return state;
  state->queue = queue_;
  state->item = queue_->submit(request);
  return state;
}

Status Communicator::Impl::carry_out(Request& request, std::uint64_t& submitted, bool may_spin) {
  if (const Status alive = health(); !alive.ok()) {
    group_->stop();
    return alive;
  }
  // A small one that does not have to wait is over before a clock is read.
  const bool small = collectives_->is_small(request);
  const Deadline deadline = Deadline::from_first_look(steady_clock, options_.operation_timeout);
  const Instant begin = small ? Instant{} : steady_clock.now();
  const Duration waited = group_->waited();
  request.descriptor.operation = operations_ + 1;
  control_->begin(operations_ + 1);
  Status status;
  try {
    status = collectives_->run(request, submitted, {deadline, may_spin});
  } catch (const std::exception& exception) {  // no memory for scratch space
    status = Error{ErrorCode::internal, concat(describe(request.descriptor), ": ", exception.what())};
  }
  const Duration took = small ? group_->waited() - waited : steady_clock.now() - begin;
  busy_ns_.fetch_add(took.count(), std::memory_order_relaxed);
  if (status.ok()) {
    ++operations_;
    return status;
  }
  group_->stop();
  return fail(status.error());
}

/// Ends the communicator with `error`, or with the reason behind it.
Error Communicator::Impl::fail(const Error& error) {
  // A broken link says that a rank is gone, the star of control connections why: hear it out.
  if (error.code == ErrorCode::peer_lost) {
    const Deadline hearing(steady_clock, hearing_time);
    [[maybe_unused]] const Status ignored = tcp::wait_for(abort_.fd(), POLLIN, {hearing, abort_});
  }
  if (error.code == ErrorCode::timeout)
    control_->accuse(error);
  else
    abort(error);
  return health().error();  // the first error, which may be another rank's
}

Status Communicator::Impl::quiesce(Duration timeout) {
  const Deadline deadline(steady_clock, timeout);
  if (health().ok())
    return Error{ErrorCode::invalid_argument, "quiesce is for after an error, and the communicator is well"};
  return group_->quiesce(deadline);
}

std::string Communicator::Impl::describe_plan() const {
  std::string text = layout_->topology().describe();
  text += concat("within a node: shared memory; up to ", shm::inline_bytes, " B in one exchange\n");
  if (transport_ != nullptr)
    text += concat("transport ", transport_->name(), "; ", collectives_->plan().describe());
  return text;
}

}  // namespace paceline
