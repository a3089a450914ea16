#pragma once

#include <memory>

#include "paceline/train/model.hpp"

namespace paceline {

/// The model `gpt`: a decoder-only transformer over token ids [samples, context], with normalisation before
/// attention and perceptron (Radford et al. 2019, "Language models are unsupervised multitask learners",
/// whose first weights it has too) and learned positions. Gives logits [samples, context, vocabulary]; fewer
/// tokens than the context are fine. Throws std::invalid_argument where options or samples cannot be.
[[nodiscard]] std::unique_ptr<Model> make_gpt(const ModelConfig& config);

}  // namespace paceline
