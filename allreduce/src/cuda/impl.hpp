#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "ipc/group.hpp"
#include "nccl/group.hpp"
#include "paceline/cuda.hpp"
#include "plan/ways.hpp"
#include "staged/worker.hpp"

namespace paceline::cuda {

/// What a device communicator is made of. Members are destroyed in reverse order, users before what they use.
class DeviceCommunicator::Impl {
 public:
  explicit Impl(DeviceOptions options) : options_(std::move(options)) {}
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  [[nodiscard]] Status open(Communicator& host);
  /// Any collective but one that makes no sense; checks that.
  [[nodiscard]] Status run(Request request, Stream stream);
  [[nodiscard]] Status wait();
  [[nodiscard]] Status health() const;
  void abort(const std::string& reason);
  void release() { released_ = true; }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] int device() const { return facts_[static_cast<std::size_t>(rank_)].device; }
  [[nodiscard]] const WayPlan& plan() const { return plan_; }
  [[nodiscard]] std::string describe() const;

 private:
  [[nodiscard]] Status look_at_devices(Communicator& host);
  [[nodiscard]] Status agree_on_options();
  [[nodiscard]] Status make_staged(std::vector<Communicator> parts,
                                   const std::vector<std::vector<int>>& groups);
  [[nodiscard]] Status make_ipc();
  [[nodiscard]] Status make_nccl();
  [[nodiscard]] Status measure_ways();
  [[nodiscard]] Status all_well(const Status& own);
  [[nodiscard]] int nodes() const { return static_cast<int>(topology_.nodes.size()); }
  [[nodiscard]] const std::string& why_not(Way way) const;

  [[nodiscard]] Status put(const Request& request, Way way, cudaStream_t stream);
  [[nodiscard]] Status put_hierarchical(const Request& request, cudaStream_t stream);
  [[nodiscard]] Status in_order_after_the_last(cudaStream_t stream);

  /// Ends the communicator on every rank. The first error counts; or the death of a rank, if that is behind
  /// it. `said`: what the other ranks are told; empty: the error.
  void fail(const Error& error, const std::string& said = {});
  [[nodiscard]] Error cause_of(const Error& error) const;
  /// Looks at everything that can tell of a failure without waiting.
  void look();
  void watch();
  void leave();

  DeviceOptions options_;
  int rank_ = 0;
  int size_ = 1;
  Topology topology_;
  std::vector<DeviceFacts> facts_;  // by rank
  std::shared_ptr<Communicator> control_;
  std::unique_ptr<ipc::Group> ipc_;    // null: ipc_why_not_ says why
  std::unique_ptr<nccl::Group> nccl_;  // likewise
  std::string ipc_why_not_;
  std::string nccl_why_not_;
  std::string nothing_;
  WayPlan plan_;

  mutable std::mutex order_mutex_;  // of what follows: the last collective, for who waits for it
  UniqueEvent last_;
  Stream last_stream_ = nullptr;
  bool any_ = false;
  std::optional<Instant> nccl_since_;  // the oldest collective of NCCL's that may not have ended

  mutable std::mutex failure_mutex_;
  std::optional<Error> failure_;
  bool released_ = false;  // no peer reads this rank's memory any more

  std::unique_ptr<StagedWorker> staged_;
  std::mutex watch_mutex_;
  std::condition_variable watch_ends_;
  bool watching_ = true;
  std::thread watcher_;
};

}  // namespace paceline::cuda
