// The control plane: what sessions make of messages that come twice or not at all, who gets in, and real
// servers and clients on this machine.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/client.hpp"
#include "paceline/control/credentials.hpp"
#include "paceline/control/server.hpp"
#include "paceline/control/session.hpp"
#include "paceline/control/version.hpp"
#include "support/temporary_folder.hpp"

namespace paceline::control {
namespace {

// Nothing takes so long.
constexpr Duration limit = std::chrono::seconds(30);

// ---- sessions ---------------------------------------------------------------------------------------

using AgentSession = Session<FromAgent, ToAgent>;
using CoordinatorSession = Session<ToAgent, FromAgent>;
using Verdict = CoordinatorSession::Verdict;

FromAgent pid_message(std::int64_t pid) {
  FromAgent message;
  message.mutable_started()->set_pid(pid);
  return message;
}

TEST(Session, NumbersWhatItSaysAndKeepsItUntilItIsReceived) {
  AgentSession agent(7);
  for (std::int64_t pid = 1; pid <= 3; ++pid) {
    const FromAgent sent = agent.keep(pid_message(pid));
    EXPECT_EQ(sent.number(), static_cast<std::uint64_t>(pid));
    EXPECT_EQ(sent.term(), 7);
    EXPECT_EQ(sent.received(), 0U);
  }
  ASSERT_EQ(agent.kept().size(), 3U);
  ToAgent acknowledgement;
  acknowledgement.set_received(2);
  EXPECT_EQ(agent.hear(acknowledgement), AgentSession::Verdict::news);
  ASSERT_EQ(agent.kept().size(), 1U);
  EXPECT_EQ(agent.kept().front().started().pid(), 3);
  acknowledgement.set_received(99);  // more than was said
  EXPECT_EQ(agent.hear(acknowledgement), AgentSession::Verdict::news);
  EXPECT_TRUE(agent.kept().empty());
  EXPECT_EQ(agent.keep(pid_message(4)).number(), 4U);
}

TEST(Session, WhatMayBeLostHasNoNumberAndIsNotKept) {
  AgentSession agent(1);
  EXPECT_EQ(agent.seal(pid_message(1)).number(), 0U);
  EXPECT_TRUE(agent.kept().empty());
  CoordinatorSession coordinator(1);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(coordinator.hear(agent.seal(pid_message(1))), Verdict::news);
}

TEST(Session, KnowsWhatItHasHeardAndNoticesWhatIsMissing) {
  AgentSession agent(1);
  CoordinatorSession coordinator(1);
  const FromAgent first = agent.keep(pid_message(1)), second = agent.keep(pid_message(2)),
                  third = agent.keep(pid_message(3));
  EXPECT_EQ(coordinator.hear(second), Verdict::gap);
  EXPECT_EQ(coordinator.hear(first), Verdict::news);
  EXPECT_EQ(coordinator.hear(first), Verdict::known);
  EXPECT_EQ(coordinator.hear(third), Verdict::gap);
  EXPECT_EQ(coordinator.hear(second), Verdict::news);
  EXPECT_EQ(coordinator.hear(third), Verdict::news);
  EXPECT_EQ(coordinator.hear(first), Verdict::known);
  EXPECT_EQ(coordinator.seal(ToAgent()).received(), 3U);
}

TEST(Session, WhatIsSaidAgainOnANewStreamIsHeardOnce) {
  AgentSession agent(1);
  CoordinatorSession coordinator(1);
  std::vector<std::int64_t> heard;
  const auto deliver = [&](const FromAgent& message) {
    if (coordinator.hear(message) == Verdict::news) heard.push_back(message.started().pid());
  };
  std::vector<std::int64_t> said;
  for (std::int64_t pid = 1; pid <= 10; ++pid) {
    said.push_back(pid);
    const FromAgent message = agent.keep(pid_message(pid));
    if (pid <= 6) deliver(message);  // then the stream breaks, with what was on it
    if (pid == 4) std::ignore = agent.hear(coordinator.seal(ToAgent()));
  }
  EXPECT_EQ(agent.kept().size(), 6U);
  for (const FromAgent& kept : agent.kept()) deliver(agent.seal(kept));
  EXPECT_EQ(heard, said);
  std::ignore = agent.hear(coordinator.seal(ToAgent()));
  EXPECT_TRUE(agent.kept().empty());
}

TEST(Session, WhatIsSaidAgainTellsWhatWasHeardSince) {
  AgentSession agent(1);
  std::ignore = agent.keep(pid_message(1));
  ToAgent order;
  order.set_number(1);
  EXPECT_EQ(agent.hear(order), AgentSession::Verdict::news);
  const FromAgent again = agent.seal(agent.kept().front());
  EXPECT_EQ(again.number(), 1U);
  EXPECT_EQ(again.received(), 1U);
}

// ---- terms ------------------------------------------------------------------------------------------

CoordinatorAddress address_of_term(std::int64_t term) {
  return {.term = term, .pid = 4711, .node = "n", .host = "127.0.0.1", .port = 9};
}

TEST(Terms, TheFirstHasIt) {
  const TemporaryFolder run;
  EXPECT_EQ(newest_coordinator(run.path()).value(), std::nullopt);
  EXPECT_TRUE(take_term(run.path(), address_of_term(1)).ok());
  CoordinatorAddress other = address_of_term(1);
  other.pid = 4712;
  const Status late = take_term(run.path(), other);
  ASSERT_FALSE(late.ok());
  EXPECT_EQ(late.error().code, ErrorCode::already_exists);
  EXPECT_EQ(newest_coordinator(run.path()).value(), address_of_term(1));
  EXPECT_TRUE(take_term(run.path(), address_of_term(12)).ok());
  EXPECT_TRUE(take_term(run.path(), address_of_term(9)).ok());
  EXPECT_EQ(newest_coordinator(run.path()).value(), address_of_term(12));
}

TEST(Terms, OfManyAtOnceOneHasIt) {
  const TemporaryFolder run;
  constexpr int many = 8;
  for (std::int64_t term = 1; term <= 10; ++term) {
    std::vector<int> has(many);
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < many; ++i)
        threads.emplace_back([&has, &run, term, i] {
          CoordinatorAddress address = address_of_term(term);
          address.pid = 100 + i;
          has[static_cast<std::size_t>(i)] = take_term(run.path(), address).ok() ? 1 : 0;
        });
    }
    EXPECT_EQ(std::ranges::count(has, 1), 1);
    const auto winner = std::ranges::find(has, 1) - has.begin();
    EXPECT_EQ(newest_coordinator(run.path()).value()->pid, 100 + winner);
  }
}

