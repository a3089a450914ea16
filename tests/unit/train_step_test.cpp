// The distributed step against the plainest training loop there is: one process, LibTorch's own optimizer,
// the whole batch at once. Whatever the ranks, shares and passes, the weights must come out the same.

#include <gtest/gtest.h>

#include <cmath>
#include <latch>
#include <limits>
#include <numeric>
#include <thread>
#include <utility>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "support/compute_device.hpp"
#include "support/ranks.hpp"
#include "support/small_model.hpp"
#include "support/trainer_state.hpp"

namespace paceline::testing {
namespace {

constexpr std::int64_t batch_samples = 24;
constexpr std::int64_t steps = 4;
constexpr double learning_rate = 0.1;

/// A rank's part of the batch, in passes.
std::vector<Pass> passes_of(std::int64_t step, std::int64_t first, std::int64_t count, std::int64_t micro) {
  std::vector<Pass> passes;
  for (std::int64_t at = first; at < first + count; at += micro) {
    const std::int64_t size = std::min(micro, first + count - at);
    passes.push_back({at, batch_of(step, at, size)});
  }
  return passes;
}

/// The plain loop.
std::vector<torch::Tensor> reference(SmallModel::Kind kind, double momentum) {
  SmallModel model(kind);
  std::vector<torch::Tensor> trained;
  for (const torch::Tensor& parameter : model.module().parameters())
    if (parameter.requires_grad() && (trained.empty() || !parameter.is_same(trained[0])))
      trained.push_back(parameter);
  torch::optim::SGD optimizer(trained, torch::optim::SGDOptions(learning_rate).momentum(momentum));
  for (std::int64_t step = 0; step < steps; ++step) {
    for (torch::Tensor& parameter : trained) parameter.mutable_grad() = torch::Tensor();
    (model.loss(batch_of(step, 0, batch_samples)).loss / batch_samples).backward();
    optimizer.step();
  }
  return values_of(model);
}

TrainerOptions options_with(double momentum) {
  TrainerOptions options;
  options.device = compute_device();
  options.optimizer.momentum = momentum;
  options.bucket_bytes = 256;  // several buckets even of a small model
  return options;
}

/// Samples of each rank; they add up to the batch.
using SampleShares = std::vector<std::int64_t>;

struct StepCase {
  SmallModel::Kind kind;
  std::string nodes;
  SampleShares shares;
  std::int64_t micro;
};

void PrintTo(const StepCase& test, std::ostream* out) {
  *out << "model " << test.kind << " on nodes " << test.nodes << ", passes of " << test.micro;
}

class Step : public ::testing::TestWithParam<StepCase> {};

TEST_P(Step, GivesTheWeightsOfThePlainLoop) {
  const StepCase& test = GetParam();
  const std::vector<torch::Tensor> expected = reference(test.kind, 0.9);
  expect_all_well(run_ranks({test.nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    at::set_num_threads(1);
    SmallModel model(test.kind);
    auto trainer = Trainer::make(*communicator, model, options_with(0.9));
    if (!trainer.ok()) return trainer.error().message;
    std::int64_t first = 0;
    for (int r = 0; r < rank; ++r) first += test.shares[static_cast<std::size_t>(r)];
    const std::int64_t count = test.shares[static_cast<std::size_t>(rank)];
    for (std::int64_t step = 0; step < steps; ++step) {
      const auto outcome = trainer->step({step, batch_samples, learning_rate, 77, false},
                                         passes_of(step, first, count, test.micro));
      if (!outcome.ok()) return outcome.error().message;
      if (!(outcome->gradient_norm > 0) || !(outcome->loss > 0)) return "no loss or gradient";
    }
    return difference(values_of(model), expected, 2e-6);
  }));
}

INSTANTIATE_TEST_SUITE_P(Shapes, Step,
                         ::testing::Values(StepCase{SmallModel::plain, "a", {24}, 24},
                                           StepCase{SmallModel::plain, "a", {24}, 5},
                                           StepCase{SmallModel::plain, "aa", {12, 12}, 24},
                                           StepCase{SmallModel::plain, "aaa", {9, 8, 7}, 24},
                                           StepCase{SmallModel::plain, "aab", {3, 20, 1}, 4},
                                           StepCase{SmallModel::plain, "aa", {24, 0}, 7},
                                           StepCase{SmallModel::frozen, "aa", {14, 10}, 24},
                                           StepCase{SmallModel::tied, "aa", {14, 10}, 6},
                                           StepCase{SmallModel::unused, "ab", {14, 10}, 6}),
                         [](const auto& parameter) { return concat("case", parameter.index); });

double squared_norm_of_mean_gradient(std::int64_t step, std::int64_t first, std::int64_t count) {
  SmallModel model(SmallModel::plain);
  (model.loss(batch_of(step, first, count)).loss / count).backward();
  double squares = 0;
  for (const torch::Tensor& parameter : model.module().parameters())
    squares += parameter.grad().square().sum().item<double>();
  return squares;
}

TEST(GradientSpread, IsThatOfTheRanksMeanGradientsWhateverTheirShares) {
  for (const SampleShares& shares : {SampleShares{8, 8, 8}, {3, 20, 1}, {10, 0, 14}}) {
    double expected = 0;
    std::int64_t at = 0, with_samples = 0;
    for (const std::int64_t count : shares) {
      if (count > 0) {
        expected += static_cast<double>(count) / batch_samples * squared_norm_of_mean_gradient(16, at, count);
        ++with_samples;
      }
      at += count;
    }
    expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      SmallModel model(SmallModel::plain);
      auto trainer = Trainer::make(*communicator, model, options_with(0));
      if (!trainer.ok()) return trainer.error().message;
      const auto own = static_cast<std::size_t>(rank);
      const std::int64_t first = std::accumulate(shares.begin(), shares.begin() + rank, std::int64_t{0});
      for (const std::int64_t step : {15, 16}) {
        const auto outcome =
            trainer->step({step, batch_samples, 0.0, 1, false}, passes_of(step, first, shares[own], 7));
        if (!outcome.ok()) return outcome.error().message;
        if (outcome->spread.has_value() != (step == 16)) return "it is known of another step";
        if (!outcome->spread) continue;
        if (outcome->spread->ranks != with_samples) return concat(outcome->spread->ranks, " ranks");
        const double found = outcome->spread->mean_squared_norm;
        if (std::abs(found - expected) > 1e-5 * expected) return concat(found, " instead of ", expected);
        if (outcome->gradient_norm * outcome->gradient_norm > found * (1 + 1e-5)) return "the mean is longer";
      }
      return {};
    }));
  }
}

