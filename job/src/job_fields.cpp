#include "job_fields.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::array<std::string_view, 2> tasks = {image_classification, language_modelling};
constexpr std::array<std::string_view, 2> optimizer_kinds = {"sgd", "adamw"};
constexpr std::array<std::string_view, 3> schedule_kinds = {"constant", "cosine", "step"};

constexpr std::int64_t most_samples = std::int64_t{1} << 30;  // products of two still fit 64 bits
constexpr std::int64_t most_epochs = 1'000'000;
constexpr std::int64_t most_steps = std::int64_t{1} << 30;
constexpr std::int64_t most_ranks = 4096;
constexpr std::int64_t most_kept = 1'000'000;
constexpr std::int64_t most_port = 65535;
constexpr double most_seconds = 3e9;  // a century
constexpr double most_loss_scale = 65536;
constexpr std::int64_t most_mib = std::int64_t{1} << 24;

constexpr OnlyWith sgd = {"optimizer.kind", "sgd"};
constexpr OnlyWith adamw = {"optimizer.kind", "adamw"};
constexpr OnlyWith cosine = {"schedule.kind", "cosine"};
constexpr OnlyWith step = {"schedule.kind", "step"};
constexpr OnlyWith efficiency = {"resize.objective", "efficiency"};
constexpr OnlyWith deadline = {"resize.objective", "deadline"};

constexpr NumberLimits positive = {.least_is_open = true};
constexpr NumberLimits below_one = {.greatest = 1, .greatest_is_open = true};

std::vector<Field> data_fields() {
  return {
      {"data.train", [](Job& j) -> Slot { return &j.data.train; }, AnyValue{},
       "folder of the dataset to train on", "datasets/fashion-mnist/train"},
      {"data.eval", [](Job& j) -> Slot { return &j.data.eval; }, AnyValue{},
       "folder of the dataset to evaluate on; none: no evaluation"},
      {"data.import", [](Job& j) -> Slot { return &j.data.import_kind; }, AnyValue{},
       "makes the folders above on first use, as `paceline data import` does"},
      {"data.source", [](Job& j) -> Slot { return &j.data.import_source; }, AnyValue{},
       "folder or file that `import` reads; none: the usual place of what is imported"},
      {"data.storage", [](Job& j) -> Slot { return &j.data.storage; }, AnyValue{},
       "how `import` stores samples: raw, lz4, zstd or jpeg; none: what suits the kind"},
      {"data.size", [](Job& j) -> Slot { return &j.data.size; }, AnyValue{},
       "what `import` scales images to, as ROWSxCOLUMNS; none: as they are"},
      {"data.tokenizer", [](Job& j) -> Slot { return &j.data.tokenizer; }, AnyValue{},
       "how `import` makes text into tokens: a SentencePiece model, or train:VOCABULARY; none: bytes"},
      {"data.budget_mib", [](Job& j) -> Slot { return &j.data.budget_mib; }, IntegerLimits{1, most_mib},
       "memory in MiB of one rank's loader"},
      {"data.threads", [](Job& j) -> Slot { return &j.data.threads; }, IntegerLimits{1, 256},
       "threads of one rank's loader, which read, check, decode and augment"},
      {"data.read_timeout_s", [](Job& j) -> Slot { return &j.data.read_timeout_s; }, positive,
       "seconds after which a read that has not returned ends the job"},
  };
}

std::vector<Field> augment_fields() {
  return {
      {"augment.crop", [](Job& j) -> Slot { return &j.augment.crop; }, IntegerLimits{0, 16384},
       "side of the square that training cuts out of an image at random, and evaluation from its centre; 0: "
       "all of it"},
      {"augment.padding", [](Job& j) -> Slot { return &j.augment.padding; }, IntegerLimits{0, 1024},
       "pixels of black border around an image before training cuts"},
      {"augment.flip", [](Job& j) -> Slot { return &j.augment.flip; }, AnyValue{},
       "training mirrors every second image, at random"},
  };
}

std::vector<Field> model_fields() {
  return {
      {"task", [](Job& j) -> Slot { return &j.task; }, Choices{tasks}, "what is learned"},
      {"model.kind", [](Job& j) -> Slot { return &j.model.kind; }, Choices{model_kinds},
       "a model that comes with Paceline; other keys of the map are its options"},
      {"model.plugin", [](Job& j) -> Slot { return &j.model.plugin; }, AnyValue{},
       "or a shared library with a model of your own; other keys of the map are its options"},
  };
}

