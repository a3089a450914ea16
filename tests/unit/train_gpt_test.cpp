// The model `gpt` by itself, and under the distributed step against the plainest loop there is.

#include <gtest/gtest.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <numeric>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "support/compute_device.hpp"
#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

constexpr std::int64_t context = 10;
constexpr std::int64_t vocabulary = 13;

using Options = std::map<std::string, std::string>;

std::unique_ptr<Model> tiny_gpt(Options options = {}) {
  const Options defaults = {{"layers", "2"}, {"heads", "2"}, {"width", "8"}};
  options.insert(defaults.begin(), defaults.end());
  auto model = make_model("gpt", {{context}, 0, options, vocabulary});
  EXPECT_TRUE(model.ok()) << model.error().message;
  // Not from torch's generator, which all threads share.
  const torch::NoGradGuard no_grad;
  double phase = 0;
  for (const auto& item : (*model)->module().named_parameters()) {
    const torch::Tensor wave = (torch::arange(item.value().numel()) * 0.7 + ++phase).sin();
    const bool scale = item.key().find("norm") != std::string::npos && item.key().ends_with("weight");
    item.value().copy_(wave.view(item.value().sizes()) * 0.3 + (scale ? 1 : 0));
  }
  return std::move(*model);
}

/// Windows of the stream 0, 3, 1, 4, 10, ...: squares and their successors.
Batch batch_of(std::int64_t first, std::int64_t count) {
  const torch::Tensor places =
      torch::arange(first, first + count).unsqueeze(1) * 7 + torch::arange(context + 1);
  const torch::Tensor windows = (places * places + 3 * (places % 2)) % vocabulary;
  return {windows.narrow(1, 0, context).contiguous(), windows.narrow(1, 1, context).contiguous()};
}

std::string error_of(const Options& options) {
  const auto model = make_model("gpt", {{context}, 0, options, vocabulary});
  return model.ok() ? "no error" : model.error().message;
}

TEST(Gpt, HasTheParametersOfItsDescription) {
  const auto count = [](const Options& options) {
    const auto model = make_model("gpt", {{64}, 0, options, 256});
    std::int64_t sum = 0;
    for (const torch::Tensor& parameter : (*model)->module().parameters()) sum += parameter.numel();
    return sum;
  };
  // Embeddings, then for each layer four matrices of 12 width^2 in all, their biases and two norms.
  const auto expected = [](std::int64_t layers, std::int64_t width) {
    return (256 + 64) * width + layers * (12 * width * width + (3 + 1 + 4 + 1 + 4) * width) + 2 * width;
  };
  EXPECT_EQ(count({{"layers", "2"}, {"width", "96"}, {"heads", "3"}}), expected(2, 96));
  EXPECT_EQ(count({}), expected(4, 128));
  EXPECT_EQ(count({{"tied_embeddings", "false"}}), expected(4, 128) + 256 * 128);
}

TEST(Gpt, BeginsWithTheWeightsOfGpt2) {
  torch::manual_seed(7);
  const auto model = make_model("gpt", {{64}, 0, {{"layers", "8"}}, 256});
  for (const auto& item : (*model)->module().named_parameters()) {
    const torch::Tensor& values = item.value();
    if (values.dim() < 2) {
      EXPECT_TRUE(values.eq(item.key().ends_with("bias") ? 0 : 1).all().item<bool>()) << item.key();
      continue;
    }
    const bool residual =
        item.key().find("projection") != std::string::npos || item.key().find("down") != std::string::npos;
    EXPECT_NEAR(values.std().item<double>(), residual ? 0.02 / 4 : 0.02, residual ? 0.0003 : 0.001)
        << item.key();
  }
}

TEST(Gpt, TakesSamplesOfUpToItsContext) {
  const auto model = tiny_gpt();
  for (const std::int64_t tokens : {std::int64_t{1}, std::int64_t{4}, context}) {
    const torch::Tensor logits = model->forward(batch_of(0, 3).inputs.narrow(1, 0, tokens));
    EXPECT_EQ(logits.sizes(), (std::vector<std::int64_t>{3, tokens, vocabulary}));
    EXPECT_TRUE(
        torch::allclose(logits, model->forward(batch_of(0, 3).inputs).narrow(1, 0, tokens), 1e-5, 1e-5));
  }
  EXPECT_THROW((void)model->forward(torch::zeros({1, context + 1}, torch::kLong)), std::invalid_argument);
  EXPECT_THROW((void)model->forward(torch::zeros({1, 0}, torch::kLong)), std::invalid_argument);
}