// With batch norm, a batch cut in passes has other statistics than a whole one, so the weights differ from
// the plain loop's; what must hold is the moving average: the passes' statistics weighted by their samples.
TEST(Normalization, AveragesAreWeightedBySamplesAndEqualEverywhere) {
  std::vector<torch::Tensor> committed(3);
  expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::norms);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    const std::int64_t firsts[] = {0, 6, 20};
    const std::int64_t counts[] = {6, 14, 4};
    const auto outcome =
        trainer->step({0, batch_samples, 0.0, 1, false}, passes_of(0, firsts[rank], counts[rank], 7));
    if (!outcome.ok()) return outcome.error().message;
    trainer->prepare_evaluation();
    committed[static_cast<std::size_t>(rank)] = model.module().named_buffers()["norm.running_mean"].clone();
    return {};
  }));
  // The learning rate was 0, so the same model gives the same activations once more.
  SmallModel model(SmallModel::norms);
  const torch::NoGradGuard no_grad;
  torch::Tensor expected = torch::zeros({8});
  for (const auto& [first, count] : std::vector<std::pair<int, int>>{{0, 6}, {6, 7}, {13, 7}, {20, 4}}) {
    const auto& parameters = model.module().named_parameters();
    const torch::Tensor hidden = torch::relu(torch::nn::functional::linear(
        batch_of(0, first, count).inputs, parameters["first.weight"], parameters["first.bias"]));
    expected += hidden.mean(0) * count / batch_samples;
  }
  expected *= 0.1;  // the default momentum, from averages of zero
  for (const torch::Tensor& mean : committed) EXPECT_LT((mean - expected).abs().max().item<float>(), 1e-6);
  EXPECT_TRUE(committed[0].equal(committed[1]) && committed[0].equal(committed[2]));
}

TEST(StepFailures, DifferentPlansEndTheStepOnAllRanks) {
  const auto failures = run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    const std::vector<torch::Tensor> before = values_of(model);
    const StepSpec spec{0, batch_samples, 0.1, static_cast<std::uint64_t>(100 + 10 * rank), false};
    const auto outcome = trainer->step(spec, passes_of(0, 12 * rank, 12, 12));
    if (outcome.ok()) return "the step was applied";
    if (!difference(values_of(model), before, 0).empty()) return "weights have changed";
    return outcome.error().message;
  });
  for (const std::string& failure : failures)
    EXPECT_NE(failure.find("do not cut the step in the same way"), std::string::npos) << failure;
}

