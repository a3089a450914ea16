#include "paceline/job/protocol.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>
#include <string>
#include <thread>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

Job small_job() {
  return parse_job(
             "name: tiny\ndata: {train: data/train}\nmodel: {kind: mlp, width: 64}\nbatch: {global: "
             "256}\nepochs: 5\n",
             "job.yaml", {})
      .value();
}

StartMessage start_message() {
  StartMessage start;
  start.job = small_job();
  start.run_dir = "/runs/tiny/1";
  start.worker = 12;
  start.secret = "00ff";
  start.consumed_key = "0x0123456789abcdef";
  start.has_listener = true;
  start.threads = 3;
  start.export_format = "pickle";
  start.export_path = "/out/weights.pkl";
  return start;
}

FormMessage form_message(std::size_t ranks) {
  FormMessage form;
  form.generation = 7;
  form.rank = static_cast<std::int64_t>(ranks) - 1;
  for (std::size_t i = 0; i < ranks; ++i)
    form.members.push_back({concat("node-", i), concat("10.77.", i / 250, ".", i % 250 + 1),
                            static_cast<std::uint16_t>(i == 0 ? 65535 : 0)});
  form.base_step = 41;
  form.donors = 2;
  form.background = true;
  form.term = 3;
  form.checkpoint = "/runs/tiny/1/checkpoints/step-000000041.term-2";
  return form;
}

StepFigures step_figures() {
  StepFigures figures{.step = 12, .epoch = 2, .first = 512, .count = 256, .consumed = "0x00000000000000ff"};
  figures.time = 1795353578.25;
  figures.loss = 0.6125;
  figures.accuracy = 0.75;
  figures.learning_rate = 0.05;
  figures.gradient_norm = 1.5;
  figures.loss_scale = 4096;
  figures.samples_per_second = 8214.5;
  return figures;
}

