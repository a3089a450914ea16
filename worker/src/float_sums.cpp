#include <algorithm>

#include "gradient_sums.hpp"
#include "limbs.hpp"
#include "memory_format.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// What the tail begins with: figures, each divided by the global sample count, then the limbs of what was
// consumed. Normalisation statistics follow.
enum Figure : std::size_t {
  loss_figure,
  correct_figure,
  sample_figure,
  consumed_figure,
  figure_count = consumed_figure + limb_count
};

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
    std::ranges::fill(tail(), 0.0F);
    put_limbs(spec.consumed, tail().subspan<consumed_figure, limb_count>());
  }

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
  }

  [[nodiscard]] Work start(const BucketLayout::Bucket& bucket) override {
    return communicator_.all_reduce_async(data_ + bucket.begin, bucket.end - bucket.begin, DataType::f32);
  }
  void finish(std::vector<Work>& /*works*/) override {}

  [[nodiscard]] Result<Verdict> settle() override { return Verdict::good; }

  [[nodiscard]] Result<StepSums> read_out() override {
    const auto consumed = sum_of_limbs(tail().subspan<consumed_figure, limb_count>());
    if (!consumed.has_value())
      return Error{ErrorCode::internal,
                   concat("step ", step_, ": figures that are whole numbers were not summed exactly")};
    return StepSums{{data_, layout_.tail},  statistics(),          tail()[loss_figure],
                    tail()[correct_figure], tail()[sample_figure], *consumed};
  }
  void publish() override {}

 private:
  [[nodiscard]] std::span<float> tail() { return {data_ + layout_.tail, layout_.elements - layout_.tail}; }

  Communicator& communicator_;
  std::size_t statistic_elements_;
  BucketLayout layout_;
  SharedBuffer buffer_;
  float* data_ = nullptr;              // buffer_'s
  std::vector<torch::Tensor> places_;  // of every parameter's gradient in it, in its shape
  std::int64_t step_ = 0;
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
