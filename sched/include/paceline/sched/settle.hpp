#pragma once

#include <cstdint>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// How far a rank has come that has left its generation.
struct Standing {
  std::int64_t applied = 0;  ///< steps
  bool reduced = false;      ///< it holds all reduced gradients of the step after those
  /// It holds the whole training state; one that joined and had not received it all is no source for anybody.
  bool complete = true;
  friend bool operator==(const Standing&, const Standing&) = default;
};

/// The steps that count as applied after some ranks of a generation were lost, from the frozen reports of all
/// others of that generation (P7): the base step of the next generation. Whoever has applied one less holds
/// its gradients, and rolls forward; nobody rolls back. If all hold the same further step reduced, all apply
/// that too.
///
/// internal: the reports contradict invariant I5 (a rank is behind and can't catch up), which no loss of
/// ranks explains. not_found: nobody is complete.
[[nodiscard]] Result<std::int64_t> settle(const std::vector<Standing>& standings);

/// Whether a rank can go on from so many applied steps: it has them, or lacks one whose gradients it holds.
[[nodiscard]] bool can_reach(const Standing& standing, std::int64_t base_step) noexcept;

}  // namespace paceline
