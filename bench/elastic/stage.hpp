#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "allreduce/process.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline::bench {

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

/// Whether it has ended. Reaps nothing.
[[nodiscard]] bool has_ended(const Process& process);

}  // namespace paceline::bench