TEST(StepFailures, SamplesThatAreMissingAreNoticed) {
  const auto failures = run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    const auto outcome =
        trainer->step({0, batch_samples, 0.1, 1, false}, passes_of(0, 12 * rank, 12 - rank, 12));
    return outcome.ok() ? "the step was applied" : outcome.error().message;
  });
  for (const std::string& failure : failures)
    EXPECT_NE(failure.find("samples where the step has 24"), std::string::npos) << failure;
}

TEST(StepFailures, AModelThatThrowsOrIsSparseEndsAllRanksWithItsWords) {
  for (const bool sparse : {false, true}) {
    const auto failures = run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      SmallModel model(sparse ? SmallModel::sparse : SmallModel::plain);
      auto trainer = Trainer::make(*communicator, model, options_with(0));
      if (!trainer.ok()) return trainer.error().message;
      std::vector<Pass> passes = passes_of(0, 12 * rank, 12, 12);
      if (!sparse && rank == 1) passes[0].batch.inputs = torch::zeros({12, 5});
      const auto outcome = trainer->step({0, batch_samples, 0.1, 1, false}, passes);
      return outcome.ok() ? "the step was applied" : outcome.error().message;
    });
    for (const std::string& failure : failures)
      EXPECT_NE(failure.find(sparse ? "embedding.weight is sparse" : "the model failed"), std::string::npos)
          << failure;
  }
}

TEST(StepFailures, ALossThatIsNotFiniteIsAnErrorEverywhere) {
  const auto failures = run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    std::vector<Pass> passes = passes_of(0, 12 * rank, 12, 12);
    if (rank == 1) passes[0].batch.inputs[0][0] = std::numeric_limits<float>::quiet_NaN();
    const auto outcome = trainer->step({0, batch_samples, 0.1, 1, false}, passes);
    return outcome.ok() ? "the step was applied" : outcome.error().message;
  });
  for (const std::string& failure : failures)
    EXPECT_NE(failure.find("loss is not finite at step 0"), std::string::npos) << failure;
}

/// Counts a latch down once: when it is told to, or at the end of whoever failed before that.
class Countdown {
 public:
  Countdown(std::latch& latch, bool counts) : latch_(latch), counts_(counts) {}
  ~Countdown() { count(); }
  Countdown(const Countdown&) = delete;
  Countdown& operator=(const Countdown&) = delete;
  void count() {
    if (std::exchange(counts_, false)) latch_.count_down();
  }

 private:
  std::latch& latch_;
  bool counts_;
};

// ---- ranks that are lost, and ranks that come new -------------------------------------------------------

TEST(Elastic, AModelWhoseTrainerCouldNotBeMadeIsAsItWas) {
  // A joiner that loses the others while it joins, and joins again with the same model.
  SecondMeeting second("a");
  expect_all_well(run_ranks({"a"}, [&](Result<Communicator>& first, int) -> std::string {
    if (!first.ok()) return first.error().message;
    SmallModel model(SmallModel::norms);
    first->abort("it is lost");
    if (Trainer::make(*first, model, options_with(0)).ok()) return "made without the others";
    auto communicator = second.join(0);
    if (!communicator.ok()) return communicator.error().message;
    SmallModel fresh(SmallModel::norms);
    std::vector<torch::Tensor> averages;
    for (SmallModel* each : {&model, &fresh}) {
      auto trainer = Trainer::make(*communicator, *each, options_with(0));
      if (!trainer.ok()) return trainer.error().message;
      for (std::int64_t step = 0; step < 2; ++step)
        if (const auto outcome = trainer->step({step, batch_samples, 0.1, 77, false},
                                               passes_of(step, 0, batch_samples, batch_samples));
            !outcome.ok())
          return outcome.error().message;
      trainer->prepare_evaluation();
      averages.push_back(each->module().named_buffers()["norm.running_mean"].clone());
    }
    return averages[0].equal(averages[1]) ? "" : "its averages move at another pace";
  }));
}

