#include "accelerator.hpp"

#include <chrono>
#include <numeric>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace paceline {
namespace {

/// The host's own sums, of memory that is taken for a device's. As a device's they have a communicator of
/// their own, which may fail before that of the ranks, or after it.
class StandInSummer final : public DeviceSummer {
 public:
  StandInSummer(Communicator& communicator, Communicator own)
      : communicator_(communicator), own_(std::move(own)) {}
  ~StandInSummer() override { static_cast<void>(wait()); }

  [[nodiscard]] Status sum(float* values, std::size_t count, bool squared) override {
    if (squared) squares_ += sum_of_squares({values, count});
    works_.push_back(own_.all_reduce_async(values, count, DataType::f32));
    return {};
  }
  [[nodiscard]] Status wait_for_inputs() override { return {}; }
  [[nodiscard]] double squares() override { return std::exchange(squares_, 0.0); }
  [[nodiscard]] Status wait() override {
    for (const Work& work : works_) {
      while (!work.done() && communicator_.health().ok()) std::this_thread::sleep_for(nap);
      if (!work.done()) own_.abort(communicator_.health().error().message);
    }
    const Status ended = wait_all(works_);
    works_.clear();
    if (!ended.ok()) own_.abort(ended.error().message);
    return ended;
  }
  [[nodiscard]] Duration busy() const override { return own_.busy(); }
  void abort(const std::string& reason) override {
    own_.abort(reason);
    static_cast<void>(wait());
  }

 private:
  static constexpr auto nap = std::chrono::microseconds(50);

  Communicator& communicator_;
  Communicator own_;
  std::vector<Work> works_;
  double squares_ = 0;
};

class StandIn final : public Accelerator {
 public:
  [[nodiscard]] Result<std::unique_ptr<DeviceSummer>> meet(Communicator& communicator) const override {
    std::vector<std::vector<int>> all(1, std::vector<int>(static_cast<std::size_t>(communicator.size())));
    std::iota(all.front().begin(), all.front().end(), 0);
    PACELINE_ASSIGN(std::vector<Communicator> parts, communicator.split(all));
    return std::unique_ptr<DeviceSummer>(
        std::make_unique<StandInSummer>(communicator, std::move(parts.front())));
  }
  [[nodiscard]] Result<std::unique_ptr<Updates>> make_updates(UpdateRules rules) const override {
    return make_host_updates(std::move(rules));
  }
};

}  // namespace

Result<std::unique_ptr<Accelerator>> make_accelerator(const ComputeDevice& device) {
  if (device.device.is_cpu()) return std::unique_ptr<Accelerator>(std::make_unique<StandIn>());
  return make_cuda_accelerator(device);
}

}  // namespace paceline
