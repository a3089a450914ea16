#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// Where samples come from. Relative paths are relative to the working directory of `paceline train`.
struct DataSpec {
  std::string train;              ///< dataset folder, required
  std::string eval;               ///< dataset folder; empty: no evaluation
  std::string import_kind;        ///< `import:` makes the folders above on first use; empty: never
  std::string import_source;      ///< `source:` file or folder for that import; empty: the kind's own place
  std::string storage;            ///< of that import; empty: what suits the kind
  std::string size;               ///< of that import: ROWSxCOLUMNS of images; empty: as they are
  std::string tokenizer;          ///< of that import: of text; empty: bytes
  std::int64_t budget_mib = 256;  ///< memory of one rank's loader: of chunks cached, read ahead and in use
  std::int64_t threads = 1;       ///< of one rank's loader: they read, check, decode and augment
  double read_timeout_s = 60;     ///< a read that takes longer ends the job
};
/// Of `data.budget_mib` what training may use; the rest is for evaluation. The order of samples depends on
/// it.
[[nodiscard]] constexpr std::int64_t training_budget_bytes(const DataSpec& data) noexcept {
  return (data.budget_mib << 20) / 4 * 3;
}

/// What training makes of images at random, seeded per sample; evaluation takes their centre.
struct AugmentSpec {
  std::int64_t crop = 0;     ///< side of the square that is cut out; 0: all of the image
  std::int64_t padding = 0;  ///< width of a black border around the image, before cutting
  bool flip = false;         ///< mirror every second image
};

/// What a job learns, and so what its samples are.
inline constexpr std::string_view image_classification = "image-classification";
inline constexpr std::string_view language_modelling = "language-modelling";

/// The models that come with Paceline; the worker builds exactly these.
inline constexpr std::array<std::string_view, 4> model_kinds = {"cnn", "mlp", "resnet18", "gpt"};
/// The task that one of model_kinds is made for.
[[nodiscard]] constexpr std::string_view task_of_model(std::string_view kind) {
  return kind == "gpt" ? language_modelling : image_classification;
}

/// Either a built-in kind or a plugin, with options that the model itself understands.
struct ModelSpec {
  std::string kind;    ///< one of model_kinds; empty with a plugin
  std::string plugin;  ///< path of a shared library; empty with a kind
  std::map<std::string, std::string> options;
};

/// What forward and backward can compute on.
inline constexpr std::array<std::string_view, 2> devices = {"cpu", "gpu"};
/// What they can compute in; weights, gradients and sums are f32 in any case.
inline constexpr std::array<std::string_view, 3> compute_types = {"f32", "bf16", "f16"};

struct OptimizerSpec {
  std::string kind = "sgd";  ///< sgd, adamw
  double learning_rate = 0.05;
  double momentum = 0.0;                ///< sgd
  bool nesterov = false;                ///< sgd
  double weight_decay = 0.0;            ///< sgd: added to the gradient; adamw: decoupled
  bool decay_norms_and_biases = false;  ///< else tensors of fewer than two dimensions are not decayed
  double beta1 = 0.9;                   ///< adamw
  double beta2 = 0.999;                 ///< adamw
  double epsilon = 1e-8;                ///< adamw
  double clip_norm = 0.0;               ///< longest gradient that is applied as it is; 0: any
};

/// Factor on the learning rate as a function of the step.
struct ScheduleSpec {
  std::string kind = "constant";  ///< constant, cosine, step
  double warmup_epochs = 0.0;     ///< linear from 0 to 1 over these, before the schedule proper
  std::int64_t warmup_steps = 0;  ///< the same in steps, instead of warmup_epochs
  double final_factor = 0.0;      ///< cosine: the factor at the last step
  std::int64_t step_epochs = 1;   ///< step: the factor is multiplied by `gamma` every so many epochs
  double gamma = 0.1;             ///< step
};

struct BatchSpec {
  std::int64_t global = 0;  ///< samples per step over all ranks, required
  std::int64_t micro = 0;   ///< most samples in one pass; 0: a rank's whole share is one pass
  std::int64_t grain = 0;   ///< samples per grain; 0: chosen so that ranks.max ranks have 16 grains each
};

struct RanksSpec {
  std::int64_t min = 1;
  std::int64_t max = 4096;
  /// Options of sbatch with which the job may ask Slurm for more nodes by itself; empty: it does not.
  std::string grow;
};

