#include <algorithm>
#include <optional>
#include <utility>

#include "figure_tail.hpp"
#include "gradient_sums.hpp"
#include "memory_format.hpp"
#include "paceline/train/optimizer.hpp"

namespace paceline {
namespace {

class FloatSums final : public GradientSums {
 public:
  FloatSums(Communicator& communicator, const SummedTensors& tensors)
      : communicator_(communicator), layout_(tensors.layout(sizeof(float), FigureTail::figures)) {}

  [[nodiscard]] Status prepare(const SummedTensors& tensors) {
    PACELINE_ASSIGN(buffer_, communicator_.allocate(layout_.elements * sizeof(float)));
    data_ = reinterpret_cast<float*>(buffer_.data());
    for (std::size_t i = 0; i < tensors.parameters.size(); ++i)
      places_.push_back(
          place_in_flat_memory(data_ + layout_.offset[i], tensors.parameters[i].sizes(), tensors.images));
    gradients_ = torch::from_blob(data_, {static_cast<std::int64_t>(layout_.tail)}, torch::kFloat);
    tail_.emplace(std::span(data_ + layout_.tail, FigureTail::figures + tensors.statistic_elements()));
    return {};
  }

  [[nodiscard]] const BucketLayout& layout() const noexcept override { return layout_; }

  void begin(const StepSpec& spec, bool /*again*/) override {
    squares_ = 0;
    tail_->begin(spec);
  }

  [[nodiscard]] bool takes_each_pass() const noexcept override { return false; }
  void add(std::size_t parameter, const torch::Tensor& gradient, bool first) override {
    if (first)
      places_[parameter].copy_(gradient);
    else
      places_[parameter].add_(gradient);
  }
  void clear(std::size_t parameter) override { places_[parameter].zero_(); }

  [[nodiscard]] std::span<float> statistics() override { return tail_->statistics(); }
  void add_figures(const PassFigures& figures) override { tail_->add(figures); }

  [[nodiscard]] Status start(const BucketLayout::Bucket& bucket, std::vector<Work>& works) override {
    if (tail_->wants_spread()) look_at(bucket);
    works.push_back(
        communicator_.all_reduce_async(data_ + bucket.begin, bucket.end - bucket.begin, DataType::f32));
    return {};
  }

  [[nodiscard]] Result<StepSums> read_out() override {
    PACELINE_ASSIGN(StepSums sums, tail_->read_out());
    sums.gradients = gradients_;
    return sums;
  }

 private:
  /// Its gradients are this rank's alone, for the last time.
  void look_at(const BucketLayout::Bucket& bucket) {
    const std::size_t end = std::min(bucket.end, layout_.tail);
    squares_ += sum_of_squares({data_ + bucket.begin, end - bucket.begin});
    if (bucket.end > layout_.tail) tail_->add_spread(squares_);
  }

  Communicator& communicator_;
  BucketLayout layout_;
  SharedBuffer buffer_;
  float* data_ = nullptr;              // buffer_'s
  torch::Tensor gradients_;            // views of it: all of them
  std::vector<torch::Tensor> places_;  // every parameter's, in its shape
  std::optional<FigureTail> tail_;     // there once prepared
  double squares_ = 0;  // of this rank's gradients, as far as they are in buckets that were started
};

}  // namespace

Result<std::unique_ptr<GradientSums>> make_float_sums(Communicator& communicator,
                                                      const SummedTensors& tensors) {
  auto sums = std::make_unique<FloatSums>(communicator, tensors);
  PACELINE_TRY(sums->prepare(tensors));
  return std::unique_ptr<GradientSums>(std::move(sums));
}

}  // namespace paceline
