#pragma once

#include <deque>

#include "agent_link.hpp"
#include "paceline/allreduce.hpp"

namespace paceline {

/// What was committed and is not known to be in the journal yet. Every rank keeps it, so that nothing is
/// missing there when the one that reports is lost; the agent passes over what it has already.
class StepLog {
 public:
  StepLog(AgentLink& link, const Clock& clock) : link_(link), clock_(clock) {}

  void add(StepFigures figures);
  /// Collective: rank 0's becomes that of those who `take` it, as they take the state that those steps led to.
  [[nodiscard]] Status share(Communicator& communicator, bool takes);
  /// The journal has the steps up to this one.
  void acknowledge(std::int64_t step);
  /// This rank reports from now on, and begins with all that it keeps; or it does no more.
  void report(bool reports);
  /// Sends what is due, about ten times a second. For who reports.
  [[nodiscard]] Status send_some();
  [[nodiscard]] Status send_all();

 private:
  AgentLink& link_;
  const Clock& clock_;
  std::deque<StepFigures> steps_;
  std::size_t sent_ = 0;  // of them
  std::int64_t acknowledged_ = 0;
  bool reports_ = false;
  Instant sent_at_{};
};

}  // namespace paceline