TEST(Terms, ARunDirectoryThatIsGone) {
  const TemporaryFolder folder;
  EXPECT_EQ(newest_coordinator(folder / "none").value(), std::nullopt);
  EXPECT_FALSE(take_term(folder / "none", address_of_term(1)).ok());
}

TEST(Terms, DamagedFilesAreErrorsAndOthersAreNone) {
  const TemporaryFolder run;
  ASSERT_TRUE(take_term(run.path(), address_of_term(3)).ok());
  for (const char* name :
       {"x.json", "0.json", "-4.json", "4.jsonx", ".5.json.partial-1-2", "99999999999999999999.json", "7"})
    std::ofstream(concat(run / "coordinators/", name)) << "nonsense";
  EXPECT_EQ(newest_coordinator(run.path()).value(), address_of_term(3));
  const std::string good = read_file(run / "coordinators/3.json").value();
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("\xff\xfe"),
        good.substr(0, good.size() / 2), std::string(R"({"term": 4, "pid": 1, "node": "n", "host": "h"})"),
        std::string(R"({"term": 4, "pid": 1, "node": 1, "host": "h", "port": 1})"),
        std::string(R"({"term": 4, "pid": 1, "node": "n", "host": "h", "port": -1})"),
        std::string(R"({"term": 4, "pid": 1, "node": "n", "host": "h", "port": 65537})"),
        std::string(R"({"term": 4, "pid": 1, "node": "n", "host": "h", "port": 1.5})"),
        std::string(R"({"term": 5, "pid": 1, "node": "n", "host": "h", "port": 1})")}) {
    std::ofstream(run / "coordinators/4.json", std::ios::trunc) << text;
    const auto newest = newest_coordinator(run.path());
    ASSERT_FALSE(newest.ok()) << text;
    EXPECT_EQ(newest.error().code, ErrorCode::corrupt) << text;
    EXPECT_NE(newest.error().message.find("coordinators/4.json"), std::string::npos)
        << newest.error().message;
  }
}

