#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "batches.hpp"
#include "metrics.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/train/models.hpp"
#include "schedule.hpp"
#include "weights.hpp"

namespace paceline {
namespace {

/// A folder that is gone when the test ends.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / concat("paceline-worker-", ::getpid())) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

TEST(Models, TheJobFileKnowsExactlyThoseThatThereAre) {
  const std::vector<std::string> built_in = built_in_models();
  EXPECT_EQ(std::vector<std::string>(model_kinds.begin(), model_kinds.end()), built_in);
}

TEST(Schedule, WarmsUpAndEndsWhereItShould) {
  Job job;
  job.epochs = 10;
  job.optimizer.learning_rate = 2;
  job.schedule.warmup_epochs = 0.5;
  EXPECT_DOUBLE_EQ(learning_rate(job, 0, 8), 2 * 1.0 / 5);
  EXPECT_DOUBLE_EQ(learning_rate(job, 3, 8), 2 * 4.0 / 5);
  EXPECT_DOUBLE_EQ(learning_rate(job, 79, 8), 2);
  job.schedule.kind = "cosine";
  job.schedule.final_factor = 0.25;
  EXPECT_DOUBLE_EQ(learning_rate(job, 4, 8), 2);
  EXPECT_NEAR(learning_rate(job, 4 + 75 / 2, 8) + learning_rate(job, 79 - 75 / 2, 8), 2 * 1.25, 1e-12)
      << "symmetric about its middle";
  EXPECT_DOUBLE_EQ(learning_rate(job, 79, 8), 0.5);
  job.schedule = {.kind = "step", .warmup_epochs = 0, .final_factor = 0, .step_epochs = 3, .gamma = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate(job, 3 * 8 - 1, 8), 2);
  EXPECT_DOUBLE_EQ(learning_rate(job, 3 * 8, 8), 0.2);
  EXPECT_NEAR(learning_rate(job, 9 * 8, 8), 0.002, 1e-15);
}

TEST(TimeSeries, KeepsTheLatestAndOrdersThem) {
  TimeSeries series;
  EXPECT_EQ(series.percentiles_ms().p50, 0);
  for (int i = 0; i < 150'000; ++i) series.add(std::chrono::milliseconds(i < 50'000 ? 1'000'000 : i % 101));
  EXPECT_NEAR(series.percentiles_ms().p50, 50, 1);
  EXPECT_NEAR(series.percentiles_ms().p90, 90, 1);
  EXPECT_NEAR(series.percentiles_ms().p99, 99, 1);
}

std::vector<NamedWeight> some_weights(double shift) {
  return {{"a.weight", torch::arange(12).to(torch::kFloat).view({3, 4}) + shift},
          {"count", torch::tensor(std::int64_t{41})},
          {"empty", torch::zeros({0, 3})}};
}

const InputSpec input{{1, 28, 28}, 10, 0.25, 0.5};

TEST(Weights, ComeBackAsTheyWere) {
  const Folder folder;
  const std::string path = folder.file("w.safetensors");
  const std::vector<NamedWeight> saved = some_weights(0.5);
  ASSERT_TRUE(save_safetensors(path, saved, input).ok());
  std::vector<NamedWeight> loaded = some_weights(7);
  const Status status = load_safetensors(path, loaded);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(weights_sha256(saved), weights_sha256(loaded));
  EXPECT_NE(weights_sha256(saved), weights_sha256(some_weights(7)));
  const auto spec = load_input_spec(path);
  ASSERT_TRUE(spec.ok());
  EXPECT_EQ(spec->sample_shape, input.sample_shape);
  EXPECT_EQ(spec->mean, 0.25);
}

TEST(Weights, HashesAreOfTheValuesWhateverTheirOrderInMemory) {
  const torch::Tensor images = torch::arange(2 * 3 * 4 * 5).to(torch::kFloat).view({2, 3, 4, 5});
  EXPECT_EQ(weights_sha256({{"w", images}}),
            weights_sha256({{"w", images.contiguous(torch::MemoryFormat::ChannelsLast)}}));
}

TEST(Weights, WrongFilesAreRefusedWithAReason) {
  const Folder folder;
  const std::string path = folder.file("w.safetensors");
  std::vector<NamedWeight> weights = some_weights(0);
  EXPECT_EQ(load_safetensors(path, weights).error().code, ErrorCode::not_found);
  ASSERT_TRUE(save_safetensors(path, {{"a.weight", torch::zeros({4, 3})}}, input).ok());
  EXPECT_NE(load_safetensors(path, weights).error().message.find("another type or shape"), std::string::npos);
}

// Bytes from outside: cut anywhere or with any byte changed, loading gives weights or an error.
TEST(Weights, DamagedFilesNeverCrash) {
  const Folder folder;
  const std::string path = folder.file("w.safetensors");
  ASSERT_TRUE(save_safetensors(path, some_weights(0), input).ok());
  const std::string whole = read_file(path).value();
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::string damaged = whole;
    for (int i = 0; i < 3; ++i) damaged[random() % damaged.size()] = static_cast<char>(random());
    if (round % 3 == 0) damaged.resize(random() % damaged.size());
    ASSERT_TRUE(write_file_atomically(path, damaged).ok());
    std::vector<NamedWeight> weights = some_weights(0);
    if (!load_safetensors(path, weights).ok()) ++refused;
    (void)load_input_spec(path).ok();
  }
  EXPECT_GT(refused, 500);
}

TEST(JobPlan, TheSourceAsksForEveryPositionOnceOverTheRanks) {
  Job job;
  job.batch.global = 50;
  job.epochs = 2;
  for (const std::int64_t ranks : {1, 2, 3, 7}) {
    std::vector<int> seen(2 * 333);
    for (std::int64_t rank = 0; rank < ranks; ++rank) {
      auto plan = make_plan(job, 333, ranks);
      ASSERT_TRUE(plan.ok());
      const Loader::Source source = training_source(std::move(*plan), rank);
      while (const auto request = source())
        for (std::int64_t i = 0; i < request->count; ++i)
          ++seen[static_cast<std::size_t>(request->epoch * 333 + request->first + i)];
    }
    EXPECT_EQ(std::ranges::count(seen, 1), 2 * 333) << ranks << " ranks";
  }
}

TEST(TensorMaker, NormalisesAsTheDatasetSays) {
  DatasetInfo info;
  info.sample_shape = {1, 2, 2};
  info.sample_bytes = 4;
  SampleBatch batch;
  batch.values = {std::byte{0},   std::byte{255}, std::byte{51}, std::byte{102},
                  std::byte{255}, std::byte{0},   std::byte{0},  std::byte{0}};
  batch.labels = {3, 8};
  const Batch made = TensorMaker(info, 0.2, 0.4).make(batch, 0, 2);
  EXPECT_EQ(made.inputs.sizes(), (std::vector<std::int64_t>{2, 1, 2, 2}));
  const torch::Tensor expected = torch::tensor({-0.5F, 2.0F, 0.0F, 0.5F});
  EXPECT_TRUE(torch::allclose(made.inputs[0].flatten(), expected, 0, 1e-6));
  EXPECT_EQ(made.targets[1].item<std::int64_t>(), 8);
  EXPECT_TRUE(TensorMaker(info, 0.2, 0.4).make(batch, 1, 1).inputs[0].equal(made.inputs[1]));
}

}  // namespace
}  // namespace paceline
