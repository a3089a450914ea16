// Sums on the ranks' devices that fail, each way that they can: the ranks' own communicator then has failed
// on every rank before anyone waits there for a vote, and only the rank whose error it is takes it for its
// own.
#include "device_sums.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "accelerator.hpp"
#include "gradient_sums.hpp"
#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

constexpr int faulty_rank = 1;
const ComputeDevice apart{torch::kCPU, true};

enum class Fault { none, meeting, sum, inputs, wait, aborted };

/// Sums of the stand-in's, on the faulty rank with a fault.
class FaultySummer final : public DeviceSummer {
 public:
  FaultySummer(std::unique_ptr<DeviceSummer> sums, Fault fault) : sums_(std::move(sums)), fault_(fault) {}

  [[nodiscard]] Status sum(float* values, std::size_t count, bool squared) override {
    if (fault_ == Fault::sum) return broken();
    // As a device communicator does, which tells the other ranks at once.
    if (fault_ == Fault::aborted) sums_->abort("broke");
    return sums_->sum(values, count, squared);
  }
  [[nodiscard]] Status wait_for_inputs() override {
    return fault_ == Fault::inputs ? broken() : sums_->wait_for_inputs();
  }
  [[nodiscard]] double squares() override { return sums_->squares(); }
  [[nodiscard]] Status wait() override {
    const Status ended = sums_->wait();
    return fault_ == Fault::wait ? broken() : ended;
  }
  [[nodiscard]] Duration busy() const override { return sums_->busy(); }
  void abort(const std::string& reason) override { sums_->abort(reason); }

 private:
  static Error broken() { return {ErrorCode::io, "the device broke"}; }

  std::unique_ptr<DeviceSummer> sums_;
  Fault fault_;
};

class FaultyAccelerator final : public Accelerator {
 public:
  FaultyAccelerator(std::unique_ptr<Accelerator> real, Fault fault) : real_(std::move(real)), fault_(fault) {}

  [[nodiscard]] Result<std::unique_ptr<DeviceSummer>> meet(Communicator& communicator) const override {
    PACELINE_ASSIGN(std::unique_ptr<DeviceSummer> sums, real_->meet(communicator));
    // All ranks are told of what is wrong with one's device, and by which that is.
    if (fault_ == Fault::meeting) return Error{ErrorCode::io, "the device is no good", faulty_rank};
    const bool faulty = communicator.rank() == faulty_rank;
    return std::unique_ptr<DeviceSummer>(
        std::make_unique<FaultySummer>(std::move(sums), faulty ? fault_ : Fault::none));
  }
  [[nodiscard]] Result<std::unique_ptr<Updates>> make_updates(UpdateRules rules) const override {
    return real_->make_updates(std::move(rules));
  }

 private:
  std::unique_ptr<Accelerator> real_;
  Fault fault_;
};

SummedTensors two_tensors() {
  SummedTensors tensors;
  tensors.names = {"first", "second"};
  tensors.parameters = {torch::ones({3, 5}), torch::ones({40})};
  tensors.bucket_bytes = 64;  // one each
  return tensors;
}

/// One step of one rank; the mean of its first gradient, or an error as a trainer has it.
Result<float> sum_a_step(Communicator& communicator, Fault fault) {
  const SummedTensors tensors = two_tensors();
  PACELINE_ASSIGN(std::unique_ptr<Accelerator> real, make_accelerator(apart));
  const FaultyAccelerator accelerator(std::move(real), fault);
  const torch::Tensor gradients = make_device_gradients(tensors, torch::kCPU);
  PACELINE_ASSIGN(std::unique_ptr<GradientSums> sums,
                  make_device_sums(communicator, tensors, accelerator, gradients));
  StepSpec spec;
  spec.global_samples = communicator.size();
  sums->begin(spec, false);
  std::vector<Work> works;
  for (std::size_t i = 0; i < tensors.parameters.size(); ++i)
    sums->add(i, tensors.parameters[i] * static_cast<float>(1 + communicator.rank()), true);
  sums->add_figures({0.5F, 1, 1});
  for (const BucketLayout::Bucket& bucket : sums->layout().buckets) PACELINE_TRY(sums->start(bucket, works));
  if (const Status finished = sums->finish(works); !finished.ok()) {
    communicator.abort(finished.error().message);
    sums->give_up(finished.error());
    static_cast<void>(wait_all(works));
    return finished.error();
  }
  if (const Status ended = wait_all(works); !ended.ok()) {
    sums->give_up(ended.error());
    return ended.error();
  }
  PACELINE_TRY(sums->settle({}));
  PACELINE_TRY(communicator.barrier());  // as ranks vote
  PACELINE_ASSIGN(const StepSums all, sums->read_out());
  return all.gradients[static_cast<std::int64_t>(sums->layout().offset[0])].item<float>();
}

class FailingSums : public ::testing::TestWithParam<std::pair<const char*, Fault>> {};

TEST_P(FailingSums, EndTheRanksCommunicatorAndAreOneRanksOwn) {
  const Fault fault = GetParam().second;
  expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    const auto began = std::chrono::steady_clock::now();
    const Result<float> sum = sum_a_step(*communicator, fault);
    if (std::chrono::steady_clock::now() - began > std::chrono::seconds(30)) return "took long";
    if (sum.ok()) return "did not fail";
    if (communicator->health().ok()) return "the ranks' communicator does not know: " + sum.error().message;
    const bool own = sum.error().code == ErrorCode::io;
    if (own != (rank == faulty_rank && fault != Fault::aborted))
      return "is taken wrongly: " + sum.error().message;
    if (!own && sum.error().code != ErrorCode::aborted) return "is no end of others: " + sum.error().message;
    return {};
  }));
}

INSTANTIATE_TEST_SUITE_P(Apart, FailingSums,
                         ::testing::Values(std::pair("meeting", Fault::meeting), std::pair("sum", Fault::sum),
                                           std::pair("inputs", Fault::inputs), std::pair("wait", Fault::wait),
                                           std::pair("aborted", Fault::aborted)),
                         [](const auto& named) { return std::string(named.param.first); });

TEST(DeviceSums, AreSums) {
  expect_all_well(run_ranks({"aab"}, [&](Result<Communicator>& communicator, int) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    const Result<float> sum = sum_a_step(*communicator, Fault::none);
    if (!sum.ok()) return sum.error().message;
    return *sum == 6 ? "" : concat("1 + 2 + 3 is ", *sum);
  }));
}

/// Who waits for sums that another never begins is released by the end of the ranks' communicator.
TEST(DeviceSums, EndWithTheRanksCommunicator) {
  expect_all_well(run_ranks({"aa"}, [&](Result<Communicator>& communicator, int rank) -> std::string {
    if (!communicator.ok()) return communicator.error().message;
    auto real = make_accelerator(apart);
    if (!real.ok()) return real.error().message;
    auto sums = (*real)->meet(*communicator);
    if (!sums.ok()) return sums.error().message;
    if (rank == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      communicator->abort("is given up");
      return {};
    }
    std::array<float, 100> values{};
    if (const Status begun = (*sums)->sum(values.data(), values.size(), false); !begun.ok())
      return begun.error().message;
    return (*sums)->wait().ok() ? "sums that one rank has not begun have ended" : "";
  }));
}

}  // namespace
}  // namespace paceline::testing
