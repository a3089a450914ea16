#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "commands.hpp"
#include "launch.hpp"
#include "summary.hpp"

namespace paceline {

/// One command that runs workers, seen from task 0 of its launch (or from a plain shell, which has no other):
/// it tells the other tasks what it decided, and everybody the result.
class Head {
 public:
  /// `folder` is where the tasks of a launch meet.
  Head(const Place& place, const std::string& folder, const Display::Options& display);

  /// From now on the outcome is written to this file too, whatever it is. An error where it can't be.
  [[nodiscard]] Status write_json_to(const std::string& path);
  /// Before anything was started: says why, and sends the other tasks home. Returns the exit code, which is a
  /// signal's where one is the reason.
  [[nodiscard]] int give_up(const RunFacts& facts, const Error& error, int signal = 0);
  /// Starts the ranks, here and through the other tasks, and waits for their end. `on_each_turn`: of
  /// AgentHooks.
  [[nodiscard]] Outcome run(const LaunchRequest& request, const Team& team, StopSignals& signals,
                            std::function<Status()> on_each_turn = {});
  /// Writes the results, and says what failed. Returns the exit code.
  [[nodiscard]] int conclude(const RunFacts& facts, const LaunchRequest& request, const Outcome& outcome);

  [[nodiscard]] const Place& place() const noexcept { return place_; }
  [[nodiscard]] Display& display() noexcept { return display_; }

 private:
  [[nodiscard]] Status write_results(const RunFacts& facts, const Outcome& outcome);

  Place place_;
  Display display_;
  std::string json_path_;
  std::optional<PublishedRendezvous> published_;  // nothing where this is the only task
};

/// Another task of the launch: waits for the head's decision, and is the agent of one rank.
[[nodiscard]] int follow(const Place& place, const std::string& folder);

/// Where this process is. Under a launcher it will not outlive the process that started it.
[[nodiscard]] Result<Place> settle();

/// The outcome as an exit code.
[[nodiscard]] int exit_code_of(const Outcome& outcome);

}  // namespace paceline
