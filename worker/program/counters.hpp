#pragma once

#include <cstdint>
#include <span>

#include "paceline/job/protocol.hpp"
#include "paceline/train/trainer.hpp"

namespace paceline {

/// How far a job is: the same on every rank, and part of what a joiner receives. Plain memory.
struct Counters {
  std::int64_t committed = 0;      ///< steps
  std::int64_t samples = 0;        ///< in them
  std::int64_t epoch_samples = 0;  ///< of the epoch in progress
  double epoch_loss = 0;           ///< the sum over those
  std::int64_t ended_epochs = 0;   ///< whose end is over, evaluation included
  std::int64_t stopped = 0;        ///< 1: the ranks have agreed to stop
  std::int64_t trained_ns = 0;     ///< from step to step, evaluation left out

  // The last evaluation; epoch 0: none.
  std::int64_t eval_epoch = 0;
  std::int64_t eval_samples = 0;
  double eval_loss = 0;
  double eval_figure = 0;  ///< accuracy of images, perplexity of text

  void keep(const EvalMessage& eval) {
    eval_epoch = eval.epoch;
    eval_samples = eval.samples;
    eval_loss = eval.loss;
    eval_figure = eval.accuracy ? *eval.accuracy : *eval.perplexity;
  }
  [[nodiscard]] std::optional<EvalMessage> eval(bool of_text) const {
    if (eval_epoch == 0) return std::nullopt;
    EvalMessage message{eval_epoch, eval_samples, eval_loss, {}, {}};
    (of_text ? message.perplexity : message.accuracy) = eval_figure;
    return message;
  }
};

/// They, as a piece of the training state.
[[nodiscard]] inline StatePart state_part(Counters& counters) {
  return {"counters", std::as_writable_bytes(std::span(&counters, 1))};
}

}  // namespace paceline
