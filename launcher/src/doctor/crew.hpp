#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent.hpp"
#include "doctor/orders.hpp"
#include "doctor/report.hpp"
#include "fleet/connection.hpp"
#include "where/allocation.hpp"

namespace paceline::doctor {

/// The nodes of an allocation, each with a `paceline doctor --node` that this starts through one srun, or one
/// ssh for each. A node that is lost says why in its checks, and the others go on. One thread.
class Crew {
 public:
  struct Member {
    std::string name;  ///< what the allocation calls it, until it has said its own name
    std::optional<Hello> hello;
    std::vector<Check> checks;
    bool examined = false;  ///< all of its checks are there
    bool lost = false;
    std::optional<Answer> answer;  ///< to the last order
    double answered_at = 0;        ///< seconds since 1970, by this machine's clock
    std::string key;               ///< of its lines: connection and label
  };

  /// Starts them. `folder`: whose filesystem they are to check, absolute.
  Crew(const Allocation& allocation, const std::string& folder);
  ~Crew();
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// Waits for all checks of all nodes.
  void gather(StopSignals& signals);
  /// Gives an order to all, does something `meanwhile`, and waits for the answers of those that are not lost.
  void ask(const Order& order, StopSignals& signals, const std::function<void()>& meanwhile = {});

  [[nodiscard]] std::vector<Member*> present();
  /// In the order of the allocation.
  [[nodiscard]] std::vector<NodeChecks> nodes() const;
  /// Of nodes that have not even told their names.
  [[nodiscard]] const std::vector<Check>& missing() const noexcept { return missing_; }

 private:
  void start(const std::string& name, const std::string& member, const std::vector<std::string>& command);
  void pump(int limit_ms);
  void hear(const std::string& connection, const std::string& line);
  void take(Member& member, std::string_view kind_and_text);
  void welcome(Member& member, const std::string& text);
  [[nodiscard]] Member& member_of(const std::string& key);
  void notice_ends();
  void miss(const std::string& why, const std::string& mend);
  [[nodiscard]] bool is_waiting() const;
  static void lose(Member& member, const std::string& found, const std::string& mend);

  Allocation allocation_;
  std::vector<Connection> connections_;
  std::vector<std::unique_ptr<Member>> members_;
  std::vector<Check> missing_;
};

}  // namespace paceline::doctor
