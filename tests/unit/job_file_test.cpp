#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/job.hpp"

namespace paceline {
namespace {

/// The job file of docs/job-file.md in short: every line has its number in the errors below.
constexpr const char* small_job =
    "name: tiny\n"                 // 1
    "data: {train: data/train}\n"  // 2
    "model: cnn\n"                 // 3
    "batch: {global: 256}\n"       // 4
    "epochs: 5\n";                 // 5

Result<Job> parse(const std::string& yaml, const std::vector<JobOverride>& overrides = {}) {
  return parse_job(yaml, "job.yaml", overrides);
}

/// The error for small_job with more lines after it, which begin with line 6.
std::string error_of_extra(const std::string& lines) {
  const Result<Job> job = parse(small_job + lines);
  return job.ok() ? "no error" : job.error().message;
}

std::string error_of(const std::string& yaml) {
  const Result<Job> job = parse(yaml);
  return job.ok() ? "no error" : job.error().message;
}

std::string error_of_set(const std::string& key, const std::string& value) {
  const Result<Job> job = parse(small_job, {{key, value}});
  return job.ok() ? "no error" : job.error().message;
}

TEST(JobFile, TakesEveryKeyAndItsValue) {
  const Result<Job> read = parse(R"(
name: all
data: {train: a, eval: b, import: fashion-mnist, source: /src, storage: lz4, size: 32x32, tokenizer: t.model,
       budget_mib: 64}
task: image-classification
model: {kind: mlp, width: 512, activation: relu}
optimizer: {kind: sgd, learning_rate: 1e-3, momentum: 0.9, nesterov: true, weight_decay: 5e-4,
            decay_norms_and_biases: true, clip_norm: 0.75}
schedule: {kind: step, warmup_epochs: 0.5, step_epochs: 3, gamma: 0.25}
batch: {global: 512, micro: 64, grain: 8}
epochs: 7
steps: 1234
ranks: {min: 2, max: 8}
resize: {objective: cost, most_slowdown: 3, dwell_s: 12.5, prices: {cpu: 0.05, NVIDIA H100: 2.5},
         power_w: {cpu: 11}}
threads: 3
eval_every: 2
seed: 9223372036854775807
reproducible: false
)");
  ASSERT_TRUE(read.ok()) << read.error().message;
  const Job& job = *read;
  EXPECT_EQ(job.name, "all");
  EXPECT_EQ(job.data.train, "a");
  EXPECT_EQ(job.data.eval, "b");
  EXPECT_EQ(job.data.import_kind, "fashion-mnist");
  EXPECT_EQ(job.data.import_source, "/src");
  EXPECT_EQ(job.data.storage, "lz4");
  EXPECT_EQ(job.data.size, "32x32");
  EXPECT_EQ(job.data.tokenizer, "t.model");
  EXPECT_EQ(job.data.budget_mib, 64);
  EXPECT_EQ(job.task, "image-classification");
  EXPECT_EQ(job.model.kind, "mlp");
  EXPECT_EQ(job.model.plugin, "");
  const std::map<std::string, std::string> options = {{"width", "512"}, {"activation", "relu"}};
  EXPECT_EQ(job.model.options, options);
  EXPECT_EQ(job.optimizer.kind, "sgd");
  EXPECT_EQ(job.optimizer.learning_rate, 1e-3);
  EXPECT_EQ(job.optimizer.momentum, 0.9);
  EXPECT_TRUE(job.optimizer.nesterov);
  EXPECT_EQ(job.optimizer.weight_decay, 5e-4);
  EXPECT_TRUE(job.optimizer.decay_norms_and_biases);
  EXPECT_EQ(job.optimizer.clip_norm, 0.75);
  EXPECT_EQ(job.schedule.kind, "step");
  EXPECT_EQ(job.schedule.warmup_epochs, 0.5);
  EXPECT_EQ(job.schedule.step_epochs, 3);
  EXPECT_EQ(job.schedule.gamma, 0.25);
  EXPECT_EQ(job.batch.global, 512);
  EXPECT_EQ(job.batch.micro, 64);
  EXPECT_EQ(job.batch.grain, 8);
  EXPECT_EQ(job.epochs, 7);
  EXPECT_EQ(job.steps, 1234);
  EXPECT_EQ(job.ranks.min, 2);
  EXPECT_EQ(job.ranks.max, 8);
  EXPECT_EQ(job.resize.objective, "cost");
  EXPECT_EQ(job.resize.most_slowdown, 3);
  EXPECT_EQ(job.resize.dwell_s, 12.5);
  const std::map<std::string, double> prices = {{"cpu", 0.05}, {"NVIDIA H100", 2.5}};
  EXPECT_EQ(job.resize.prices, prices);
  EXPECT_EQ(job.resize.power_w.at("cpu"), 11);
  EXPECT_EQ(job.threads, 3);
  EXPECT_EQ(job.eval_every, 2);
  EXPECT_EQ(job.seed, 9223372036854775807);
  EXPECT_FALSE(job.reproducible);
}

TEST(JobFile, FillsInWhatIsNotSaid) {
  const Result<Job> read = parse(small_job);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->model.kind, "cnn");
  EXPECT_EQ(read->optimizer.kind, "sgd");
  EXPECT_EQ(read->ranks.min, 1);
  EXPECT_EQ(read->ranks.max, 4096);
  EXPECT_EQ(read->task, "image-classification");
  EXPECT_EQ(read->optimizer.clip_norm, 0);
  EXPECT_EQ(read->steps, 0);
}

TEST(JobFile, SettlesWhatDecidesTheBitsOfAReproducibleJob) {
  const Job job = *parse(std::string(small_job) + "reproducible: true\n");
  EXPECT_TRUE(job.reproducible);
  EXPECT_EQ(job.batch.grain, 32);
  EXPECT_EQ(job.threads, 1);
  const std::string start = "name: t\ndata: {train: a}\nmodel: cnn\nepochs: 1\nreproducible: true\n";
  EXPECT_EQ(parse(start + "batch: {global: 20}\n")->batch.grain, 20);
  const Job given = *parse(start + "batch: {global: 64, micro: 8, grain: 8}\nthreads: 4\n");
  EXPECT_EQ(given.batch.grain, 8);
  EXPECT_EQ(given.threads, 4);
}

TEST(JobFile, TakesText) {
  const std::string text =
      "name: t\ndata: {train: a}\ntask: language-modelling\nbatch: {global: 8}\nepochs: 1\n";
  const Result<Job> read = parse(text + "model: {kind: gpt, context: 96}\nschedule: {warmup_steps: 50}\n");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->task, "language-modelling");
  EXPECT_EQ(tokens_per_sample(*read), 96);
  EXPECT_EQ(read->schedule.warmup_steps, 50);
  EXPECT_EQ(tokens_per_sample(*parse(text + "model: gpt\n")), 128);
  EXPECT_EQ(tokens_per_sample(*parse(text + "model: {plugin: ./a.so, context: 7}\n")), 7);
  EXPECT_EQ(tokens_per_sample(*parse(small_job)), 0);
  EXPECT_EQ(error_of(text + "model: {kind: gpt, context: many}\n"),
            "job.yaml:6:29: model.context is \"many\": it must be a whole number, at least 1, at most 65536");
  EXPECT_EQ(error_of(text + "model: {kind: gpt, context: 0}\n"),
            "job.yaml:6:29: model.context is \"0\": it must be a whole number, at least 1, at most 65536");
}