// ---- credentials ------------------------------------------------------------------------------------

unsigned mode_of(const std::string& path) {
  struct stat found {};
  EXPECT_EQ(::stat(path.c_str(), &found), 0) << path;
  return found.st_mode & 0777U;
}

TEST(CredentialFiles, AreForTheirOwnerAndReadAsWritten) {
  const TemporaryFolder run;
  const Result<Credentials> made = make_credentials(run.path(), "a secret");
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(mode_of(run / "credentials"), 0700U);
  for (const char* name : {"secret", "key.pem", "certificate.pem"})
    EXPECT_EQ(mode_of(concat(run / "credentials/", name)), 0600U) << name;
  const Result<Credentials> read = read_credentials(run.path());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->secret, "a secret");
  EXPECT_EQ(read->key, made->key);
  EXPECT_EQ(read->certificate, made->certificate);
  // A run that goes on has new ones.
  const Result<Credentials> again = make_credentials(run.path(), "another");
  EXPECT_NE(again.value().key, made->key);
  EXPECT_EQ(read_credentials(run.path()).value().secret, "another");
}

TEST(CredentialFiles, ThatAreMissingAreNamed) {
  const TemporaryFolder run;
  ASSERT_TRUE(make_credentials(run.path(), "s").ok());
  std::filesystem::remove(run / "credentials/key.pem");
  const Result<Credentials> read = read_credentials(run.path());
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, ErrorCode::not_found);
  EXPECT_NE(read.error().message.find("credentials/key.pem"), std::string::npos);
  EXPECT_FALSE(make_credentials(run / "none", "s").ok());
}

// ---- servers and clients ----------------------------------------------------------------------------

Credentials new_credentials() {
  const TemporaryFolder run;
  return make_credentials(run.path(), "s").value();
}

void wait_readable(int fd) {
  pollfd entry{fd, POLLIN, 0};
  ::poll(&entry, 1, 50);
}

class Pair : public testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Server>> server = Server::start({.host = "127.0.0.1"}, credentials_);
    ASSERT_TRUE(server.ok());
    server_ = std::move(*server);
    address_ = {.term = 5, .pid = 1, .node = "n", .host = "127.0.0.1", .port = server_->port()};
  }
  std::unique_ptr<Client> connect() { return Client::open(address_, credentials_).value(); }

  /// Takes events until `done`.
  void serve(const std::function<bool()>& done) {
    const Deadline deadline(clock_, limit);
    while (!done() && !deadline.passed()) {
      wait_readable(server_->fd());
      for (ServerEvent& event : server_->take()) {
        if (auto* one = std::get_if<Heard>(&event)) heard_.push_back(std::move(*one));
        if (const auto* one = std::get_if<Closed>(&event)) closed_.push_back(one->stream);
        if (auto* one = std::get_if<Asked>(&event)) asked_.push_back(std::move(*one));
      }
    }
    EXPECT_TRUE(done());
  }
  std::vector<ToAgent> take(Client& client, std::size_t count) {
    const Deadline deadline(clock_, limit);
    std::vector<ToAgent> taken;
    while (taken.size() < count && !deadline.passed()) {
      wait_readable(client.fd());
      for (ToAgent& message : client.take()) taken.push_back(std::move(message));
    }
    EXPECT_EQ(taken.size(), count);
    return taken;
  }
  std::optional<Error> await_loss(Client& client) {
    const Deadline deadline(clock_, limit);
    while (!client.lost() && !deadline.passed()) {
      wait_readable(client.fd());
      std::ignore = client.take();
    }
    return client.lost();
  }

  SteadyClock clock_;
  Credentials credentials_ = new_credentials();
  std::unique_ptr<Server> server_;
  CoordinatorAddress address_;
  std::vector<Heard> heard_;
  std::vector<StreamId> closed_;
  std::vector<Asked> asked_;
};
using ServerAndClient = Pair;

