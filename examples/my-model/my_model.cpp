// A network that Paceline does not have: two convolutions with a batch norm between them, dropout, and label
// smoothing in the loss. Built into a shared library and named in job.yaml.

#include <paceline/train/model.hpp>

namespace {

class MyNetworkImpl : public torch::nn::Module {
 public:
  MyNetworkImpl(std::int64_t channels, std::int64_t width, std::int64_t classes)
      : conv1(torch::nn::Conv2dOptions(channels, width, 3).stride(2).padding(1)),
        norm(width),
        conv2(torch::nn::Conv2dOptions(width, 2 * width, 3).stride(2).padding(1)),
        dropout(0.1),
        classify(2 * width, classes) {
    register_module("conv1", conv1);
    register_module("norm", norm);
    register_module("conv2", conv2);
    register_module("dropout", dropout);
    register_module("classify", classify);
  }
  torch::Tensor forward(torch::Tensor x) {
    x = torch::relu(norm(conv1(x)));
    x = torch::relu(conv2(x));
    return classify(dropout(x.mean({2, 3})));
  }

  torch::nn::Conv2d conv1;
  torch::nn::BatchNorm2d norm;
  torch::nn::Conv2d conv2;
  torch::nn::Dropout dropout;
  torch::nn::Linear classify;
};
TORCH_MODULE(MyNetwork);

class MyModel : public paceline::Model {
 public:
  explicit MyModel(const paceline::ModelConfig& config)
      : network_(config.sample_shape.at(0), config.integer("width", 16), config.classes) {}

  torch::nn::Module& module() override { return *network_; }
  torch::Tensor forward(const torch::Tensor& inputs) override { return network_(inputs); }

  paceline::Outcome loss(const paceline::Batch& batch) override {
    const torch::Tensor logits = forward(batch.inputs);
    const auto options =
        torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum).label_smoothing(0.05);
    paceline::Outcome outcome;
    outcome.loss = torch::nn::functional::cross_entropy(logits, batch.targets, options);
    outcome.correct = logits.detach().argmax(1).eq(batch.targets).sum().item<double>();
    return outcome;
  }

 private:
  MyNetwork network_;
};

}  // namespace

PACELINE_MODEL(MyModel)