TEST(Gpt, ALaterTokenNeverChangesAnEarlierPrediction) {
  const auto model = tiny_gpt();
  const torch::Tensor ids = batch_of(5, 2).inputs;
  const torch::Tensor before = model->forward(ids);
  for (std::int64_t changed = 0; changed < context; ++changed) {
    torch::Tensor other = ids.clone();
    other.select(1, changed).add_(1).remainder_(vocabulary);
    const torch::Tensor difference = (model->forward(other) - before).abs().amax({0, 2});
    for (std::int64_t at = 0; at < context; ++at) {
      if (at < changed)
        EXPECT_EQ(difference[at].item<float>(), 0) << changed << " is seen at " << at;
      else
        EXPECT_GT(difference[at].item<float>(), 0) << changed << " is not seen at " << at;
    }
  }
}

TEST(Gpt, AModelThatKnowsNothingHasALossOfLnVocabulary) {
  const auto model = tiny_gpt();
  const torch::NoGradGuard no_grad;
  model->module().named_parameters()["tokens.weight"].zero_();  // tied: all logits are 0
  const Batch batch = batch_of(3, 6);
  EXPECT_NEAR(model->loss(batch).loss.item<double>(), 6 * std::log(vocabulary), 1e-4);
}

TEST(Gpt, TheLossOfASampleIsTheMeanOverItsTokens) {
  const auto model = tiny_gpt();
  const torch::NoGradGuard no_grad;
  const Batch batch = batch_of(3, 4);
  const torch::Tensor all = torch::log_softmax(model->forward(batch.inputs), -1);
  const torch::Tensor chosen = all.gather(-1, batch.targets.unsqueeze(-1)).squeeze(-1);
  EXPECT_NEAR(model->loss(batch).loss.item<double>(), -chosen.mean(1).sum().item<double>(), 1e-5);
  const torch::Tensor right = all.argmax(-1).eq(batch.targets).to(torch::kDouble).mean(1).sum();
  EXPECT_NEAR(model->loss(batch).correct, right.item<double>(), 1e-9);
}

TEST(Gpt, TiedEmbeddingsAreOneTensorWhoseGradientComesOnce) {
  const auto model = tiny_gpt();
  EXPECT_FALSE(model->module().named_parameters().contains("head.weight"));
  EXPECT_TRUE(tiny_gpt({{"tied_embeddings", "false"}})->module().named_parameters().contains("head.weight"));
  // It is used at both ends of the network; the buckets count on a single delivery in each backward.
  const torch::Tensor weight = model->module().named_parameters()["tokens.weight"];
  const auto accumulator = torch::autograd::impl::grad_accumulator(weight);
  int delivered = 0;
  accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
      [&](const torch::autograd::variable_list& outputs, const torch::autograd::variable_list&) {
        ++delivered;
        return outputs;
      }));
  model->loss(batch_of(0, 2)).loss.backward();
  EXPECT_EQ(delivered, 1);
  EXPECT_FALSE(weight.grad().is_sparse());
}