TEST_F(ServerAndClient, ManyMessagesArriveInOrderInBothDirections) {
  constexpr std::int64_t many = 2000;
  const auto client = connect();
  for (std::int64_t i = 0; i < many; ++i) client->send(pid_message(i));
  serve([this] { return std::ssize(heard_) == many; });
  for (std::int64_t i = 0; i < many; ++i) {
    ASSERT_EQ(heard_[static_cast<std::size_t>(i)].message.started().pid(), i);
    ASSERT_EQ(heard_[static_cast<std::size_t>(i)].stream, heard_[0].stream);
  }
  for (std::int64_t i = 0; i < many; ++i) {
    ToAgent message;
    message.mutable_acknowledge()->set_step(i);
    server_->send(heard_[0].stream, message);
  }
  const std::vector<ToAgent> taken = take(*client, many);
  for (std::int64_t i = 0; i < std::ssize(taken); ++i)
    ASSERT_EQ(taken[static_cast<std::size_t>(i)].acknowledge().step(), i);
  EXPECT_EQ(client->lost(), std::nullopt);
}

TEST_F(ServerAndClient, ALargeMessageArrives) {
  const auto client = connect();
  FromAgent message;
  message.mutable_said()->set_message(std::string(20 << 20, 'x'));
  client->send(message);
  serve([this] { return heard_.size() == 1; });
  EXPECT_EQ(heard_.at(0).message.said().message().size(), std::size_t{20} << 20);
}

TEST_F(ServerAndClient, StreamsAreToldApart) {
  std::vector<std::unique_ptr<Client>> clients;
  for (std::int64_t i = 0; i < 5; ++i) {
    clients.push_back(connect());
    clients.back()->send(pid_message(i));
  }
  serve([this] { return heard_.size() == 5; });
  for (const Heard& one : heard_) {
    ToAgent answer;
    answer.mutable_acknowledge()->set_step(one.message.started().pid());
    server_->send(one.stream, answer);
  }
  for (std::size_t i = 0; i < 5; ++i) {
    const std::vector<ToAgent> taken = take(*clients[i], 1);
    ASSERT_EQ(taken.size(), 1U);
    EXPECT_EQ(taken[0].acknowledge().step(), static_cast<std::int64_t>(i));
  }
}

TEST_F(ServerAndClient, TheServerNoticesThatAClientIsGone) {
  auto client = connect();
  client->send(pid_message(1));
  serve([this] { return heard_.size() == 1; });
  client.reset();
  serve([this] { return !closed_.empty(); });
  EXPECT_EQ(closed_.at(0), heard_.at(0).stream);
  server_->send(heard_[0].stream, ToAgent());  // nothing happens
  server_->close(heard_[0].stream);
}

TEST_F(ServerAndClient, TheClientNoticesThatTheServerIsGone) {
  const auto client = connect();
  client->send(pid_message(1));
  serve([this] { return heard_.size() == 1; });
  server_.reset();
  const std::optional<Error> lost = await_loss(*client);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->code, ErrorCode::peer_lost);
  EXPECT_NE(lost->message.find(concat("127.0.0.1:", address_.port, " (term 5, pid 1 on n)")),
            std::string::npos)
      << lost->message;
  client->send(pid_message(2));  // nothing happens
}

TEST_F(ServerAndClient, WhatWasSentBeforeAStreamIsClosedStillArrives) {
  const auto client = connect();
  client->send(pid_message(1));
  serve([this] { return heard_.size() == 1; });
  constexpr std::size_t many = 500;
  for (std::size_t i = 0; i < many; ++i) server_->send(heard_[0].stream, ToAgent());
  server_->close(heard_[0].stream);
  server_->send(heard_[0].stream, ToAgent());  // too late
  EXPECT_EQ(take(*client, many).size(), many);
  const std::optional<Error> lost = await_loss(*client);
  ASSERT_TRUE(lost);
  EXPECT_NE(lost->message.find("closed the stream"), std::string::npos) << lost->message;
  serve([this] { return closed_.size() == 1; });
}

