// Parsers of bytes from outside, fed with damaged copies of what they should get and with noise. All they may
// do is return: a crash, a hang or an exception fails the test, and with sanitizers so does anything subtler.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/job/job.hpp"
#include "paceline/job/protocol.hpp"
#include "support/mutations.hpp"

namespace paceline {
namespace {

Job small_job() {
  return parse_job("name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\nepochs: 1\n", "t", {}).value();
}

TEST(Fuzz, DecodeReturnsWhateverComes) {
  std::vector<std::string> examples = {
      encode(StopMessage{}), encode(HelloMessage{"0.1.0"}),
      encode(ProgressMessage{12, 1175, 1, 5, 12, 235, 0.6125, 0.75, 8214.5, 69}),
      encode(EvalMessage{1, 10'000, 0.44, 0.842, {}}), encode(FailedMessage{"io", "disk full", -1})};
  FinishedMessage finished;
  finished.eval = EvalMessage{};
  examples.push_back(encode(finished));
  StartMessage start;
  start.job = small_job();
  examples.push_back(encode(start));
  FormMessage form;
  form.members = {{"n", "127.0.0.1", 1}, {"n", "127.0.0.1", 0}};
  examples.push_back(encode(form));
  examples.push_back(encode(LeftMessage{7, 41, true, false, "peer lost", "rank 1 is gone", 1}));
  examples.push_back(encode(StepsMessage{{{.step = 1, .epoch = 1, .count = 8, .consumed = "0x00"}}}));

  const Tally outcome =
      feed(examples, "{}[]\",:0123456789.-+eE\\untrfalsemp ", 11, [](const std::string& input) {
        const Result<WorkerMessage> message = decode(input);
        if (message.ok()) {
          const Result<WorkerMessage> again = decode(encode(*message));
          EXPECT_TRUE(again.ok()) << "accepted, but not when it is written again: " << input;
        } else {
          EXPECT_FALSE(message.error().message.empty());
        }
        return message.ok();
      });
  EXPECT_GT(outcome.good, rounds / 100) << "hardly anything got past the JSON parser";
  EXPECT_GT(outcome.bad, rounds / 2);
}

TEST(Fuzz, ParseJobReturnsWhateverComes) {
  const std::vector<std::string> examples = {
      "name: a\ndata: {train: b}\nmodel: cnn\nbatch: {global: 8}\nepochs: 1\n",
      "name: a\ndata:\n  train: b\n  eval: \"c\\u00e9\"\nmodel: {kind: mlp, w: 3}\nbatch: {global: 8, grain: "
      "2}\nepochs: 3\nranks: 2\n",
      "{name: x, data: {train: y}, model: {plugin: z}, batch: {global: 1}, epochs: 2, schedule: step}",
      "name: &n a\ndata: {train: *n}\nmodel: 'cnn'\nbatch: {global: +8}\nepochs: 1\noptimizer: "
      "{learning_rate: 1e-3}\n",
      "# words\n--- !t\nname: |\n  long\n? data\n: train: >-\n    b\nmodel: cnn\n...\n"};
  const Tally outcome =
      feed(examples, " \n\t:-?,[]{}#&*!|>'\"%@`~.0123456789abelmnort", 12, [](const std::string& input) {
        const Result<Job> job = parse_job(input, "f", {});
        if (job.ok()) {
          const Result<Job> again = job_from_json(job_to_json(*job));
          EXPECT_TRUE(again.ok()) << again.error().message << " of a job that was accepted: " << input;
        } else {
          EXPECT_EQ(job.error().message.substr(0, 2), "f:");
          EXPECT_EQ(job.error().message.find('\n'), std::string::npos) << job.error().message;
        }
        return job.ok();
      });
  EXPECT_GT(outcome.good, rounds / 100) << "hardly anything got past the YAML parser";
  EXPECT_GT(outcome.bad, rounds / 4);
}

TEST(Fuzz, OverridesReturnWhateverComes) {
  const std::vector<std::string> keys = {"epochs",    "ranks.max", "model", "schedule.kind",
                                         "optimizer", "a.b",       ""};
  SplitMix64 random(13);
  for (int round = 0; round < rounds / 10; ++round) {
    const std::string key = mutate(keys[random.below(keys.size())], "abcdeghklmnoprstu._=", random);
    const std::string value = mutate("{kind: sgd}", " {}[],:'\"0123456789.ansgdkin&*", random);
    const Result<Job> job = parse_job(
        "name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\nepochs: 1\n", "f", {{key, value}});
    if (!job.ok()) {
      ASSERT_EQ(job.error().message.find('\n'), std::string::npos) << job.error().message;
    }
  }
}

}  // namespace
}  // namespace paceline
