#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/process.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline::bench {

/// How this program is called.
struct Invocation {
  std::vector<std::string> arguments;
  std::vector<int> cpus{};  ///< that it may run on; empty: all that this one may
};

/// How a call of this program ended.
struct Ended {
  std::string name;      ///< "`paceline train`"
  int status = 0;        ///< as waitpid gives it
  bool stopped = false;  ///< before its end, since another one had failed
  std::string output;

  [[nodiscard]] bool failed() const noexcept { return status != 0; }
  /// "exit status 2: ", and the last line that it wrote.
  [[nodiscard]] std::string why() const;
};

/// What all parts of the benchmark share: a folder that goes away with everything in it, processes that end
/// with this one, and waits that end, by a deadline or by a signal.
class Stage {
 public:
  /// `folder`: where its own is made; empty: where temporary files go.
  [[nodiscard]] static Result<std::unique_ptr<Stage>> make(const std::string& folder, Duration limit);
  /// Kills what was started.
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  [[nodiscard]] const std::string& folder() const noexcept { return folder_.path(); }

  /// Asks until it is so. timeout: after the limit; aborted: a signal came.
  [[nodiscard]] Status wait_for(const std::string& what, const std::function<Result<bool>()>& is_so);
  /// aborted: a signal came.
  [[nodiscard]] Status pause(Duration duration);
  /// Runs this program with `arguments` to its end, and gives what it wrote. An error where it ends with
  /// another status than 0, with the last line that it wrote.
  [[nodiscard]] Result<std::string> paceline(const std::vector<std::string>& arguments);
  /// Runs this program several times at once. When one of them fails the others are asked to end. In their
  /// order.
  [[nodiscard]] Result<std::vector<Ended>> run(const std::vector<Invocation>& invocations);
  /// Asks a process to end, waits for it, and kills it where it takes too long.
  [[nodiscard]] Status end(Process& process);

  /// That came; 0: none.
  [[nodiscard]] int signal() noexcept;

 private:
  Stage(ScratchFolder folder, Duration limit) : folder_(std::move(folder)), limit_(limit) {}
  [[nodiscard]] Status interrupted();

  ScratchFolder folder_;
  Duration limit_;
  UniqueFd signals_;
  int signal_ = 0;
  int commands_ = 0;
};

/// Seconds since 1970, as metrics.jsonl has them.
[[nodiscard]] double wall_time();

/// Whether it has ended. Reaps nothing.
[[nodiscard]] bool has_ended(const Process& process);

}  // namespace paceline::bench
