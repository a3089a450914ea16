#pragma once

#include <memory>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/train/model.hpp"

namespace paceline {

/// The networks that come with Paceline: cnn, mlp, resnet18 for images, gpt for text.
[[nodiscard]] std::vector<std::string> built_in_models();

/// A built-in model with freshly initialised parameters, drawn from torch's default generator.
/// invalid_argument: unknown kind or option, or samples of a shape that it can't take.
[[nodiscard]] Result<std::unique_ptr<Model>> make_model(const std::string& kind, const ModelConfig& config);

/// A model from a shared library made with PACELINE_MODEL. The library stays loaded for good.
/// not_found, unsupported (no plugin, or made for another Paceline or LibTorch).
[[nodiscard]] Result<std::unique_ptr<Model>> load_plugin(const std::string& path, const ModelConfig& config);

}  // namespace paceline
