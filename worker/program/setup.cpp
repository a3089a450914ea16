#include "setup.hpp"

#include <ATen/Parallel.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "batches.hpp"
#include "inputs.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// Forward only: large enough that the pass's overhead does not count, small enough for the activations.
constexpr std::int64_t eval_pass_samples = 512;
constexpr std::int64_t eval_pass_tokens = 8192;
constexpr std::int64_t eval_grain_samples = 32;
constexpr std::int64_t most_eval_budget_bytes = std::int64_t{32} << 20;

/// Most samples of one pass.
std::int64_t eval_micro(const Job& job, const InputSpec& input) {
  std::int64_t most = eval_pass_samples;
  if (input.vocabulary > 0)
    most = std::clamp<std::int64_t>(eval_pass_tokens / input.sample_shape[0], 1, most);
  return job.batch.micro > 0 ? std::min(job.batch.micro, most) : most;
}

/// A rank's share of the dataset in passes.
Loader::Source evaluation_source(PositionRange part, std::int64_t micro) {
  std::vector<PositionRange> cut = passes(part, micro);
  return [cut = std::move(cut), next = std::size_t{0}]() mutable -> std::optional<LoadRequest> {
    if (next == cut.size()) return std::nullopt;
    const PositionRange range = cut[next++];
    return LoadRequest{0, range.first, range.count};
  };
}

}  // namespace

void configure_process(std::int64_t threads) {
  at::set_num_threads(static_cast<int>(threads));
  at::set_num_interop_threads(1);
  // Every step allocates tensors of the same sizes: memory that went back to the kernel in between would have
  // to be zeroed again, page by page, at each step. 32 MiB is the allocator's own upper limit.
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
}

Status all_ready(Communicator& communicator, const Status& own) {
  if (!own.ok()) communicator.abort(own.error().message);
  const Status others = communicator.barrier();
  return own.ok() ? others : own;
}

Result<ComputeDevice> compute_device(const Job& job) {
  if (job.device == "cpu") return ComputeDevice{};
  if (environment("PACELINE_GPU_STAND_IN") == "cpu") return ComputeDevice{torch::kCPU, true};
  set_gpu_arithmetic({.deterministic = job.reproducible, .tries_ways = !job.rebalance});
  return find_gpu();
}

void leave_at_once(const std::string& why) {
  std::fprintf(stderr, "paceline-worker: %s\n", why.c_str());
  std::fflush(stderr);
  ::_exit(1);
}

ComputeType compute_type(const Job& job) {
  if (job.dtype == "bf16") return ComputeType::bf16;
  return job.dtype == "f16" ? ComputeType::f16 : ComputeType::f32;
}

LossScaling loss_scaling(const Job& job) {
  constexpr double first_of_f16 = 65536;
  if (job.loss_scale > 0) return {.first = job.loss_scale};
  if (compute_type(job) == ComputeType::f16) return {.first = first_of_f16, .follows = true};
  return {};
}

LoaderOptions loader_options(const Job& job) {
  LoaderOptions options;
  options.threads = static_cast<int>(job.data.threads);
  options.read_timeout =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(job.data.read_timeout_s));
  return options;
}

Result<std::unique_ptr<Model>> build_model(const Job& job, const InputSpec& input) {
  const ModelConfig config{input.sample_shape, input.classes, job.model.options, input.vocabulary};
  torch::manual_seed(static_cast<std::uint64_t>(job.seed));
  if (!job.model.plugin.empty()) return load_plugin(job.model.plugin, config);
  return make_model(job.model.kind, config);
}

std::string model_path(const std::string& run_dir) {
  return concat(run_dir, "/model.safetensors");
}

Result<TrainedModel> load_trained_model(const StartMessage& start) {
  TrainedModel trained;
  PACELINE_ASSIGN(trained.input, load_input_spec(model_path(start.run_dir)));
  PACELINE_ASSIGN(trained.model, build_model(start.job, trained.input));
  trained.model->module().to(torch::kCPU);  // one of somebody else's may have chosen another place
  std::vector<NamedWeight> weights = weights_of(trained.model->module());
  PACELINE_TRY(load_safetensors(model_path(start.run_dir), weights));
  trained.model->module().eval();
  return trained;
}

Result<EvalMessage> evaluate_dataset(Communicator& communicator, Model& model, const InputSpec& input,
                                     const Dataset& dataset, const Job& job, const ComputeDevice& device,
                                     const std::function<void()>& on_own_part) {
  const DatasetInfo& info = dataset.info();
  PACELINE_ASSIGN(InputMaker inputs, InputMaker::for_evaluation(info, input));
  inputs.compute_on(device);
  // Ranks without a grain have nothing to do, and still take part in the sum.
  const std::int64_t grains = grain_count(info.samples, eval_grain_samples);
  Shares shares(static_cast<std::size_t>(communicator.size()), 0);
  for (std::int64_t grain = 0; grain < grains; ++grain)
    ++shares[static_cast<std::size_t>(grain % communicator.size())];
  const PositionRange part = rank_range({0, info.samples}, eval_grain_samples, shares, communicator.rank());
  LoaderOptions options = loader_options(job);
  options.order.shuffle = false;
  options.budget_bytes =
      std::min(most_eval_budget_bytes, (job.data.budget_mib << 20) - training_budget_bytes(job.data));
  options.prefetch = 2;
  options.finish = [&inputs](SampleBatch& batch) { return inputs.finish(batch); };
  Loader loader(dataset, options, evaluation_source(part, eval_micro(job, input)));
  std::optional<SampleBatch> batch;  // the tensors lie in its memory
  const auto next = [&]() -> Result<Batch> {
    PACELINE_ASSIGN(batch, loader.next());
    if (!batch.has_value() && on_own_part) on_own_part();
    if (!batch.has_value()) return Batch{};
    return inputs.tensors(*batch, 0, batch->size());
  };
  auto sums = evaluate(communicator, model, next, compute_type(job), leave_at_once);
  if (!sums.ok()) {
    communicator.abort(sums.error().message);
    return std::move(sums).error();
  }
  EvalMessage message{0, sums->samples, sums->loss, {}, {}};
  if (input.vocabulary > 0)
    message.perplexity = std::exp(sums->loss);
  else
    message.accuracy = sums->accuracy;
  return message;
}

std::int64_t peak_memory_bytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace paceline
