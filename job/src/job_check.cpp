// From a tree of keys and values to a Job: which keys there are, and what doesn't go together.
#include <algorithm>
#include <map>

#include "job_fields.hpp"
#include "job_tree.hpp"
#include "job_value.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t default_context = 128;
constexpr std::int64_t reproducible_grain = 32;
constexpr std::int64_t most_context = 1 << 16;

std::string last_part(std::string_view dotted) {
  return std::string(dotted.substr(dotted.rfind('.') + 1));  // npos + 1 is 0: the whole of it
}

/// Top-level keys, or those of one section without its name.
std::vector<std::string> keys_of(const Section* section) {
  std::vector<std::string> keys;
  for (const Field& field : job_fields()) {
    const std::size_t dot = field.key.find('.');
    if (section == nullptr) {
      const auto top = std::string(field.key.substr(0, dot));
      if (keys.empty() || keys.back() != top) keys.push_back(top);
    } else if (dot != std::string_view::npos && field.key.substr(0, dot) == section->key) {
      keys.push_back(last_part(field.key));
    }
  }
  return keys;
}

Error unknown_key(const TreeEntry& entry, const Section* section) {
  const std::string prefix = section == nullptr ? "" : concat(section->key, ".");
  const std::string unknown = concat("unknown key ", quote_for_error(prefix + entry.key));
  const auto did_you_mean = [&](std::string_view key) {
    return mistake(entry.where, concat(unknown, ": did you mean \"", key, "\"?"));
  };
  for (const Field& field : job_fields())
    if (last_part(field.key) == entry.key) return did_you_mean(field.key);
  const std::vector<std::string> keys = keys_of(section);
  if (const std::string near = nearest(entry.key, keys); !near.empty()) return did_you_mean(prefix + near);
  const std::vector<std::string_view> views(keys.begin(), keys.end());
  return mistake(entry.where, concat(unknown, ": ", section == nullptr ? "a job" : section->key, " takes ",
                                     list_choices(views)));
}

/// Collects what a tree gives, then fills in and checks a Job.
class JobBuilder {
 public:
  JobBuilder(const std::string& source, TreeOrigin origin) : source_(source), origin_(origin) {}

  Result<Job> build(const Tree& root) {
    if (root.kind != Tree::Kind::map) return not_a_map(root, "a job");
    for (const TreeEntry& entry : root.entries) PACELINE_TRY(collect(entry));
    for (const Field& field : job_fields()) PACELINE_TRY(fill_in(field));
    if (origin_ == TreeOrigin::people) PACELINE_TRY(check_only_with());
    PACELINE_TRY(check_model());
    PACELINE_TRY(check_together());
    return std::move(job_);
  }

 private:
  static Error not_a_map(const Tree& value, std::string_view what) {
    const std::string_view is = value.kind == Tree::Kind::list   ? "a list"
                                : value.kind == Tree::Kind::null ? "empty"
                                                                 : "a single value";
    return mistake(value.where, concat(what, " is ", is, ": it must be a map of keys and values"));
  }

  Status collect(const TreeEntry& entry) {
    const Section* section = find_section(entry.key);
    if (section == nullptr) {
      const Field* field = find_field(entry.key);
      if (field == nullptr) return unknown_key(entry, nullptr);
      if (const std::size_t dot = entry.key.find('.'); dot != std::string::npos)
        return mistake(entry.where,
                       concat("\"", entry.key, "\" is a map in a job file: write ", entry.key.substr(0, dot),
                              ": {", entry.key.substr(dot + 1), ": ...}"));
      given_[field->key] = &entry.value;
      return {};
    }
    given_[section->key] = &entry.value;
    if (entry.value.kind != Tree::Kind::map) return not_a_map(entry.value, section->key);
    for (const TreeEntry& inner : entry.value.entries) PACELINE_TRY(collect_inner(*section, inner));
    return {};
  }

  Status collect_inner(const Section& section, const TreeEntry& entry) {
    if (const Field* field = find_field(concat(section.key, ".", entry.key))) {
      given_[field->key] = &entry.value;
      return {};
    }
    if (!section.takes_options) return unknown_key(entry, &section);
    if (entry.value.kind != Tree::Kind::scalar)
      return mistake(entry.value.where,
                     concat(section.key, ".", entry.key, ": an option of a model must be a single value"));
    if (entry.key.empty() || has_control_character(entry.key))
      return mistake(entry.where,
                     concat("an option of a model cannot be called ", quote_for_error(entry.key)));
    job_.model.options[entry.key] = entry.value.text;
    if (entry.key == "context") context_where_ = entry.value.where;
    return {};
  }