TEST(JobFile, RefusesAModelOfAnotherTask) {
  const std::string rest = "name: t\ndata: {train: a}\nbatch: {global: 8}\nepochs: 1\n";
  EXPECT_EQ(error_of(rest + "model: gpt\n"),
            "job.yaml:5:8: model.kind is gpt, a model for language-modelling, and task is "
            "image-classification: set task to language-modelling or model.kind to cnn, mlp or resnet18");
  EXPECT_EQ(error_of(rest + "model: cnn\ntask: language-modelling\n"),
            "job.yaml:5:8: model.kind is cnn, a model for image-classification, and task is "
            "language-modelling: set task to image-classification or model.kind to gpt");
  EXPECT_TRUE(parse(rest + "model: {plugin: ./a.so}\ntask: language-modelling\n").ok());
}

TEST(JobFile, TakesTheShortForms) {
  const Result<Job> read = parse(
      "name: s\ndata: {train: a}\nmodel: {plugin: ./lib.so, depth: 4}\nschedule: cosine\n"
      "batch: {global: 8}\nepochs: 1\nranks: 3\n");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->model.kind, "");
  EXPECT_EQ(read->model.plugin, "./lib.so");
  EXPECT_EQ(read->model.options.at("depth"), "4");
  EXPECT_EQ(read->schedule.kind, "cosine");
  EXPECT_EQ(read->ranks.min, 3);
  EXPECT_EQ(read->ranks.max, 3);
}

