#include "impl.hpp"

#include <algorithm>
#include <numeric>

#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline::cuda {
namespace {

const SteadyClock steady_clock;
constexpr Duration watch_interval = std::chrono::milliseconds(2);
// A broken sum says that a rank is gone, the control connections why: hear them out.
constexpr Duration hearing_time = std::chrono::milliseconds(100);
constexpr Duration leaving_time = std::chrono::seconds(10);
// After a failure the peers' kernels see the abort within this, and read this rank's memory no more.
constexpr Duration abort_time = std::chrono::milliseconds(200);

/// While a communicator is made over `control`, its making ends when `host` does: who gives that up knows of
/// no other.
class HostWatch {
 public:
  HostWatch(const Communicator& host, Communicator& control)
      : thread_([this, &host, &control] { watch(host, control); }) {}
  ~HostWatch() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    ends_.notify_all();
    thread_.join();
  }
  HostWatch(const HostWatch&) = delete;
  HostWatch& operator=(const HostWatch&) = delete;

 private:
  void watch(const Communicator& host, Communicator& control) {
    std::unique_lock lock(mutex_);
    while (!ends_.wait_for(lock, watch_interval, [this] { return over_; })) {
      const Status well = host.health();
      if (!well.ok()) return control.abort(well.error().message);
    }
  }

