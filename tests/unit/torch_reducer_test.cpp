// paceline/torch.hpp: ranks with a part of the batch each against one module with the whole batch.

#include "paceline/torch.hpp"

#include <string>
#include <vector>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

/// Convolution, batch norm's buffers, a tied layer, a frozen one, one in f64, one that may stay unused.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    convolution =
        register_module("convolution", torch::nn::Conv2d(torch::nn::Conv2dOptions(1, 4, 3).padding(1)));
    first = register_module("first", torch::nn::Linear(4 * 8 * 8, 16));
    second = register_module("second", torch::nn::Linear(16, 16));
    unused = register_module("unused", torch::nn::Linear(16, 5));
    frozen = register_module("frozen", torch::nn::Linear(16, 16));
    last = register_module("last", torch::nn::Linear(16, 3));
    tied = register_parameter("tied", second->weight);
    counter = register_buffer("counter", torch::zeros({3}, torch::kLong));
    last->to(torch::kDouble);
    for (torch::Tensor& parameter : frozen->parameters()) parameter.requires_grad_(false);
  }
  torch::Tensor forward(const torch::Tensor& images, bool use_all = false) {
    torch::Tensor x = torch::relu(convolution(images)).flatten(1);
    x = frozen(torch::relu(second(torch::relu(first(x)))));
    x = torch::nn::functional::linear(x, tied);
    torch::Tensor y = last(x.to(torch::kDouble)).square().sum(1);
    if (use_all) y = y + unused(x).sum(1).to(torch::kDouble);
    return y;
  }
  torch::nn::Conv2d convolution{nullptr};
  torch::nn::Linear first{nullptr}, second{nullptr}, unused{nullptr}, frozen{nullptr}, last{nullptr};
  torch::Tensor tied, counter;
};
TORCH_MODULE(Net);

constexpr std::int64_t batch = 12;

torch::Tensor images() {
  return torch::arange(batch * 64, torch::kFloat).reshape({batch, 1, 8, 8}).sin();
}

/// The part of rank `rank` of `size`, all equal.
torch::Tensor part(int rank, int size) {
  return images().narrow(0, rank * batch / size, batch / size);
}

std::string difference(const torch::Tensor& got, const torch::Tensor& due) {
  if (got.defined() != due.defined()) return got.defined() ? "has a gradient" : "has no gradient";
  if (!got.defined()) return {};
  const double error = (got - due).abs().max().item<double>();
  const double scale = due.abs().max().item<double>();
  return error <= 1e-5 * scale + 1e-12 ? "" : concat("differs by ", error, " of ", scale);
}

torch::Tensor dense(const torch::Tensor& tensor) {
  return tensor.is_sparse() ? tensor.to_dense() : tensor;
}

std::string compare(torch::nn::Module& got, torch::nn::Module& due) {
  const auto expected = due.named_parameters();
  for (const auto& item : got.named_parameters())
    if (auto what = difference(item.value().grad(), expected[item.key()].grad()); !what.empty())
      return concat(item.key(), " ", what);
  return {};
}

/// `ranks` train side by side; what they have after finish() is what one module has with the whole batch.
void same_as_whole_batch(const Ranks& ranks, GradientReducerOptions options) {
  torch::set_num_threads(1);
  torch::manual_seed(1);
  Net whole;
  whole->forward(images()).mean().backward();
  std::vector<Net> modules;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    torch::manual_seed(1 + static_cast<std::uint64_t>(rank));  // only rank 0 begins with whole's weights
    modules.emplace_back();
    modules.back()->counter.fill_(rank + 7);
  }
  expect_all_well(run_ranks(ranks, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    Net module = modules[static_cast<std::size_t>(rank)];
    auto reducer = GradientReducer::make(*communicator, *module, options);
    if (!reducer.ok()) return reducer.error().message;
    if (module->counter[0].item<std::int64_t>() != 7) return "buffers were not broadcast";
    for (int step = 0; step < 3; ++step) {
      for (torch::Tensor& parameter : module->parameters()) parameter.mutable_grad() = torch::Tensor();
      const torch::Tensor mine = part(rank, ranks.size());
      for (int pass = 0; pass < options.passes; ++pass) {
        const auto chunk = mine.chunk(options.passes)[static_cast<std::size_t>(pass)];
        (module->forward(chunk).sum() / static_cast<double>(mine.size(0))).backward();
      }
      if (const Status reduced = reducer->finish(); !reduced.ok()) return reduced.error().message;
      if (auto what = compare(*module, *whole); !what.empty()) return concat("step ", step, ": ", what);
    }
    return {};
  }));
}

