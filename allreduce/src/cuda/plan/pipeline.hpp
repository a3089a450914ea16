#pragma once

namespace paceline::cuda {

/// One collective of the staged way, cut into fragments. Each fragment goes through three steps, every step
/// takes the fragments in their order, and different steps of different fragments run at the same time:
///
///     copy in    device to pinned memory of a slot     (the copy engine)
///     sum        between the ranks, in place            (the host communicator)
///     copy out   slot to device                         (the other copy engine)
///
/// A slot belongs to one fragment until that has been copied out. The pipeline says what to do next, and is
/// told when it is done; it knows neither clocks nor copies. Waits are told apart from begins, so that
/// everything that can be begun has been begun before anything is waited for.
class Pipeline {
 public:
  enum class Step {
    begin_copy_in,
    wait_copy_in,
    begin_sum,
    wait_sum,
    begin_copy_out,
    wait_copy_out,
    finished
  };
  struct Action {
    Step step = Step::finished;
    int fragment = 0;
    int slot = 0;
  };

  Pipeline(int fragments, int slots) : fragments_(fragments), slots_(slots) {}

  [[nodiscard]] Action next() const;
  void performed(const Action& action);

  /// Begun and not waited for, oldest first: from the first to before the second. For who must give up.
  struct Pending {
    int from = 0;
    int to = 0;
  };
  [[nodiscard]] Pending copies_in() const { return {copied_in_, begun_in_}; }
  [[nodiscard]] Pending sums() const { return {summed_, begun_sums_}; }
  [[nodiscard]] Pending copies_out() const { return {copied_out_, begun_out_}; }
  [[nodiscard]] int slot_of(int fragment) const { return fragment % slots_; }

 private:
  [[nodiscard]] Action action(Step step, int fragment) const { return {step, fragment, slot_of(fragment)}; }
  [[nodiscard]] Action next_wait() const;

  int fragments_;
  int slots_;
  // How many fragments each step has begun and ended.
  int begun_in_ = 0;
  int copied_in_ = 0;
  int begun_sums_ = 0;
  int summed_ = 0;
  int begun_out_ = 0;
  int copied_out_ = 0;
};

}  // namespace paceline::cuda
