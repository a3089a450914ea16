#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "abort_signal.hpp"
#include "collectives/collectives.hpp"
#include "control.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/transport.hpp"
#include "queue.hpp"
#include "rendezvous.hpp"
#include "shm/node_group.hpp"
#include "topology.hpp"

namespace paceline {

struct SharedBuffer::Holder {
  std::shared_ptr<shm::NodeGroup> group;
  std::uint32_t allocation = 0;
  std::byte* data = nullptr;
  std::size_t bytes = 0;
  ~Holder() { group->release(allocation); }
};

struct Work::State {
  std::shared_ptr<OperationQueue> queue;  // null: it failed before it was begun
  std::shared_ptr<OperationQueue::Item> item;
  Status refused;
};

struct ConnectCancel::State {
  std::mutex mutex;
  std::vector<AbortSignal*> under_way;
  std::optional<Error> reason;  // once cancelled

  void attach(AbortSignal& connect) {
    const std::lock_guard lock(mutex);
    under_way.push_back(&connect);
    if (reason) connect.raise(*reason);
  }
  void detach(AbortSignal& connect) {
    const std::lock_guard lock(mutex);
    std::erase(under_way, &connect);
  }
};

/// What a communicator is made of. Members are destroyed in reverse order, users before what they use.
class Communicator::Impl {
 public:
  explicit Impl(CommunicatorOptions options) : options_(std::move(options)) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] Status connect(int rank, std::span<const Member> members);
  /// For Communicator::split: options for a part of this communicator, whose rank r is outer_ranks[r] here.
  [[nodiscard]] Result<CommunicatorOptions> options_of_part(std::vector<int> outer_ranks, int channel) const;
  /// Numbers for `count` parts, the same on all ranks; gives the first.
  [[nodiscard]] int take_channels(int count) { return std::exchange(next_channel_, next_channel_ + count); }
  void be_part() { is_part_ = true; }
  [[nodiscard]] const std::string& address() const { return address_; }
  [[nodiscard]] const std::string& node_by_hand() const { return node_by_hand_; }
  [[nodiscard]] const CommunicatorOptions& options() const { return options_; }
  [[nodiscard]] const Layout& layout() const { return *layout_; }
  [[nodiscard]] int size() const { return static_cast<int>(layout_->topology().node_of_rank.size()); }
  [[nodiscard]] Result<std::shared_ptr<SharedBuffer::Holder>> allocate(std::size_t bytes);
  [[nodiscard]] Status run(const Request& request);
  [[nodiscard]] std::shared_ptr<Work::State> start(const Request& request);
  void abort(Error error) { control_->abort(std::move(error)); }
  [[nodiscard]] Status health() const { return abort_.status(); }
  [[nodiscard]] Status quiesce(Duration timeout);
  [[nodiscard]] Duration busy() const { return Duration(busy_ns_.load(std::memory_order_relaxed)); }
  [[nodiscard]] std::vector<WireStatistics> wire_statistics() const {
    return transport_ != nullptr ? transport_->wire_statistics() : std::vector<WireStatistics>();
  }
  [[nodiscard]] std::string describe_plan() const;

 private:
  [[nodiscard]] Status establish(int rank, std::span<const Member> members);
  [[nodiscard]] Result<Meeting> meet_others(int rank, std::span<const Member> members,
                                            const Deadline& deadline, const std::string& local_socket);
  [[nodiscard]] Status link(const Meeting& meeting, const Deadline& deadline);
  [[nodiscard]] Status agree_on_plan(const Deadline& deadline);
  [[nodiscard]] Error fail(const Error& error);
  [[nodiscard]] Status carry_out(Request& request, std::uint64_t& submitted, bool may_spin);

  CommunicatorOptions options_;
  std::string address_;  // at which other ranks reach this one; of rank 0 alone in its communicator: loopback
  std::string node_by_hand_;  // as in Member
  int next_channel_ = 1;
  bool is_part_ = false;  // made by split, with a transport that knows the communicator that was split
  AbortSignal abort_;
  std::unique_ptr<Layout> layout_;
  std::unique_ptr<Control> control_;
  std::shared_ptr<shm::NodeGroup> group_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Collectives> collectives_;
  std::uint64_t operations_ = 0;  // completed; belongs to whoever carries one out
  std::atomic<std::int64_t> busy_ns_ = 0;
  std::shared_ptr<OperationQueue> queue_;  // also held by Works
};

}  // namespace paceline