TEST(Gpt, BadOptionsAreSentences) {
  const std::string prefix = "the model gpt can't be made: ";
  EXPECT_EQ(error_of({{"width", "10"}, {"heads", "4"}}),
            prefix + "model.width is 10, which model.heads, 4, does not divide: make it a multiple");
  EXPECT_EQ(error_of({{"layers", "0"}}), prefix + "model.layers is 0: it must be at least 1");
  EXPECT_EQ(error_of({{"heads", "two"}}), prefix + "model.heads is \"two\": it must be a whole number");
  EXPECT_EQ(error_of({{"width", "64.5"}}), prefix + "model.width is \"64.5\": it must be a whole number");
  EXPECT_EQ(error_of({{"dropout", "1"}}),
            prefix + "model.dropout is 1: it must be at least 0 and less than 1");
  EXPECT_EQ(error_of({{"dropout", "nan"}}).substr(0, 46), prefix + "model.dropout is ");
  EXPECT_EQ(error_of({{"tied_embeddings", "yes"}}),
            prefix + "model.tied_embeddings is \"yes\": it must be true or false");
  EXPECT_EQ(error_of({{"context", "64"}}), prefix + "model.context is 64, but the samples have 10 tokens");
  EXPECT_EQ(error_of({{"width", "99999999999999999999"}}).substr(0, 29), prefix);
  EXPECT_EQ(error_of({{"depth", "3"}}), "the model gpt has no option \"depth\"");
  EXPECT_EQ(make_model("gpt", {{1, 28, 28}, 10, {}}).error().message,
            "the model gpt takes text, and the samples are images");
  EXPECT_EQ(make_model("mlp", {{context}, 0, {}, vocabulary}).error().message,
            "the model mlp takes images, and the samples are text");
}

// ---- under the distributed step --------------------------------------------------------------------

constexpr std::int64_t batch_samples = 12;
constexpr std::int64_t steps = 3;
constexpr double learning_rate = 0.5;
constexpr double clip_norm = 0.2;  // less than any gradient here has

std::vector<torch::Tensor> values_of(Model& model) {
  std::vector<torch::Tensor> values;
  for (const torch::Tensor& parameter : model.module().parameters())
    values.push_back(parameter.detach().clone());
  return values;
}

void freeze_positions(Model& model) {
  model.module().named_parameters()["positions.weight"].set_requires_grad(false);
}

/// The plain loop, with LibTorch's own clipping and optimizer.
std::vector<torch::Tensor> reference(bool frozen) {
  const auto model = tiny_gpt();
  if (frozen) freeze_positions(*model);
  std::vector<torch::Tensor> trained;
  for (const torch::Tensor& parameter : model->module().parameters())
    if (parameter.requires_grad()) trained.push_back(parameter);
  torch::optim::SGD optimizer(trained, torch::optim::SGDOptions(learning_rate).momentum(0.9));
  for (std::int64_t step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    (model->loss(batch_of(step * batch_samples, batch_samples)).loss / batch_samples).backward();
    EXPECT_GT(torch::nn::utils::clip_grad_norm_(trained, clip_norm), clip_norm);
    optimizer.step();
  }
  return values_of(*model);
}

TrainerOptions trainer_options() {
  TrainerOptions options;
  options.device = compute_device();
  options.optimizer.momentum = 0.9;
  options.optimizer.clip_norm = clip_norm;
  options.bucket_bytes = 1024;  // several buckets even of this model
  return options;
}

/// This rank's part of a step, in passes of at most `micro`.
std::vector<Pass> passes_of(std::int64_t step, std::int64_t first, std::int64_t count, std::int64_t micro) {
  std::vector<Pass> passes;
  for (std::int64_t at = first; at < first + count; at += micro)
    passes.push_back({at, batch_of(step * batch_samples + at, std::min(micro, first + count - at))});
  return passes;
}

/// Trains `model` on this rank's part: what it has become (the trainer owns its memory), or what went wrong.
Result<std::vector<torch::Tensor>> train(Communicator& communicator, Model& model,
                                         const std::vector<std::int64_t>& shares, int rank,
                                         std::int64_t micro) {
  at::set_num_threads(1);
  auto trainer = Trainer::make(communicator, model, trainer_options());
  if (!trainer.ok()) return trainer.error();
  const std::int64_t first = std::accumulate(shares.begin(), shares.begin() + rank, std::int64_t{0});
  for (std::int64_t step = 0; step < steps; ++step) {
    const auto outcome = trainer->step({step, batch_samples, learning_rate, 5, false},
                                       passes_of(step, first, shares[static_cast<std::size_t>(rank)], micro));
    if (!outcome.ok()) return outcome.error();
    EXPECT_GT(outcome->gradient_norm, clip_norm);
  }
  return values_of(model);
}

struct StepCase {
  std::string nodes;
  std::vector<std::int64_t> shares;
  std::int64_t micro;
  bool frozen;
};

