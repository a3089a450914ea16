#include "exporting.hpp"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/script.h>

#include <sstream>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "setup.hpp"

namespace paceline {
namespace {

/// The same tree of modules with the same tensors, as TorchScript knows it.
torch::jit::Module mirror(const torch::nn::Module& module, const std::string& name,
                          const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  torch::jit::Module mirrored(c10::QualifiedName(name), unit);
  for (const auto& item : module.named_parameters(/*recurse=*/false))
    mirrored.register_parameter(item.key(), item.value().detach().requires_grad_(false), /*is_buffer=*/false);
  for (const auto& item : module.named_buffers(/*recurse=*/false))
    mirrored.register_buffer(item.key(), item.value());
  for (const auto& child : module.named_children())
    mirrored.register_module(child.key(), mirror(*child.value(), concat(name, "_", child.key()), unit));
  mirrored.register_attribute("training", c10::BoolType::get(), false);
  return mirrored;
}

/// Parameters must be the very tensors that the trace meets, so theirs are taken without gradients first.
std::string torchscript_of(Model& model, const InputSpec& input) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : model.module().parameters()) parameter.requires_grad_(false);
  const auto unit = std::make_shared<torch::jit::CompilationUnit>();
  torch::jit::Module scripted = mirror(model.module(), "__torch__.PacelineModel", unit);
  std::vector<std::int64_t> shape = input.sample_shape;
  shape.insert(shape.begin(), 2);
  const torch::Tensor example = torch::zeros(shape, input.vocabulary > 0 ? torch::kLong : torch::kFloat);
  const auto forward = [&](torch::jit::Stack inputs) -> torch::jit::Stack {
    return {model.forward(inputs.at(0).toTensor())};
  };
  const auto no_name = [](const torch::Tensor&) { return std::string(); };
  const auto traced = torch::jit::tracer::trace({example}, forward, no_name, /*strict=*/true,
                                                /*force_outplace=*/false, &scripted, {"inputs"});
  const auto name = c10::QualifiedName(*scripted.type()->name(), "forward");
  auto* function = unit->create_function(name, traced.first->graph);
  scripted.type()->addMethod(function);
  std::ostringstream out;
  scripted.save(out);
  return std::move(out).str();
}

std::string pickle_of(const std::vector<NamedWeight>& weights) {
  c10::Dict<std::string, torch::Tensor> dictionary;
  for (const NamedWeight& weight : weights) dictionary.insert(weight.name, weight.tensor.clone());
  const std::vector<char> bytes = torch::pickle_save(dictionary);
  return {bytes.begin(), bytes.end()};
}

}  // namespace

Status export_model(const StartMessage& start) {
  try {
    PACELINE_ASSIGN(const TrainedModel trained, load_trained_model(start));
    const std::vector<NamedWeight> weights = weights_of(trained.model->module());
    if (start.export_format == "safetensors")
      return save_safetensors(start.export_path, weights, trained.input);
    if (start.export_format == "pickle") return write_file_atomically(start.export_path, pickle_of(weights));
    if (start.export_format == "torchscript")
      return write_file_atomically(start.export_path, torchscript_of(*trained.model, trained.input));
    return Error{ErrorCode::invalid_argument,
                 concat("there is no export format \"", start.export_format, "\"")};
  } catch (const std::exception& exception) {
    return Error{ErrorCode::internal, concat("cannot export the model: ", exception.what())};
  }
}

}  // namespace paceline