  Status fill_in(const Field& field) {
    if (const auto found = given_.find(field.key); found != given_.end())
      return assign(field, *found->second, job_);
    if (field.example.empty()) return {};
    return mistake(
        blame({field.key.substr(0, field.key.find('.'))}),
        concat("\"", field.key, "\" is missing: it is ", field.meaning, ", for example ", field.example));
  }

  /// Where the first of these keys stands that was given; one from the command line goes first.
  [[nodiscard]] std::string blame(std::initializer_list<std::string_view> keys) const {
    std::string where = source_;
    for (const std::string_view key : keys) {
      const auto found = given_.find(key);
      if (found == given_.end()) continue;
      if (found->second->where.starts_with("--set ")) return found->second->where;
      if (where == source_) where = found->second->where;
    }
    return where;
  }

  Status check_only_with() {
    for (const Field& field : job_fields()) {
      if (field.only_with.key.empty() || !given_.contains(field.key)) continue;
      const std::string kind = std::get<std::string>(field_value(*find_field(field.only_with.key), job_));
      if (kind != field.only_with.value)
        return mistake(blame({field.key}), concat(field.key, " belongs to ", field.only_with.value, ", and ",
                                                  field.only_with.key, " is ", kind, ": remove it or set ",
                                                  field.only_with.key, " to ", field.only_with.value));
    }
    return {};
  }

  Status check_model() {
    const ModelSpec& model = job_.model;
    if (!model.kind.empty() && !model.plugin.empty())
      return mistake(blame({"model.plugin", "model"}),
                     "a model has a kind or a plugin, not both: remove one of them");
    if (model.kind.empty() && model.plugin.empty())
      return mistake(blame({"model"}),
                     concat(given_.contains("model") ? "\"model.kind\"" : "\"model\"", " is missing: it is ",
                            list_choices(Choices{model_kinds}), ", or a map {plugin: ./libmine.so}"));
    PACELINE_TRY(check_task());
    return check_context();
  }

  /// A plugin may be for either task; it sees for itself what samples it gets.
  Status check_task() {
    const std::string& kind = job_.model.kind;
    if (kind.empty() || task_of_model(kind) == job_.task) return {};
    std::vector<std::string_view> fitting;
    for (const std::string_view other : model_kinds)
      if (task_of_model(other) == job_.task) fitting.push_back(other);
    return mistake(
        blame({"model.kind", "model", "task"}),
        concat("model.kind is ", kind, ", a model for ", task_of_model(kind), ", and task is ", job_.task,
               ": set task to ", task_of_model(kind), " or model.kind to ", list_choices(fitting)));
  }

  /// The one option that is not the model's alone: it says how long the samples are.
  Status check_context() {
    const auto option = job_.model.options.find("context");
    if (job_.task != language_modelling || option == job_.model.options.end()) return {};
    if (parse_integer(option->second, 1, most_context)) return {};
    return mistake(context_where_, concat("model.context is ", quote_for_error(option->second),
                                          ": it must be a whole number, at least 1, at most ", most_context));
  }

  Status check_import() {
    const DataSpec& data = job_.data;
    if (!data.import_kind.empty()) return {};
    for (const auto& [key, value] : {std::pair("data.source", &data.import_source),
                                     {"data.storage", &data.storage},
                                     {"data.size", &data.size},
                                     {"data.tokenizer", &data.tokenizer}})
      if (!value->empty())
        return mistake(blame({key}),
                       concat(key, " is for data.import, and that is missing: add it or remove ", key));
    return {};
  }

  Status check_together() {
    const Job& job = job_;
    if (job.ranks.grow.find_first_of("'\"\\") != std::string::npos)
      return mistake(blame({"ranks.grow"}),
                     concat("ranks.grow is ", shown(job.ranks.grow),
                            ": its options are parted by spaces, and cannot have quotes"));
    if (job.ranks.min > job.ranks.max)
      return mistake(blame({"ranks.min", "ranks.max"}),
                     concat("ranks.min is ", job.ranks.min, ", more than ranks.max, which is ", job.ranks.max,
                            ": lower the one or raise the other"));
    if (job.batch.grain > job.batch.global)
      return mistake(blame({"batch.grain", "batch.global"}),
                     concat("batch.grain is ", job.batch.grain, ", more than batch.global, which is ",
                            job.batch.global, ": a step must have at least one whole grain"));
    if (job.optimizer.nesterov && job.optimizer.momentum == 0)
      return mistake(blame({"optimizer.nesterov", "optimizer.momentum"}),
                     "optimizer.nesterov needs a momentum: set optimizer.momentum, to 0.9 for example");
    if (job.dtype == "f16" && job.device != "gpu")
      return mistake(blame({"dtype", "device"}),
                     concat("dtype is f16, in which only GPUs compute, and device is ", job.device,
                            ": set device to gpu, or dtype to bf16 or f32"));
    PACELINE_TRY(check_import());
    PACELINE_TRY(check_resize());
    PACELINE_TRY(settle_reproducible());
    return check_length();
  }

