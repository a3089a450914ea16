#pragma once

// What the training tests train: small models on samples that are a function of their positions.

#include <cstdlib>
#include <string>
#include <vector>

#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "support/compute_device.hpp"

namespace paceline::gpu_testing {

inline constexpr std::int64_t samples_of_pass = 8;

struct Workload {
  std::string model;
  ModelConfig config;
};

inline std::vector<Workload> workloads() {
  ModelConfig text{{32}, 0, {{"layers", "2"}, {"heads", "2"}, {"width", "32"}, {"context", "32"}}, 0};
  text.vocabulary = 64;
  return {
      {"cnn", {{1, 28, 28}, 10, {}, 0}}, {"resnet18", {{3, 32, 32}, 10, {{"width", "8"}}, 0}}, {"gpt", text}};
}

/// PACELINE_TEST_DEVICE=apart tries the tests themselves without a GPU.
inline bool needs_gpu() {
  return std::getenv("PACELINE_TEST_DEVICE") == nullptr;
}

/// Empty: LibTorch can train on a GPU here.
inline std::string reason_not_to_train() {
  const auto gpu = find_gpu();
  return gpu.ok() ? "" : gpu.error().message;
}

inline ComputeDevice tested() {
  if (!needs_gpu()) return testing::compute_device();
  static const ComputeDevice gpu = find_gpu().value();
  return gpu;
}

/// Passes [first, first + count) of a step, always the same.
inline std::vector<Pass> passes_of(const Workload& work, std::int64_t step, std::int64_t first,
                                   std::int64_t count) {
  std::vector<Pass> passes;
  for (std::int64_t pass = first; pass < first + count; ++pass) {
    std::vector<std::int64_t> shape = work.config.sample_shape;
    shape.insert(shape.begin(), samples_of_pass);
    const torch::Tensor places = torch::arange(c10::multiply_integers(shape)) + step * 1000 + pass * 77;
    if (work.config.vocabulary > 0) {
      const torch::Tensor ids = (places * 7 % 13).view(shape);
      passes.push_back({pass * samples_of_pass, {ids, ids.roll(-1, 1)}});
    } else {
      passes.push_back(
          {pass * samples_of_pass,
           {(places * 0.37).sin().to(torch::kFloat).view(shape), torch::arange(samples_of_pass) % 10}});
    }
  }
  return passes;
}

}  // namespace paceline::gpu_testing
