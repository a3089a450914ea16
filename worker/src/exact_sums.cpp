#include "exact_sums.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "fixed_point/fixed_point.hpp"
#include "memory_format.hpp"
#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

// The essentials. A *term* is what one pass adds to one place. Terms become integers, round(term * 2^k), with
// one scale exponent k for each *series*: a parameter's gradient, one of a norm's statistics, or the loss. k
// follows from what the series' terms are expected to be, which follows from steps that were applied, and so
// is the same on every rank and in every history of the job.
//
// Beside the sums the ranks take, for each series, the greatest absolute value among its terms. From it, and
// so alike on every rank, comes the verdict: a term that is not finite is an error; a series whose greatest
// term has no room under its k gets a k that suits that very term, and all ranks run their passes again. A
// model that computes the same twice does so at most once a step. The first step knows nothing, takes the
// finest k there is, and so goes this way.

namespace paceline {
namespace {

// Whole numbers at the beginning of the tail; the loss, a series of one place, and the statistics follow.
enum Figure : std::size_t {
  correct_figure,
  sample_figure,
  pass_figure,
  consumed_figure,
  loss_figure,
  figure_count
};

// Of predictions that are right; they are no more than samples, of which a job's step has at most 2^30.
constexpr int correct_exponent = 32;

// A tensor that has no gradient for a while keeps what is expected of it for some time, and one whose
// gradient was once exceptional gets its precision back: an eighth goes per step, a bit in five steps.
constexpr float fading = 0.875F;

// More often than that only a model that computes something else each time.
constexpr int most_attempts = 3;

struct Series {
  std::string name;
  std::size_t begin = 0;  // in the layout
  std::size_t elements = 0;
  int exponent = 0;
};

class ExactSums final : public GradientSums {
 public:
  ExactSums(Communicator& communicator, const SummedTensors& tensors, ExpectedMagnitudes& expected)
      : communicator_(communicator),
        images_(tensors.images),
        layout_(tensors.layout(sizeof(std::int64_t), figure_count)),
        expected_(expected),
        statistics_(tensors.statistic_elements()),
        results_(layout_.elements) {
    const std::size_t parameters = tensors.parameters.size();
    for (std::size_t i = 0; i < parameters; ++i)
      series_.push_back({concat("the gradient of ", tensors.names[i]), layout_.offset[i],
                         static_cast<std::size_t>(tensors.parameters[i].numel())});
    loss_ = series_.size();
    series_.push_back({"the loss", layout_.tail + loss_figure, 1});
    std::size_t at = layout_.tail + figure_count;
    for (const std::size_t elements : tensors.statistics) {
      series_.push_back({"a normalisation's statistics", at, elements});
      at += elements;
    }
    PACELINE_ASSERT(expected.size() == series_.size(), "there is an expectation of every series");
  }

  [[nodiscard]] Status prepare() {
    PACELINE_ASSIGN(buffer_, communicator_.allocate(layout_.elements * sizeof(std::int64_t)));
    data_ = reinterpret_cast<std::int64_t*>(buffer_.data());
    return {};
  }

  [[nodiscard]] const BucketLayout& layout() const noexcept override { return layout_; }
  void begin(const StepSpec& spec, bool again) override;
  [[nodiscard]] bool takes_each_pass() const noexcept override { return true; }
  void add(std::size_t parameter, const torch::Tensor& gradient, bool first) override {
    const torch::Tensor dense = in_format(gradient, images_);
    add_terms(parameter, {dense.data_ptr<float>(), series_[parameter].elements}, first);
  }
  void clear(std::size_t parameter) override {
    std::fill_n(data_ + series_[parameter].begin, series_[parameter].elements, 0);
  }
  [[nodiscard]] std::span<float> statistics() override { return statistics_; }
  void add_figures(const PassFigures& figures) override;
  [[nodiscard]] Status start(const BucketLayout::Bucket& bucket, std::vector<Work>& works) override {
    works.push_back(
        communicator_.all_reduce_async(data_ + bucket.begin, bucket.end - bucket.begin, DataType::i64));
    return {};
  }
  [[nodiscard]] Status finish(std::vector<Work>& works) override {
    works.push_back(
        communicator_.all_reduce_async(greatest_.data(), greatest_.size(), DataType::i32, ReduceOp::max));
    return {};
  }
  [[nodiscard]] Result<Verdict> settle(const NotFinite& rules) override;
  [[nodiscard]] Result<StepSums> read_out() override;
  void publish() override;

 private:
  void add_terms(std::size_t series, std::span<const float> terms, bool first);
  [[nodiscard]] float greatest(std::size_t series) const { return std::bit_cast<float>(greatest_[series]); }
  [[nodiscard]] const Series* not_finite() const;
  [[nodiscard]] std::span<std::int64_t> tail() {
    return {data_ + layout_.tail, layout_.elements - layout_.tail};
  }

