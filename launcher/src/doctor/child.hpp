#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>

#include "agent.hpp"
#include "doctor/check.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::doctor {

/// Work in a process of its own, so that a filesystem that hangs or a library that crashes ends nothing but
/// this. Made with fork and no exec: only for processes of one thread. One thread.
class Child {
 public:
  /// What the work has of its parent: two pipes. Its standard streams lead nowhere.
  struct Side {
    int input = -1;
    int output = -1;
    /// A line without a line break. Nothing happens where the parent is gone.
    void say(const std::string& line) const;
    /// Until the parent lets go, or is gone.
    void await_parent() const;
  };
  using Work = std::function<void(const Side& side)>;

  [[nodiscard]] static Result<Child> start(const Work& work);
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;
  ~Child() { end(Duration::zero()); }

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// What it says next; nothing once it has ended as it should. timeout; peer_lost where it ended otherwise;
  /// aborted by a signal.
  [[nodiscard]] Result<std::optional<std::string>> next_line(const Deadline& deadline, StopSignals& signals);
  /// Lets go, and kills it where that is not its end in time. One that is stuck in the kernel stays there.
  void end(Duration patience);
  /// Lets go, and leaves it to end by itself where that takes longer.
  void finish(Duration patience);

 private:
  Child(pid_t pid, UniqueFd input, UniqueFd output)
      : pid_(pid), input_(std::move(input)), output_(std::move(output)) {}
  [[nodiscard]] bool reap();
  [[nodiscard]] bool await_end(Duration patience);
  [[nodiscard]] Result<std::optional<std::string>> how_it_ended(const Deadline& deadline);

  pid_t pid_ = -1;  // -1: it was waited for, or this was moved from
  int status_ = 0;
  UniqueFd input_, output_;
  std::string heard_;
};

/// What `work` returns (no line breaks), done in a child. Errors: those of Child::next_line.
[[nodiscard]] Result<std::string> in_child(const std::function<std::string()>& work, Duration limit,
                                           StopSignals& signals);

/// Checks that are made in a child.
struct Group {
  std::string name;  ///< of the check that says that they did not come to an end
  Duration limit;    ///< of all of them
  std::string mend;  ///< where they did not
  std::function<void(const Sink& sink)> work;
  /// It has something to clean up, and is left to that when its time is over.
  bool cleans_up = false;
};
/// Hands them on as they are made.
void run_group(const Group& group, StopSignals& signals, const Sink& sink);

}  // namespace paceline::doctor
