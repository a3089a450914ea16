#include "elastic/roster.hpp"

#include <algorithm>
#include <tuple>

#include "paceline/base/text.hpp"

namespace paceline {

Roster::Agent& Roster::add(const control::Register& message, std::int64_t term, Instant now) {
  agents_.erase(message.agent());
  return agents_
      .emplace(message.agent(), Agent{.index = message.index(),
                                      .host = message.host(),
                                      .port = static_cast<std::uint16_t>(message.port()),
                                      .slots = {message.slots().begin(), message.slots().end()},
                                      .with_cores = message.places_with_cores(),
                                      .gpus = {message.gpus().begin(), message.gpus().end()},
                                      .session_number = message.session(),
                                      .session = Session(term),
                                      .stream = {},
                                      .heard_at = now,
                                      .leaves = message.leave()})
      .first->second;
}

void Roster::remove(const std::string& name) {
  agents_.erase(name);
}

Roster::Agent* Roster::find(const std::string& name) {
  const auto found = agents_.find(name);
  return found == agents_.end() ? nullptr : &found->second;
}

std::string Roster::name_of(control::StreamId stream) const {
  for (const auto& [name, agent] : agents_)
    if (agent.stream == stream) return name;
  return "?";
}

Roster::Agent* Roster::of_stream(control::StreamId stream) {
  for (auto& [name, agent] : agents_)
    if (agent.stream == stream) return &agent;
  return nullptr;
}

Roster::Agent* Roster::head() {
  Agent* lowest = nullptr;
  for (auto& [name, agent] : agents_)
    if (lowest == nullptr || agent.index < lowest->index) lowest = &agent;
  return lowest;
}

std::optional<WorkerPlace> Roster::choose() const {
  std::set<std::pair<std::string, std::int64_t>> taken, shared;
  for (const auto& [id, where] : places_) {
    if (!going_.contains(id)) taken.emplace(where.agent, where.slot);
    shared.emplace(where.agent, where.slot);
  }
  // Free before shared, with cores of its own before without, a low index before a high one.
  std::optional<WorkerPlace> best;
  std::tuple<bool, bool, std::int64_t, std::int64_t> best_rank;
  for (const auto& [name, agent] : agents_) {
    if (agent.leaves) continue;
    for (std::int64_t slot = 0; slot < std::ssize(agent.slots); ++slot) {
      if (closed_.contains(agent.slots[static_cast<std::size_t>(slot)]) || taken.contains({name, slot}))
        continue;
      const std::tuple rank{shared.contains({name, slot}), slot >= agent.with_cores, agent.index, slot};
      if (best && best_rank <= rank) continue;
      best = WorkerPlace{name, slot};
      best_rank = rank;
    }
  }
  return best;
}

std::int64_t Roster::nodes_of_first(std::int64_t ranks) const {
  std::vector<std::tuple<bool, std::int64_t, std::int64_t, std::string>> slots;
  for (const auto& [name, agent] : agents_)
    for (std::int64_t slot = 0; slot < std::ssize(agent.slots) && !agent.leaves; ++slot)
      if (const std::string& node = agent.slots[static_cast<std::size_t>(slot)]; !closed_.contains(node))
        slots.emplace_back(slot >= agent.with_cores, agent.index, slot, node);
  std::ranges::sort(slots);
  std::set<std::string> nodes;
  const auto used = static_cast<std::size_t>(std::clamp<std::int64_t>(ranks, 0, std::ssize(slots)));
  for (std::size_t i = 0; i < used; ++i) nodes.insert(std::get<3>(slots[i]));
  return std::max<std::int64_t>(1, std::ssize(nodes));
}

void Roster::place(WorkerId worker, const WorkerPlace& where) {
  places_[worker] = where;
}

void Roster::is_going(WorkerId worker) {
  if (places_.contains(worker)) going_.insert(worker);
}

void Roster::forget(WorkerId worker) {
  places_.erase(worker);
  going_.erase(worker);
}

const WorkerPlace* Roster::place_of(WorkerId worker) const {
  const auto found = places_.find(worker);
  return found == places_.end() ? nullptr : &found->second;
}

Roster::Agent* Roster::agent_of(WorkerId worker) {
  const WorkerPlace* const where = place_of(worker);
  return where == nullptr ? nullptr : find(where->agent);
}

std::string Roster::node_of_slot(const WorkerPlace& where) const {
  const auto found = agents_.find(where.agent);
  const auto slot = static_cast<std::size_t>(where.slot);
  return found == agents_.end() || slot >= found->second.slots.size() ? "?" : found->second.slots[slot];
}

std::string Roster::node_of(WorkerId worker) const {
  const WorkerPlace* const where = place_of(worker);
  return where == nullptr ? "?" : node_of_slot(*where);
}

std::vector<WorkerId> Roster::workers_of_agent(const std::string& name) const {
  std::vector<WorkerId> ids;
  for (const auto& [id, where] : places_)
    if (where.agent == name) ids.push_back(id);
  return ids;
}

std::vector<WorkerId> Roster::workers_on_node(const std::string& node) const {
  std::vector<WorkerId> ids;
  for (const auto& [id, where] : places_)
    if (node_of_slot(where) == node) ids.push_back(id);
  return ids;
}

std::optional<Roster::SharedGpu> Roster::shared_gpu(const control::Register& message) const {
  for (const auto& [name, agent] : agents_) {
    if (name == message.agent() || agent.slots.empty() || message.slots().empty()) continue;
    if (agent.slots.front() != message.slots(0)) continue;
    for (const std::string& gpu : message.gpus())
      if (std::ranges::find(agent.gpus, gpu) != agent.gpus.end()) return SharedGpu{gpu, name};
  }
  return std::nullopt;
}

bool Roster::has_node(const std::string& node) const {
  return std::ranges::any_of(agents_, [&node](const auto& each) {
    return std::ranges::find(each.second.slots, node) != each.second.slots.end();
  });
}

void Roster::close_node(const std::string& node) {
  closed_.insert(node);
}

std::int64_t Roster::room() const {
  std::int64_t slots = 0;
  for (const auto& [name, agent] : agents_)
    if (!agent.leaves)
      slots +=
          std::ranges::count_if(agent.slots, [this](const auto& node) { return !closed_.contains(node); });
  return slots;
}

std::string Roster::node_names() const {
  std::set<std::string> names;
  for (const auto& [name, agent] : agents_) names.insert(agent.slots.begin(), agent.slots.end());
  std::string text;
  for (const std::string& name : names) text += concat(text.empty() ? "" : ", ", name);
  return text;
}

}  // namespace paceline