TEST(Elastic, SurvivorsDoTheStepAgainAndEndWithTheSameWeights) {
  const std::vector<torch::Tensor> expected = reference(SmallModel::plain, 0.9);
  SecondMeeting second("ab");
  std::latch applied_two(2);  // by the survivors
  expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& first, int rank) -> std::string {
    Countdown at_least_now(applied_two, rank != 1);
    if (!first.ok()) return first.error().message;
    at::set_num_threads(1);
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*first, model, options_with(0.9));
    if (!trainer.ok()) return trainer.error().message;
    for (std::int64_t step = 0; step < 2; ++step)
      if (const auto outcome =
              trainer->step({step, batch_samples, learning_rate, 77, false}, passes_of(step, 8 * rank, 8, 8));
          !outcome.ok())
        return outcome.error().message;
    at_least_now.count();
    if (rank == 1) {
      applied_two.wait();  // or its end could still undo what the others have not seen committed
      first->abort("it is lost");
      return {};
    }
    const auto failed =
        trainer->step({2, batch_samples, learning_rate, 77, false}, passes_of(2, 8 * rank, 8, 8));
    if (failed.ok()) return "a step without one of its ranks was applied";
    if (trainer->holds_reduced()) return "it claims to hold what was never summed";
    if (trainer->roll_forward().ok()) return "it rolled forward from nothing";
    const int place = rank == 0 ? 0 : 1;
    auto communicator = second.join(place);
    if (!communicator.ok()) return communicator.error().message;
    if (const Status entered = trainer->enter(*communicator); !entered.ok()) return entered.error().message;
    for (std::int64_t step = 2; step < steps; ++step)
      if (const auto outcome = trainer->step({step, batch_samples, learning_rate, 78, false},
                                             passes_of(step, 12 * place, 12, 12));
          !outcome.ok())
        return outcome.error().message;
    const std::string off = difference(values_of(model), expected, 2e-6);
    trainer = Error{ErrorCode::internal, "its memory is the communicator's"};
    return off;
  }));
}

TEST(Elastic, AStepThatIsHeldCanBeAppliedWithoutTheOthers) {
  const std::vector<torch::Tensor> expected = reference(SmallModel::norms, 0);
  std::vector<std::vector<torch::Tensor>> applied(2);
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::norms);
    auto trainer = Trainer::make(*communicator, model, options_with(0.9));
    if (!trainer.ok()) return trainer.error().message;
    // What ends the commit doesn't matter: the gradients were reduced before it.
    const StepSpec spec{0, batch_samples, 0.1, static_cast<std::uint64_t>(100 + 10 * rank), false};
    if (trainer->step(spec, passes_of(0, 12 * rank, 12, 12)).ok()) return "the step was applied";
    if (!trainer->holds_reduced()) return "it does not hold what was summed";
    const auto outcome = trainer->roll_forward();
    if (!outcome.ok()) return outcome.error().message;
    if (!(outcome->gradient_norm > 0)) return "nothing was applied";
    if (outcome->parts.forward <= Duration::zero() || outcome->parts.commit <= Duration::zero())
      return "what was spent on it before is forgotten";
    if (trainer->holds_reduced()) return "it would apply the step twice";
    trainer->prepare_evaluation();
    applied[static_cast<std::size_t>(rank)] = values_of(model);
    applied[static_cast<std::size_t>(rank)].push_back(
        model.module().named_buffers()["norm.running_mean"].clone());
    return {};
  }));
  EXPECT_EQ(difference(applied[0], applied[1], 0), "");
  SmallModel untouched(SmallModel::norms);
  EXPECT_NE(difference(values_of(untouched), applied[0], 0), "");
}

