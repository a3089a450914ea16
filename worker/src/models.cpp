#include "paceline/train/models.hpp"

#include <algorithm>
#include <stdexcept>

#include "gpt.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

namespace nn = torch::nn;

/// A Sequential with a name in the job file.
class SequentialModel : public Model {
 public:
  torch::nn::Module& module() override { return *network_; }
  torch::Tensor forward(const torch::Tensor& inputs) override { return network_->forward(inputs); }

 protected:
  nn::Sequential network_;
};

/// Two convolutions with pooling and two linear layers.
class Cnn final : public SequentialModel {
 public:
  explicit Cnn(const ModelConfig& config) {
    const auto& shape = config.sample_shape;
    if (shape.size() != 3 || shape[1] < 4 || shape[2] < 4)
      throw std::invalid_argument("cnn takes images of at least 4x4");
    const auto convolution = [](std::int64_t in, std::int64_t out) {
      return nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1));
    };
    network_ = nn::Sequential(convolution(shape[0], 16), nn::ReLU(), nn::MaxPool2d(2), convolution(16, 32),
                              nn::ReLU(), nn::MaxPool2d(2), nn::Flatten(),
                              nn::Linear(32 * (shape[1] / 4) * (shape[2] / 4), 64), nn::ReLU(),
                              nn::Linear(64, config.classes));
  }
};

/// Two wide hidden layers: much to reduce for little to compute.
class Mlp final : public SequentialModel {
 public:
  explicit Mlp(const ModelConfig& config) {
    const std::int64_t hidden = config.integer("hidden", 2048);
    if (hidden < 1) throw std::invalid_argument("model.hidden must be at least 1");
    std::int64_t inputs = 1;
    for (const std::int64_t extent : config.sample_shape) inputs *= extent;
    network_ = nn::Sequential(nn::Flatten(), nn::Linear(inputs, hidden), nn::ReLU(),
                              nn::Linear(hidden, hidden), nn::ReLU(), nn::Linear(hidden, config.classes));
  }
};

nn::Conv2d convolution3x3(std::int64_t in, std::int64_t out, std::int64_t stride) {
  return nn::Conv2d(nn::Conv2dOptions(in, out, 3).stride(stride).padding(1).bias(false));
}

/// Two convolutions and a way around them (He et al. 2016, "Deep residual learning for image recognition").
class ResidualBlockImpl : public nn::Module {
 public:
  ResidualBlockImpl(std::int64_t in, std::int64_t out, std::int64_t stride) {
    conv1_ = register_module("conv1", convolution3x3(in, out, stride));
    bn1_ = register_module("bn1", nn::BatchNorm2d(out));
    conv2_ = register_module("conv2", convolution3x3(out, out, 1));
    bn2_ = register_module("bn2", nn::BatchNorm2d(out));
    if (stride != 1 || in != out)
      downsample_ = register_module(
          "downsample", nn::Sequential(nn::Conv2d(nn::Conv2dOptions(in, out, 1).stride(stride).bias(false)),
                                       nn::BatchNorm2d(out)));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor y = torch::relu(bn1_->forward(conv1_->forward(x)));
    y = bn2_->forward(conv2_->forward(y));
    return torch::relu(y + (downsample_.is_empty() ? x : downsample_->forward(x)));
  }

 private:
  nn::Conv2d conv1_{nullptr};
  nn::BatchNorm2d bn1_{nullptr};
  nn::Conv2d conv2_{nullptr};
  nn::BatchNorm2d bn2_{nullptr};
  nn::Sequential downsample_{nullptr};
};
TORCH_MODULE(ResidualBlock);

