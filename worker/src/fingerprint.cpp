#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/torch.h>

#include <array>
#include <bit>
#include <string_view>
#include <tuple>
#include <vector>

#include "autocast.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {
namespace {

constexpr std::array<std::string_view, 3> what = {
    "the number of threads", "LibTorch's version, how it was built or the instruction set that it uses",
    "the bits of a gradient that was computed as a trial (a math library, the processor or the kind of GPU)"};
static_assert(std::tuple_size_v<ComputeFingerprint> == what.size());

std::int64_t hash_of(std::string_view text) {
  std::uint64_t state = mix64(text.size());
  for (const char character : text) state = mix64(state ^ static_cast<unsigned char>(character));
  return static_cast<std::int64_t>(state);
}

torch::Tensor waves(torch::IntArrayRef shape, double frequency, torch::Device device) {
  const torch::Tensor places = torch::arange(c10::multiply_integers(shape), torch::kDouble);
  return (places * frequency).sin().to(torch::kFloat).view(shape).to(device);
}

/// A convolution, matrix products and sums, forward and backward.
std::int64_t trial(ComputeType compute, torch::Device device) {
  const torch::AutoGradMode with_gradients(true);
  const torch::Tensor filters = waves({16, 8, 3, 3}, 0.7, device).set_requires_grad(true);
  const torch::Tensor matrix = waves({50, 16 * 11 * 11}, 0.3, device).set_requires_grad(true);
  torch::Tensor loss;
  {
    const Autocast autocast(compute, device);
    const torch::Tensor images = waves({8, 8, 11, 11}, 1.1, device);
    const torch::Tensor hidden = torch::relu(torch::conv2d(images, filters, {}, 1, 1));
    loss = torch::log_softmax(torch::linear(hidden.flatten(1), matrix), 1).square().sum();
  }
  loss.backward();
  std::uint64_t state = 0;
  for (const torch::Tensor& tensor : {filters, matrix}) {
    const torch::Tensor gradient = tensor.grad().contiguous().to(torch::kCPU);
    const float* values = gradient.data_ptr<float>();
    for (std::int64_t i = 0; i < gradient.numel(); ++i)
      state = mix64(state ^ std::bit_cast<std::uint32_t>(values[i]));
  }
  return static_cast<std::int64_t>(state);
}

}  // namespace

ComputeFingerprint compute_fingerprint(ComputeType compute, const ComputeDevice& device) {
  // What is computed on a GPU does not depend on the host's threads.
  const std::int64_t threads = device.device.is_cpu() ? at::get_num_threads() : 0;
  return {threads, hash_of(at::show_config()), trial(compute, device.device)};
}

Status check_ranks_compute_alike(Communicator& communicator, const ComputeFingerprint& own) {
  std::vector<ComputeFingerprint> all(static_cast<std::size_t>(communicator.size()));
  PACELINE_TRY(communicator.all_gather(own.data(), all.data(), own.size(), DataType::i64));
  for (std::size_t rank = 1; rank < all.size(); ++rank)
    for (std::size_t i = 0; i < what.size(); ++i)
      if (all[rank][i] != all[0][i])
        return Error{ErrorCode::mismatch,
                     concat("rank ", rank, " cannot train reproducibly together with rank 0: they differ in ",
                            what[i], "; leave such nodes out, or set reproducible to false"),
                     static_cast<int>(rank)};
  return {};
}

}  // namespace paceline
