#include <gtest/gtest.h>
#include <torch/script.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <random>
#include <span>

#include "batches.hpp"
#include "data_fixture.hpp"
#include "exporting.hpp"
#include "inputs.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"
#include "paceline/train/models.hpp"
#include "schedule.hpp"
#include "setup.hpp"
#include "time_series.hpp"
#include "weights.hpp"

namespace paceline {
namespace {

TEST(Models, TheJobFileKnowsExactlyThoseThatThereAre) {
  const std::vector<std::string> built_in = built_in_models();
  EXPECT_EQ(std::vector<std::string>(model_kinds.begin(), model_kinds.end()), built_in);
}

TEST(Schedule, WarmsUpAndEndsWhereItShould) {
  Job job;
  job.optimizer.learning_rate = 2;
  job.schedule.warmup_epochs = 0.5;
  const StepPlan plan(80, 10, 10);  // ten epochs of eight steps
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 0), 2 * 1.0 / 5);
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 3), 2 * 4.0 / 5);
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 79), 2);
  job.schedule.kind = "cosine";
  job.schedule.final_factor = 0.25;
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 4), 2);
  EXPECT_NEAR(learning_rate(job, plan, 4 + 75 / 2) + learning_rate(job, plan, 79 - 75 / 2), 2 * 1.25, 1e-12)
      << "symmetric about its middle";
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 79), 0.5);
  job.schedule = {};
  job.schedule.kind = "step";
  job.schedule.step_epochs = 3;
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 3 * 8 - 1), 2);
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 3 * 8), 0.2);
  EXPECT_NEAR(learning_rate(job, plan, 9 * 8), 0.002, 1e-15);
}

TEST(Schedule, SpansTheStepsThatTheJobTakes) {
  Job job;
  job.optimizer.learning_rate = 1;
  job.schedule.kind = "cosine";
  job.schedule.warmup_steps = 9;
  const StepPlan plan(1000, 1, 7, 60);  // ends within its first epoch
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 0), 0.1);
  EXPECT_DOUBLE_EQ(learning_rate(job, plan, 9), 1);
  EXPECT_NEAR(learning_rate(job, plan, 9 + 25), 0.5, 1e-12);
  EXPECT_NEAR(learning_rate(job, plan, 59), 0, 1e-12);
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

const InputSpec input{{3, 28, 28}, 10, {0.25, 0.5, 0.75}, {0.5, 0.25, 0.125}, 0};

TEST(Weights, ComeBackAsTheyWere) {
  const TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
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
  EXPECT_EQ(spec->classes, 10);
  EXPECT_EQ(spec->mean, input.mean);
  EXPECT_EQ(spec->standard_deviation, input.standard_deviation);
  EXPECT_EQ(spec->vocabulary, 0);
}

TEST(Weights, KeepWhatAModelOfTextTakesIn) {
  const TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  ASSERT_TRUE(save_safetensors(path, some_weights(0), {{96}, 0, {}, {}, 5000}).ok());
  const auto spec = load_input_spec(path);
  ASSERT_TRUE(spec.ok()) << spec.error().message;
  EXPECT_EQ(spec->sample_shape, std::vector<std::int64_t>{96});
  EXPECT_EQ(spec->vocabulary, 5000);
}

TEST(Weights, InputsThatCannotBeAreRefused) {
  const TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  const std::vector<InputSpec> wrong = {{{3, 2, 2}, 10, {0.5, 0.5}, {0.5, 0.5}, 0},
                                        {{3, 2, 2}, 10, {0.5}, {0.5, 0.5}, 0},
                                        {{3, 2, 2}, 10, {}, {}, 0},
                                        {{3, 2, 2}, 10, {0.5}, {0.0}, 0},
                                        {{3, -2, 2}, 10, {0.5}, {0.5}, 0},
                                        {{}, 10, {0.5}, {0.5}, 0},
                                        {{3, 2}, 0, {}, {}, 256},
                                        {{3}, 0, {}, {}, -1}};
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    ASSERT_TRUE(save_safetensors(path, some_weights(0), wrong[i]).ok());
    EXPECT_FALSE(load_input_spec(path).ok()) << i;
  }
}