std::vector<Field> optimizer_fields() {
  return {
      {"optimizer.kind", [](Job& j) -> Slot { return &j.optimizer.kind; }, Choices{optimizer_kinds},
       "the update rule"},
      {"optimizer.learning_rate", [](Job& j) -> Slot { return &j.optimizer.learning_rate; }, positive,
       "step size where the schedule's factor is 1"},
      {"optimizer.momentum", [](Job& j) -> Slot { return &j.optimizer.momentum; }, below_one,
       "part of the last update that is kept", "", sgd},
      {"optimizer.nesterov", [](Job& j) -> Slot { return &j.optimizer.nesterov; }, AnyValue{},
       "look ahead along the momentum", "", sgd},
      {"optimizer.weight_decay", [](Job& j) -> Slot { return &j.optimizer.weight_decay; }, NumberLimits{},
       "sgd: added to the gradient; adamw: decoupled from it"},
      {"optimizer.decay_norms_and_biases", [](Job& j) -> Slot { return &j.optimizer.decay_norms_and_biases; },
       AnyValue{}, "decay tensors of fewer than two dimensions as well"},
      {"optimizer.beta1", [](Job& j) -> Slot { return &j.optimizer.beta1; }, below_one,
       "memory of the mean of the gradient", "", adamw},
      {"optimizer.beta2", [](Job& j) -> Slot { return &j.optimizer.beta2; }, below_one,
       "memory of the mean of its square", "", adamw},
      {"optimizer.epsilon", [](Job& j) -> Slot { return &j.optimizer.epsilon; }, positive,
       "keeps the division away from zero", "", adamw},
      {"optimizer.clip_norm", [](Job& j) -> Slot { return &j.optimizer.clip_norm; }, NumberLimits{},
       "a gradient of a larger norm, over all parameters, is scaled down to it; 0: never"},
  };
}

std::vector<Field> schedule_fields() {
  return {
      {"schedule.kind", [](Job& j) -> Slot { return &j.schedule.kind; }, Choices{schedule_kinds},
       "how the learning rate changes over the job"},
      {"schedule.warmup_epochs", [](Job& j) -> Slot { return &j.schedule.warmup_epochs; }, NumberLimits{},
       "epochs, whole or not, in which the rate rises from 0; the schedule proper follows"},
      {"schedule.warmup_steps", [](Job& j) -> Slot { return &j.schedule.warmup_steps; },
       IntegerLimits{0, most_steps}, "the same in steps, instead of `warmup_epochs`"},
      {"schedule.final_factor", [](Job& j) -> Slot { return &j.schedule.final_factor; },
       NumberLimits{.greatest = 1}, "factor on the rate at the last step", "", cosine},
      {"schedule.step_epochs", [](Job& j) -> Slot { return &j.schedule.step_epochs; },
       IntegerLimits{1, most_epochs}, "epochs after which the rate is multiplied by `gamma`", "", step},
      {"schedule.gamma", [](Job& j) -> Slot { return &j.schedule.gamma; },
       NumberLimits{.greatest = 1, .least_is_open = true}, "that factor", "", step},
  };
}

std::vector<Field> batch_fields() {
  return {
      {"batch.global", [](Job& j) -> Slot { return &j.batch.global; }, IntegerLimits{1, most_samples},
       "samples per step over all ranks", "256"},
      {"batch.micro", [](Job& j) -> Slot { return &j.batch.micro; }, IntegerLimits{0, most_samples},
       "most samples in one pass, to save memory; 0: a rank's whole share is one pass, or each grain if "
       "`reproducible`"},
      {"batch.grain", [](Job& j) -> Slot { return &j.batch.grain; }, IntegerLimits{0, most_samples},
       "samples in the smallest unit of work that moves between ranks; 0: chosen, and 32 if `reproducible`"},
  };
}

