#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "agent_link.hpp"
#include "paceline/allreduce.hpp"
#include "paceline/job/checkpoint.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// A generation that this worker belongs to.
struct Membership {
  FormMessage form;
  std::unique_ptr<Communicator> communicator;
  std::optional<Trainer::Buffers> buffers{};  ///< where there was time to make them
};

/// Meets the other members. Ends at once, with `aborted`, when the coordinator wants the generation left.
/// With `own` ranks that join are held against those that are there: one that doesn't compute alike gets
/// `mismatch` and is the one to go, and the others get `peer_lost`.
[[nodiscard]] Result<Membership> join(const StartMessage& start, const FormMessage& form, AgentLink& link,
                                      const std::optional<ComputeFingerprint>& own = {});

/// The same beside the training, and all else that can be done before the switch.
class Preparation {
 public:
  /// `start` and `trainer` outlive it.
  Preparation(const StartMessage& start, const FormMessage& form,
              const std::optional<ComputeFingerprint>& own, const Trainer& trainer);
  /// Gives up, if it is still under way.
  ~Preparation();
  Preparation(const Preparation&) = delete;
  Preparation& operator=(const Preparation&) = delete;

  [[nodiscard]] std::int64_t generation() const noexcept { return form_.generation; }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  /// Whether this rank could change to it now. One that leaves the job always could.
  [[nodiscard]] bool ready() const noexcept;
  /// Once ended: what came of it; for a rank that leaves, without a communicator.
  [[nodiscard]] Result<Membership> take();

 private:
  [[nodiscard]] Result<Membership> prepare(const StartMessage& start,
                                           const std::optional<ComputeFingerprint>& own,
                                           const Trainer& trainer);
  [[nodiscard]] Status make_ready(Membership& membership, const std::optional<ComputeFingerprint>& own,
                                  const Trainer& trainer) const;
  /// Whom to abort should this be given up; false: it has been.
  [[nodiscard]] bool use(Communicator* communicator);

  FormMessage form_;
  ConnectCancel cancel_;
  std::mutex mutex_;              // guards the next two
  Communicator* used_ = nullptr;  // in collectives
  bool given_up_ = false;
  Result<Membership> result_;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

/// Collective: the training state of the first `donors` ranks becomes that of all. Every donor sends its part
/// of the bytes, so that many send as fast as they can together; receivers check them. Donors have all of it
/// (`all_is_there`), or only the parts that they send. corrupt: what arrived is not what was sent.
[[nodiscard]] Status transfer_state(Communicator& communicator, std::int64_t donors,
                                    std::span<const StatePart> state, bool all_is_there);

/// Of all parts together.
[[nodiscard]] std::int64_t bytes_of(std::span<const StatePart> state);
/// The bytes of the state, all parts one after the other, that this donor sends.
[[nodiscard]] CheckpointSlice slice_of_donor(std::span<const StatePart> state, std::int64_t donor,
                                             std::int64_t donors);

}  // namespace paceline
