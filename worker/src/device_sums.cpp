#include "device_sums.hpp"

#include <utility>

#include "figure_tail.hpp"
#include "memory_format.hpp"
#include "paceline/base/assert.hpp"
#include "shared_failure.hpp"

namespace paceline {
namespace {

/// The places that float sums have, without the tail.
BucketLayout layout_of(const SummedTensors& tensors) {
  return tensors.layout_of_gradients(sizeof(float));
}

class DeviceSums final : public GradientSums {
 public:
  DeviceSums(Communicator& communicator, const SummedTensors& tensors, std::unique_ptr<DeviceSummer> summer,
             torch::Tensor gradients)
      : communicator_(communicator),
        summer_(std::move(summer)),
        layout_(layout_of(tensors)),
        gradients_(std::move(gradients)),
        tail_memory_(FigureTail::figures + tensors.statistic_elements()),
        tail_(tail_memory_) {
    PACELINE_ASSERT(gradients_.numel() == static_cast<std::int64_t>(layout_.elements),
                    "there is a place for every gradient");
    for (std::size_t i = 0; i < tensors.parameters.size(); ++i)
      places_.push_back(place_in_flat_tensor(gradients_, static_cast<std::int64_t>(layout_.offset[i]),
                                             tensors.parameters[i].sizes(), tensors.images));
  }

  [[nodiscard]] const BucketLayout& layout() const noexcept override { return layout_; }
  [[nodiscard]] bool on_device() const noexcept override { return true; }
  [[nodiscard]] Duration busy() const override { return summer_->busy(); }

  void begin(const StepSpec& spec, bool /*again*/) override {
    trouble_ = {};
    tail_.begin(spec);
  }

  [[nodiscard]] bool takes_each_pass() const noexcept override { return false; }
  void add(std::size_t parameter, const torch::Tensor& gradient, bool first) override {
    if (first)
      places_[parameter].copy_(gradient);
    else
      places_[parameter].add_(gradient);
  }
  void clear(std::size_t parameter) override { places_[parameter].zero_(); }

  [[nodiscard]] std::span<float> statistics() override { return tail_.statistics(); }
  void add_figures(const PassFigures& figures) override { tail_.add(figures); }

  /// An error may be another rank's end, and is told where those of sums are.
  [[nodiscard]] Status start(const BucketLayout::Bucket& bucket, std::vector<Work>& /*works*/) override {
    if (trouble_.ok())
      trouble_ = summer_->sum(gradients_.data_ptr<float>() + bucket.begin, bucket.end - bucket.begin,
                              tail_.wants_spread());
    return {};
  }

  /// Waits for this rank's own gradients, so that the time for them is known apart from the time for sums.
  [[nodiscard]] Status finish(std::vector<Work>& works) override {
    PACELINE_TRY(summer_->wait_for_inputs());
    if (tail_.wants_spread()) tail_.add_spread(summer_->squares());
    works.push_back(communicator_.all_reduce_async(tail_memory_.data(), tail_memory_.size(), DataType::f32));
    return {};
  }

  void give_up(const Error& why) override { summer_->abort(why.message); }

  [[nodiscard]] Result<Verdict> settle(const NotFinite& /*rules*/) override {
    const Status summed = trouble_.ok() ? summer_->wait() : trouble_;
    if (summed.ok()) return Verdict::good;
    const Error error = shared_failure(communicator_, summed.error());
    summer_->abort(error.message);
    return error;
  }

  [[nodiscard]] Result<StepSums> read_out() override {
    PACELINE_ASSIGN(StepSums sums, tail_.read_out());
    sums.gradients = gradients_;
    return sums;
  }

 private:
  Communicator& communicator_;
  std::unique_ptr<DeviceSummer> summer_;
  BucketLayout layout_;
  torch::Tensor gradients_;            // flat, on the device
  std::vector<torch::Tensor> places_;  // of every parameter's gradient in it, in its shape
  Status trouble_;                     // of the buckets that were to be started
  std::vector<float> tail_memory_;
  FigureTail tail_;
};

}  // namespace

torch::Tensor make_device_gradients(const SummedTensors& tensors, torch::Device device) {
  return torch::zeros({static_cast<std::int64_t>(layout_of(tensors).elements)},
                      torch::TensorOptions(torch::kFloat).device(device));
}

Result<std::unique_ptr<GradientSums>> make_device_sums(Communicator& communicator,
                                                       const SummedTensors& tensors,
                                                       const Accelerator& accelerator,
                                                       const torch::Tensor& gradients) {
  Result<std::unique_ptr<DeviceSummer>> met = accelerator.meet(communicator);
  if (!met.ok()) return shared_failure(communicator, met.error());
  return std::unique_ptr<GradientSums>(
      std::make_unique<DeviceSums>(communicator, tensors, std::move(*met), gradients));
}

}  // namespace paceline