std::vector<Field> run_fields() {
  return {
      {"epochs", [](Job& j) -> Slot { return &j.epochs; }, IntegerLimits{1, most_epochs},
       "how often every sample is used", "5"},
      {"steps", [](Job& j) -> Slot { return &j.steps; }, IntegerLimits{0, most_steps},
       "ends the job after so many steps, which the schedule then spans; 0: after all epochs"},
      {"ranks.min", [](Job& j) -> Slot { return &j.ranks.min; }, IntegerLimits{1, most_ranks},
       "fewest ranks that may train; a single number for `ranks` is both"},
      {"ranks.max", [](Job& j) -> Slot { return &j.ranks.max; }, IntegerLimits{1, most_ranks},
       "most ranks that may train"},
      {"ranks.grow", [](Job& j) -> Slot { return &j.ranks.grow; }, AnyValue{},
       "options of sbatch, with which the job asks Slurm for more nodes where it lacks cores for its ranks; "
       "none: it does not ask"},
      {"checkpoint.every_steps", [](Job& j) -> Slot { return &j.checkpoint.every_steps; },
       IntegerLimits{no_checkpoints, most_steps},
       "steps between checkpoints, from which a run can be resumed; 0: at the end of each epoch; -1: never"},
      {"checkpoint.keep", [](Job& j) -> Slot { return &j.checkpoint.keep; }, IntegerLimits{1, most_kept},
       "checkpoints that are kept, the newest ones; a damaged one is no use, so keep two at least"},
      {"metrics.port", [](Job& j) -> Slot { return &j.metrics.port; }, IntegerLimits{no_metrics, most_port},
       "port at which the coordinator serves metrics to Prometheus, with a password (docs/metrics.md); 0: "
       "any "
       "free one; -1: none"},
      {"device", [](Job& j) -> Slot { return &j.device; }, Choices{devices},
       "what ranks compute on: gpu gives each a GPU of its own (docs/gpu.md); a run that is not "
       "`reproducible` can be resumed on the other"},
      {"dtype", [](Job& j) -> Slot { return &j.dtype; }, Choices{compute_types},
       "what forward and backward compute in: bf16 and f16 are automatic mixed precision, with weights, "
       "gradients and their sums in f32 (docs/precision.md); f16 needs a GPU"},
      {"loss_scale", [](Job& j) -> Slot { return &j.loss_scale; }, NumberLimits{.greatest = most_loss_scale},
       "factor on the loss while gradients are computed, so that small ones don't vanish in 16 bits; 0: "
       "none, "
       "but with f16 one that follows the gradients"},
      {"threads", [](Job& j) -> Slot { return &j.threads; }, IntegerLimits{0, 4096},
       "compute threads per rank; 0: one for every core it owns, and one alone if `reproducible`"},
      {"eval_every", [](Job& j) -> Slot { return &j.eval_every; }, IntegerLimits{0, most_epochs},
       "epochs between evaluations; 0: only after the last"},
      {"rebalance", [](Job& j) -> Slot { return &j.rebalance; }, AnyValue{},
       "ranks that are slower get fewer samples per step, measured while they train (docs/rebalancing.md)"},
      {"seed", [](Job& j) -> Slot { return &j.seed; }, IntegerLimits{},
       "decides the order of samples and the first weights"},
      {"reproducible", [](Job& j) -> Slot { return &j.reproducible; }, AnyValue{},
       "the same weights, bit for bit, on any number of ranks; slower (docs/reproducible.md)"},
  };
}

std::vector<Field> resize_fields() {
  return {
      {"resize.objective", [](Job& j) -> Slot { return &j.resize.objective; }, Choices{resize_objectives},
       "what the job chooses its number of ranks for, while it trains (docs/resizing.md)"},
      {"resize.least_efficiency", [](Job& j) -> Slot { return &j.resize.least_efficiency; },
       NumberLimits{.greatest = 1, .least_is_open = true},
       "floor of the scaling efficiency, as many ranks as keep it", "", efficiency},
      {"resize.deadline_s", [](Job& j) -> Slot { return &j.resize.deadline_s; },
       NumberLimits{.greatest = most_seconds},
       "seconds from the run's beginning in which the job is to end, with as few ranks as do", "", deadline},
      {"resize.most_slowdown", [](Job& j) -> Slot { return &j.resize.most_slowdown; },
       NumberLimits{.least = 1, .greatest = 1000},
       "times that a step may take over the fastest number of ranks; with cost and energy"},
      {"resize.dwell_s", [](Job& j) -> Slot { return &j.resize.dwell_s; }, NumberLimits{.greatest = 86400},
       "least seconds between two changes"},
      {"resize.prices", [](Job& j) -> Slot { return &j.resize.prices; }, AnyValue{},
       "price of a rank for an hour, by kind of node: cpu, or the GPU's name as `paceline doctor` shows it"},
      {"resize.power_w", [](Job& j) -> Slot { return &j.resize.power_w; }, AnyValue{},
       "watts of a rank, by kind of node, where they cannot be measured"},
  };
}

