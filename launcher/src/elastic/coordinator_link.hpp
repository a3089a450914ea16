#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/control/client.hpp"
#include "paceline/control/session.hpp"

namespace paceline {

/// Who an agent is.
struct AgentName {
  std::string name;        ///< no other agent has or had it
  std::int64_t index = 0;  ///< among the agents of the launch
  bool joined = false;     ///< it came later, by hand, and may go again
};

/// An agent's way to whichever coordinator is in charge: finds it through the run directory, opens the stream
/// again when it breaks, and where nobody is in charge any more, starts a successor. What is said is kept
/// until the coordinator has it, over any number of streams.
class CoordinatorLink {
 public:
  using Session = control::Session<control::FromAgent, control::ToAgent>;
  /// `introduce`: the agent as a coordinator that doesn't know it must see it.
  /// `first_term`: of the launch's first coordinator; any before are history.
  CoordinatorLink(std::string run_dir, AgentName name, std::int64_t first_term,
                  std::function<control::Register()> introduce);
  ~CoordinatorLink();
  CoordinatorLink(const CoordinatorLink&) = delete;
  CoordinatorLink& operator=(const CoordinatorLink&) = delete;

  /// To poll for reading; -1: nothing now.
  [[nodiscard]] int fd() const noexcept { return client_ ? client_->fd() : -1; }
  /// Does what is due, and gives what came. Call after each poll, and at least ten times a second. Of a
  /// `registered` that says not to be `again`, the coordinator had given this agent up: its workers are no
  /// part of the job any more. An error: nobody is in charge, and nobody can be; aborted, because the job has
  /// ended, as its journal says.
  [[nodiscard]] Result<std::vector<control::ToAgent>> attend();
  /// Kept until it is received.
  void say(control::FromAgent message);
  /// May be lost.
  void mention(const control::FromAgent& message);

 private:
  void look_for_coordinator();
  void open(const control::CoordinatorAddress& address);
  void lose(const std::string& why);
  void give_up();
  void hear_registered(control::Registered& registered);
  [[nodiscard]] Status succeed_if_due();
  [[nodiscard]] Status start_coordinator();
  [[nodiscard]] Status reap_child();

  std::string run_dir_;
  AgentName name_;
  std::int64_t first_term_;
  std::function<control::Register()> introduce_;
  SteadyClock clock_;
  std::optional<control::Credentials> credentials_;
  std::unique_ptr<control::Client> client_;
  std::optional<Session> session_;  // with the newest coordinator that it has found
  std::uint64_t session_number_ = 0;
  bool registered_ = false;  // on this stream
  bool known_ = false;       // to that coordinator
  Instant opened_at_{}, heard_at_{}, looked_at_{};
  std::optional<Instant> alone_since_;
  Instant succeed_from_{};     // when the wait for others to start a successor began
  std::int64_t given_up_ = 0;  // the term of a coordinator that did not answer
  Instant start_after_{};
  pid_t child_ = -1;  // a coordinator that is starting
  std::int64_t child_after_ = 0;
  std::vector<pid_t> former_children_;  // that had their time, and are still to be waited for
  std::string problem_;                 // the last, for people
  int failures_ = 0;                    // of coordinators to start, in a row
};

}  // namespace paceline