TEST(Weights, HashesAreOfTheValuesWhateverTheirOrderInMemory) {
  const torch::Tensor images = torch::arange(2 * 3 * 4 * 5).to(torch::kFloat).view({2, 3, 4, 5});
  EXPECT_EQ(weights_sha256({{"w", images}}),
            weights_sha256({{"w", images.contiguous(torch::MemoryFormat::ChannelsLast)}}));
}

TEST(Weights, WrongFilesAreRefusedWithAReason) {
  const TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
  std::vector<NamedWeight> weights = some_weights(0);
  EXPECT_EQ(load_safetensors(path, weights).error().code, ErrorCode::not_found);
  ASSERT_TRUE(save_safetensors(path, {{"a.weight", torch::zeros({4, 3})}}, input).ok());
  EXPECT_NE(load_safetensors(path, weights).error().message.find("another type or shape"), std::string::npos);
}

// Bytes from outside: cut anywhere or with any byte changed, loading gives weights or an error.
TEST(Weights, DamagedFilesNeverCrash) {
  const TemporaryFolder folder;
  const std::string path = folder / "w.safetensors";
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

/// A run whose model is a small gpt, as training leaves it.
class ExportOfText : public ::testing::Test {
 protected:
  void SetUp() override {
    start_.job = parse_job(
                     "name: t\ndata: {train: a}\ntask: language-modelling\nbatch: {global: 8}\n"
                     "epochs: 1\nmodel: {kind: gpt, layers: 2, heads: 2, width: 8, context: 6, "
                     "dropout: 0.5}\n",
                     "job.yaml", {})
                     .value();
    start_.run_dir = folder_.path();
    const InputSpec text{{6}, 0, {}, {}, 11};
    model_ = build_model(start_.job, text).value();
    model_->module().eval();
    ASSERT_TRUE(save_safetensors(model_path(start_.run_dir), weights_of(model_->module()), text).ok());
  }
  std::string exported(const std::string& format) {
    start_.export_format = format;
    start_.export_path = folder_ / format;
    const Status status = export_model(start_);
    EXPECT_TRUE(status.ok()) << status.error().message;
    return start_.export_path;
  }

  TemporaryFolder folder_;
  StartMessage start_;
  std::unique_ptr<Model> model_;
};

TEST_F(ExportOfText, ATraceTakesBatchesOfAnySizeAndNoOtherLength) {
  torch::jit::Module trace = torch::jit::load(exported("torchscript"));
  const torch::NoGradGuard no_grad;
  for (const std::int64_t samples : {1, 2, 5, 12}) {
    const torch::Tensor ids = torch::arange(samples * 6).view({samples, 6}) * 7 % 11;
    const torch::Tensor logits = trace.forward({ids}).toTensor();
    EXPECT_EQ(logits.sizes(), (std::vector<std::int64_t>{samples, 6, 11}));
    EXPECT_TRUE(torch::allclose(logits, model_->forward(ids), 1e-5, 1e-6));
  }
  for (const std::int64_t tokens : {1, 3, 12})
    EXPECT_ANY_THROW((void)trace.forward({torch::zeros({6, tokens}, torch::kLong)})) << tokens;
}

TEST_F(ExportOfText, WeightsComeOutUnderTheirNames) {
  const std::string bytes = read_file(exported("pickle")).value();
  const auto dictionary = torch::pickle_load({bytes.begin(), bytes.end()}).toGenericDict();
  const std::vector<NamedWeight> weights = weights_of(model_->module());
  EXPECT_EQ(dictionary.size(), weights.size());
  for (const NamedWeight& weight : weights)
    EXPECT_TRUE(dictionary.at(weight.name).toTensor().equal(weight.tensor)) << weight.name;
  std::vector<NamedWeight> loaded = weights_of(model_->module());
  for (NamedWeight& weight : loaded) weight.tensor = torch::zeros_like(weight.tensor);
  ASSERT_TRUE(load_safetensors(exported("safetensors"), loaded).ok());
  EXPECT_EQ(weights_sha256(loaded), weights_sha256(weights));
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
      const Loader::Source source = training_source(std::move(*plan), rank, 0);
      while (const auto request = source())
        for (std::int64_t i = 0; i < request->count; ++i)
          ++seen[static_cast<std::size_t>(request->epoch * 333 + request->first + i)];
    }
    EXPECT_EQ(std::ranges::count(seen, 1), 2 * 333) << ranks << " ranks";
  }
}