TEST(Elastic, StateThatIsCopiedMakesAJoinerTheSame) {
  SecondMeeting second("aab");
  std::vector<std::vector<std::byte>> state;  // of a rank that has trained
  std::vector<std::vector<torch::Tensor>> weights(3);
  expect_all_well(run_ranks({"ab"}, [&](Result<Communicator>& first, int rank) -> std::string {
    if (!first.ok()) return first.error().message;
    TrainerOptions options = options_with(0);
    options.optimizer.kind = OptimizerKind::adamw;
    SmallModel model(SmallModel::norms);
    auto trainer = Trainer::make(*first, model, options);
    if (!trainer.ok()) return trainer.error().message;
    for (std::int64_t step = 0; step < 3; ++step)
      if (const auto outcome =
              trainer->step({step, batch_samples, 0.01, 77, false}, passes_of(step, 12 * rank, 12, 12));
          !outcome.ok())
        return outcome.error().message;
    if (rank == 0)
      for (const StatePart& part : state_of(*trainer))
        state.emplace_back(part.bytes.begin(), part.bytes.end());
    if (const Status met = first->barrier(); !met.ok()) return met.error().message;
    const auto go_on = [&](Trainer& one, Model& its, Communicator& with, int place) -> std::string {
      for (std::int64_t step = 3; step < 5; ++step)
        if (const auto outcome =
                one.step({step, batch_samples, 0.01, 78, false}, passes_of(step, 8 * place, 8, 8));
            !outcome.ok()) {
          with.abort("a test has failed");
          return outcome.error().message;
        }
      one.prepare_evaluation();
      auto& own = weights[static_cast<std::size_t>(place)];
      own = values_of(its);
      own.push_back(its.module().named_buffers()["norm.running_var"].clone());
      return {};
    };
    std::string joiners;
    std::thread joiner;
    if (rank == 0)
      joiner = std::thread([&] {
        auto communicator = second.join(2);
        SmallModel fresh(SmallModel::norms);
        // Whatever it had drawn before must not matter.
        for (torch::Tensor& parameter : fresh.module().parameters()) parameter.detach().fill_(9);
        TrainerOptions late_options = options;
        late_options.share_state = false;
        auto late = communicator.ok() ? Trainer::make(*communicator, fresh, late_options)
                                      : Result<Trainer>(communicator.error());
        if (!late.ok()) return void(joiners = late.error().message);
        std::size_t i = 0;
        for (const StatePart& part : state_of(*late)) std::ranges::copy(state[i++], part.bytes.begin());
        if (const Status adopted = late->adopt_state(); !adopted.ok())
          return void(joiners = adopted.error().message);
        joiners = go_on(*late, fresh, *communicator, 2);
      });
    auto communicator = second.join(rank);
    std::string failure = communicator.ok() ? "" : communicator.error().message;
    if (failure.empty())
      if (const Status entered = trainer->enter(*communicator); !entered.ok())
        failure = entered.error().message;
    if (failure.empty()) failure = go_on(*trainer, model, *communicator, rank);
    if (joiner.joinable()) joiner.join();
    trainer = Error{ErrorCode::internal, "its memory is the communicator's"};
    return failure.empty() ? joiners : failure;
  }));
  EXPECT_EQ(difference(weights[0], weights[1], 0), "");
  EXPECT_EQ(difference(weights[0], weights[2], 0), "");
}

TEST(Consumed, IsTheSumModulo2To64OnEveryRank) {
  // Full limbs, a sum that wraps around, and a rank without a part of the step.
  const std::vector<std::uint64_t> parts = {0xffffffffffffffffU, 0x0123456789abcdefU, 0x8000000000000001U};
  expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::norms);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    for (std::int64_t step = 0; step < 3; ++step) {
      StepSpec spec{step, batch_samples, 0.1, 1, false};
      spec.consumed = parts[static_cast<std::size_t>(rank)] * static_cast<std::uint64_t>(step);
      const auto outcome = trainer->step(spec, passes_of(step, 12 * rank, rank == 2 ? 0 : 12, 5));
      if (!outcome.ok()) return outcome.error().message;
      const std::uint64_t expected = (parts[0] + parts[1] + parts[2]) * static_cast<std::uint64_t>(step);
      if (outcome->consumed != expected) return concat("step ", step, " gives ", outcome->consumed);
    }
    return {};
  }));
}

TEST(StepVotes, OneRankThatWantsToStopStopsAllAfterTheSameCommit) {
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SmallModel model(SmallModel::plain);
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    for (std::int64_t step = 0; step < 3; ++step) {
      const bool wants = rank == 2 && step == 2;
      const auto outcome =
          trainer->step({step, batch_samples, 0.1, 1, wants}, passes_of(step, 8 * rank, 8, 8));
      if (!outcome.ok()) return outcome.error().message;
      if (outcome->stop != (step == 2)) return concat("stop is ", outcome->stop, " at step ", step);
    }
    return {};
  }));
}

/// Takes its time in both directions.
class SlowModel final : public SmallModel {
 public:
  SlowModel(Duration forward, Duration backward)
      : SmallModel(plain), forward_(forward), backward_(backward) {}
  torch::Tensor forward(const torch::Tensor& inputs) override {
    std::this_thread::sleep_for(forward_);
    torch::Tensor outputs = SmallModel::forward(inputs);
    outputs.register_hook([this](const torch::Tensor&) { std::this_thread::sleep_for(backward_); });
    return outputs;
  }

 private:
  Duration forward_, backward_;
};