class GptStep : public ::testing::TestWithParam<StepCase> {};

TEST_P(GptStep, GivesTheWeightsOfThePlainLoop) {
  const StepCase& test = GetParam();
  const std::vector<torch::Tensor> expected = reference(test.frozen);
  expect_all_well(run_ranks({test.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    const auto model = tiny_gpt();
    if (test.frozen) freeze_positions(*model);
    const auto got = train(*communicator, *model, test.shares, rank, test.micro);
    if (!got.ok()) return got.error().message;
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (const double most = ((*got)[i] - expected[i]).abs().max().item<double>(); !(most < 5e-6))
        return concat("parameter ", i, " differs by ", most);
    return {};
  }));
}

INSTANTIATE_TEST_SUITE_P(Shapes, GptStep,
                         ::testing::Values(StepCase{"a", {12}, 12, false}, StepCase{"a", {12}, 5, false},
                                           StepCase{"aa", {6, 6}, 6, false}, StepCase{"aa", {7, 5}, 2, true},
                                           StepCase{"aab", {5, 4, 3}, 3, false}),
                         [](const auto& parameter) { return concat("case", parameter.index); });

// The trainer seeds torch's generator for each pass by its place in the epoch, so whichever rank a pass is on
// it drops the same. Processes, for threads would share the generator.
TEST(GptStep, DropsTheSameOnAnyNumberOfRanks) {
  const auto weights = [](const std::string& nodes, const std::vector<std::int64_t>& shares,
                          const char* rate) {
    std::vector<double> sums;
    const auto said = run_ranks({nodes, RunAs::processes}, [&](Result<Communicator>& communicator, int rank) {
      if (!communicator.ok()) return communicator.error().message;
      const auto model = tiny_gpt({{"dropout", rate}});
      const auto got = train(*communicator, *model, shares, rank, 2);
      if (!got.ok()) return got.error().message;
      std::string all;
      for (const torch::Tensor& values : *got)
        all += concat(std::setprecision(9), values.sum().item<double>(), " ");
      return all;
    });
    std::istringstream text(said[0]);
    for (double sum = 0; text >> sum;) sums.push_back(sum);
    EXPECT_GT(sums.size(), 20U) << said[0];
    for (const std::string& other : said) EXPECT_EQ(other, said[0]);
    return sums;
  };
  const std::vector<double> alone = weights("a", {12}, "0.3");
  const auto differs_from_alone = [&](const std::vector<double>& sums) {
    double most = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) most = std::max(most, std::abs(sums[i] - alone[i]));
    return most;
  };
  EXPECT_LT(differs_from_alone(weights("aa", {6, 6}, "0.3")), 1e-4);
  EXPECT_LT(differs_from_alone(weights("aab", {2, 6, 4}, "0.3")), 1e-4);
  EXPECT_GT(differs_from_alone(weights("a", {12}, "0.0")), 1e-2) << "nothing was dropped";
}

TEST(GptStep, AGradientThatIsNotFiniteLeavesTheWeightsWhereClippingIsOn) {
  const auto failures = run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    const auto model = tiny_gpt();
    auto trainer = Trainer::make(*communicator, *model, trainer_options());
    if (!trainer.ok()) return trainer.error().message;
    const std::vector<torch::Tensor> before = values_of(*model);
    if (rank == 1)
      model->module().named_parameters()["norm.bias"].register_hook(
          [](const torch::Tensor& gradient) { return gradient / 0; });
    const auto outcome = trainer->step({0, batch_samples, 0.1, 1, false}, passes_of(0, 6 * rank, 6, 6));
    if (outcome.ok()) return "the step was applied";
    const std::vector<torch::Tensor> after = values_of(*model);
    for (std::size_t i = 0; i < after.size(); ++i)
      if (!after[i].equal(before[i])) return "weights have changed";
    return outcome.error().message;
  });
  for (const std::string& failure : failures)
    EXPECT_EQ(failure,
              "a gradient is not finite at step 0; the weights are as they were: lower "
              "optimizer.learning_rate");
}

}  // namespace
}  // namespace paceline::testing