DatasetInfo two_images_info() {
  DatasetInfo info;
  info.task = "image-classification";
  info.dtype = "u8";
  info.storage = "raw";
  info.layout = "chw";
  info.sample_shape = {1, 28, 28};
  info.classes = 10;
  info.mean = {0.2};
  info.standard_deviation = {0.4};
  return info;
}

Job augmented(std::int64_t crop, std::int64_t padding, bool flip) {
  Job job;
  job.augment.crop = crop;
  job.augment.padding = padding;
  job.augment.flip = flip;
  return job;
}

/// The first batch of a loader over a small dataset, finished by `maker`.
SampleBatch first_batch(const Dataset& dataset, const InputMaker& maker, LoadRequest request) {
  LoaderOptions options;
  options.order = {.seed = 1, .row = 16, .lanes = 2};
  options.finish = [&](SampleBatch& batch) { return maker.finish(batch); };
  Loader loader(dataset, options, [request, given = false]() mutable -> std::optional<LoadRequest> {
    return std::exchange(given, true) ? std::nullopt : std::optional(request);
  });
  auto batch = loader.next();
  EXPECT_TRUE(batch.ok()) << (batch.ok() ? "" : batch.error().message);
  return std::move(**batch);
}

TEST(InputMaker, NormalisesAsTheDatasetSaysAndHashesWhatItWasGiven) {
  const TemporaryFolder folder;
  const Dataset dataset = Dataset::open(data_testing::make_dataset(folder, 100)).value();
  const InputSpec inputs = input_of(dataset.info(), Job{}).value();
  EXPECT_EQ(inputs.sample_shape, (std::vector<std::int64_t>{1, 28, 28}));
  const InputMaker maker = InputMaker::for_training(dataset.info(), inputs, Job{}, 99).value();
  SampleBatch batch = first_batch(dataset, maker, {1, 40, 12});
  const Batch made = maker.tensors(batch, 3, 5).value();
  EXPECT_EQ(made.inputs.sizes(), (std::vector<std::int64_t>{5, 1, 28, 28}));
  for (std::int64_t i = 0; i < 5; ++i) {
    EXPECT_EQ(made.targets[i].item<std::int64_t>(), batch.label(3 + i));
    const double pixel = std::to_integer<int>(batch.sample(3 + i)[783]);
    EXPECT_NEAR(made.inputs[i].flatten()[783].item<double>(),
                (pixel / 255 - inputs.mean[0]) / inputs.standard_deviation[0], 1e-5);
  }
  ConsumedHash expected(99);
  for (std::int64_t i = 0; i < 12; ++i)
    expected.add(2, 40 + i, sample_checksum(batch.sample(i), batch.label(i)));
  EXPECT_EQ(batch.consumed, expected.value());
}

TEST(InputMaker, AugmentsByPositionAndNotByRequest) {
  const TemporaryFolder folder;
  const Dataset dataset = Dataset::open(data_testing::make_dataset(folder, 100)).value();
  const Job job = augmented(24, 2, true);
  const InputSpec inputs = input_of(dataset.info(), job).value();
  EXPECT_EQ(inputs.sample_shape, (std::vector<std::int64_t>{1, 24, 24}));
  const InputMaker maker = InputMaker::for_training(dataset.info(), inputs, job, 1).value();
  SampleBatch whole = first_batch(dataset, maker, {0, 16, 16});
  SampleBatch part = first_batch(dataset, maker, {0, 20, 4});
  EXPECT_TRUE(maker.tensors(whole, 4, 4)->inputs.equal(maker.tensors(part, 0, 4)->inputs));
  const InputMaker centred = InputMaker::for_evaluation(dataset.info(), inputs).value();
  SampleBatch plain = first_batch(dataset, centred, {0, 16, 16});
  const torch::Tensor cut = centred.tensors(plain, 0, 16)->inputs;
  EXPECT_FALSE(maker.tensors(whole, 0, 16)->inputs.equal(cut));
  const double pixel = std::to_integer<int>(plain.sample(0)[2 * 28 + 2]);
  EXPECT_NEAR(cut[0].flatten()[0].item<double>(),
              (pixel / 255 - inputs.mean[0]) / inputs.standard_deviation[0], 1e-5);
}

