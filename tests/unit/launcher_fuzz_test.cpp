// What a coordinator and its agents read: messages of the control plane and files of the run directory,
// damaged in all kinds of ways. All that may happen is an error, or a value that is what it must be.
#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include "elastic/heartbeat.hpp"
#include "elastic/launch_facts.hpp"
#include "elastic/roster.hpp"
#include "generation_file.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/control/address.hpp"
#include "paceline/job/protocol.hpp"
#include "support/mutations.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

const std::string json_alphabet = R"({}[]",:0123456789-.eE\truefalsn )";

void expect_corrupt(const Error& error) {
  EXPECT_EQ(error.code, ErrorCode::corrupt);
  EXPECT_NE(error.message.find("the file"), std::string::npos) << error.message;
}

TEST(Fuzz, RecordsOfGenerations) {
  GenerationRecord small;
  small.generation = small.term = 1;
  small.members = {{0, "n", "127.0.0.1", 4711}};
  GenerationRecord large;
  large.generation = 12;
  large.term = 3;
  large.base_step = 4711;
  large.planned = true;
  large.members = {{3, "a", "10.0.0.1", 1}, {5, "b", "::1", 65535}, {6, "\xc3\xbc", "10.0.0.2", 2}};
  large.donors = {0, 2};
  large.reason = "larger by 1";
  const Tally outcome =
      feed({generation_json(small), generation_json(large)}, json_alphabet, 1, [](const std::string& text) {
        const Result<GenerationRecord> record = parse_generation(text, "the file");
        if (!record.ok()) return expect_corrupt(record.error()), false;
        EXPECT_FALSE(record->members.empty());
        for (const std::int64_t donor : record->donors) {
          EXPECT_GE(donor, 0);
          EXPECT_LT(donor, std::ssize(record->members));
        }
        const std::string again = generation_json(*record);
        const auto reread = parse_generation(again, "the file");
        EXPECT_TRUE(reread.ok() && generation_json(*reread) == again) << text;
        return true;
      });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

TEST(Fuzz, FactsOfLaunches) {
  const TemporaryFolder run;
  LaunchFacts facts;
  facts.agents = 2;
  facts.ranks = 3;
  facts.max_ranks = 8;
  facts.host = "127.0.0.1";
  facts.ports = {4700, 4800};
  facts.closed = {"a", "b"};
  facts.position = {.term = 2, .base_step = 12, .checkpoint = "/c", .last_generation = 3, .last_worker = 4};
  ASSERT_TRUE(write_launch_facts(run.path(), facts).ok());
  EXPECT_EQ(read_launch_facts(run.path()).value(), facts);
  const Tally outcome =
      feed({read_file(run / "launch.json").value()}, json_alphabet, 2, [](const std::string& text) {
        const Result<LaunchFacts> read = parse_launch_facts(text, "the file");
        if (!read.ok()) return expect_corrupt(read.error()), false;
        EXPECT_GE(read->min_ranks, 1);
        EXPECT_LE(read->min_ranks, read->ranks);
        EXPECT_LE(read->ranks, read->max_ranks);
        return true;
      });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

TEST(Fuzz, AddressesOfCoordinators) {
  const TemporaryFolder run;
  ASSERT_TRUE(control::take_term(run.path(), {7, 4711, "n", "127.0.0.1", 65535}).ok());
  const Tally outcome =
      feed({read_file(run / "coordinators/7.json").value()}, json_alphabet, 3, [](const std::string& text) {
        const auto read = control::parse_coordinator(text, "the file");
        if (!read.ok()) return expect_corrupt(read.error()), false;
        EXPECT_GE(read->term, 1);
        EXPECT_GE(read->pid, 0);
        return true;
      });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

/// What a coordinator does with an agent's words before it decides anything.
class Listener {
 public:
  bool hear(const std::string& bytes) {
    control::FromAgent message;
    if (!message.ParseFromString(bytes)) return false;
    if (message.has_register_()) {
      const control::Register& self = message.register_();
      roster_.add(self, 1, Instant{});
      for (const control::WorkerReport& report : self.workers()) {
        roster_.place(report.worker(), {self.agent(), report.slot()});
        if (report.dismissed()) roster_.is_going(report.worker());
        for (const control::WorkerSaid& said : report.said()) hear(said);
      }
    }
    if (Roster::Agent* const agent = roster_.head()) std::ignore = agent->session.hear(message);
    for (const control::WorkerSaid& said : message.heartbeat().workers()) hear(said);
    hear(message.said());
    if (message.has_gone()) roster_.forget(message.gone().worker());
    EXPECT_GE(roster_.room(), 0);
    std::ignore = roster_.choose();
    std::ignore = roster_.node_names();
    return true;
  }

 private:
  void hear(const control::WorkerSaid& said) {
    std::ignore = roster_.node_of(said.worker());
    const Result<WorkerMessage> message = decode(said.message());
    const auto* heartbeat = message.ok() ? std::get_if<HeartbeatMessage>(&*message) : nullptr;
    if (heartbeat == nullptr) return;
    EXPECT_GE(heartbeat_of(said.worker(), *heartbeat).in_phase_for, Duration::zero());
  }

  Roster roster_;
};

control::WorkerSaid said(std::int64_t worker, const WorkerMessage& message) {
  control::WorkerSaid words;
  words.set_worker(worker);
  words.set_message(encode(message));
  return words;
}

std::vector<std::string> words_of_agents() {
  control::FromAgent introduction;
  introduction.set_term(1);
  control::Register& self = *introduction.mutable_register_();
  self.set_agent("agent 0");
  self.set_host("127.0.0.1");
  self.set_port(4711);
  self.add_slots("n");
  control::WorkerReport& report = *self.add_workers();
  report.set_worker(3);
  *report.add_said() = said(3, LeftMessage{7, 41, true, false, "peer lost", "rank 1 is gone", 1});
  control::FromAgent steps;
  steps.set_term(1);
  steps.set_number(1);
  *steps.mutable_said() = said(3, StepsMessage{{{.step = 1, .epoch = 1, .count = 8, .consumed = "0x00"}}});
  control::FromAgent heartbeat;
  heartbeat.set_term(1);
  *heartbeat.mutable_heartbeat()->add_workers() = said(3, HeartbeatMessage{});
  control::FromAgent gone;
  gone.set_number(2);
  gone.mutable_gone()->set_worker(3);
  gone.mutable_gone()->set_how("was killed");
  gone.mutable_gone()->add_last_words("\xff\xfe no text");
  return {introduction.SerializeAsString(), steps.SerializeAsString(), heartbeat.SerializeAsString(),
          gone.SerializeAsString()};
}

TEST(Fuzz, MessagesOfAgents) {
  google::protobuf::SetLogHandler(nullptr);  // as the product does
  const std::vector<std::string> examples = words_of_agents();
  Listener listener;
  for (const std::string& example : examples) EXPECT_TRUE(listener.hear(example));
  const std::string alphabet("\x00\x01\x02\x08\x0a\x10\x12\x1a\x52\x7f\x80\xff{}\"1", 16);
  const Tally outcome =
      feed(examples, alphabet, 4, [&listener](const std::string& bytes) { return listener.hear(bytes); });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

}  // namespace
}  // namespace paceline
