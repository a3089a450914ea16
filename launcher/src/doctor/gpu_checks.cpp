#include <dlfcn.h>

#include <array>
#include <map>

#include "doctor/program_checks.hpp"
#include "doctor/rules.hpp"
#include "paceline/base/text.hpp"
#include "paceline/gpu/nvml.hpp"
#include "resources/gpus.hpp"

namespace paceline::doctor {
namespace {

const char* const gpu_driver = "GPU driver";

/// "2 x NVIDIA H100 80GB HBM3".
std::string text_of(const std::vector<Gpu>& gpus) {
  std::map<std::string, int> kinds;
  for (const Gpu& gpu : gpus) ++kinds[gpu.name];
  std::string text;
  for (const auto& [name, number] : kinds) text += concat(text.empty() ? "" : ", ", number, " x ", name);
  return text.empty() ? "no GPU" : text;
}

void check_driver(const Sink& sink) {
  const char* const mend =
      "see that the kernel module is loaded and of the same version as its libraries (nvidia-smi)";
  const auto api = nvml::load(environment("PACELINE_NVML"));
  if (!api.ok()) return sink(warning(gpu_driver, api.error().message, mend));
  if (!*api)
    return sink(absent(gpu_driver, "no libnvidia-ml.so.1", "for NVIDIA's GPUs, install their driver"));
  std::array<char, 96> version{};
  if ((*api)->driver_version(version.data(), version.size()) != nvml::success)
    version = {"of unknown version"};
  const Result<std::vector<Gpu>> gpus = find_gpus();
  if (!gpus.ok()) return sink(warning(gpu_driver, gpus.error().message, mend));
  const std::string found = concat("NVIDIA ", version.data(), ", ", text_of(*gpus));
  if (gpus->empty())
    return sink(
        warning(gpu_driver, found, "unset CUDA_VISIBLE_DEVICES, or ask for GPUs (Slurm: --gres=gpu:1)"));
  sink(fine(gpu_driver, found));
}

/// A library's functions; it stays loaded.
class Library {
 public:
  explicit Library(const char* name) : handle_(::dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) reason_ = ::dlerror();
  }
  [[nodiscard]] bool is_there() const { return handle_ != nullptr; }
  /// Without the name, which the reader knows: it begins with that.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  template <class Function>
  [[nodiscard]] Function* find(const char* name) const {
    return reinterpret_cast<Function*>(::dlsym(handle_, name));
  }

 private:
  void* handle_;
  std::string reason_;
};

/// What a dlopen that failed says of a file that is not there at all.
bool is_missing(const Library& library, const std::string& name) {
  return library.reason().starts_with(name + ": cannot open shared object file: No such file");
}

/// The version that a function of a library gives, as it gives it.
void check_library(const std::string& check, const char* name, const char* function,
                   std::string (*version)(int), const char* mend, const Sink& sink) {
  const Library library(name);
  if (!library.is_there()) {
    const bool missing = is_missing(library, name);
    if (missing) return sink(absent(check, concat("no ", name), mend));
    return sink(warning(check, library.reason(), "install what it needs, or take it away"));
  }
  auto* const ask = library.find<int(int*)>(function);
  int code = 0;
  if (ask == nullptr)
    return sink(warning(check, concat(name, " has no ", function), "install another version"));
  if (const int failed = ask(&code); failed != 0)
    return sink(warning(check, concat(function, " gave error ", failed), "install another version"));
  sink(fine(check, version(code)));
}

}  // namespace

void check_gpu_libraries(const Sink& sink) {
  check_driver(sink);
  check_library("CUDA driver", "libcuda.so.1", "cuDriverGetVersion", cuda_version,
                "it comes with the GPUs' driver", sink);
  check_library("NCCL", "libnccl.so.2", "ncclGetVersion", nccl_version,
                "install it (libnccl2) for sums between GPUs", sink);
}

}  // namespace paceline::doctor