  std::mutex mutex_;
  std::condition_variable ends_;
  bool over_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace

Status DeviceCommunicator::Impl::open(Communicator& host) {
  rank_ = host.rank();
  size_ = host.size();
  topology_ = host.topology();
  PACELINE_TRY(look_at_devices(host));
  const DeviceScope scope(device());
  PACELINE_TRY(scope.status());
  std::vector<std::vector<int>> groups(1, std::vector<int>(static_cast<std::size_t>(size_)));
  std::iota(groups[0].begin(), groups[0].end(), 0);
  if (nodes() > 1)
    for (std::vector<int>& lane : lanes_of(topology_)) groups.push_back(std::move(lane));
  PACELINE_ASSIGN(std::vector<Communicator> parts, host.split(groups, options_.operation_timeout));
  control_ = std::make_shared<Communicator>(std::move(parts[0]));
  const HostWatch watch_host(host, *control_);
  PACELINE_TRY(agree_on_options());
  PACELINE_TRY(all_well(ipc::load_kernels()));
  PACELINE_ASSIGN(last_, make_event());
  PACELINE_TRY(all_well(make_staged(std::move(parts), groups)));
  PACELINE_TRY(make_ipc());
  PACELINE_TRY(make_nccl());
  watcher_ = std::thread([this] { watch(); });
  return measure_ways();
}

Status DeviceCommunicator::Impl::look_at_devices(Communicator& host) {
  facts_.resize(static_cast<std::size_t>(size_));
  DeviceFacts& own = facts_[static_cast<std::size_t>(rank_)];
  own = look_at_device(options_.device);
  nccl::look(own);
  PACELINE_TRY(host.all_gather(facts_.data(), sizeof(DeviceFacts), DataType::u8));
  return check_devices(facts_, options_.share_device);
}

/// What must be equal: rank 0's tuning, and what no rank refuses.
Status DeviceCommunicator::Impl::agree_on_options() {
  const Result<DeviceTuning> own = device_tuning_from_environment(options_.tuning);
  PACELINE_TRY(all_well(own.ok() ? Status() : own.error()));
  std::int64_t words[2] = {static_cast<std::int64_t>(own->way),
                           static_cast<std::int64_t>(own->fragment_bytes)};
  PACELINE_TRY(control_->broadcast(words, 2, DataType::i64, 0));
  options_.tuning = {static_cast<Way>(words[0]), static_cast<std::size_t>(words[1])};
  std::int64_t least[3] = {options_.use_ipc ? 1 : 0, options_.use_nccl ? 1 : 0,
                           static_cast<std::int64_t>(options_.ipc_bytes)};
  PACELINE_TRY(control_->all_reduce(least, 3, DataType::i64, ReduceOp::min));
  options_.use_ipc = least[0] != 0;
  options_.use_nccl = least[1] != 0;
  options_.ipc_bytes = static_cast<std::size_t>(least[2]);
  return {};
}

/// One rank's failure ends the making on all, and is named to all.
Status DeviceCommunicator::Impl::all_well(const Status& own) {
  const auto mine = static_cast<std::size_t>(rank_);
  std::vector<DeviceFacts> said = facts_;
  if (!own.ok()) {
    cuda::put(said[mine].trouble, own.error().message);
    said[mine].trouble_code = static_cast<std::int32_t>(own.error().code);
  }
  PACELINE_TRY(control_->all_gather(said.data(), sizeof(DeviceFacts), DataType::u8));
  return check_devices(said, true);
}

Status DeviceCommunicator::Impl::make_staged(std::vector<Communicator> parts,
                                             const std::vector<std::vector<int>>& groups) {
  StagedTuning tuning;
  if (options_.tuning.fragment_bytes > 0)
    tuning.slot_bytes = (options_.tuning.fragment_bytes + 4095) / 4096 * 4096;
  PACELINE_ASSIGN(StagedLane all, make_lane(control_, groups[0], tuning));
  std::vector<StagedLane> between(groups.size() - 1);
  std::size_t part = 1;
  for (std::size_t group = 1; group < groups.size(); ++group) {
    if (std::find(groups[group].begin(), groups[group].end(), rank_) == groups[group].end()) continue;
    auto lane = std::make_shared<Communicator>(std::move(parts[part++]));
    PACELINE_ASSIGN(between[group - 1], make_lane(std::move(lane), groups[group], tuning));
  }
  PACELINE_ASSIGN(staged_, StagedWorker::make(device(), std::move(all), std::move(between), tuning,
                                              [this](const Error& error) { fail(error); }));
  return {};
}

Status DeviceCommunicator::Impl::make_ipc() {
  if (!options_.use_ipc) {
    ipc_why_not_ = "it was not wanted (DeviceOptions::use_ipc)";
  } else {
    auto group = ipc::Group::make(*control_, facts_, options_.ipc_bytes, options_.operation_timeout);
    if (group.ok())
      ipc_ = std::move(*group);
    else
      ipc_why_not_ = group.error().message;
  }
  return control_->health();
}

Status DeviceCommunicator::Impl::make_nccl() {
  nccl_why_not_ =
      options_.use_nccl ? objection_to_nccl(facts_) : "it was not wanted (DeviceOptions::use_nccl)";
  if (nccl_why_not_.empty()) {
    constexpr Duration most = std::chrono::seconds(60);
    auto group = nccl::Group::make(*control_, std::min(options_.operation_timeout, most));
    if (group.ok())
      nccl_ = std::move(*group);
    else
      nccl_why_not_ = group.error().message;
  }
  return control_->health();
}

const std::string& DeviceCommunicator::Impl::why_not(Way way) const {
  if (way == Way::nccl) return nccl_why_not_;
  if (way == Way::staged) return nothing_;
  return ipc_why_not_;
}

std::string DeviceCommunicator::Impl::describe() const {
  return concat(topology_.describe(), describe_devices(facts_), plan_.describe());
}

// ---- collectives ----

Status DeviceCommunicator::Impl::run(Request request, Stream stream) {
  PACELINE_TRY(health());
  PACELINE_TRY(check_request(request, rank_, size_));
  PACELINE_ASSIGN(const Way way, plan_.choose(request.descriptor));
  const DeviceScope scope(device());
  PACELINE_TRY(scope.status());
  const Status begun = put(request, way, stream);
  if (begun.ok()) return begun;
  // The others may have begun it.
  fail(begun.error());
  return health();
}

Status DeviceCommunicator::Impl::put(const Request& request, Way way, cudaStream_t stream) {
  const std::lock_guard lock(order_mutex_);
  PACELINE_TRY(in_order_after_the_last(stream));
  switch (way) {
    case Way::one_shot:
    case Way::two_shot: PACELINE_TRY(ipc_->run(request, way == Way::one_shot, stream)); break;
    case Way::nccl:
      if (!nccl_since_) nccl_since_ = steady_clock.now();
      PACELINE_TRY(nccl_->run(request, stream));
      break;
    case Way::hierarchical: PACELINE_TRY(put_hierarchical(request, stream)); break;
    case Way::staged:
    case Way::automatic: PACELINE_TRY(staged_->submit(request, false, stream)); break;
  }
  PACELINE_TRY(check(cudaEventRecord(last_.get(), stream), "an event cannot be recorded"));
  last_stream_ = stream;
  any_ = true;
  return {};
}

/// Collectives of one communicator share flags and staging, so they do not overlap, whatever their streams.
Status DeviceCommunicator::Impl::in_order_after_the_last(cudaStream_t stream) {
  if (!any_ || stream == last_stream_) return {};
  return check(cudaStreamWaitEvent(stream, last_.get(), 0), "a stream cannot wait");
}

Status DeviceCommunicator::Impl::put_hierarchical(const Request& request, cudaStream_t stream) {
  const Descriptor& d = request.descriptor;
  const std::vector<ElementRange> ranges = owned_ranges(topology_, rank_, d.count);
  PACELINE_TRY(ipc_->reduce(request, ranges, d.op == ReduceOp::average ? size_ : 1.0, stream));
  Request between = request;
  between.input = request.output;
  between.weight = 1.0;
  if (d.op == ReduceOp::average) between.descriptor.op = ReduceOp::sum;
  PACELINE_TRY(staged_->submit(between, true, stream));
  return ipc_->gather(request.output, d.type, ranges, stream);
}

// ---- failure ----

Status DeviceCommunicator::Impl::wait() {
  const DeviceScope scope(device());
  PACELINE_TRY(scope.status());
  bool any = false;
  {
    const std::lock_guard lock(order_mutex_);
    any = any_;
  }
  // Ends, since every wait on the GPU does: kernels have limits, and whatever else waits is released by
  // fail().
  if (any) {
    const Status ended = check(cudaEventSynchronize(last_.get()), "a collective failed");
    if (!ended.ok()) fail(ended.error());
  }
  look();
  return health();
}

Status DeviceCommunicator::Impl::health() const {
  const std::lock_guard lock(failure_mutex_);
  if (failure_) return *failure_;
  return {};
}

void DeviceCommunicator::Impl::abort(const std::string& reason) {
  fail({ErrorCode::aborted, concat("rank ", rank_, " aborted: ", reason), rank_}, reason);
}

Error DeviceCommunicator::Impl::cause_of(const Error& error) const {
  const bool clear = error.rank == rank_ || error.code == ErrorCode::timeout || control_ == nullptr;
  const Deadline hearing(steady_clock, clear ? Duration::zero() : hearing_time);
  while (control_ != nullptr && control_->health().ok() && !hearing.passed())
    std::this_thread::sleep_for(watch_interval);
  if (!clear && !control_->health().ok()) return control_->health().error();
  if (error.rank >= 0) return error;
  const std::string who = name_of(rank_, facts_[static_cast<std::size_t>(rank_)]);
  // Who sees that time is over need not be who is late.
  return {error.code, concat(who, ": ", error.message), error.code == ErrorCode::timeout ? -1 : rank_};
}

void DeviceCommunicator::Impl::fail(const Error& error, const std::string& said) {
  if (!health().ok()) return;
  const Error cause = cause_of(error);
  {
    const std::lock_guard lock(failure_mutex_);
    if (failure_) return;
    failure_ = cause;
  }
  const std::string& reason = said.empty() ? cause.message : said;
  if (control_ != nullptr) control_->abort(reason);
  if (staged_ != nullptr) staged_->abort(reason);
  if (ipc_ != nullptr) ipc_->abort();
  if (nccl_ != nullptr) nccl_->abort();
}

void DeviceCommunicator::Impl::look() {
  if (!health().ok()) return;
  if (const Status alive = control_->health(); !alive.ok()) return fail(alive.error());
  if (ipc_ != nullptr)
    if (const Status well = ipc_->outcome(); !well.ok()) return fail(well.error());
  if (nccl_ == nullptr) return;
  if (const Status well = nccl_->health(); !well.ok()) return fail(well.error());
  bool late = false;
  {
    const std::unique_lock lock(order_mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !nccl_since_) return;
    const cudaError_t state = cudaEventQuery(last_.get());
    if (state == cudaSuccess) nccl_since_.reset();
    late = state == cudaErrorNotReady && steady_clock.now() - *nccl_since_ > options_.operation_timeout;
  }
  if (late)
    fail({ErrorCode::timeout,
          "a collective of NCCL's did not end in time: a rank may stand still, or call "
          "something else"});
}

void DeviceCommunicator::Impl::watch() {
  const DeviceScope scope(device());
  std::unique_lock lock(watch_mutex_);
  while (watching_) {
    lock.unlock();
    look();
    lock.lock();
    watch_ends_.wait_for(lock, watch_interval, [this] { return !watching_; });
  }
}

/// Peers read this rank's memory until their own kernels have ended.
void DeviceCommunicator::Impl::leave() {
  const Status ended = wait();
  if (released_) return;
  if (ended.ok()) {
    Work all_ended = control_->all_reduce_async(nullptr, 0, DataType::u8);
    const Deadline deadline(steady_clock, leaving_time);
    while (!all_ended.done() && control_->health().ok() && !deadline.passed())
      std::this_thread::sleep_for(watch_interval);
    if (!all_ended.done()) control_->abort("closed its device communicator, and others did not");
    [[maybe_unused]] const Status ignored = all_ended.wait();
  } else if (ipc_ != nullptr && ipc_->size() > 1) {
    std::this_thread::sleep_for(abort_time);
  }
}

DeviceCommunicator::Impl::~Impl() {
  if (facts_.empty() || device() < 0) return;
  const DeviceScope scope(device());
  if (control_ != nullptr) leave();
  {
    const std::lock_guard lock(watch_mutex_);
    watching_ = false;
  }
  watch_ends_.notify_all();
  if (watcher_.joinable()) watcher_.join();
  staged_.reset();
  nccl_.reset();
  ipc_.reset();
  last_.reset();
}

}  // namespace paceline::cuda
