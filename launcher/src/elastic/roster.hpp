#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/control/server.hpp"
#include "paceline/control/session.hpp"
#include "paceline/sched/coordinator.hpp"

namespace paceline {

/// Where a worker is.
struct WorkerPlace {
  std::string agent;
  std::int64_t slot = 0;
};

/// The agents of a job as its coordinator knows them, and which of their slots have which workers.
class Roster {
 public:
  using Session = control::Session<control::ToAgent, control::FromAgent>;
  struct Agent {
    std::int64_t index = 0;
    std::string host;
    std::uint16_t port = 0;
    std::vector<std::string> slots;  ///< the node of each
    std::int64_t with_cores = 0;     ///< so many of them, the first ones
    std::vector<std::string> gpus;   ///< UUIDs
    std::uint64_t session_number = 0;
    Session session;
    std::optional<control::StreamId> stream;  ///< nothing: broken
    Instant broken_at{};                      ///< when it last broke
    Instant heard_at{};   ///< or when it may have been, had the coordinator not stood still
    bool spared = false;  ///< the latter; once for each time that it is heard
    bool leaves = false;  ///< no more workers are started there

    void is_heard(Instant now) noexcept {
      heard_at = now;
      spared = false;
    }
  };

  /// A new agent, or one that begins anew.
  Agent& add(const control::Register& message, std::int64_t term, Instant now);
  void remove(const std::string& name);
  [[nodiscard]] Agent* find(const std::string& name);
  [[nodiscard]] std::string name_of(control::StreamId stream) const;
  [[nodiscard]] Agent* of_stream(control::StreamId stream);
  [[nodiscard]] std::map<std::string, Agent>& agents() noexcept { return agents_; }
  /// The one with the lowest index, who speaks to people. Null: there is none.
  [[nodiscard]] Agent* head();

  /// A slot for a new worker: the first free one that isn't closed, of the agent with the lowest index; else
  /// one whose worker is on its way out; nothing where there is no agent.
  [[nodiscard]] std::optional<WorkerPlace> choose() const;
  void place(WorkerId worker, const WorkerPlace& where);
  /// Its slot can be given to another now.
  void is_going(WorkerId worker);
  void forget(WorkerId worker);
  [[nodiscard]] const WorkerPlace* place_of(WorkerId worker) const;
  [[nodiscard]] Agent* agent_of(WorkerId worker);
  /// "?" where it isn't known.
  [[nodiscard]] std::string node_of(WorkerId worker) const;
  [[nodiscard]] std::vector<WorkerId> workers_of_agent(const std::string& name) const;
  [[nodiscard]] std::vector<WorkerId> workers_on_node(const std::string& node) const;

  /// A GPU that this agent and another on its node have.
  struct SharedGpu {
    std::string uuid;
    std::string other;  ///< agent
  };
  [[nodiscard]] std::optional<SharedGpu> shared_gpu(const control::Register& message) const;
  /// Whether an agent has a slot there.
  [[nodiscard]] bool has_node(const std::string& node) const;
  /// No more workers are started there, by agents that come later neither.
  void close_node(const std::string& node);
  /// Slots that are not closed.
  [[nodiscard]] std::int64_t room() const;
  /// How many nodes so many ranks are on, when they are placed as choose() does; at least 1.
  [[nodiscard]] std::int64_t nodes_of_first(std::int64_t ranks) const;
  /// The names of all nodes, once each, for messages.
  [[nodiscard]] std::string node_names() const;

 private:
  [[nodiscard]] std::string node_of_slot(const WorkerPlace& where) const;

  std::map<std::string, Agent> agents_;
  std::map<WorkerId, WorkerPlace> places_;
  std::set<WorkerId> going_;
  std::set<std::string> closed_;
};

}  // namespace paceline