  Status check_resize() {
    const ResizeSpec& resize = job_.resize;
    const bool by_worth = resize.objective == "cost" || resize.objective == "energy";
    const auto lacks = [&](std::string_view key, std::string_view what) {
      return mistake(blame({"resize.objective", "resize"}),
                     concat("resize.objective is ", resize.objective, ", and ", key, " is missing: ", what));
    };
    if (resize.objective == "deadline" && resize.deadline_s == 0)
      return lacks("resize.deadline_s", "give the seconds in which the job is to end");
    if (resize.objective == "cost" && resize.prices.empty())
      return lacks("resize.prices", "give what a rank costs in an hour, for example {cpu: 0.05}");
    if (!by_worth && origin_ == TreeOrigin::people && given_.contains("resize.most_slowdown"))
      return mistake(blame({"resize.most_slowdown"}),
                     concat("resize.most_slowdown belongs to cost and energy, and resize.objective is ",
                            resize.objective, ": remove it or set resize.objective to one of them"));
    if (resize.objective != "none" && job_.ranks.min == job_.ranks.max)
      return mistake(
          blame({"resize.objective", "resize"}),
          concat("resize.objective is ", resize.objective, ", and ranks.min and ranks.max are both ",
                 job_.ranks.min, ": give the job a choice, or remove resize"));
    return {};
  }

  /// What decides the bits becomes part of the job.
  Status settle_reproducible() {
    if (!job_.reproducible) return {};
    BatchSpec& batch = job_.batch;
    if (batch.grain == 0) batch.grain = std::min(reproducible_grain, batch.global);
    if (job_.threads == 0) job_.threads = 1;
    if (batch.micro > 0 && batch.micro < batch.grain)
      return mistake(
          blame({"batch.micro", "reproducible"}),
          concat("batch.micro is ", batch.micro, ", less than a grain of ", batch.grain,
                 ", which is one pass in a reproducible job: set batch.grain to ", batch.micro, " instead"));
    return {};
  }

  Status check_length() {
    const Job& job = job_;
    if (job.schedule.warmup_epochs > static_cast<double>(job.epochs))
      return mistake(
          blame({"schedule.warmup_epochs", "epochs"}),
          concat("schedule.warmup_epochs is ", job.schedule.warmup_epochs, ", more than epochs, which is ",
                 job.epochs, ": the learning rate would never be reached"));
    if (job.schedule.warmup_epochs > 0 && job.schedule.warmup_steps > 0)
      return mistake(blame({"schedule.warmup_steps", "schedule.warmup_epochs"}),
                     "schedule.warmup_steps and schedule.warmup_epochs say the same: remove one of them");
    if (job.steps > 0 && job.schedule.warmup_steps > job.steps)
      return mistake(
          blame({"schedule.warmup_steps", "steps"}),
          concat("schedule.warmup_steps is ", job.schedule.warmup_steps, ", more than steps, which is ",
                 job.steps, ": the learning rate would never be reached"));
    const bool augments = job.augment.crop > 0 || job.augment.padding > 0 || job.augment.flip;
    if (augments && job.task != image_classification)
      return mistake(blame({"augment", "task"}),
                     concat("augment is for images, and the task is ", job.task, ": remove one"));
    return {};
  }

  std::string source_;
  TreeOrigin origin_;
  std::map<std::string_view, const Tree*>
      given_;  // keys of fields and sections; the tree outlives the builder
  std::string context_where_;
  Job job_;
};

}  // namespace

std::int64_t tokens_per_sample(const Job& job) {
  if (job.task != language_modelling) return 0;
  const auto option = job.model.options.find("context");
  if (option == job.model.options.end()) return default_context;
  return parse_integer(option->second, 1, most_context).value_or(default_context);
}

Result<Job> job_from_tree(Tree root, const std::string& source, TreeOrigin origin) {
  expand_shorthands(root);
  return JobBuilder(source, origin).build(root);
}

}  // namespace paceline