TEST_F(ServerAndClient, QuestionsAreAnsweredInAnyOrder) {
  std::vector<Answer> answers(3);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < answers.size(); ++i)
      threads.emplace_back([this, &answers, i] {
        Request request;
        request.mutable_resize()->set_ranks(static_cast<std::int64_t>(i));
        Result<Answer> answer = ask(address_, credentials_, request);
        if (answer.ok()) answers[i] = *answer;
      });
    serve([this] { return asked_.size() == 3; });
    std::ranges::sort(asked_, {}, [](const Asked& one) { return -one.request.resize().ranks(); });
    for (const Asked& one : asked_) {
      EXPECT_EQ(one.request.version(), version);
      Answer answer;
      answer.set_text(concat("answer ", one.request.resize().ranks()));
      server_->answer(one.question, answer);
      server_->answer(one.question, answer);  // once more is nothing
    }
  }
  for (std::size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].text(), concat("answer ", i));
}

TEST_F(ServerAndClient, AQuestionThatNobodyAnswersEnds) {
  const Result<Answer> none = ask(address_, credentials_, Request(), std::chrono::milliseconds(200));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::timeout);
  EXPECT_NE(none.error().message.find("does not answer"), std::string::npos);
  serve([this] { return asked_.size() == 1; });
  server_->answer(asked_[0].question, Answer());  // nobody listens any more
}

TEST_F(ServerAndClient, AQuestionEndsWithItsServer) {
  Result<Answer> answer = Answer();
  {
    std::jthread asker([&] { answer = ask(address_, credentials_, Request(), limit); });
    serve([this] { return asked_.size() == 1; });
    server_.reset();
  }
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, ErrorCode::peer_lost);
}

TEST_F(ServerAndClient, WhereNobodyListensAllIsLostWithASentence) {
  server_.reset();
  const Result<Answer> none = ask(address_, credentials_, Request());
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::peer_lost);
  EXPECT_NE(none.error().message.find("is not there"), std::string::npos);
  const auto client = connect();
  const std::optional<Error> lost = await_loss(*client);
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->code, ErrorCode::peer_lost);
  EXPECT_NE(lost->message.find("is not there"), std::string::npos) << lost->message;
}

TEST_F(ServerAndClient, AClientThatIsGivenUpWhileItConnectsWaitsForNobody) {
  for (int i = 0; i < 50; ++i) std::ignore = connect();
  server_.reset();
  for (int i = 0; i < 50; ++i) std::ignore = connect();
}

TEST_F(ServerAndClient, OnlyWhoHasTheCredentialsGetsIn) {
  const Credentials other = new_credentials();
  Credentials foreign_key = credentials_;
  foreign_key.key = other.key;
  Credentials nonsense = credentials_;
  nonsense.key = "nonsense";
  Credentials trusting = other;  // of whom only the server could complain
  trusting.certificate = credentials_.certificate + other.certificate;
  for (const Credentials& wrong : {other, foreign_key, nonsense, trusting, Credentials()}) {
    const Result<Answer> answer = ask(address_, wrong, Request(), std::chrono::seconds(5));
    ASSERT_FALSE(answer.ok());
    Result<std::unique_ptr<Client>> client = Client::open(address_, wrong);
    if (!client.ok()) continue;
    (*client)->send(pid_message(1));
    EXPECT_TRUE(await_loss(**client));
  }
  // What came before is there: nothing of them. What comes now is.
  const auto client = connect();
  client->send(pid_message(2));
  serve([this] { return !heard_.empty(); });
  EXPECT_EQ(heard_.at(0).message.started().pid(), 2);
  EXPECT_TRUE(asked_.empty());
}

TEST_F(ServerAndClient, PortsAreTakenInTurnAndThenThereAreNone) {
  // The first server of this range has the first port that is free in it, so that the range begins there.
  const std::uint16_t taken = server_->port();
  const Result<std::unique_ptr<Server>> none = Server::start({"127.0.0.1", taken, taken}, credentials_);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, ErrorCode::already_exists);
  EXPECT_NE(none.error().message.find(concat("from ", taken, " to ", taken)), std::string::npos);
  const auto last = static_cast<std::uint16_t>(taken > 65000 ? taken : taken + 100);
  if (last == taken) GTEST_SKIP() << "port " << taken << " has no ports after it";
  const Result<std::unique_ptr<Server>> next = Server::start({"127.0.0.1", taken, last}, credentials_);
  ASSERT_TRUE(next.ok());
  EXPECT_GT((*next)->port(), taken);
}

}  // namespace
}  // namespace paceline::control