  Communicator& communicator_;
  torch::MemoryFormat images_;
  BucketLayout layout_;
  ExpectedMagnitudes& expected_;
  std::vector<Series> series_;  // parameters, the loss, statistics
  std::size_t loss_ = 0;        // its place among them
  SharedBuffer buffer_;
  std::int64_t* data_ = nullptr;   // buffer_'s
  std::vector<float> statistics_;  // of the pass
  std::vector<float> results_;     // sums as f32, in the layout's places
  // By series: the bits of the greatest absolute value among its terms. As a signed integer, because that is
  // what ranks can take the maximum of; the sign bit is never set.
  std::vector<std::int32_t> greatest_;
  StepSpec spec_;
  int attempts_ = 0;  // of this step
  int room_ = 0;      // bits for each of its terms
};

void ExactSums::begin(const StepSpec& spec, bool again) {
  PACELINE_ASSERT(spec.passes > 0, "a reproducible step says how many passes it has");
  attempts_ = again ? attempts_ + 1 : 1;
  if (!again) {
    spec_ = spec;
    room_ = fixed_point::room_for(spec.passes);
    for (std::size_t i = 0; i < series_.size(); ++i)
      series_[i].exponent = fixed_point::scale_exponent(expected_[i], room_);
  }
  greatest_.assign(series_.size(), 0);
  std::ranges::fill(tail(), 0);
  std::ranges::fill(statistics_, 0.0F);
  tail()[consumed_figure] = static_cast<std::int64_t>(spec.consumed);
}

void ExactSums::add_terms(std::size_t i, std::span<const float> terms, bool first) {
  const Series& series = series_[i];
  const std::uint32_t bits = fixed_point::accumulate(terms, series.exponent, data_ + series.begin, first);
  greatest_[i] = std::max(greatest_[i], static_cast<std::int32_t>(bits));
}

void ExactSums::add_figures(const PassFigures& figures) {
  const double correct = std::isfinite(figures.correct) ? figures.correct : 0;
  tail()[correct_figure] += std::llround(
      std::ldexp(std::clamp(correct, 0.0, static_cast<double>(figures.samples)), correct_exponent));
  tail()[sample_figure] += figures.samples;
  tail()[pass_figure] += 1;
  add_terms(loss_, std::span(&figures.loss, 1), false);
  const float* of_pass = statistics_.data();
  for (std::size_t i = loss_ + 1; i < series_.size(); ++i) {
    add_terms(i, {of_pass, series_[i].elements}, false);
    of_pass += series_[i].elements;
  }
  std::ranges::fill(statistics_, 0.0F);
}

/// The first; null: all are finite.
const Series* ExactSums::not_finite() const {
  for (std::size_t i = 0; i < series_.size(); ++i)
    if (!std::isfinite(greatest(i))) return &series_[i];
  return nullptr;
}

Result<GradientSums::Verdict> ExactSums::settle(const NotFinite& rules) {
  if (!std::isfinite(greatest(loss_))) return loss_is_not_finite(spec_.step);
  const Series* const spoilt = not_finite();
  if (spoilt != nullptr && !rules.may_skip)
    return Error{ErrorCode::invalid_argument, concat(spoilt->name, " is not finite at step ", spec_.step,
                                                     "; the weights are as they were", rules.advice)};
  Verdict verdict = Verdict::good;
  for (std::size_t i = 0; i < series_.size(); ++i) {
    if (spoilt != nullptr && i != loss_) continue;  // of a step that is skipped only the loss is told
    Series& series = series_[i];
    if (!fixed_point::overflows(greatest(i), series.exponent, room_)) continue;
    if (attempts_ == most_attempts)
      return Error{
          ErrorCode::internal,
          concat("step ", spec_.step, ": ", series.name, " reaches ", greatest(i), " in attempt ", attempts_,
                 ", for which the scale that suited the one before has no room: the model does not "
                 "compute the same when a step is done again, so it cannot be trained reproducibly")};
    series.exponent = fixed_point::scale_exponent(greatest(i), room_);
    verdict = Verdict::again;
  }
  return verdict;
}

Result<StepSums> ExactSums::read_out() {
  if (tail()[pass_figure] != spec_.passes)
    return Error{ErrorCode::mismatch,
                 concat("step ", spec_.step, ": the ranks together had ", tail()[pass_figure],
                        " passes where the step has ", spec_.passes)};
  StepSums sums;
  sums.finite = not_finite() == nullptr;
  for (const Series& series : series_)
    fixed_point::convert({data_ + series.begin, series.elements}, series.exponent,
                         results_.data() + series.begin);
  sums.gradients =
      torch::from_blob(results_.data(), {static_cast<std::int64_t>(layout_.tail)}, torch::kFloat);
  sums.statistics = std::span(results_).subspan(layout_.tail + figure_count, statistics_.size());
  const auto samples = static_cast<double>(spec_.global_samples);
  sums.loss = fixed_point::value_of(tail()[loss_figure], series_[loss_].exponent);
  sums.accuracy = fixed_point::value_of(tail()[correct_figure], correct_exponent) / samples;
  sums.samples = static_cast<double>(tail()[sample_figure]) / samples;
  sums.consumed = static_cast<std::uint64_t>(tail()[consumed_figure]);
  return sums;
}

void ExactSums::publish() {
  for (std::size_t i = 0; i < series_.size(); ++i)
    expected_[i] = std::max(greatest(i), expected_[i] * fading);
}

}  // namespace

ExpectedMagnitudes no_expectations(const SummedTensors& tensors) {
  return ExpectedMagnitudes(tensors.parameters.size() + 1 + tensors.statistics.size());
}

Result<std::unique_ptr<GradientSums>> make_exact_sums(Communicator& communicator,
                                                      const SummedTensors& tensors,
                                                      ExpectedMagnitudes& expected) {
  auto sums = std::make_unique<ExactSums>(communicator, tensors, expected);
  PACELINE_TRY(sums->prepare());
  return std::unique_ptr<GradientSums>(std::move(sums));
}

}  // namespace paceline
