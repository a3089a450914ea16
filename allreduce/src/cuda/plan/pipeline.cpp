#include "pipeline.hpp"

#include "paceline/base/assert.hpp"

namespace paceline::cuda {
namespace {

// Sums are carried out one after the other. A second one that has been begun goes on at once when the first
// ends.
constexpr int sums_ahead = 2;

}  // namespace

Pipeline::Action Pipeline::next() const {
  if (begun_out_ < summed_) return action(Step::begin_copy_out, begun_out_);
  if (begun_in_ < fragments_ && begun_in_ - copied_out_ < slots_)
    return action(Step::begin_copy_in, begun_in_);
  if (begun_sums_ < copied_in_) return action(Step::begin_sum, begun_sums_);
  return next_wait();
}

/// Whatever can be begun has been. What is waited for is what lets most go on.
Pipeline::Action Pipeline::next_wait() const {
  const bool copying_in = copied_in_ < begun_in_;
  const bool copying_out = copied_out_ < begun_out_;
  const int sums_under_way = begun_sums_ - summed_;
  if (copying_in && sums_under_way < sums_ahead) return action(Step::wait_copy_in, copied_in_);
  // Fragments wait for a slot, which a copy frees sooner than a sum does.
  if (copying_out && begun_in_ < fragments_) return action(Step::wait_copy_out, copied_out_);
  if (sums_under_way > 0) return action(Step::wait_sum, summed_);
  if (copying_out) return action(Step::wait_copy_out, copied_out_);
  PACELINE_ASSERT(copied_out_ == fragments_, "the pipeline stands still with fragments left");
  return {};
}

void Pipeline::performed(const Action& done) {
  int* counter = nullptr;
  switch (done.step) {
    case Step::begin_copy_in: counter = &begun_in_; break;
    case Step::wait_copy_in: counter = &copied_in_; break;
    case Step::begin_sum: counter = &begun_sums_; break;
    case Step::wait_sum: counter = &summed_; break;
    case Step::begin_copy_out: counter = &begun_out_; break;
    case Step::wait_copy_out: counter = &copied_out_; break;
    case Step::finished: return;
  }
  PACELINE_ASSERT(*counter == done.fragment, "steps take the fragments in their order");
  ++*counter;
}

}  // namespace paceline::cuda