TEST(InputMaker, RefusesWhatDoesNotGoTogether) {
  DatasetInfo info = two_images_info();
  const InputSpec inputs = input_of(info, Job{}).value();
  info.sample_shape = {1, 24, 24};
  EXPECT_FALSE(InputMaker::for_evaluation(info, inputs).ok()) << "smaller images";
  info = two_images_info();
  info.classes = 11;
  EXPECT_FALSE(InputMaker::for_evaluation(info, inputs).ok()) << "other classes";
  info = two_images_info();
  info.task = "language-modelling";
  const auto other_task = input_of(info, Job{});
  ASSERT_FALSE(other_task.ok());
  EXPECT_NE(other_task.error().message.find("the job's task is image-classification"), std::string::npos);
  info = two_images_info();
  info.sample_shape = {784};
  EXPECT_FALSE(input_of(info, augmented(24, 0, false)).ok()) << "no rows and columns to cut";
  EXPECT_TRUE(input_of(info, Job{}).ok());
}

template <class Token>
std::vector<std::byte> bytes_of(const std::vector<Token>& tokens) {
  const auto bytes = std::as_bytes(std::span(tokens));
  return {bytes.begin(), bytes.end()};
}

template <class Token>
void expect_windows(const std::string& dtype) {
  const std::vector<Token> tokens = {1, 2, 3, 4, 5, 6, 7, 100};  // two windows of three tokens and one more
  std::vector<std::byte> bytes = bytes_of(tokens);
  bytes.insert(bytes.begin(), std::byte{9});  // so that nothing is aligned
  const std::size_t window = 4 * sizeof(Token);
  const std::vector<std::span<const std::byte>> windows = {std::span(bytes).subspan(1, window),
                                                           std::span(bytes).subspan(1 + window, window)};
  const auto batch = token_batch(windows, dtype, 3, 101);
  ASSERT_TRUE(batch.ok()) << batch.error().message;
  const torch::Tensor inputs = torch::tensor({1, 2, 3, 5, 6, 7}, torch::kLong).view({2, 3});
  const torch::Tensor targets = torch::tensor({2, 3, 4, 6, 7, 100}, torch::kLong).view({2, 3});
  EXPECT_TRUE(batch->inputs.equal(inputs)) << dtype;
  EXPECT_TRUE(batch->targets.equal(targets)) << dtype;
  const auto wrong = token_batch(windows, dtype, 3, 100);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code, ErrorCode::corrupt);
  EXPECT_EQ(
      wrong.error().message,
      "token 3 of sample 1 of the batch is 100, and the vocabulary has 100 ids: the dataset does not fit "
      "its manifest");
}

TEST(TokenBatch, WidensEveryTypeAndChecksEveryId) {
  expect_windows<std::uint8_t>("u8");
  expect_windows<std::uint16_t>("u16");
  expect_windows<std::int32_t>("i32");
  const auto one = [](const std::vector<std::byte>& bytes, std::string_view dtype, std::int64_t context,
                      std::int64_t vocabulary) {
    const std::vector<std::span<const std::byte>> windows = {bytes};
    return token_batch(windows, dtype, context, vocabulary);
  };
  const auto negative = one(bytes_of<std::int32_t>({1, -5, 1}), "i32", 2, 50000);
  EXPECT_EQ(negative.error().message.substr(0, 40), "token 1 of sample 0 of the batch is -5, ");
  const auto largest = one(bytes_of<std::uint16_t>({65535, 0}), "u16", 1, 65536);
  ASSERT_TRUE(largest.ok());
  EXPECT_EQ(largest->inputs.item<std::int64_t>(), 65535);
  EXPECT_TRUE(token_batch({}, "u8", 5, 256).ok());
}

}  // namespace
}  // namespace paceline
