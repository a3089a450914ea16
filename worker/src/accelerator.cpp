#include "accelerator.hpp"

#include <span>
#include <utility>
#include <vector>

namespace paceline {
namespace {

/// The host's own sums and updates, of memory that is taken for a device's.
class StandInSummer final : public DeviceSummer {
 public:
  explicit StandInSummer(Communicator& communicator) : communicator_(communicator) {}
  ~StandInSummer() override { static_cast<void>(wait()); }

  [[nodiscard]] Status sum(float* values, std::size_t count, bool squared) override {
    if (squared) squares_ += sum_of_squares({values, count});
    works_.push_back(communicator_.all_reduce_async(values, count, DataType::f32));
    return {};
  }
  [[nodiscard]] Status wait_for_inputs() override { return {}; }
  [[nodiscard]] Result<double> squares() override { return std::exchange(squares_, 0.0); }
  [[nodiscard]] Status wait() override {
    const Status ended = wait_all(works_);
    works_.clear();
    return ended;
  }
  void abort(const std::string& reason) override {
    communicator_.abort(reason);
    static_cast<void>(wait());
  }

 private:
  Communicator& communicator_;
  std::vector<Work> works_;
  double squares_ = 0;
};

class StandIn final : public Accelerator {
 public:
  [[nodiscard]] Result<std::unique_ptr<DeviceSummer>> meet(Communicator& communicator) const override {
    return std::unique_ptr<DeviceSummer>(std::make_unique<StandInSummer>(communicator));
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
