// A LibTorch training loop as it was, plus the four lines that are marked: each rank takes its share of the
// batch, and all ranks have the same weights after every step.

#include <paceline/torch.hpp>

#include <cstdio>

int main() {
  auto communicator = paceline::Communicator::from_environment();  // 1
  if (!communicator.ok()) {
    std::fprintf(stderr, "%s\n", communicator.error().message.c_str());
    return 1;
  }
  const int rank = communicator->rank();
  const int size = communicator->size();

  torch::manual_seed(rank);  // different weights, which rank 0's replace
  torch::nn::Sequential module(torch::nn::Linear(8, 32), torch::nn::Tanh(), torch::nn::Linear(32, 1));
  auto reducer = paceline::GradientReducer::make(*communicator, *module);  // 2
  if (!reducer.ok()) {
    std::fprintf(stderr, "%s\n", reducer.error().message.c_str());
    return 1;
  }
  torch::optim::SGD optimizer(module->parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));

  constexpr std::int64_t batch = 64;
  const torch::Tensor inputs = torch::arange(batch * 8, torch::kFloat).reshape({batch, 8}).sin();
  const torch::Tensor targets = inputs.sum(1, true);
  const auto mine = torch::indexing::Slice(rank, torch::indexing::None, size);
  for (int step = 0; step < 300; ++step) {
    optimizer.zero_grad();
    torch::mse_loss(module->forward(inputs.index({mine})), targets.index({mine})).backward();
    const paceline::Status reduced = reducer->finish();  // 3
    if (!reduced.ok()) {                                 // 4
      std::fprintf(stderr, "%s\n", reduced.error().message.c_str());
      return 1;
    }
    optimizer.step();
  }
  const double loss = torch::mse_loss(module->forward(inputs), targets).item<double>();
  double weights = 0;
  for (const torch::Tensor& parameter : module->parameters()) weights += parameter.sum().item<double>();
  std::printf("rank %d of %d: loss %.4f, weights %.17g\n", rank, size, loss, weights);
  return loss < 0.05 ? 0 : 2;
}
