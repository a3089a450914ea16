#pragma once

#include <functional>
#include <memory>

#include "paceline/allreduce.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/job/protocol.hpp"
#include "paceline/train/models.hpp"
#include "paceline/train/trainer.hpp"
#include "weights.hpp"

namespace paceline {

// What every action of a worker begins with.

/// Compute threads and the memory allocator, before any tensor is made.
void configure_process(std::int64_t threads);

/// Collective: any rank's error in preparing (a missing dataset, a bad plugin) ends all with that error,
/// instead of leaving the others to wait.
[[nodiscard]] Status all_ready(Communicator& communicator, const Status& own);

/// Where this job's model computes: on the CPU, or the GPU that this worker was given. Settles how for the
/// whole process. PACELINE_GPU_STAND_IN=cpu puts the CPU in its place, for tests. Errors: see find_gpu().
[[nodiscard]] Result<ComputeDevice> compute_device(const Job& job);
/// Ends this process, whose GPU has broken, so that it counts as lost and the others go on. Without cleaning
/// up, which would ask the GPU.
[[noreturn]] void leave_at_once(const std::string& why);
/// What forward and backward of the job compute in.
[[nodiscard]] ComputeType compute_type(const Job& job);
[[nodiscard]] LossScaling loss_scaling(const Job& job);
/// What the job says about every loader; order, budget and what finishes a batch are left to the caller.
[[nodiscard]] LoaderOptions loader_options(const Job& job);
/// The job's model with parameters drawn from its seed.
[[nodiscard]] Result<std::unique_ptr<Model>> build_model(const Job& job, const InputSpec& input);
/// The model of a run, with its trained weights, ready to evaluate.
struct TrainedModel {
  InputSpec input;
  std::unique_ptr<Model> model;
};
[[nodiscard]] Result<TrainedModel> load_trained_model(const StartMessage& start);
[[nodiscard]] std::string model_path(const std::string& run_dir);

/// Collective: this rank's part of the dataset through the model, all parts added up. `on_own_part`: this
/// rank's is done, and it waits for the others.
[[nodiscard]] Result<EvalMessage> evaluate_dataset(Communicator& communicator, Model& model,
                                                   const InputSpec& input, const Dataset& dataset,
                                                   const Job& job, const ComputeDevice& device,
                                                   const std::function<void()>& on_own_part = {});

/// Peak resident memory of this process.
[[nodiscard]] std::int64_t peak_memory_bytes();

}  // namespace paceline