/// In the order in which the reference page has them.
std::vector<Field> make_fields() {
  std::vector<Field> fields = {
      {"name", [](Job& j) -> Slot { return &j.name; }, FolderName{},
       "what the job is called; its runs go to `runs/<name>/`", "fashion-mnist"},
  };
  for (auto section : {data_fields, augment_fields, model_fields, optimizer_fields, schedule_fields,
                       batch_fields, run_fields, resize_fields})
    std::ranges::move(section(), std::back_inserter(fields));
  return fields;
}

std::string number_text(double value) {
  return concat(value);
}

std::string limits_text(const Field& field) {
  if (const auto* choices = std::get_if<Choices>(&field.limits)) return list_choices(*choices);
  std::string text = type_phrase(field);
  if (const auto* whole = std::get_if<IntegerLimits>(&field.limits)) {
    text += concat(", at least ", whole->least);
    if (whole->greatest != std::numeric_limits<std::int64_t>::max())
      text += concat(", at most ", whole->greatest);
  } else if (const auto* number = std::get_if<NumberLimits>(&field.limits)) {
    text += concat(number->least_is_open ? ", more than " : ", at least ", number->least);
    if (std::isfinite(number->greatest))
      text += concat(number->greatest_is_open ? ", less than " : ", at most ", number->greatest);
  }
  return text;
}

std::string default_text(const Field& field) {
  if (!field.example.empty()) return "required";
  if (field.key == "model.kind") return "required, unless a plugin is given";
  const auto value = field_value(field, Job{});
  if (const auto* text = std::get_if<std::string>(&value))
    return text->empty() ? "none" : concat("`", *text, "`");
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return concat("`", *whole, "`");
  if (const auto* number = std::get_if<double>(&value)) return concat("`", number_text(*number), "`");
  if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "`true`" : "`false`";
  return "none";
}

}  // namespace

const std::vector<Field>& job_fields() {
  static const std::vector<Field> fields = make_fields();
  return fields;
}

const std::vector<Section>& job_sections() {
  static const std::vector<Section> sections = {
      {"data"},
      {"augment"},
      {"model", {"model.kind"}, true},
      {"optimizer"},
      {"schedule", {"schedule.kind"}},
      {"batch"},
      {"ranks", {"ranks.min", "ranks.max"}},
      {"resize", {"resize.objective"}},
      {"checkpoint"},
      {"metrics"},
  };
  return sections;
}

const Field* find_field(std::string_view key) {
  const auto& fields = job_fields();
  const auto found = std::ranges::find(fields, key, &Field::key);
  return found == fields.end() ? nullptr : &*found;
}

const Section* find_section(std::string_view key) {
  const auto& sections = job_sections();
  const auto found = std::ranges::find(sections, key, &Section::key);
  return found == sections.end() ? nullptr : &*found;
}

std::string list_choices(Choices choices) {
  std::string text;
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) text += i + 1 == choices.size() ? " or " : ", ";
    text += choices[i];
  }
  return text;
}

std::string type_phrase(const Field& field) {
  if (const auto* choices = std::get_if<Choices>(&field.limits)) return list_choices(*choices);
  Job unused;
  const Slot slot = field.slot(unused);
  if (std::holds_alternative<std::int64_t*>(slot)) return "a whole number";
  if (std::holds_alternative<double*>(slot)) return "a number";
  if (std::holds_alternative<bool*>(slot)) return "true or false";
  if (std::holds_alternative<std::map<std::string, double>*>(slot))
    return "a map of names and numbers, each more than 0";
  if (std::holds_alternative<FolderName>(field.limits)) return "a name of letters, digits, '.', '_' and '-'";
  return "text";
}

FieldValue field_value(const Field& field, const Job& job) {
  Job copy = job;
  return std::visit([](auto* place) -> FieldValue { return *place; }, field.slot(copy));
}

std::string job_fields_table() {
  std::string table = "| key | value | default | meaning |\n|---|---|---|---|\n";
  for (const Field& field : job_fields()) {
    const std::string with =
        field.only_with.key.empty() ? "" : concat(" (only with ", field.only_with.value, ")");
    table += concat("| `", field.key, "` | ", limits_text(field), " | ", default_text(field), " | ",
                    field.meaning, with, " |\n");
  }
  return table;
}

}  // namespace paceline
