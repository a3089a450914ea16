#include <dlfcn.h>

#include "paceline/base/text.hpp"
#include "paceline/train/models.hpp"

namespace paceline {
namespace {

template <class Function>
Function* find(void* library, const char* name) {
  return reinterpret_cast<Function*>(::dlsym(library, name));
}

}  // namespace

Result<std::unique_ptr<Model>> load_plugin(const std::string& path, const ModelConfig& config) {
  // Without a slash dlopen would search the system's folders instead of the path that was meant.
  const std::string file = path.find('/') == std::string::npos ? concat("./", path) : path;
  void* library = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return Error{ErrorCode::not_found, concat("cannot load the model plugin: ", ::dlerror())};
  const auto abi_version = find<int()>(library, "paceline_plugin_abi_version");
  const auto torch_version = find<const char*()>(library, "paceline_plugin_torch_version");
  const auto make = find<Model*(const ModelConfig*, std::string*)>(library, "paceline_plugin_make_model");
  if (abi_version == nullptr || torch_version == nullptr || make == nullptr)
    return Error{ErrorCode::unsupported,
                 concat(path, " is not a model plugin: end its source with PACELINE_MODEL(YourModel)")};
  if (abi_version() != model_abi_version)
    return Error{ErrorCode::unsupported, concat(path, " was built against another Paceline: build it again")};
  if (std::string(torch_version()) != TORCH_VERSION)
    return Error{ErrorCode::unsupported, concat(path, " was built with LibTorch ", torch_version(),
                                                ", this program with ", TORCH_VERSION, ": build it again")};
  std::string error;
  std::unique_ptr<Model> model(make(&config, &error));
  if (model == nullptr)
    return Error{ErrorCode::invalid_argument, concat("the model plugin ", path, " can't be made: ", error)};
  return model;
}

}  // namespace paceline