/// What a rank spent on a step up to its commit travels with that commit.
TEST(StepVotes, WordsAreAskedForOnceTheStepIsSummedUp) {
  using std::chrono::milliseconds;
  expect_all_well(run_ranks({"aab"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SlowModel model(milliseconds(rank == 1 ? 20 : 0), {});
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    StepParts own;
    StepSpec spec{0, batch_samples, 0.1, 1, false};
    spec.words = [&](const StepParts& parts) -> std::vector<std::int64_t> {
      own = parts;
      return {rank == 1 ? parts.forward.count() : StepSpec::nothing_said, StepSpec::nothing_said, rank};
    };
    const auto outcome = trainer->step(spec, passes_of(0, 8 * rank, 8, 8));
    if (!outcome.ok()) return outcome.error().message;
    if (outcome->words.size() != 3) return concat(outcome->words.size(), " words were heard");
    if (outcome->words[0] < Duration(milliseconds(20)).count()) return "rank 1 forward was not heard";
    if (outcome->words[1] != StepSpec::nothing_said || outcome->words[2] != 0) return "not the least";
    if (own.forward != outcome->parts.forward || own.reduce != outcome->parts.reduce) return "other parts";
    if (own.commit != Duration::zero()) return "the commit was over already";
    return {};
  }));
}

TEST(StepParts, SayWhereTheTimeWentAndAddUp) {
  using std::chrono::milliseconds;
  expect_all_well(run_ranks({"aa"}, [](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    SlowModel model(milliseconds(rank == 1 ? 20 : 0), milliseconds(rank == 1 ? 10 : 0));
    auto trainer = Trainer::make(*communicator, model, options_with(0));
    if (!trainer.ok()) return trainer.error().message;
    const SteadyClock clock;
    for (std::int64_t step = 0; step < 3; ++step) {
      const std::vector<Pass> passes = passes_of(step, 12 * rank, 12, 4);  // three
      const Instant began = clock.now();
      const auto outcome = trainer->step({step, batch_samples, 0.1, 1, false}, passes);
      const Duration took = clock.now() - began;
      if (!outcome.ok()) return outcome.error().message;
      const auto& [forward, backward, reduce, commit, optimizer] = outcome->parts;
      const Duration sum = forward + backward + reduce + commit + optimizer;
      if (sum > took || sum < took * 0.8) return concat("parts of ", to_ms(sum), " in ", to_ms(took), " ms");
      if (std::min({forward, backward, commit, optimizer}) <= Duration::zero()) return "a part took no time";
      if (rank == 1 && forward < milliseconds(60)) return concat("forward took ", to_ms(forward), " ms");
      if (rank == 1 && backward < milliseconds(30)) return concat("backward took ", to_ms(backward), " ms");
      // From the second step on both begin together.
      if (rank == 0 && step > 0 && reduce < milliseconds(45)) return concat("waited ", to_ms(reduce), " ms");
      if (rank == 0 && step > 0 && forward + backward > reduce) return "what it waited is not its own part";
    }
    return {};
  }));
}

TEST(Evaluate, CountsEverySampleOnceWhateverTheSplit) {
  const auto run = [](const std::string& nodes, const SampleShares& shares) {
    std::vector<Evaluation> results(shares.size());
    expect_all_well(run_ranks({nodes}, [&](Result<Communicator>& communicator, int rank) -> std::string {
      if (!communicator.ok()) return communicator.error().message;
      SmallModel model(SmallModel::plain);
      model.module().eval();
      std::int64_t at = 0;
      for (int r = 0; r < rank; ++r) at += shares[static_cast<std::size_t>(r)];
      const std::int64_t end = at + shares[static_cast<std::size_t>(rank)];
      const auto next = [&]() -> Result<Batch> {
        if (at == end) return Batch{};
        const std::int64_t size = std::min<std::int64_t>(10, end - at);
        at += size;
        return batch_of(0, at - size, size);
      };
      const auto evaluation = evaluate(*communicator, model, next);
      if (!evaluation.ok()) return evaluation.error().message;
      results[static_cast<std::size_t>(rank)] = *evaluation;
      return {};
    }));
    return results;
  };
  const Evaluation whole = run("a", {100})[0];
  EXPECT_EQ(whole.samples, 100);
  for (const Evaluation& part : run("aab", {51, 0, 49})) {
    EXPECT_EQ(part.samples, 100);
    EXPECT_EQ(part.accuracy, whole.accuracy);
    EXPECT_NEAR(part.loss, whole.loss, 1e-6);
  }
}

}  // namespace
}  // namespace paceline::testing
