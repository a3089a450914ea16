// What a launcher and the agents that it starts on other nodes say to each other, and how they are started.
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <csignal>

#include "fleet/connection.hpp"
#include "fleet/fleet.hpp"
#include "fleet/messages.hpp"
#include "fleet/slurm_growth.hpp"
#include "fleet/slurm_watch.hpp"
#include "support/mutations.hpp"

namespace paceline {
namespace {

const std::string json_alphabet = R"({}[]",:0123456789-.eE\truefalsn )";

NodeReport report_of(const std::string& node) {
  return {.version = PACELINE_VERSION,
          .node = node,
          .address = "10.0.0.1",
          .cores = 4,
          .tasks = 2,
          .time = 1000,
          .unseen = {},
          .resources = {},
          .complaint = {}};
}

/// Says that the message was not accepted.
bool is_corrupt(const Error& error) {
  EXPECT_EQ(error.code, ErrorCode::corrupt);
  return false;
}

TEST(FleetMessages, ComeBackAsTheyWere) {
  NodeReport report = report_of("n \"1\"\n\xc3\xbc");
  report.unseen = {"/a b", "/c"};
  EXPECT_TRUE(is_node_report(to_json(report)));
  EXPECT_EQ(to_json(report).find('\n'), std::string::npos);
  EXPECT_EQ(parse_node_report(to_json(report)).value(), report);
  report.complaint = "the driver does not start";
  report.resources.emplace();
  report.resources->name = "n1";
  report.resources->cores.cores = {{0, {0, 2}}, {1, {1, 3}}};
  report.resources->usable_cores = 1;
  report.resources->gpus = {{"GPU-1", "T4", 1 << 30, 12345, 1, {1}}, {"GPU-2", "T4", 1 << 30, 0, -1, {}}};
  report.resources->cards = {{"eth0", -1, 2.5}};
  report.resources->free_memory_bytes = 1234567891;
  EXPECT_EQ(parse_node_report(to_json(report)).value(), report);
  const FleetOrder order{"/runs/a b", {{"n1", 1, 4}, {"n2", 2, 0}}};
  EXPECT_EQ(to_json(order).find('\n'), std::string::npos);
  EXPECT_EQ(parse_fleet_order(to_json(order)).value(), order);
}

TEST(FleetMessages, LongLinesComeInPieces) {
  Pieces pieces;
  for (const std::size_t size : {0, 1, 900, 901, 1800, 1801, 100'000}) {
    std::string line;
    for (std::size_t i = 0; i < size; ++i) line += static_cast<char>('a' + i % 26);
    const std::vector<std::string> sent = in_pieces(line);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      EXPECT_LT(sent[i].size(), 1000U);
      const std::optional<std::string> whole = pieces.add(sent[i]);
      EXPECT_EQ(whole.has_value(), i + 1 == sent.size());
      if (whole) {
        EXPECT_EQ(*whole, line);
      }
    }
  }
  NodeReport large = report_of("n1");
  large.resources.emplace();
  large.resources->name = "n1";
  for (int core = 0; core < 256; ++core)
    large.resources->cores.cores.push_back({core / 64, {core, 256 + core}});
  large.resources->usable_cores = 256;
  std::optional<std::string> whole;
  for (const std::string& piece : in_pieces(to_json(large))) whole = pieces.add(piece);
  EXPECT_EQ(parse_node_report(whole.value_or("")).value(), large);
}

TEST(FleetMessages, DamagedOnesAreErrors) {
  const Tally reports = feed({to_json(report_of("n1"))}, json_alphabet, 1, [](const std::string& text) {
    const Result<NodeReport> report = parse_node_report(text);
    if (!report.ok()) return is_corrupt(report.error());
    EXPECT_FALSE(report->node.empty());
    EXPECT_GE(report->cores, 0);
    return true;
  });
  EXPECT_GT(reports.good, 100);
  EXPECT_GT(reports.bad, 1000);
  const Tally orders = feed({to_json(FleetOrder{"/r", {{"n1", 1, 4}, {"n2", 2, 0}}})}, json_alphabet, 2,
                            [](const std::string& text) {
                              const Result<FleetOrder> order = parse_fleet_order(text);
                              if (!order.ok()) return is_corrupt(order.error());
                              for (const AgentOrder& agent : order->agents)
                                EXPECT_TRUE(agent.index >= 0 && agent.places >= 0);
                              return true;
                            });
  EXPECT_GT(orders.good, 100);
  EXPECT_GT(orders.bad, 1000);
}

TEST(FleetMessages, NodesThatCannotTrainTogetherAreNamed) {
  const auto refusal = [](const auto& change) {
    std::vector<NodeReport> reports = {report_of("n1"), report_of("n2")};
    change(reports[1]);
    const Status status = check_reports(reports, 1000);
    EXPECT_FALSE(status.ok());
    return status.ok() ? std::string() : status.error().message;
  };
  EXPECT_TRUE(check_reports({report_of("n1"), report_of("n2")}, 1001).ok());
  EXPECT_EQ(refusal([](NodeReport& node) { node.version = "0.0.9"; }).find("node n2 has version 0.0.9"), 0U);
  EXPECT_EQ(refusal([](NodeReport& node) { node.node = "n1"; }).find("node n1 is there twice"), 0U);
  EXPECT_EQ(refusal([](NodeReport& node) { node.unseen = {"/data"}; }).find("node n2 does not see /data"),
            0U);
  EXPECT_EQ(
      refusal([](NodeReport& node) { node.time += 3600; }).find("node n2 has a clock that is 3600 s ahead"),
      0U);
  EXPECT_EQ(
      refusal([](NodeReport& node) { node.time -= 60; }).find("node n2 has a clock that is 60 s behind"), 0U);
  EXPECT_EQ(refusal([](NodeReport& node) { node.cores = 0; }).find("node n2 has no core"), 0U);
}

TEST(FleetCommands, WhatTheOtherShellReadsIsQuoted) {
  const std::vector<std::string> command =
      ssh_command("ssh -p  2222", "h1", "/a b/it's", {"PACELINE_PORTS=1-2"},
                  {"/bin/paceline", "agent", "--see", "$HOME"});
  ASSERT_EQ(command.size(), 5U);
  EXPECT_EQ(command[3], "h1");
  EXPECT_EQ(command[4],
            "cd '/a b/it'\\''s' && exec env 'PACELINE_PORTS=1-2' '/bin/paceline' 'agent' '--see' '$HOME'");
}

TEST(FleetCommands, MpirunHandsSettingsOnByName) {
  EXPECT_EQ(mpirun_command({{"a", 4}, {"b", 0}}, {"PACELINE_PORTS=1-2"}, {"/bin/paceline", "agent"}),
            (std::vector<std::string>{"mpirun", "--map-by", "ppr:1:node", "--bind-to", "none", "--stdin",
                                      "all", "--tag-output", "--host", "a:1,b:1", "-x", "PACELINE_PORTS",
                                      "/bin/paceline", "agent"}));
}

TEST(FleetLabels, AreThoseOfTheStarter) {
  const auto expect = [](const char* starter, const char* line, const char* label, const char* text) {
    const Labelled labelled = without_label(starter, line);
    EXPECT_EQ(labelled.label, label) << line;
    EXPECT_EQ(labelled.text, text) << line;
  };
  expect("srun", "3: {\"a\": 1}", "00000003", "{\"a\": 1}");
  expect("srun", " 12: text", "00000012", "text");
  expect("srun", "3:", "00000003", "");
  expect("srun", "srun: error: no", "", "srun: error: no");
  expect("srun", ": 3", "", ": 3");
  expect("mpirun", "[1,3]<stdout>:{\"a\": [1,2]}", "00000003", "{\"a\": [1,2]}");
  expect("mpirun", "[prterun-h1-7@1,12]<stderr>: text", "00000012", "text");
  expect("mpirun", "[1,x]<stdout>:text", "", "[1,x]<stdout>:text");
  expect("mpirun", "[1,3]<stdout", "", "[1,3]<stdout");
  expect("mpirun", "1,3]<stdout>:a", "", "1,3]<stdout>:a");
  expect("mpirun", "[1,3]<stdout>:", "00000003", "");
  expect("ssh", "3: text", "", "3: text");
  for (const char* starter : {"srun", "mpirun"})
    for (const char* line : {"", ":", "[", "]<std", "[,]<std:", "   "}) expect(starter, line, "", line);
}

TEST(SlurmGrowthRate, AsksForWhatIsMissingForAWhileAndNotTooOften) {
  using std::chrono::seconds;
  GrowthRate rate({.lasts = seconds(10), .between = seconds(60), .most_between = seconds(150)});
  const Instant begin{};
  EXPECT_FALSE(rate.is_due(0, begin));
  EXPECT_FALSE(rate.is_due(2, begin + seconds(1)));
  EXPECT_FALSE(rate.is_due(2, begin + seconds(10)));
  EXPECT_FALSE(rate.is_due(-1, begin + seconds(11)));  // it was there again
  EXPECT_FALSE(rate.is_due(1, begin + seconds(12)));
  EXPECT_TRUE(rate.is_due(1, begin + seconds(22)));
  rate.asked(begin + seconds(22));
  EXPECT_FALSE(rate.is_due(1, begin + seconds(81)));
  EXPECT_TRUE(rate.is_due(1, begin + seconds(82)));
  rate.came_to(false);
  EXPECT_FALSE(rate.is_due(1, begin + seconds(141)));
  EXPECT_TRUE(rate.is_due(1, begin + seconds(142)));
  for (int i = 0; i < 5; ++i) rate.came_to(false);
  EXPECT_FALSE(rate.is_due(1, begin + seconds(171)));
  EXPECT_TRUE(rate.is_due(1, begin + seconds(172)));  // no longer than the most
  rate.came_to(true);
  EXPECT_TRUE(rate.is_due(1, begin + seconds(82)));
}

TEST(SlurmGrowthRate, TheCommandHasPeoplesOptionsAfterOurs) {
  EXPECT_EQ(
      grow_command(
          {"/s/grow.sbatch", "/bin/paceline", "ib0", "--time=1:00:00  -p gpu", 3, "/runs/a b", "grow-1"}),
      (std::vector<std::string>{
          "sbatch", "--parsable", "--export=ALL,PACELINE=/bin/paceline,PACELINE_INTERFACE=ib0", "--nodes=3",
          "--time=1:00:00", "-p", "gpu", "--job-name=grow-1", "/s/grow.sbatch", "/runs/a b"}));
}

TEST(SlurmNodes, ThoseThatAreDrainedAreKnownByTheirState) {
  EXPECT_EQ(draining_node("n1 draining"), "n1");
  EXPECT_EQ(draining_node("n1 drained*"), "n1");
  EXPECT_EQ(draining_node("n1 drng@"), "n1");
  for (const char* line :
       {"", "n1", "n1 allocated", "n1 idle", "n1 down*", " draining", "sinfo: error: draining"})
    EXPECT_FALSE(draining_node(line)) << line;
}

// ---- connections -------------------------------------------------------------------------------------

struct Heard {
  std::vector<std::string> said, complained;
  void read(Connection& connection) {
    connection.read([this](const std::string& line) { said.push_back(line); },
                    [this](const std::string& line) { complained.push_back(line); });
  }
  void read_to_end(Connection& connection) {
    const SteadyClock clock;
    const Deadline deadline(clock, std::chrono::seconds(30));
    while ((connection.output_fd() >= 0 || connection.error_fd() >= 0) && !deadline.passed())
      read(connection);
    while (!connection.ended() && !deadline.passed()) continue;
  }
};

TEST(Connections, LinesComeAndGo) {
  auto connection =
      Connection::start("shell", {"sh", "-c", "read line; echo \"got $line\"; echo oh >&2; exit 3"});
  ASSERT_TRUE(connection.ok());
  ASSERT_TRUE(connection->write_line("a b").ok());
  Heard heard;
  heard.read_to_end(*connection);
  EXPECT_EQ(heard.said, std::vector<std::string>{"got a b"});
  EXPECT_EQ(heard.complained, std::vector<std::string>{"oh"});
  EXPECT_EQ(connection->last_words(), std::deque<std::string>{"oh"});
  ASSERT_TRUE(connection->ended());
  EXPECT_EQ(WEXITSTATUS(*connection->ended()), 3);
}

TEST(Connections, WhatDoesNotExistIsNamed) {
  const auto connection = Connection::start("srun", {"no-such-program"});
  ASSERT_FALSE(connection.ok());
  EXPECT_EQ(connection.error().code, ErrorCode::not_found);
  EXPECT_EQ(connection.error().message, "there is no no-such-program on the path");
}

TEST(Connections, OneThatDoesNotEndIsKilledWithItsChildren) {
  pid_t child = -1;
  {
    auto connection =
        Connection::start("shell", {"sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; wait"});
    ASSERT_TRUE(connection.ok());
    Heard heard;
    while (heard.said.empty()) heard.read(*connection);
    child = static_cast<pid_t>(std::stol(heard.said[0]));
    EXPECT_EQ(::kill(child, 0), 0);
  }
  const SteadyClock clock;
  const Deadline deadline(clock, std::chrono::seconds(30));
  while (::kill(child, 0) == 0 && !deadline.passed())
    continue;  // until whoever inherits it has waited for it
  EXPECT_NE(::kill(child, 0), 0);
}

}  // namespace
}  // namespace paceline
