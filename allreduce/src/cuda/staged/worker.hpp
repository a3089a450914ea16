#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "../plan/staged.hpp"
#include "device_copies.hpp"

namespace paceline::cuda {

/// Carries out the staged collectives of one communicator, in the order of the calls, in a thread of its own.
/// A stream that has one in it waits on the GPU until the thread is through with it, well or not.
class StagedWorker {
 public:
  /// `all`: the lane of all ranks; `between`: those between nodes. `fail` is told the first error, from the
  /// thread.
  [[nodiscard]] static Result<std::unique_ptr<StagedWorker>> make(int device, StagedLane all,
                                                                  std::vector<StagedLane> between,
                                                                  const StagedTuning& tuning,
                                                                  std::function<void(const Error&)> fail);
  /// Carries out what is left, or gives it up if something failed. A wait of the GPU ends in any case.
  ~StagedWorker();
  StagedWorker(const StagedWorker&) = delete;
  StagedWorker& operator=(const StagedWorker&) = delete;

  /// Puts a collective over all ranks into `stream`; or, with `between_nodes`, this rank's pieces of an
  /// all_reduce whose data holds its node's sums. One thread at a time.
  [[nodiscard]] Status submit(const Request& request, bool between_nodes, cudaStream_t stream);
  /// Ends what is in flight and what comes. Any thread.
  void abort(const std::string& reason);

 private:
  struct Job {
    Request request;
    bool between_nodes = false;
    UniqueEvent ready;  // input is there
    std::uint32_t number = 0;
  };

  StagedWorker() = default;
  void run();
  [[nodiscard]] std::optional<Job> next();
  [[nodiscard]] Status carry_out(const Job& job);
  void release(std::uint32_t number);

  int device_ = 0;
  std::vector<StagedLane> all_;
  std::vector<StagedLane> between_;
  std::vector<Registration> pinned_;  // of the lanes' memory
  StagedTuning tuning_;
  std::optional<DeviceCopies> copies_;
  CopyOperations operations_;
  std::function<void(const Error&)> fail_;
  PinnedMemory released_;  // a word: the last job that is through
  std::uint32_t submitted_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool closed_ = false;
  bool failed_ = false;
  std::thread thread_;
};

}  // namespace paceline::cuda