TEST(GradientReducer, GivesTheGradientsOfTheWholeBatch) {
  same_as_whole_batch({"aa"}, {});
  same_as_whole_batch({"ab"}, {});
  same_as_whole_batch({"aab"}, {});
}

TEST(GradientReducer, InManySmallBuckets) {
  same_as_whole_batch({"aa"}, {64, 1});
}

TEST(GradientReducer, OverSeveralPasses) {
  same_as_whole_batch({"aa"}, {std::size_t{1} << 20, 2});
}

TEST(GradientReducer, AParameterThatOneRankUsesGetsTheAverageOnAll) {
  torch::manual_seed(1);
  std::vector<Net> modules(2);
  for (Net& module : modules) module = Net();
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    Net module = modules[static_cast<std::size_t>(rank)];
    auto reducer = GradientReducer::make(*communicator, *module);
    if (!reducer.ok()) return reducer.error().message;
    module->forward(part(rank, 2), rank == 1).sum().backward();
    if (const Status reduced = reducer->finish(); !reduced.ok()) return reduced.error().message;
    // The bias of a layer that is summed: one per sample of rank 1, halved by the average.
    const torch::Tensor gradient = module->unused->bias.grad();
    if (!gradient.defined()) return "no gradient";
    return difference(gradient, torch::full({5}, batch / 2 / 2.0, torch::kFloat));
  }));
}

TEST(GradientReducer, ASparseGradientIsRefusedByName) {
  std::vector<torch::nn::Embedding> modules;
  for (int rank = 0; rank < 2; ++rank) modules.emplace_back(torch::nn::EmbeddingOptions(10, 4).sparse(true));
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto module = modules[static_cast<std::size_t>(rank)];
    auto reducer = GradientReducer::make(*communicator, *module);
    if (!reducer.ok()) return reducer.error().message;
    module->forward(torch::tensor({1, 2})).sum().backward();
    const Status reduced = reducer->finish();
    if (reduced.ok()) return "it was not refused";
    if (reduced.error().code != ErrorCode::unsupported) return reduced.error().message;
    if (reduced.error().message.find("weight is sparse") == std::string::npos) return reduced.error().message;
    return communicator->health().ok() ? "" : "the communicator is dead";
  }));
}

TEST(GradientReducer, ASparseGradientOfOneRankStopsAll) {
  std::vector<torch::nn::Embedding> modules;
  for (int rank = 0; rank < 2; ++rank)
    modules.emplace_back(torch::nn::EmbeddingOptions(10, 4).sparse(rank == 1));
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto module = modules[static_cast<std::size_t>(rank)];
    auto reducer = GradientReducer::make(*communicator, *module);
    if (!reducer.ok()) return reducer.error().message;
    module->forward(torch::tensor({1, 2})).sum().backward();
    const torch::Tensor before = module->weight.grad().clone();
    const Status reduced = reducer->finish();
    if (reduced.ok() || reduced.error().code != ErrorCode::unsupported) return "it was not refused";
    if (reduced.error().message.find(rank == 0 ? "another rank" : "use a dense one") == std::string::npos)
      return reduced.error().message;
    return torch::equal(dense(before), dense(module->weight.grad())) ? "" : "the gradient was changed";
  }));
}

TEST(GradientReducer, MorePassesThanAgreedAreAnError) {
  std::vector<torch::nn::Linear> modules;
  for (int rank = 0; rank < 2; ++rank) modules.emplace_back(3, 2);
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto module = modules[static_cast<std::size_t>(rank)];
    auto reducer = GradientReducer::make(*communicator, *module);
    if (!reducer.ok()) return reducer.error().message;
    for (int pass = 0; pass < 2; ++pass) module->forward(torch::ones({1, 3})).sum().backward();
    const Status reduced = reducer->finish();
    if (reduced.ok() || reduced.error().message.find("passes") == std::string::npos) return "not noticed";
    module->zero_grad();
    module->forward(torch::ones({1, 3})).sum().backward();
    return reducer->finish().ok() ? "" : "the next step is not well";
  }));
}

TEST(GradientReducer, ModulesThatDifferAndTypesThatCannotBeReduced) {
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    torch::nn::Linear complex_numbers(2, 2);
    complex_numbers->weight.set_data(torch::zeros({2, 2}, torch::kComplexFloat));
    auto refused = GradientReducer::make(*communicator, *complex_numbers);
    if (refused.ok() || refused.error().code != ErrorCode::unsupported) return "complex numbers";
    torch::nn::Linear module(2, 3 + rank);
    auto reducer = GradientReducer::make(*communicator, *module);
    if (reducer.ok() || reducer.error().code != ErrorCode::mismatch) return "other shapes";
    return {};
  }));
}

}  // namespace
}  // namespace paceline::testing
