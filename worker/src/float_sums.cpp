#include <algorithm>
#include <cmath>

#include "gradient_sums.hpp"
#include "limbs.hpp"
#include "memory_format.hpp"
#include "paceline/base/text.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {
namespace {

// What the tail begins with: figures, each divided by the global sample count, what is known of how far apart
// the ranks' gradients are, and the limbs of what was consumed. Normalisation statistics follow.
enum Figure : std::size_t {
  loss_figure,
  correct_figure,
  sample_figure,
  spread_ranks_figure,
  spread_figure,
  consumed_figure,
  figure_count = consumed_figure + limb_count
};

constexpr std::int64_t spread_interval = 16;

class FloatSums final : public GradientSums {
 public:
  FloatSums(Communicator& communicator, const SummedTensors& tensors)
      : communicator_(communicator),
        statistic_elements_(tensors.statistic_elements()),
        layout_(tensors.layout(sizeof(float), figure_count)) {}

  [[nodiscard]] Status prepare(const SummedTensors& tensors) {
    PACELINE_ASSIGN(buffer_, communicator_.allocate(layout_.elements * sizeof(float)));
    data_ = reinterpret_cast<float*>(buffer_.data());
    for (std::size_t i = 0; i < tensors.parameters.size(); ++i)
      places_.push_back(
          place_in_flat_memory(data_ + layout_.offset[i], tensors.parameters[i].sizes(), tensors.images));
    return {};
  }

  [[nodiscard]] const BucketLayout& layout() const noexcept override { return layout_; }

  void begin(const StepSpec& spec, bool /*again*/) override {
    step_ = spec.step;
    scale_ = static_cast<float>(1.0 / static_cast<double>(spec.global_samples));
    samples_ = 0;
    squares_ = 0;
    std::ranges::fill(tail(), 0.0F);
    put_limbs(spec.consumed, tail().subspan<consumed_figure, limb_count>());
  }

  [[nodiscard]] bool takes_each_pass() const noexcept override { return false; }
  void add(std::size_t parameter, const torch::Tensor& gradient, bool first) override {
    if (first)
      places_[parameter].copy_(gradient);
    else
      places_[parameter].add_(gradient);
  }
  void clear(std::size_t parameter) override { places_[parameter].zero_(); }

  [[nodiscard]] std::span<float> statistics() override {
    return tail().subspan(figure_count, statistic_elements_);
  }
  void add_figures(const PassFigures& figures) override {
    tail()[loss_figure] += figures.loss;
    tail()[correct_figure] += static_cast<float>(figures.correct) * scale_;
    tail()[sample_figure] += static_cast<float>(figures.samples) * scale_;
    samples_ += figures.samples;
  }

  [[nodiscard]] Work start(const BucketLayout::Bucket& bucket) override {
    if (samples_ > 0 && measures_spread()) look_at(bucket);
    return communicator_.all_reduce_async(data_ + bucket.begin, bucket.end - bucket.begin, DataType::f32);
  }
  void finish(std::vector<Work>& /*works*/) override {}

  [[nodiscard]] Result<Verdict> settle(const NotFinite& /*rules*/) override { return Verdict::good; }

  [[nodiscard]] Result<StepSums> read_out() override {
    const auto consumed = sum_of_limbs(tail().subspan<consumed_figure, limb_count>());
    if (!consumed.has_value())
      return Error{ErrorCode::internal,
                   concat("step ", step_, ": figures that are whole numbers were not summed exactly")};
    return StepSums{{data_, layout_.tail},
                    statistics(),
                    tail()[loss_figure],
                    tail()[correct_figure],
                    tail()[sample_figure],
                    *consumed,
                    spread()};
  }
  void publish() override {}

 private:
  [[nodiscard]] bool measures_spread() const noexcept { return step_ % spread_interval == 0; }

  /// Its gradients are this rank's alone, for the last time; each is b/B of the mean over the rank's b
  /// samples.
  void look_at(const BucketLayout::Bucket& bucket) {
    const std::size_t end = std::min(bucket.end, layout_.tail);
    squares_ += sum_of_squares({data_ + bucket.begin, end - bucket.begin});
    if (bucket.end <= layout_.tail) return;
    tail()[spread_ranks_figure] = 1;
    tail()[spread_figure] = static_cast<float>(squares_ / (static_cast<double>(samples_) * scale_));
  }

  [[nodiscard]] std::optional<GradientSpread> spread() {
    if (!measures_spread()) return std::nullopt;
    return GradientSpread{std::llround(tail()[spread_ranks_figure]), tail()[spread_figure]};
  }

  [[nodiscard]] std::span<float> tail() { return {data_ + layout_.tail, layout_.elements - layout_.tail}; }

  Communicator& communicator_;
  std::size_t statistic_elements_;
  BucketLayout layout_;
  SharedBuffer buffer_;
  float* data_ = nullptr;              // buffer_'s
  std::vector<torch::Tensor> places_;  // of every parameter's gradient in it, in its shape
  std::int64_t step_ = 0, samples_ = 0;
  double squares_ = 0;  // of this rank's gradients, as far as they are in buckets that were started
  float scale_ = 1;
};

}  // namespace

Result<std::unique_ptr<GradientSums>> make_float_sums(Communicator& communicator,
                                                      const SummedTensors& tensors) {
  auto sums = std::make_unique<FloatSums>(communicator, tensors);
  PACELINE_TRY(sums->prepare(tensors));
  return std::unique_ptr<GradientSums>(std::move(sums));
}

}  // namespace paceline