FinishedMessage finished_message() {
  FinishedMessage finished;
  finished.status = "stopped";
  finished.steps = 1175;
  finished.epochs = 5;
  finished.samples = 300'000;
  finished.seconds = 69.25;
  finished.step_ms = {0.1, 0.2, 0.3};
  finished.allreduce_ms = {1, 2, 3};
  finished.exposed_allreduce_ms = {4, 5, 6};
  finished.data_wait_ms = {7, 8, 9};
  finished.train_loss = 0.1 + 0.2;
  finished.eval = EvalMessage{5, 10'000, 0.25, 0.9125, {}};
  finished.weights_sha256 = "abcd";
  finished.peak_memory_bytes = 17;
  finished.rebalances = 3;
  return finished;
}

CheckpointMessage checkpoint_message() {
  return {41,         7, 1, 3, 4096, 8192, "0123456789abcdef", {{"parameters", 12'000}, {"counters", 88}},
          "disk full"};
}

Telemetry telemetry() {
  Telemetry telemetry{.steps = 512, .grains = 16'384, .samples = 65'536};
  telemetry.data_s = 0.5, telemetry.forward_s = 4.25, telemetry.backward_s = 8.5;
  telemetry.reduce_s = 0.75, telemetry.commit_s = 0.25, telemetry.optimizer_s = 1.5;
  telemetry.cpu_s = 17.5, telemetry.read_bytes = 51'380'224;
  telemetry.wire_bytes = 1'048'576, telemetry.wire_busy_s = 0.125;
  telemetry.network_sent_bytes = 2'097'152, telemetry.network_received_bytes = 2'097'153;
  telemetry.node_energy_j = 812.5;
  telemetry.memory_bytes = 314'572'800;
  telemetry.slowest_wire_rank = 2, telemetry.slowest_wire_bytes_per_s = 117e6;
  telemetry.gradient_noise_scale = 412.5;
  telemetry.gpu_busy = 0.75, telemetry.gpu_memory_bytes = 8e9, telemetry.gpu_power_w = 310.5;
  telemetry.gpu_temperature_c = 61, telemetry.gpu_energy_j = 9000.5;
  return telemetry;
}

/// Every type of message, with values that no default has.
std::vector<WorkerMessage> all_messages() {
  return {ProgressMessage{12, 1175, 1, 5, 12, 235, 0.6125, 0.75, 8214.5, 69},
          start_message(),
          form_message(3),
          AbandonMessage{8},
          LeaveMessage{7},
          StopMessage{},
          DismissMessage{},
          AckMessage{512},
          HelloMessage{"0.1.0"},
          ReadyMessage{},
          HeartbeatMessage{513, "evaluate", 1.25, 32, 27.5, telemetry()},
          SharesMessage{2, 131, {41, 23}, 0.25, "rank 1 is the slowest"},
          EnteredMessage{7},
          UnpreparedMessage{8, "rank 2 is gone"},
          LeftMessage{7, 41, true, false, "peer lost", "rank 1 is gone", 1},
          StepsMessage{{step_figures(), step_figures()}},
          EvalMessage{1, 10'000, 0.44, 0.842, {}},
          checkpoint_message(),
          finished_message(),
          FailedMessage{"peer lost", "rank 1 is \"gone\"\n", 1}};
}

template <class Message>
Message sent_through(const Message& message) {
  const Result<WorkerMessage> read = decode(encode(message));
  EXPECT_TRUE(read.ok()) << read.error().message;
  return std::get<Message>(*read);
}

std::string error_of(const std::string& bytes) {
  const Result<WorkerMessage> read = decode(bytes);
  return read.ok() ? "no error" : read.error().message;
}

std::string replaced(std::string text, const std::string& old, const std::string& by) {
  const std::size_t at = text.find(old);
  EXPECT_NE(at, std::string::npos) << old << " in " << text;
  return text.replace(at, old.size(), by);
}

TEST(Protocol, EveryMessageIsReadAsItWasWritten) {
  const std::vector<WorkerMessage> messages = all_messages();
  std::set<std::size_t> types;
  for (const WorkerMessage& message : messages) {
    const Result<WorkerMessage> read = decode(encode(message));
    ASSERT_TRUE(read.ok()) << read.error().message;
    EXPECT_EQ(read->index(), message.index());
    EXPECT_EQ(encode(*read), encode(message));
    types.insert(message.index());
  }
  EXPECT_EQ(types.size(), std::variant_size_v<WorkerMessage>) << "a type of message is not tested";
}

TEST(Protocol, KeepsAllFieldsOfAStart) {
  const StartMessage sent = start_message();
  const StartMessage read = sent_through(sent);
  EXPECT_EQ(read.action, "train");
  EXPECT_EQ(job_to_json(read.job), job_to_json(sent.job));
  EXPECT_EQ(read.run_dir, "/runs/tiny/1");
  EXPECT_EQ(read.worker, 12);
  EXPECT_EQ(read.secret, "00ff");
  EXPECT_EQ(read.consumed_key, "0x0123456789abcdef");
  EXPECT_TRUE(read.has_listener);
  EXPECT_EQ(read.threads, 3);
  EXPECT_EQ(read.export_format, "pickle");
  EXPECT_EQ(read.export_path, "/out/weights.pkl");
}

TEST(Protocol, KeepsAllFieldsOfAForm) {
  const FormMessage read = sent_through(form_message(3));
  EXPECT_EQ(read.generation, 7);
  EXPECT_EQ(read.rank, 2);
  ASSERT_EQ(read.members.size(), 3U);
  EXPECT_EQ(read.members[0].port, 65535);
  EXPECT_EQ(read.members[2].node, "node-2");
  EXPECT_EQ(read.members[1].host, "10.77.0.2");
  EXPECT_EQ(read.base_step, 41);
  EXPECT_EQ(read.donors, 2);
  EXPECT_TRUE(read.background);
  EXPECT_EQ(read.term, 3);
  EXPECT_EQ(read.checkpoint, "/runs/tiny/1/checkpoints/step-000000041.term-2");
  FormMessage leaver = form_message(2);
  leaver.rank = -1;
  EXPECT_EQ(sent_through(leaver).rank, -1);
}

TEST(Protocol, KeepsAllFieldsOfStepsAndOfALeaver) {
  const StepsMessage steps = sent_through(StepsMessage{{step_figures(), step_figures()}});
  ASSERT_EQ(steps.steps.size(), 2U);
  EXPECT_EQ(steps.steps[1].consumed, "0x00000000000000ff");
  EXPECT_EQ(steps.steps[1].first, 512);
  EXPECT_EQ(steps.steps[1].time, 1795353578.25);
  EXPECT_EQ(steps.steps[1].accuracy, 0.75);
  EXPECT_FALSE(steps.steps[1].perplexity.has_value());
  const LeftMessage left = sent_through(LeftMessage{7, 41, true, false, "peer lost", "gone", 1});
  EXPECT_EQ(left.generation, 7);
  EXPECT_EQ(left.applied, 41);
  EXPECT_TRUE(left.reduced);
  EXPECT_FALSE(left.complete);
  EXPECT_EQ(left.lost_rank, 1);
}

TEST(Protocol, KeepsAllFieldsOfACheckpoint) {
  const CheckpointMessage read = sent_through(checkpoint_message());
  EXPECT_EQ(read.step, 41);
  EXPECT_EQ(read.generation, 7);
  EXPECT_EQ(read.rank, 1);
  EXPECT_EQ(read.ranks, 3);
  EXPECT_EQ(read.offset, 4096);
  EXPECT_EQ(read.bytes, 8192);
  EXPECT_EQ(read.checksums, "0123456789abcdef");
  EXPECT_EQ(read.layout, checkpoint_message().layout);
  EXPECT_EQ(read.error, "disk full");
}

TEST(Protocol, KeepsAllFieldsOfAFinish) {
  const FinishedMessage read = sent_through(finished_message());
  EXPECT_EQ(read.status, "stopped");
  EXPECT_EQ(read.steps, 1175);
  EXPECT_EQ(read.epochs, 5);
  EXPECT_EQ(read.samples, 300'000);
  EXPECT_EQ(read.seconds, 69.25);
  EXPECT_EQ(read.step_ms.p99, 0.3);
  EXPECT_EQ(read.allreduce_ms.p50, 1);
  EXPECT_EQ(read.exposed_allreduce_ms.p90, 5);
  EXPECT_EQ(read.data_wait_ms.p99, 9);
  EXPECT_EQ(read.train_loss, 0.1 + 0.2);
  ASSERT_TRUE(read.eval.has_value());
  EXPECT_EQ(read.eval->accuracy, 0.9125);
  EXPECT_EQ(read.weights_sha256, "abcd");
  EXPECT_EQ(read.peak_memory_bytes, 17);
  FinishedMessage none = finished_message();
  none.eval.reset();
  EXPECT_FALSE(sent_through(none).eval.has_value());
}

TEST(Protocol, TellsALossThatIsNoNumber) {
  ProgressMessage progress;
  progress.loss = std::numeric_limits<double>::quiet_NaN();
  progress.samples_per_second = std::numeric_limits<double>::infinity();
  progress.seconds_left = -std::numeric_limits<double>::infinity();
  const ProgressMessage read = sent_through(progress);
  EXPECT_TRUE(std::isnan(read.loss));
  EXPECT_EQ(read.samples_per_second, std::numeric_limits<double>::infinity());
  EXPECT_EQ(read.seconds_left, -std::numeric_limits<double>::infinity());
}

TEST(Protocol, AnEvaluationHasTheFigureOfItsTask) {
  const EvalMessage images = sent_through(EvalMessage{1, 10, 0.5, 0.25, {}});
  EXPECT_EQ(images.accuracy, 0.25);
  EXPECT_FALSE(images.perplexity.has_value());
  const EvalMessage text = sent_through(EvalMessage{1, 10, 0.5, {}, 1.625});
  EXPECT_FALSE(text.accuracy.has_value());
  EXPECT_EQ(text.perplexity, 1.625);
  const double infinite = std::numeric_limits<double>::infinity();
  EXPECT_EQ(sent_through(EvalMessage{1, 10, infinite, {}, infinite}).perplexity, infinite);
  const std::string eval = encode(EvalMessage{1, 10, 0.5, 0.25, {}});
  EXPECT_EQ(error_of(replaced(eval, ",\"perplexity\":null", "")),
            "worker message \"eval\": \"perplexity\" is missing");
  EXPECT_EQ(error_of(replaced(eval, "\"accuracy\":0.25", "\"accuracy\":[]")),
            "worker message \"eval\": \"accuracy\" is no number");
}

TEST(Protocol, MendsWordsThatAreNoText) {
  EXPECT_EQ(sent_through(FailedMessage{"io", "\xff!", -1}).message, "\xef\xbf\xbd!");
}

TEST(Protocol, RefusesAnotherVersion) {
  for (const WorkerMessage& message : {WorkerMessage(HelloMessage{"9"}), WorkerMessage(start_message())}) {
    const std::string other = replaced(encode(message), "\"protocol\":7", "\"protocol\":8,\"more\":0");
    const Result<WorkerMessage> read = decode(other);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().code, ErrorCode::mismatch);
    EXPECT_EQ(read.error().message,
              "the other side speaks worker protocol 8 and this one 7: use paceline and paceline-worker of "
              "the same "
              "build");
  }
}

TEST(Protocol, NamesTheFieldThatIsWrong) {
  const std::string progress = encode(all_messages()[0]);
  EXPECT_EQ(error_of(replaced(progress, "\"step\":12", "\"step\":-1")),
            "worker message \"progress\": \"step\" is no whole number from 0 to 9223372036854775807");
  EXPECT_EQ(error_of(replaced(progress, "\"step\":12", "\"step\":18446744073709551615")),
            "worker message \"progress\": \"step\" is no whole number from 0 to 9223372036854775807");
  EXPECT_EQ(error_of(replaced(progress, "\"step\":12,", "")),
            "worker message \"progress\": \"step\" is missing");
  EXPECT_EQ(error_of(replaced(progress, "\"step\":12", "\"step\":12,\"x\":1")),
            "worker message \"progress\": a key is not one of its own; are the programs of the same build?");
  EXPECT_EQ(error_of(replaced(progress, "0.6125", "\"low\"")),
            "worker message \"progress\": \"loss\" is no number");
  const std::string form = encode(form_message(3));
  EXPECT_EQ(error_of(replaced(form, "\"port\":65535", "\"port\":65536")),
            "worker message \"form\".members[0]: \"port\" is no whole number from 0 to 65535");
  EXPECT_EQ(error_of(replaced(form, "\"rank\":2", "\"rank\":3")),
            "a worker message forms rank 3 of 3: are the programs of the same build?");
  EXPECT_EQ(error_of(replaced(form, "\"donors\":2", "\"donors\":4")),
            "a worker message names 4 donors of 3 ranks: are the programs of the same build?");
  EXPECT_EQ(error_of(replaced(form, "\"rank\":2", "\"rank\":-1")), "no error");
  EXPECT_EQ(error_of(replaced(replaced(form, "\"rank\":2", "\"rank\":-1"), "true", "false")),
            "a worker message forms rank -1 of 3: are the programs of the same build?");
  const std::string start = encode(start_message());
  EXPECT_EQ(error_of(replaced(start, "\"epochs\":5", "\"epochs\":0")),
            "worker message \"start\".job: epochs is 0: it must be at least 1");
  EXPECT_EQ(error_of(replaced(start, "\"action\":\"train\"", "\"action\":\"fly\"")),
            "worker message \"start\": \"action\" is none of those it can be");
}

TEST(Protocol, RefusesWhatIsNoMessage) {
  EXPECT_EQ(error_of("[1]"), "a worker message is no JSON object: are the programs of the same build?");
  EXPECT_EQ(error_of("{}"), "a worker message has no type: are the programs of the same build?");
  EXPECT_EQ(
      error_of("{\"type\":\"dance\"}"),
      "a worker message is of a type that this program doesn't know: are the programs of the same build?");
  EXPECT_EQ(error_of(std::string((256U << 10) + 1, ' ')),
            "a worker message has 262145 bytes: are the programs of the same build?");
  EXPECT_FALSE(decode("").ok());
  EXPECT_FALSE(decode(std::string(100'000, '[')).ok());
  EXPECT_FALSE(
      decode(std::string("{\"type\":") + std::string(100'000, '[') + std::string(100'000, ']') + "}").ok());
}

class Channel : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::pair<WorkerChannel, UniqueFd>> made = WorkerChannel::make_pair();
    ASSERT_TRUE(made.ok()) << made.error().message;
    agent_.emplace(std::move(made->first));
    worker_.emplace(std::move(made->second));
  }
  std::optional<WorkerChannel> agent_;
  std::optional<WorkerChannel> worker_;
};

TEST_F(Channel, CarriesMessagesBothWaysInOrder) {
  for (const WorkerMessage& message : all_messages()) {
    ASSERT_TRUE(agent_->send(message).ok());
    ASSERT_TRUE(worker_->send(message).ok());
  }
  for (const WorkerMessage& message : all_messages()) {
    for (WorkerChannel* end : {&*agent_, &*worker_}) {
      Result<std::optional<WorkerMessage>> read = end->receive(seconds(60));
      ASSERT_TRUE(read.ok()) << read.error().message;
      ASSERT_TRUE(read->has_value());
      EXPECT_EQ(encode(**read), encode(message));
    }
  }
}

TEST_F(Channel, ClosesBothEndsOnExec) {
  EXPECT_NE(::fcntl(agent_->fd(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(worker_->fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(Channel, GivesNothingWhereNothingComes) {
  const Result<std::optional<WorkerMessage>> read = agent_->receive(milliseconds(20));
  ASSERT_TRUE(read.ok());
  EXPECT_FALSE(read->has_value());
  EXPECT_FALSE(agent_->receive(Duration::zero())->has_value());
}

TEST_F(Channel, WaitsForAMessage) {
  std::thread later([this] {
    std::this_thread::sleep_for(milliseconds(30));
    EXPECT_TRUE(worker_->send(HelloMessage{"later"}).ok());
  });
  const Result<std::optional<WorkerMessage>> read = agent_->receive(Duration::max());
  later.join();
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(std::get<HelloMessage>(**read).version, "later");
}

TEST_F(Channel, CarriesAFormOfAsManyRanksAsAJobMayHave) {
  const FormMessage form = form_message(4096);
  ASSERT_TRUE(agent_->send(form).ok());
  const Result<std::optional<WorkerMessage>> read = worker_->receive(seconds(60));
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(std::get<FormMessage>(**read).members[4095].node, "node-4095");
}

TEST_F(Channel, RefusesToSendWhatIsTooLong) {
  const Status sent = agent_->send(FailedMessage{"io", std::string(300'000, 'x'), -1});
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, ErrorCode::invalid_argument);
  EXPECT_FALSE(worker_->receive(Duration::zero())->has_value()) << "a part of it was sent";
}

TEST_F(Channel, SeesThatAMessageWasTooLong) {
  const int bytes = 1 << 20;
  ::setsockopt(worker_->fd(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  const std::string longer((256U << 10) + 1, ' ');
  ASSERT_EQ(::send(worker_->fd(), longer.data(), longer.size(), 0), static_cast<ssize_t>(longer.size()));
  ASSERT_TRUE(worker_->send(StopMessage{}).ok());
  const Result<std::optional<WorkerMessage>> read = agent_->receive(seconds(60));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().message,
            "a worker message of 262145 bytes is longer than the most, 262144: are the programs of the same "
            "build?");
  EXPECT_TRUE(agent_->receive(seconds(60))->has_value()) << "the next message is whole again";
}

TEST_F(Channel, ReportsGarbageAndGoesOn) {
  ASSERT_EQ(::send(worker_->fd(), "\0\xff{", 3, 0), 3);
  ASSERT_TRUE(worker_->send(StopMessage{}).ok());
  EXPECT_EQ(agent_->receive(seconds(60)).error().code, ErrorCode::corrupt);
  EXPECT_TRUE(agent_->receive(seconds(60))->has_value());
}

TEST_F(Channel, GivesUpOnAReaderThatDoesNotRead) {
  Status sent;
  int messages = 0;
  const FailedMessage large{"io", std::string(100'000, 'x'), -1};
  while (sent.ok() && messages < 1000) {
    sent = agent_->send(large, milliseconds(20));
    ++messages;
  }
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, ErrorCode::timeout);
  EXPECT_EQ(sent.error().message, "the other end of the worker's socket read nothing for 0.02 s");
  for (int i = 0; i + 1 < messages; ++i) ASSERT_TRUE(worker_->receive(seconds(60))->has_value());
  EXPECT_TRUE(agent_->send(large).ok());
}

TEST_F(Channel, KnowsThatThePeerIsGone) {
  worker_.reset();
  EXPECT_EQ(agent_->send(StopMessage{}).error().code, ErrorCode::peer_lost);
  const Result<std::optional<WorkerMessage>> read = agent_->receive(Duration::max());
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, ErrorCode::peer_lost);
  EXPECT_EQ(read.error().message, "the other end of the worker's socket is closed");
}

TEST_F(Channel, StillGivesTheLastWordsOfAPeerThatLeftMessagesUnread) {
  ASSERT_TRUE(agent_->send(StopMessage{}).ok());
  ASSERT_TRUE(worker_->send(FailedMessage{"io", "disk full", -1}).ok());
  worker_.reset();
  const Result<std::optional<WorkerMessage>> last = agent_->receive(seconds(60));
  ASSERT_TRUE(last.ok()) << last.error().message;
  EXPECT_EQ(std::get<FailedMessage>(**last).message, "disk full");
  EXPECT_EQ(agent_->receive(seconds(60)).error().code, ErrorCode::peer_lost);
}

TEST(ProtocolDocument, HasAnExampleOfEveryMessage) {
  const Result<std::string> text = read_file(PACELINE_DOCS "/worker-protocol.md");
  ASSERT_TRUE(text.ok()) << text.error().message;
  std::set<std::size_t> types;
  for (std::size_t at = text->find("```json\n"); at != std::string::npos;
       at = text->find("```json\n", at + 1)) {
    const std::size_t begin = at + 8;
    const std::string example = text->substr(begin, text->find("```", begin) - begin);
    const Result<WorkerMessage> read = decode(example);
    ASSERT_TRUE(read.ok()) << read.error().message << " in\n" << example;
    types.insert(read->index());
  }
  EXPECT_EQ(types.size(), std::variant_size_v<WorkerMessage>) << "a message has no example";
}

}  // namespace
}  // namespace paceline
