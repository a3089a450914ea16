#pragma once

#include <optional>
#include <string>

#include "paceline/base/clock.hpp"

namespace paceline {

/// Whether somebody may still write to a run's logs, for whoever follows them.
class RunEnd {
 public:
  /// `clock` outlives it.
  RunEnd(std::string run_dir, const Clock& clock) : run_dir_(std::move(run_dir)), clock_(clock) {}

  /// Nobody holds the run any more, and it has a summary; or nobody has held it for some seconds, nor answers
  /// for it. Call a few times a second. Waits some seconds where a coordinator does not answer.
  [[nodiscard]] bool is_reached();
  /// It was: with a summary of how it ended.
  [[nodiscard]] bool has_summary() const noexcept { return has_summary_; }

 private:
  std::string run_dir_;
  const Clock& clock_;
  std::optional<Instant> free_since_;
  bool has_summary_ = false;
};

}  // namespace paceline
