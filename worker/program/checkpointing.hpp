#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "agent_link.hpp"
#include "paceline/job/checkpoint.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// One rank's part of checkpoints. Its slice of the state is copied while nothing changes it, and the copy is
/// written beside the training by a thread that keeps out of its way: of the lowest priority, and working
/// only a small part of the time. One part at a time. One thread calls.
class Checkpointing {
 public:
  /// `link` outlives it.
  Checkpointing(std::string run_dir, AgentLink& link);
  /// Gives up what is being written.
  ~Checkpointing();
  Checkpointing(const Checkpointing&) = delete;
  Checkpointing& operator=(const Checkpointing&) = delete;

  /// Whether a part is still being written, or has not been reported.
  [[nodiscard]] bool busy() const noexcept { return thread_.joinable(); }
  /// The last one that was begun.
  [[nodiscard]] const std::optional<CheckpointId>& last() const noexcept { return last_; }

  /// Finds the memory for this rank's slice of a state of so many bytes, so that begin() need not. Nothing
  /// while it is busy.
  void reserve(std::int64_t state_bytes, std::int64_t rank, std::int64_t ranks);
  /// Not while it is busy. Copies, and begins to write. `state` stays where it is until this object is gone;
  /// only what lies in other ranks' slices may change.
  void begin(const CheckpointId& id, std::int64_t rank, std::int64_t ranks, std::span<const StatePart> state);
  /// Whether there is something to report.
  [[nodiscard]] bool written() const noexcept;
  /// Tells the agent what came of a part, if there is news. A part that can't be written is told too, and is
  /// no error.
  [[nodiscard]] Status report();
  /// The same once it is written, as fast as that goes.
  [[nodiscard]] Status finish();

  /// What the last copy took.
  [[nodiscard]] Duration copied_in() const noexcept { return copied_in_; }

 private:
  struct Part {
    CheckpointId id;
    std::int64_t rank = 0;
    std::int64_t ranks = 0;
    std::vector<CheckpointEntry> layout;
    std::vector<std::span<const std::byte>> state;  // with the copy in the place of this rank's slice
  };

  void copy(std::span<const StatePart> state);
  void write();
  [[nodiscard]] bool pace(Duration worked);
  [[nodiscard]] CheckpointMessage message() const;

  std::string run_dir_;
  AgentLink& link_;
  std::vector<std::byte> copy_;  // kept, since finding its pages takes longer than copying
  Part part_;
  std::optional<CheckpointId> last_;
  Duration copied_in_{};
  std::optional<Result<CheckpointPart>> written_;  // set by the thread before it ends

  std::atomic<bool> done_ = false;  // the thread has ended, or is about to

  std::mutex mutex_;  // guards what follows, and is held when done_ is set
  std::condition_variable changed_;
  bool hurry_ = false;
  bool give_up_ = false;
  std::thread thread_;
};

/// Reads the state, or the slice of it, and only where it is laid out as the checkpoint says.
[[nodiscard]] Status read_checkpoint(const Checkpoint& checkpoint, std::span<const StatePart> state,
                                     const CheckpointSlice* slice);

}  // namespace paceline
