// Which slot a new worker gets, and what is known of agents and nodes.
#include <gtest/gtest.h>

#include "elastic/roster.hpp"

namespace paceline {
namespace {

control::Register agent(const std::string& name, std::int64_t index, const std::vector<std::string>& slots) {
  control::Register message;
  message.set_agent(name);
  message.set_index(index);
  message.set_host(name + ".host");
  message.set_port(4711);
  message.set_session(1);
  for (const std::string& node : slots) message.add_slots(node);
  return message;
}

class RosterTest : public testing::Test {
 protected:
  void add(const std::string& name, std::int64_t index, const std::vector<std::string>& slots) {
    roster_.add(agent(name, index, slots), 3, Instant{});
  }
  /// Chooses a slot for the worker and puts it there: "agent/slot"; "none".
  std::string place(WorkerId worker) {
    const std::optional<WorkerPlace> where = roster_.choose();
    if (!where) return "none";
    roster_.place(worker, *where);
    return where->agent + "/" + std::to_string(where->slot);
  }

  Roster roster_;
};

TEST_F(RosterTest, SlotsAreGivenByTheIndexOfTheirAgents) {
  EXPECT_EQ(place(0), "none");
  add("a", 1, {"x", "x"});
  add("b", 0, {"y"});
  EXPECT_EQ(roster_.nodes_of_first(1), 1);
  EXPECT_EQ(roster_.nodes_of_first(2), 2) << "y, then x";
  EXPECT_EQ(roster_.nodes_of_first(9), 2);
  EXPECT_EQ(place(0), "b/0");
  EXPECT_EQ(place(1), "a/0");
  EXPECT_EQ(place(2), "a/1");
  EXPECT_EQ(place(3), "none");
  EXPECT_EQ(roster_.node_of(0), "y");
  EXPECT_EQ(roster_.node_of(2), "x");
  EXPECT_EQ(roster_.node_of(3), "?");
  EXPECT_EQ(roster_.workers_of_agent("a"), (std::vector<WorkerId>{1, 2}));
  EXPECT_EQ(roster_.workers_on_node("y"), std::vector<WorkerId>{0});
  roster_.forget(1);
  EXPECT_EQ(place(4), "a/0");
  EXPECT_EQ(roster_.place_of(1), nullptr);
}

TEST_F(RosterTest, ANodeThatJoinsIsPreferredToCoresThatOthersUse) {
  control::Register first = agent("a", 0, {"x", "x", "x"});
  first.set_places_with_cores(1);
  roster_.add(first, 3, Instant{});
  EXPECT_EQ(place(0), "a/0");
  control::Register second = agent("b", 1, {"y", "y"});
  second.set_places_with_cores(1);
  roster_.add(second, 3, Instant{});
  EXPECT_EQ(place(1), "b/0");
  EXPECT_EQ(place(2), "a/1");
  EXPECT_EQ(place(3), "a/2");
  EXPECT_EQ(place(4), "b/1");
}

TEST_F(RosterTest, AWorkerOnItsWayOutSharesItsSlotOnlyWhereNoneIsFree) {
  add("a", 0, {"x", "x", "x"});
  EXPECT_EQ(place(0), "a/0");
  EXPECT_EQ(place(1), "a/1");
  roster_.is_going(0);
  EXPECT_EQ(place(2), "a/2");
  EXPECT_EQ(place(3), "a/0");
  EXPECT_EQ(place(4), "none") << "the slot has a worker that stays";
  roster_.forget(0);
  EXPECT_EQ(place(4), "none") << "worker 3 is still there";
  roster_.forget(3);
  EXPECT_EQ(place(4), "a/0");
  roster_.is_going(77);  // nobody
  roster_.place(77, {"a", 1});
  roster_.forget(1);
  EXPECT_EQ(place(5), "none") << "worker 77 came after that, and stays";
}

TEST_F(RosterTest, ClosedNodesGetNoMoreWorkers) {
  add("a", 0, {"x", "y", "x", "y"});
  EXPECT_EQ(roster_.room(), 4);
  EXPECT_EQ(place(0), "a/0");
  EXPECT_FALSE(roster_.has_node("z"));
  EXPECT_TRUE(roster_.has_node("x"));
  roster_.close_node("x");
  roster_.close_node("x");
  EXPECT_EQ(roster_.room(), 2);
  EXPECT_EQ(place(1), "a/1");
  EXPECT_EQ(place(2), "a/3");
  EXPECT_EQ(place(3), "none");
  EXPECT_EQ(roster_.workers_on_node("x"), std::vector<WorkerId>{0});
  add("b", 1, {"x", "w"});
  EXPECT_EQ(roster_.room(), 3) << "a node stays closed for agents that come later";
  EXPECT_EQ(place(3), "b/1");
  EXPECT_EQ(roster_.node_names(), "w, x, y");
}

TEST_F(RosterTest, AnAgentThatIsGoneHasNoSlots) {
  add("a", 2, {"x"});
  add("b", 1, {"y"});
  EXPECT_EQ(place(0), "b/0");
  EXPECT_EQ(roster_.head(), roster_.find("b"));
  roster_.remove("b");
  EXPECT_EQ(roster_.head(), roster_.find("a"));
  EXPECT_EQ(roster_.agent_of(0), nullptr);
  EXPECT_EQ(roster_.node_of(0), "?");
  EXPECT_EQ(roster_.workers_of_agent("b"), std::vector<WorkerId>{0});
  roster_.remove("a");
  EXPECT_EQ(roster_.head(), nullptr);
  EXPECT_EQ(roster_.room(), 0);
  EXPECT_EQ(roster_.node_names(), "");
}

TEST_F(RosterTest, StreamsBelongToAgents) {
  add("a", 0, {"x"});
  add("b", 1, {"y"});
  EXPECT_EQ(roster_.of_stream(7), nullptr);
  EXPECT_EQ(roster_.name_of(7), "?");
  roster_.find("b")->stream = 7;
  EXPECT_EQ(roster_.of_stream(7), roster_.find("b"));
  EXPECT_EQ(roster_.name_of(7), "b");
  roster_.find("b")->stream.reset();
  EXPECT_EQ(roster_.of_stream(7), nullptr);
}

TEST_F(RosterTest, AnAgentThatBeginsAnewIsKnownByItsNewFacts) {
  add("a", 0, {"x", "x"});
  Roster::Agent* const before = roster_.find("a");
  std::ignore = before->session.keep(control::ToAgent());
  before->stream = 4;
  const Roster::Agent& after = roster_.add(agent("a", 0, {"y"}), 3, Instant{std::chrono::seconds(1)});
  EXPECT_EQ(after.slots, std::vector<std::string>{"y"});
  EXPECT_TRUE(after.session.kept().empty());
  EXPECT_EQ(after.session.term(), 3);
  EXPECT_EQ(after.stream, std::nullopt);
  EXPECT_EQ(after.host, "a.host");
  EXPECT_EQ(after.port, 4711);
  EXPECT_EQ(roster_.agents().size(), 1U);
}

TEST_F(RosterTest, AGpuIsOneAgentsOfItsNode) {
  const auto with_gpus = [](const std::string& name, const std::string& node,
                            const std::vector<std::string>& gpus) {
    control::Register message = agent(name, 0, {node});
    for (const std::string& gpu : gpus) message.add_gpus(gpu);
    return message;
  };
  add("without", 0, {"x"});
  roster_.add(with_gpus("a", "x", {"GPU-1", "GPU-2"}), 3, Instant{});
  const auto shared = roster_.shared_gpu(with_gpus("b", "x", {"GPU-3", "GPU-2"}));
  ASSERT_TRUE(shared.has_value());
  EXPECT_EQ(shared->uuid, "GPU-2");
  EXPECT_EQ(shared->other, "a");
  EXPECT_FALSE(roster_.shared_gpu(with_gpus("b", "x", {"GPU-3"})));
  EXPECT_FALSE(roster_.shared_gpu(with_gpus("b", "x", {})));
  EXPECT_FALSE(roster_.shared_gpu(with_gpus("b", "y", {"GPU-1"})))
      << "another node's, whose name is the same";
  EXPECT_FALSE(roster_.shared_gpu(with_gpus("a", "x", {"GPU-1"}))) << "it begins anew";
}

TEST_F(RosterTest, WorkersThatAnAgentReportsInSlotsItDoesNotHave) {
  add("a", 0, {"x"});
  roster_.place(0, {"a", -1});
  roster_.place(1, {"a", 99});
  EXPECT_EQ(roster_.node_of(0), "?");
  EXPECT_EQ(roster_.node_of(1), "?");
  EXPECT_EQ(place(2), "a/0");
}

}  // namespace
}  // namespace paceline