/// The objectives by which a job's ranks can be chosen while it trains (docs/resizing.md).
inline constexpr std::array<std::string_view, 6> resize_objectives = {"none",     "throughput", "efficiency",
                                                                      "deadline", "cost",       "energy"};

/// By what the job changes its number of ranks by itself.
struct ResizeSpec {
  std::string objective = "none";
  double least_efficiency = 0.7;          ///< efficiency: floor of E(N)
  double deadline_s = 0;                  ///< deadline: the run's whole time; 0: there is none
  double most_slowdown = 2;               ///< cost, energy: over the fastest number of ranks
  double dwell_s = 30;                    ///< least time between two changes
  std::map<std::string, double> prices;   ///< per rank and hour, by kind of node
  std::map<std::string, double> power_w;  ///< per rank, by kind of node
};

/// When the training state is saved, so that a run can be resumed from it.
struct CheckpointSpec {
  std::int64_t every_steps = 0;  ///< 0: at the end of each epoch; -1: never
  std::int64_t keep = 3;         ///< the newest so many
};
/// `every_steps` for never.
inline constexpr std::int64_t no_checkpoints = -1;

/// What of a running job others can watch.
struct MetricsSpec {
  std::int64_t port = -1;  ///< where the coordinator serves Prometheus; 0: any free port; -1: it does not
};
/// `port` for none.
inline constexpr std::int64_t no_metrics = -1;

/// A job file, resolved: every default filled in. This is what the run directory keeps and workers receive.
struct Job {
  std::string name;
  DataSpec data;
  std::string task{image_classification};
  AugmentSpec augment;
  ModelSpec model;
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  BatchSpec batch;
  std::int64_t epochs = 0;  ///< required
  std::int64_t steps = 0;   ///< the job ends after so many steps, if its epochs have not ended it; 0: they do
  RanksSpec ranks;
  ResizeSpec resize;
  CheckpointSpec checkpoint;
  MetricsSpec metrics;
  std::string device = "cpu";   ///< what ranks compute on: one of devices
  std::string dtype = "f32";    ///< one of compute_types
  double loss_scale = 0;        ///< factor on the loss; 0: none, but with f16 one that follows the gradients
  std::int64_t threads = 0;     ///< compute threads per rank; 0: one for every core it owns
  std::int64_t eval_every = 1;  ///< epochs between evaluations; 0: only after the last
  std::int64_t seed = 1;
  bool rebalance = false;  ///< ranks that are slower get fewer samples
  /// The same weights, bit for bit, on any number of ranks. A grain is then one pass, of 32 samples where
  /// none is given, and a rank has one thread where none are given.
  bool reproducible = false;
};

/// Tokens that one sample of this job predicts: the option `context` of its model. 0 where samples are
/// images.
[[nodiscard]] std::int64_t tokens_per_sample(const Job& job);

/// A `--set key=value`: key is a dotted path (`optimizer.learning_rate`), value is YAML.
struct JobOverride {
  std::string key;
  std::string value;
};

/// Parses and checks a job file. Errors are one sentence with file, line, column and key; an unknown key
/// suggests the nearest one. Nothing outside the file is looked at, so that `plan` can use it anywhere.
[[nodiscard]] Result<Job> load_job(const std::string& path, const std::vector<JobOverride>& overrides);
/// The same from text; `source_name` stands for the file in errors.
[[nodiscard]] Result<Job> parse_job(const std::string& yaml, const std::string& source_name,
                                    const std::vector<JobOverride>& overrides);

/// JSON text of every field, under the job file's own keys; job_from_json reads it back exactly.
[[nodiscard]] std::string job_to_json(const Job& job);
[[nodiscard]] Result<Job> job_from_json(const std::string& json);

/// A value of a job file; true and false as they are written.
using JobValue = std::variant<std::int64_t, double, std::string>;
/// What the weights at the end depend on, by key: all of a job but where its data is imported from, who
/// trains it, and what is evaluated and saved meanwhile. Rounding apart, for who isn't `reproducible`.
[[nodiscard]] std::map<std::string, JobValue> deciding_values(const Job& job);
/// Equal for jobs whose deciding values are.
[[nodiscard]] std::string job_fingerprint(const Job& job);
/// `job` with other values, checked as those of a job file are.
[[nodiscard]] Result<Job> with_overrides(const Job& job, const std::vector<JobOverride>& overrides);

/// Every key with its range, default and meaning as a Markdown table: the one in docs/job-file.md.
[[nodiscard]] std::string job_fields_table();

}  // namespace paceline
