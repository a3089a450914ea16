#include "paceline/gpu/nvml.hpp"

#include <dlfcn.h>

#include "paceline/base/text.hpp"

namespace paceline::nvml {
namespace {

/// Never unloaded: the driver leaves threads and memory behind that outlive it.
struct Library {
  void* handle = nullptr;
  std::string missing;

  template <class Function>
  void find(Function& function, const char* name) {
    find_if_there(function, name);
    if (function == nullptr && missing.empty()) missing = name;
  }
  template <class Function>
  void find_if_there(Function& function, const char* name) const {
    function = reinterpret_cast<Function>(::dlsym(handle, name));
  }
};

void find_all(Library& library, Api& api) {
  library.find(api.start, "nvmlInit_v2");
  library.find(api.end, "nvmlShutdown");
  library.find(api.error_text, "nvmlErrorString");
  library.find(api.count, "nvmlDeviceGetCount_v2");
  library.find(api.device, "nvmlDeviceGetHandleByIndex_v2");
  library.find(api.name, "nvmlDeviceGetName");
  library.find(api.uuid, "nvmlDeviceGetUUID");
  library.find(api.memory, "nvmlDeviceGetMemoryInfo");
  library.find(api.pci_info, "nvmlDeviceGetPciInfo_v3");
  library.find(api.peer_status, "nvmlDeviceGetP2PStatus");
  library.find(api.mig_mode, "nvmlDeviceGetMigMode");
  library.find(api.most_slices, "nvmlDeviceGetMaxMigDeviceCount");
  library.find(api.slice, "nvmlDeviceGetMigDeviceHandleByIndex");
  library.find(api.driver_version, "nvmlSystemGetDriverVersion");
  library.find_if_there(api.utilization, "nvmlDeviceGetUtilizationRates");
  library.find_if_there(api.power_mw, "nvmlDeviceGetPowerUsage");
  library.find_if_there(api.temperature_c, "nvmlDeviceGetTemperature");
  library.find_if_there(api.energy_mj, "nvmlDeviceGetTotalEnergyConsumption");
}

}  // namespace

Result<std::shared_ptr<const Api>> load(const std::optional<std::string>& name) {
  Library library;
  library.handle = ::dlopen(name.value_or("libnvidia-ml.so.1").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library.handle == nullptr) {
    if (!name) return std::shared_ptr<const Api>();
    const char* reason = ::dlerror();
    return Error{ErrorCode::not_found, concat("PACELINE_NVML: ", reason != nullptr ? reason : *name)};
  }
  Api api;
  find_all(library, api);
  if (!library.missing.empty())
    return Error{ErrorCode::io, concat("the GPU driver is too old: its NVML has no ", library.missing)};
  if (const Code code = api.start(); code != success)
    return Error{ErrorCode::io, concat("the GPU driver does not start: ", api.words(code))};
  return std::shared_ptr<const Api>(new Api(api), [](const Api* owned) {
    owned->end();
    delete owned;
  });
}

}  // namespace paceline::nvml