TEST(JobFile, SaysWhereAnUnknownKeyIsAndWhatIsMeant) {
  EXPECT_EQ(error_of_extra("epoch: 5\n"), "job.yaml:6:1: unknown key \"epoch\": did you mean \"epochs\"?");
  EXPECT_EQ(error_of_extra("optimizer:\n  momentun: 0.9\n"),
            "job.yaml:7:3: unknown key \"optimizer.momentun\": did you mean \"optimizer.momentum\"?");
  EXPECT_EQ(error_of_extra("learning_rate: 0.1\n"),
            "job.yaml:6:1: unknown key \"learning_rate\": did you mean \"optimizer.learning_rate\"?");
  EXPECT_EQ(error_of_extra("ranks: {zzzzzzzz: 1}\n"),
            "job.yaml:6:9: unknown key \"ranks.zzzzzzzz\": ranks takes min, max or grow");
  EXPECT_EQ(error_of_extra("optimizer.kind: sgd\n"),
            "job.yaml:6:1: \"optimizer.kind\" is a map in a job file: write optimizer: {kind: ...}");
}

TEST(JobFile, SaysWhatAValueMustBe) {
  const std::string rest = "name: t\ndata: {train: a}\nmodel: cnn\n";
  EXPECT_EQ(error_of(rest + "batch: {global: -3}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is -3: it must be at least 1");
  EXPECT_EQ(error_of(rest + "batch: {global: 99999999999999999999}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is 99999999999999999999: it must be at most 1073741824");
  EXPECT_EQ(error_of(rest + "batch: {global: 2.5}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is 2.5: it must be a whole number");
  EXPECT_EQ(error_of(rest + "batch: {global: \"256\"}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is \"256\": it must be a whole number");
  EXPECT_EQ(error_of(rest + "batch: {global: [1, 2]}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is a list: it must be a whole number");
  EXPECT_EQ(error_of(rest + "batch: {global: {a: 1}}\nepochs: 1\n"),
            "job.yaml:4:17: batch.global is a map: it must be a whole number");
  EXPECT_EQ(error_of(rest + "batch: [256]\nepochs: 1\n"),
            "job.yaml:4:8: batch is a list: it must be a map of keys and values");
  EXPECT_EQ(error_of(rest + "batch: 256\nepochs: 1\n"),
            "job.yaml:4:8: batch is a single value: it must be a map of keys and values");
  EXPECT_EQ(error_of(rest + "batch: {global: 8}\nepochs:\n"),
            "job.yaml:5:1: epochs has no value: it must be a whole number");
  EXPECT_EQ(error_of_extra("reproducible: perhaps\n"),
            "job.yaml:6:15: reproducible is perhaps: it must be true or false");
  EXPECT_EQ(error_of_extra("dtype: f16\n"),
            "job.yaml:6:8: dtype is f16, in which only GPUs compute, and device is cpu: "
            "set device to gpu, or dtype to bf16 or f32");
  EXPECT_EQ(error_of_extra("device: cuda\n"), "job.yaml:6:9: device is cuda: it must be cpu or gpu");
  EXPECT_EQ(error_of_extra("dtype: f8\n"),
            "job.yaml:6:8: dtype is f8: it must be f32, bf16 or f16 (did you mean f32?)");
  EXPECT_EQ(error_of_extra("loss_scale: -1\n"), "job.yaml:6:13: loss_scale is -1: it must be at least 0");
  EXPECT_EQ(error_of_extra("ranks: 0\n"), "job.yaml:6:8: ranks is 0: it must be at least 1");
  EXPECT_EQ(error_of_extra("task: poetry\n"),
            "job.yaml:6:7: task is poetry: it must be image-classification or language-modelling");
  EXPECT_EQ(error_of_extra("schedule: cosin\n"),
            "job.yaml:6:11: schedule is cosin: it must be constant, cosine or step (did you mean cosine?)");
}

TEST(JobFile, RefusesNumbersThatAreNone) {
  for (const std::string value : {".nan", ".inf", "-.inf", ".NaN", "nan", "inf", "1e999"})
    EXPECT_EQ(error_of_extra(concat("optimizer: {learning_rate: ", value, "}\n")),
              concat("job.yaml:6:28: optimizer.learning_rate is ", value,
                     ": it must be a finite number that 64 bits can hold"));
  EXPECT_EQ(error_of_extra("optimizer: {learning_rate: 0}\n"),
            "job.yaml:6:28: optimizer.learning_rate is 0: it must be more than 0");
  EXPECT_EQ(error_of_extra("optimizer: {momentum: 1.0}\n"),
            "job.yaml:6:23: optimizer.momentum is 1.0: it must be less than 1");
  EXPECT_EQ(error_of_extra("optimizer: {weight_decay: -0.1}\n"),
            "job.yaml:6:27: optimizer.weight_decay is -0.1: it must be at least 0");
  EXPECT_EQ(error_of_extra("optimizer: {learning_rate: fast}\n"),
            "job.yaml:6:28: optimizer.learning_rate is fast: it must be a number");
}

TEST(JobFile, NamesARunsFolderOnlyByWhatCanBeOne) {
  for (const std::string name : {"../escape", "a/b", ".hidden", "-rf", "two words", "ümlaut"}) {
    const std::string error =
        error_of(concat("name: ", name, "\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\nepochs: 1\n"));
    EXPECT_EQ(error,
              concat("job.yaml:1:7: name is ", name,
                     ": it must be a name of letters, digits, '.', '_' and '-' that starts with a letter, a "
                     "digit or '_', of at most 100"));
  }
  EXPECT_EQ(error_of_extra("data: {train: b}\n"),
            "job.yaml:6:1: the key \"data\" is here twice: keep one of them");
}

TEST(JobFile, SaysWhatIsMissingAndShowsIt) {
  EXPECT_EQ(error_of("name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\n"),
            "job.yaml: \"epochs\" is missing: it is how often every sample is used, for example 5");
  EXPECT_EQ(
      error_of("name: t\ndata: {train: a}\nmodel: cnn\nbatch: {micro: 8}\nepochs: 1\n"),
      "job.yaml:4:8: \"batch.global\" is missing: it is samples per step over all ranks, for example 256");
  EXPECT_EQ(
      error_of("name: t\ndata: {train: a}\nbatch: {global: 8}\nepochs: 1\n"),
      "job.yaml: \"model\" is missing: it is cnn, mlp, resnet18 or gpt, or a map {plugin: ./libmine.so}");
  EXPECT_EQ(error_of("name: t\ndata: {train: a}\nmodel: {depth: 3}\nbatch: {global: 8}\nepochs: 1\n"),
            "job.yaml:3:8: \"model.kind\" is missing: it is cnn, mlp, resnet18 or gpt, or a map {plugin: "
            "./libmine.so}");
}

TEST(JobFile, RefusesWhatDoesNotGoTogether) {
  EXPECT_EQ(
      error_of_extra("ranks: {min: 5, max: 4}\n"),
      "job.yaml:6:14: ranks.min is 5, more than ranks.max, which is 4: lower the one or raise the other");
  EXPECT_EQ(
      error_of_set("batch.grain", "512"),
      "--set batch.grain=512: batch.grain is 512, more than batch.global, which is 256: a step must have at "
      "least one whole grain");
  EXPECT_EQ(error_of_extra("optimizer: {nesterov: true}\n"),
            "job.yaml:6:23: optimizer.nesterov needs a momentum: set optimizer.momentum, to 0.9 for example");
  EXPECT_EQ(error_of_extra("optimizer: {kind: sgd, beta1: 0.9}\n"),
            "job.yaml:6:31: optimizer.beta1 belongs to adamw, and optimizer.kind is sgd: remove it or set "
            "optimizer.kind to adamw");
  EXPECT_EQ(error_of_extra("optimizer: {kind: adamw, momentum: 0.9}\n"),
            "job.yaml:6:36: optimizer.momentum belongs to sgd, and optimizer.kind is adamw: remove it or set "
            "optimizer.kind to sgd");
  EXPECT_EQ(error_of_extra("schedule: {kind: cosine, gamma: 0.5}\n"),
            "job.yaml:6:33: schedule.gamma belongs to step, and schedule.kind is cosine: remove it or set "
            "schedule.kind to step");
  EXPECT_EQ(error_of_extra("schedule: {warmup_epochs: 6}\n"),
            "job.yaml:6:27: schedule.warmup_epochs is 6, more than epochs, which is 5: the learning rate "
            "would never "
            "be reached");
  EXPECT_EQ(
      error_of_extra("schedule: {warmup_epochs: 1, warmup_steps: 9}\n"),
      "job.yaml:6:44: schedule.warmup_steps and schedule.warmup_epochs say the same: remove one of them");
  EXPECT_EQ(error_of_extra("schedule: {warmup_steps: 9}\nsteps: 8\n"),
            "job.yaml:6:26: schedule.warmup_steps is 9, more than steps, which is 8: the learning rate would "
            "never be reached");
  EXPECT_EQ(error_of("name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 256, micro: 16}\nepochs: 1\n"
                     "reproducible: true\n"),
            "job.yaml:4:29: batch.micro is 16, less than a grain of 32, which is one pass in a reproducible "
            "job: set batch.grain to 16 instead");
  EXPECT_EQ(error_of_set("model.plugin", "./a.so"),
            "--set model.plugin=./a.so: a model has a kind or a plugin, not both: remove one of them");
  EXPECT_EQ(error_of_set("data.source", "/idx"),
            "--set data.source=/idx: data.source is for data.import, and that is missing: add it or remove "
            "data.source");
  EXPECT_EQ(
      error_of_set("data.size", "8x8"),
      "--set data.size=8x8: data.size is for data.import, and that is missing: add it or remove data.size");
}

TEST(JobFile, RefusesWaysToResizeThatContradictThemselves) {
  EXPECT_EQ(
      error_of_extra("resize: speed\n"),
      "job.yaml:6:9: resize is speed: it must be none, throughput, efficiency, deadline, cost or energy");
  EXPECT_EQ(
      error_of_extra("resize: deadline\n"),
      "job.yaml:6:9: resize.objective is deadline, and resize.deadline_s is missing: give the seconds in "
      "which the job is to end");
  EXPECT_EQ(
      error_of_extra("resize: {objective: cost}\n"),
      "job.yaml:6:21: resize.objective is cost, and resize.prices is missing: give what a rank costs in "
      "an hour, for example {cpu: 0.05}");
  EXPECT_EQ(
      error_of_extra("resize: {objective: throughput, deadline_s: 60}\n"),
      "job.yaml:6:45: resize.deadline_s belongs to deadline, and resize.objective is throughput: remove "
      "it or set resize.objective to deadline");
  EXPECT_EQ(error_of_extra("resize: {objective: deadline, deadline_s: 60, least_efficiency: 0.5}\n"),
            "job.yaml:6:65: resize.least_efficiency belongs to efficiency, and resize.objective is deadline: "
            "remove it or set resize.objective to efficiency");
  EXPECT_EQ(error_of_extra("resize: {objective: throughput, most_slowdown: 3}\n"),
            "job.yaml:6:48: resize.most_slowdown belongs to cost and energy, and resize.objective is "
            "throughput: remove it or set resize.objective to one of them");
  EXPECT_EQ(error_of_extra("ranks: 2\nresize: throughput\n"),
            "job.yaml:7:9: resize.objective is throughput, and ranks.min and ranks.max are both 2: give the "
            "job a choice, or remove resize");
  EXPECT_EQ(error_of_extra("resize: {objective: efficiency, least_efficiency: 0}\n"),
            "job.yaml:6:51: resize.least_efficiency is 0: it must be more than 0");
  EXPECT_EQ(error_of_extra("resize: {dwell_s: -1}\n"),
            "job.yaml:6:19: resize.dwell_s is -1: it must be at least 0");
  EXPECT_EQ(error_of_extra("resize: {deadlines: 60}\n"),
            "job.yaml:6:10: unknown key \"resize.deadlines\": did you mean \"resize.deadline_s\"?");
}

TEST(JobFile, RefusesPricesThatAreNone) {
  for (const char* price : {"-1", "0", ".nan", ".inf", "dear", "\"1\"", "[1]"})
    EXPECT_EQ(error_of_extra(concat("resize: {objective: cost, prices: {cpu: ", price, "}}\n")),
              "job.yaml:6:41: resize.prices of \"cpu\" must be a finite number, more than 0");
  EXPECT_EQ(error_of_extra("resize: {prices: 3}\n"),
            "job.yaml:6:18: resize.prices is 3: it must be a map of names and numbers, each more than 0");
  EXPECT_EQ(error_of_set("resize.prices.cpu", "-2"),
            "--set resize.prices.cpu=-2: resize.prices of \"cpu\" must be a finite number, more than 0");
  EXPECT_EQ(parse(small_job, {{"resize.prices.cpu", "0.25"}})->resize.prices.at("cpu"), 0.25);
  EXPECT_EQ(parse(std::string(small_job) + "resize: throughput\n")->resize.objective, "throughput");
}

TEST(JobFile, RefusesWhatIsNoJobFileAtAll) {
  EXPECT_EQ(error_of(""),
            "job.yaml: this is empty: a job file is a map of keys such as name, data, model, batch");
  EXPECT_EQ(error_of("# only words\n"),
            "job.yaml: this is empty: a job file is a map of keys such as name, data, model, batch");
  EXPECT_EQ(error_of("- name\n- data\n"),
            "job.yaml:1:1: a job is a list: it must be a map of keys and values");
  EXPECT_EQ(error_of("just words\n"),
            "job.yaml:1:1: a job is a single value: it must be a map of keys and values");
  EXPECT_EQ(error_of("name: [1, 2\nepochs: 5\n").substr(0, 38), "job.yaml:2:7: this is not valid YAML (");
  EXPECT_EQ(error_of("name: a\n---\nname: b\n"),
            "job.yaml:2:1: what follows here is no part of the job: check the brackets before it, and keep a "
            "single YAML document");
  EXPECT_EQ(error_of("name: \xff\xfe\n"), "job.yaml: this is not UTF-8 text, so not YAML");
  EXPECT_EQ(error_of("{[a, b]: 1}\n"), "job.yaml:1:2: a key must be a single word");
  EXPECT_EQ(error_of(std::string(small_job) + "task: \"image\\u0007\"\n"),
            "job.yaml:6:7: task is \"image?\": it must be text without control characters");
}

TEST(JobFile, RefusesWhatFollowsTheJob) {
  EXPECT_EQ(error_of("{name: t, epochs: 5}, batch step}\n"),
            "job.yaml:1:21: what follows here is no part of the job: check the brackets before it, and keep "
            "a single "
            "YAML document");
}

TEST(JobFile, FollowsAliases) {
  const Result<Job> read =
      parse("name: &n tiny\ndata: {train: *n}\nmodel: &m {kind: mlp}\nbatch: {global: 8}\nepochs: 1\n",
            {{"ranks", "{min: &r 2, max: *r}"}});
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->data.train, "tiny");
  EXPECT_EQ(read->model.kind, "mlp");
  EXPECT_EQ(read->ranks.max, 2);
}

TEST(JobFile, BoundsWhatAliasesCanUnfold) {
  EXPECT_EQ(error_of("a: &a {b: *a}\n"), "job.yaml:1:11: this alias stands within what it stands for");
  std::string bomb = "a0: &a0 {x: 1, y: 2}\n";
  for (int i = 1; i < 30; ++i) bomb += concat("a", i, ": &a", i, " {x: *a", i - 1, ", y: *a", i - 1, "}\n");
  EXPECT_EQ(error_of(bomb), "job.yaml: this has more than 2000 values");
  EXPECT_NE(error_of(std::string(1'000'000, '[')).find(": this is nested more than 16 levels deep"),
            std::string::npos);
  EXPECT_EQ(error_of(concat("model: {", std::string(100'000, '{'))).substr(0, 10), "job.yaml:1");
}

TEST(JobOverrides, ReplaceAndAddValues) {
  const Result<Job> read = parse(small_job, {{"model", "mlp"},
                                             {"optimizer.learning_rate", "0.25"},
                                             {"batch.global", "64"},
                                             {"ranks", "{min: 2, max: 3}"},
                                             {"ranks.max", "5"},
                                             {"schedule", "cosine"},
                                             {"schedule.final_factor", "0.5"},
                                             {"model.width", "128"}});
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->model.kind, "mlp");
  EXPECT_EQ(read->model.options.at("width"), "128");
  EXPECT_EQ(read->optimizer.learning_rate, 0.25);
  EXPECT_EQ(read->batch.global, 64);
  EXPECT_EQ(read->ranks.min, 2);
  EXPECT_EQ(read->ranks.max, 5);
  EXPECT_EQ(read->schedule.kind, "cosine");
  EXPECT_EQ(read->schedule.final_factor, 0.5);
}

TEST(JobOverrides, ReplaceAWholeMap) {
  const Result<Job> read = parse(std::string(small_job) + "optimizer: {kind: sgd, momentum: 0.9}\n",
                                 {{"optimizer", "{kind: adamw, learning_rate: 0.001}"}});
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->optimizer.kind, "adamw");
  EXPECT_EQ(read->optimizer.momentum, 0.0);
}

TEST(JobOverrides, AreNamedInErrors) {
  EXPECT_EQ(error_of_set("epoch", "5"), "--set epoch=5: unknown key \"epoch\": did you mean \"epochs\"?");
  EXPECT_EQ(error_of_set("epochs", "0"), "--set epochs=0: epochs is 0: it must be at least 1");
  EXPECT_EQ(error_of_set("epochs", ""), "--set epochs=: epochs has no value: it must be a whole number");
  EXPECT_EQ(error_of_set("model", "cnnn"),
            "--set model=cnnn: model is cnnn: it must be cnn, mlp, resnet18 or gpt (did you mean cnn?)");
  EXPECT_EQ(
      error_of_set("model", "./a.so"),
      "--set model=./a.so: model is ./a.so: it must be cnn, mlp, resnet18 or gpt, or a map {plugin: ./a.so}");
  EXPECT_EQ(error_of_set("epochs.x", "1"),
            "--set epochs.x=1: what the job has there (job.yaml:5:9) is not a map, so it has no key \"x\"");
  EXPECT_EQ(error_of_set("batch..global", "1"),
            "--set batch..global=1: the key must be a dotted path such as batch.global");
  EXPECT_EQ(error_of_set("", "1"), "--set =1: the key must be a dotted path such as batch.global");
  EXPECT_EQ(error_of_set("batch", "{global").substr(0, 49),
            "--set batch={global: this is not valid YAML (end ");
  EXPECT_EQ(error_of_set("ranks.max", "2\n3").substr(0, 22), "--set \"ranks.max=2?3\":");
}

TEST(JobFile, IsReadFromDisk) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / concat("paceline-job-", ::getpid());
  std::filesystem::create_directories(folder);
  const std::string path = folder / "job.yaml";
  ASSERT_TRUE(write_file_atomically(path, small_job).ok());
  const Result<Job> read = load_job(path, {{"epochs", "9"}});
  const std::string missing = load_job(folder / "none.yaml", {}).error().message;
  const std::string is_folder = load_job(folder, {}).error().message;
  ASSERT_TRUE(write_file_atomically(path, std::string((1U << 20) + 1, ' ')).ok());
  const std::string too_large = load_job(path, {}).error().message;
  std::filesystem::remove_all(folder);

  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->epochs, 9);
  EXPECT_EQ(missing, concat("cannot open ", (folder / "none.yaml").string(),
                            ": No such file or directory: give the path of a job file that can be read"));
  EXPECT_EQ(is_folder, concat(folder.string(), ": this is a folder: give the path of a job file"));
  EXPECT_EQ(too_large, concat(path, " is larger than 1.0 MiB: give the path of a job file that can be read"));
  EXPECT_EQ(load_job("", {}).error().message, "the job file's name is empty: give the path of one");
}

TEST(JobJson, GivesBackTheSameJob) {
  Job job;
  job.name = "round";
  job.data = {"t", "e \"quoted\" \\ ü", "fashion-mnist", "/s", "zstd", "8x8", "train:900", 17};
  job.model = {"", "./lib.so", {{"a.b", "0.1"}, {"depth", "004"}}};
  job.optimizer = {"adamw", 0.1 + 0.2, 0.875, true, 1e-300, true, 0.123456789012345678, 0.99, 5e-324, 0.7};
  job.schedule = {"cosine", 1.5, 0, 0.3, 7, 0.7};
  job.batch = {1 << 30, 3, 5};
  job.epochs = 1'000'000;
  job.steps = 1 << 30;
  job.ranks = {3, 9, "--partition=gpu -t 1"};
  job.checkpoint = {-1, 4};
  job.metrics = {9464};
  job.resize = {"cost", 0.3, 0, 1.5, 0.1, {{"cpu", 0.1 + 0.2}}, {{"a \"b\"", 5e-324}}};
  job.threads = 2;
  job.eval_every = 0;
  job.seed = std::numeric_limits<std::int64_t>::max();
  const std::string json = job_to_json(job);
  const Result<Job> read = job_from_json(json);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(job_to_json(*read), json);
  EXPECT_EQ(read->optimizer.learning_rate, 0.1 + 0.2);
  EXPECT_EQ(read->optimizer.epsilon, 5e-324);
  EXPECT_EQ(read->data.eval, job.data.eval);
  EXPECT_EQ(read->model.options, job.model.options);
  EXPECT_EQ(read->model.plugin, "./lib.so");
  EXPECT_EQ(read->seed, job.seed);
  EXPECT_EQ(read->ranks.max, 9);
  EXPECT_EQ(read->metrics.port, 9464);
  EXPECT_EQ(read->resize.prices, job.resize.prices);
  EXPECT_EQ(read->resize.power_w, job.resize.power_w);
}

TEST(JobValues, WhatDecidesTheResultIsAllButTheRest) {
  const Job job = *parse(small_job);
  const auto fingerprint_with = [&](const std::string& key, const std::string& value) {
    const Result<Job> changed = with_overrides(job, {{key, value}});
    EXPECT_TRUE(changed.ok()) << changed.error().message;
    return job_fingerprint(*changed);
  };
  for (const auto& [key, value] : {std::pair("name", "other"),
                                   {"ranks.max", "7"},
                                   {"data.eval", "elsewhere"},
                                   {"checkpoint.every_steps", "9"},
                                   {"checkpoint.keep", "9"},
                                   {"metrics.port", "9"},
                                   {"resize.objective", "throughput"},
                                   {"resize.prices.cpu", "9"},
                                   {"eval_every", "9"},
                                   {"threads", "9"},
                                   {"data.threads", "9"}})
    EXPECT_EQ(fingerprint_with(key, value), job_fingerprint(job)) << key;
  for (const auto& [key, value] : {std::pair("seed", "99"),
                                   {"optimizer.learning_rate", "0.0500001"},
                                   {"epochs", "77"},
                                   {"data.train", "elsewhere"},
                                   {"data.budget_mib", "99"},
                                   {"batch.global", "99"},
                                   {"model.depth", "2"},
                                   {"reproducible", "true"},
                                   {"steps", "3"}})
    EXPECT_NE(fingerprint_with(key, value), job_fingerprint(job)) << key;
  EXPECT_EQ(deciding_values(job).at("batch.global"), JobValue(job.batch.global));
  // Threads decide the bits, where bits matter.
  Job exact = job;
  exact.reproducible = true;
  EXPECT_EQ(deciding_values(exact).count("threads"), 1U);
  EXPECT_EQ(with_overrides(job, {{"seed", "x"}}).error().message,
            "--set seed=x: seed is x: it must be a whole number");
}

TEST(JobJson, RefusesWhatIsNoJob) {
  EXPECT_EQ(job_from_json("{").error().message.substr(0, 40), "the resolved job: this is not valid JSON");
  EXPECT_EQ(job_from_json("[]").error().message,
            "the resolved job: a job is a list: it must be a map of keys and values");
  std::string json = job_to_json(*parse(small_job));
  json.replace(json.find("\"epochs\": 5"), 11, "\"epochs\": 0");
  EXPECT_EQ(job_from_json(json).error().message, "the resolved job: epochs is 0: it must be at least 1");
  const std::string deep = std::string(200'000, '[');
  EXPECT_FALSE(job_from_json(deep).ok());
  EXPECT_FALSE(job_from_json("{\"model\":" + deep + std::string(200'000, ']') + "}").ok());
}

std::string document(const std::string& name) {
  const Result<std::string> text = read_file(std::string(PACELINE_DOCS "/") + name);
  return text.ok() ? *text : "";
}

TEST(JobFileDocument, HoldsTheTableOfAllKeys) {
  const std::string text = document("job-file.md");
  ASSERT_FALSE(text.empty());
  EXPECT_NE(text.find(job_fields_table()), std::string::npos)
      << "docs/job-file.md must hold exactly this table:\n"
      << job_fields_table();
}

TEST(JobFileDocument, HasExamplesThatAreJobs) {
  const std::string text = document("job-file.md");
  int examples = 0;
  for (std::size_t at = text.find("```yaml\n"); at != std::string::npos;
       at = text.find("```yaml\n", at + 1)) {
    const std::size_t begin = at + 8;
    const Result<Job> job = parse_job(text.substr(begin, text.find("```", begin) - begin), "example", {});
    EXPECT_TRUE(job.ok()) << job.error().message;
    ++examples;
  }
  EXPECT_GE(examples, 2);
}

}  // namespace
}  // namespace paceline
