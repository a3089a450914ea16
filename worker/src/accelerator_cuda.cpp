#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <chrono>
#include <cmath>
#include <deque>
#include <optional>
#include <utility>

#include "accelerator.hpp"
#include "device_events.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/cuda.hpp"
#include "paceline/cuda_kernels.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration health_interval = std::chrono::milliseconds(1);

cudaStream_t native(const c10::Stream& stream) {
  return c10::cuda::CUDAStream(stream).stream();
}

c10::Stream current_stream(torch::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

/// LibTorch may have a CUDA runtime of its own, with a current device of its own.
struct OnDevice {
  explicit OnDevice(torch::Device device) : guard(device) { cudaSetDevice(device.index()); }
  c10::DeviceGuard guard;
};

torch::TensorOptions on(torch::Device device, torch::ScalarType type) {
  return torch::TensorOptions(type).device(device);
}

/// A figure in the device's memory, and page-locked memory for the host to have it in.
class Figure {
 public:
  explicit Figure(torch::Device device)
      : device_(torch::zeros({1}, on(device, torch::kDouble))),
        host_(torch::zeros({1}, torch::TensorOptions(torch::kDouble).pinned_memory(true))) {}

  [[nodiscard]] double* place() const { return device_.data_ptr<double>(); }
  void reset() const { device_.zero_(); }
  /// Has been read once the stream has come here.
  void read() const { host_.copy_(device_, /*non_blocking=*/true); }
  [[nodiscard]] double value() const { return *host_.data_ptr<double>(); }

 private:
  torch::Tensor device_, host_;
};

/// How long a stream takes from one place to another. What it can't measure takes no time.
class StreamTimer {
 public:
  StreamTimer() {
    if (cudaEventCreate(&began_) != cudaSuccess || cudaEventCreate(&ended_) != cudaSuccess)
      static_cast<void>(cudaGetLastError());  // which others would take for their own
  }
  ~StreamTimer() {
    for (const cudaEvent_t event : {began_, ended_})
      if (event != nullptr) cudaEventDestroy(event);
  }
  StreamTimer(const StreamTimer&) = delete;
  StreamTimer& operator=(const StreamTimer&) = delete;

  void begin(cudaStream_t stream) const {
    if (ended_ != nullptr) cudaEventRecord(began_, stream);
  }
  void end(cudaStream_t stream) const {
    if (ended_ != nullptr) cudaEventRecord(ended_, stream);
  }
  /// Once the stream has come to the end.
  [[nodiscard]] Duration took() const {
    float milliseconds = 0;
    if (ended_ == nullptr || cudaEventElapsedTime(&milliseconds, began_, ended_) != cudaSuccess) {
      static_cast<void>(cudaGetLastError());
      return {};
    }
    return std::chrono::duration_cast<Duration>(std::chrono::duration<float, std::milli>(milliseconds));
  }

 private:
  cudaEvent_t began_ = nullptr, ended_ = nullptr;
};

torch::Tensor workspace_for(std::size_t elements, torch::Device device) {
  const std::size_t bytes = cuda::squares_workspace_bytes(DataType::f32, elements);
  return torch::empty({static_cast<std::int64_t>(bytes)}, on(device, torch::kByte));
}

/// What LibTorch throws in `body` as an error.
template <class Body>
Status told(const Body& body) {
  try {
    return body();
  } catch (const std::exception& exception) {
    return Error{ErrorCode::io, words_of(exception)};
  }
}

// ---- sums -------------------------------------------------------------------------------------------

class CudaSummer final : public DeviceSummer {
 public:
  CudaSummer(Communicator& communicator, std::optional<cuda::DeviceCommunicator> ranks, torch::Device device)
      : communicator_(communicator),
        device_(device),
        ranks_(std::move(ranks)),
        stream_(transfer_streams(device).sums),
        squares_(device) {}

  ~CudaSummer() override {
    if (!ranks_) return;
    // Where all is well the ranks have agreed on what the last sums came to, or have begun none: who leaves
    // need not wait for who stays.
    if (under_way_ || !communicator_.health().ok())
      abort("left");
    else
      ranks_->release();
  }

  [[nodiscard]] Status sum(float* values, std::size_t count, bool squared) override {
    return told([&] { return begin_sum(values, count, squared); });
  }

  [[nodiscard]] Status wait_for_inputs() override {
    return told([&] {
      if (computed_) wait_for(*computed_);
      return Status();
    });
  }

  [[nodiscard]] double squares() override {
    return std::exchange(any_squares_, false) ? squares_.value() : 0.0;
  }

  [[nodiscard]] Status wait() override {
    Status ended = wait_for_inputs();
    if (ended.ok() && ranks_) ended = told([&] { return wait_for_ranks(); });
    if (!ended.ok())
      abort(ended.error().message);
    else
      under_way_ = false;
    return ended;
  }

  [[nodiscard]] Duration busy() const override { return busy_; }

  void abort(const std::string& reason) override {
    if (!ranks_) return;
    ranks_->abort(reason);
    static_cast<void>(ranks_->wait());
  }

 private:
  [[nodiscard]] Status begin_sum(float* values, std::size_t count, bool squared) {
    under_way_ = true;
    const OnDevice here(device_);
    const c10::Stream computing = current_stream(device_);
    if (squared) PACELINE_TRY(add_squares(values, count, native(computing)));
    if (!computed_) computed_.emplace(device_.type());
    computed_->record(computing);
    if (!ranks_) return {};
    computed_->block(stream_);
    if (timed_ == timers_.size()) timers_.emplace_back();
    const StreamTimer& timer = timers_[timed_++];
    timer.begin(native(stream_));
    PACELINE_TRY(ranks_->all_reduce(values, values, count, DataType::f32, {}, native(stream_)));
    timer.end(native(stream_));
    return {};
  }

  [[nodiscard]] Status add_squares(const float* values, std::size_t count, cudaStream_t stream) {
    if (!any_squares_) squares_.reset();
    any_squares_ = true;
    if (static_cast<std::size_t>(workspace_.numel()) < cuda::squares_workspace_bytes(DataType::f32, count))
      workspace_ = workspace_for(count, device_);
    PACELINE_TRY(cuda::sum_of_squares(squares_.place(), values, DataType::f32, count, /*accumulate=*/true,
                                      workspace_.data_ptr(), stream));
    squares_.read();
    return {};
  }

  [[nodiscard]] Status wait_for_ranks() {
    const OnDevice here(device_);
    c10::Event summed(device_.type());
    summed.record(stream_);
    // Who gives this generation up tells the host's communicator.
    Instant looked = steady_clock.now();
    wait_for(summed, [this, &looked] {
      if (steady_clock.now() - looked < health_interval) return;
      looked = steady_clock.now();
      const Status well = communicator_.health();
      if (!well.ok()) ranks_->abort(well.error().message);
    });
    PACELINE_TRY(ranks_->wait());
    for (std::size_t i = 0; i < timed_; ++i) busy_ += timers_[i].took();
    timed_ = 0;
    return {};
  }

  Communicator& communicator_;
  torch::Device device_;
  std::optional<cuda::DeviceCommunicator> ranks_;  // nothing: this rank is alone
  c10::Stream stream_;
  std::optional<c10::Event> computed_;  // what the newest sum takes
  Figure squares_;
  std::deque<StreamTimer> timers_;  // of the sums since the last wait, timed_ of them
  std::size_t timed_ = 0;
  Duration busy_{};
  bool any_squares_ = false, under_way_ = false;
  torch::Tensor workspace_ = torch::empty({0}, torch::kByte);
};

// ---- updates ----------------------------------------------------------------------------------------

class CudaUpdates final : public Updates {
 public:
  CudaUpdates(const UpdateRules& rules, torch::Device device)
      : config_(rules.config),
        device_(device),
        elements_(rules.elements),
        momentum_(torch::zeros({static_cast<std::int64_t>(elements_)}, on(device, torch::kFloat))),
        squares_(device),
        factor_(torch::ones({1}, on(device, torch::kFloat))),
        workspace_(workspace_for(rules.elements, device)),
        uploads_(rules.uploads) {
    if (config_.kind == OptimizerKind::adamw) second_moment_ = torch::zeros_like(momentum_);
    std::vector<std::int64_t> boundaries;
    for (const FlatOptimizer::Range& range : rules.decayed) {
      boundaries.push_back(static_cast<std::int64_t>(range.begin));
      boundaries.push_back(static_cast<std::int64_t>(range.end));
    }
    boundaries_ = torch::tensor(boundaries, torch::kLong).to(device);
  }

  [[nodiscard]] Result<Applied> apply(const torch::Tensor& parameters, const torch::Tensor& gradients,
                                      double learning_rate, FlatOptimizer::Use use) override {
    const OnDevice here(device_);
    return gradients.device() == device_ ? apply_own(parameters, gradients, learning_rate, use.factor)
                                         : apply_host(parameters, gradients, learning_rate, use.factor);
  }

  [[nodiscard]] State state() override { return {momentum_, second_moment_, updates_}; }

 private:
  [[nodiscard]] Result<Applied> apply_own(const torch::Tensor& parameters, const torch::Tensor& gradients,
                                          double learning_rate, double factor) {
    const c10::Stream stream = current_stream(device_);
    PACELINE_TRY(cuda::sum_of_squares(squares_.place(), gradients.data_ptr(), DataType::f32, elements_,
                                      /*accumulate=*/false, workspace_.data_ptr(), native(stream)));
    squares_.read();
    c10::Event read(device_.type());
    read.record(stream);
    PACELINE_TRY(cuda::gradient_factor(factor_.data_ptr<float>(), squares_.place(), config_.clip_norm, factor,
                                       native(stream)));
    PACELINE_TRY(update(parameters, gradients, learning_rate));
    wait_for(read);  // and not for the update, which the next pass waits for on the device
    return applied(squares_.value() * factor * factor);
  }

  /// Of sums with ranks on CPUs: what all compute must be the same bits, so their squares are added up as the
  /// others do it.
  [[nodiscard]] Result<Applied> apply_host(const torch::Tensor& parameters, const torch::Tensor& gradients,
                                           double learning_rate, double factor) {
    const double squares = factor * factor * sum_of_squares({gradients.data_ptr<float>(), elements_});
    if (!std::isfinite(squares)) return applied(squares);
    factor_.fill_(static_cast<float>(factor * clipping(squares, config_.clip_norm)));
    uploads_.copy_(gradients);
    PACELINE_TRY(update(parameters, uploads_, learning_rate));
    return applied(squares);
  }

  Applied applied(double squares) {
    const bool finite = std::isfinite(squares);
    if (finite) ++updates_;
    return {squares, finite};
  }

  [[nodiscard]] Status update(const torch::Tensor& parameters, const torch::Tensor& gradients,
                              double learning_rate) {
    const cudaStream_t stream = native(current_stream(device_));
    cuda::FlatArrays arrays;
    arrays.parameters = parameters.data_ptr<float>();
    arrays.gradients = gradients.data_ptr();
    arrays.count = elements_;
    static_assert(sizeof(std::size_t) == sizeof(std::int64_t));
    arrays.decay_boundaries = reinterpret_cast<const std::size_t*>(boundaries_.data_ptr<std::int64_t>());
    arrays.boundary_count = static_cast<std::size_t>(boundaries_.numel());
    arrays.gradient_factor = factor_.data_ptr<float>();
    if (config_.kind == OptimizerKind::sgd)
      return cuda::sgd(arrays, config_.momentum == 0 ? nullptr : momentum_.data_ptr<float>(),
                       {learning_rate, config_.momentum, config_.nesterov, config_.weight_decay}, stream);
    return cuda::adamw(
        arrays, momentum_.data_ptr<float>(), second_moment_.data_ptr<float>(),
        {learning_rate, config_.beta1, config_.beta2, config_.epsilon, config_.weight_decay, updates_ + 1},
        stream);
  }

  OptimizerConfig config_;
  torch::Device device_;
  std::size_t elements_;
  torch::Tensor momentum_, second_moment_;
  Figure squares_;  // of the gradients
  torch::Tensor factor_, workspace_, uploads_, boundaries_;
  std::int64_t updates_ = 0;
};

// ---- both -------------------------------------------------------------------------------------------

class CudaAccelerator final : public Accelerator {
 public:
  explicit CudaAccelerator(const ComputeDevice& device) : device_(device) {}

  [[nodiscard]] Result<std::unique_ptr<DeviceSummer>> meet(Communicator& communicator) const override {
    std::optional<cuda::DeviceCommunicator> ranks;
    if (communicator.size() > 1) {
      cuda::DeviceOptions options;
      options.device = device_.device.index();
      options.share_device = device_.shared;
      PACELINE_ASSIGN(ranks, cuda::DeviceCommunicator::make(communicator, options));
    }
    return std::unique_ptr<DeviceSummer>(
        std::make_unique<CudaSummer>(communicator, std::move(ranks), device_.device));
  }

  [[nodiscard]] Result<std::unique_ptr<Updates>> make_updates(UpdateRules rules) const override {
    return std::unique_ptr<Updates>(std::make_unique<CudaUpdates>(rules, device_.device));
  }

 private:
  ComputeDevice device_;
};

}  // namespace

Result<std::unique_ptr<Accelerator>> make_cuda_accelerator(const ComputeDevice& device) {
  return std::unique_ptr<Accelerator>(std::make_unique<CudaAccelerator>(device));
}

}  // namespace paceline