/// ResNet-18 for small images: a 3x3 stem of stride 1 and no pooling before the blocks, as is usual for
/// 32x32. Smaller images are padded to 32x32.
class ResNet18Impl : public nn::Module {
 public:
  ResNet18Impl(std::int64_t channels, std::int64_t classes, std::int64_t width) {
    conv1_ = register_module("conv1", convolution3x3(channels, width, 1));
    bn1_ = register_module("bn1", nn::BatchNorm2d(width));
    std::int64_t in = width;
    for (int stage = 0; stage < 4; ++stage) {
      const std::int64_t out = width << stage;
      stages_->push_back(ResidualBlock(in, out, stage == 0 ? 1 : 2));
      stages_->push_back(ResidualBlock(out, out, 1));
      in = out;
    }
    register_module("stages", stages_);
    fc_ = register_module("fc", nn::Linear(in, classes));
  }
  torch::Tensor forward(const torch::Tensor& inputs) {
    const std::int64_t rows = std::max<std::int64_t>(0, 32 - inputs.size(2));
    const std::int64_t columns = std::max<std::int64_t>(0, 32 - inputs.size(3));
    torch::Tensor x = inputs;
    if (rows > 0 || columns > 0)
      x = torch::constant_pad_nd(x, {columns / 2, columns - columns / 2, rows / 2, rows - rows / 2}, 0);
    x = stages_->forward(torch::relu(bn1_->forward(conv1_->forward(x))));
    return fc_->forward(torch::adaptive_avg_pool2d(x, {1, 1}).flatten(1));
  }

 private:
  nn::Conv2d conv1_{nullptr};
  nn::BatchNorm2d bn1_{nullptr};
  nn::Sequential stages_;
  nn::Linear fc_{nullptr};
};
TORCH_MODULE(ResNet18);

class ResNetModel final : public Model {
 public:
  explicit ResNetModel(const ModelConfig& config) {
    if (config.sample_shape.size() != 3) throw std::invalid_argument("resnet18 takes images");
    const std::int64_t width = config.integer("width", 64);
    if (width < 1) throw std::invalid_argument("model.width must be at least 1");
    network_ = ResNet18(config.sample_shape[0], config.classes, width);
  }
  torch::nn::Module& module() override { return *network_; }
  torch::Tensor forward(const torch::Tensor& inputs) override { return network_->forward(inputs); }

 private:
  ResNet18 network_{nullptr};
};

struct Kind {
  std::string name;
  bool of_text;
  std::vector<std::string> options;
  std::unique_ptr<Model> (*make)(const ModelConfig&);
};

template <class T>
std::unique_ptr<Model> make(const ModelConfig& config) {
  return std::make_unique<T>(config);
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"cnn", false, {}, make<Cnn>},
      {"mlp", false, {"hidden"}, make<Mlp>},
      {"resnet18", false, {"width"}, make<ResNetModel>},
      {"gpt", true, {"layers", "heads", "width", "context", "dropout", "tied_embeddings"}, make_gpt}};
  return all;
}

}  // namespace

std::vector<std::string> built_in_models() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.push_back(kind.name);
  return names;
}

Result<std::unique_ptr<Model>> make_model(const std::string& name, const ModelConfig& config) {
  for (const Kind& kind : kinds()) {
    if (kind.name != name) continue;
    const bool is_text = config.vocabulary > 0 && config.sample_shape.size() == 1;
    if (kind.of_text != is_text)
      return Error{ErrorCode::invalid_argument,
                   concat("the model ", name, " takes ", kind.of_text ? "text" : "images",
                          ", and the samples are ", is_text ? "text" : "images")};
    for (const auto& [option, value] : config.options)
      if (std::ranges::find(kind.options, option) == kind.options.end())
        return Error{ErrorCode::invalid_argument,
                     concat("the model ", name, " has no option \"", option, "\"")};
    try {
      return kind.make(config);
    } catch (const std::exception& exception) {
      return Error{ErrorCode::invalid_argument,
                   concat("the model ", name, " can't be made: ", exception.what())};
    }
  }
  return Error{ErrorCode::invalid_argument, concat("there is no model \"", name, "\"")};
}

}  // namespace paceline
