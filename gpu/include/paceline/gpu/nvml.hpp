#pragma once

#include <memory>
#include <optional>
#include <string>

#include "paceline/base/result.hpp"

/// The few functions of NVIDIA's management library (NVML) that are used, with its types as its reference
/// manual gives them. The driver brings the library, so it is loaded when the program runs.
namespace paceline::nvml {

using Device = struct OpaqueDevice*;
using Code = int;
inline constexpr Code success = 0;
/// nvmlTemperatureSensors_t
inline constexpr int temperature_of_gpu = 0;
/// nvmlGpuP2PCapsIndex_t
inline constexpr int peer_by_nvlink = 2;

struct Memory {
  unsigned long long total = 0;
  unsigned long long free = 0;
  unsigned long long used = 0;
};

/// Percent of the driver's last sampling period in which something ran, or memory was used.
struct Utilization {
  unsigned gpu = 0;
  unsigned memory = 0;
};

struct PciInfo {
  char legacy_name[16];
  unsigned domain;
  unsigned bus;
  unsigned device;
  unsigned device_id;
  unsigned subsystem_id;
  char name[32];
};

/// Loaded and started; ends with its owner.
struct Api {
  Code (*start)() = nullptr;
  Code (*end)() = nullptr;
  const char* (*error_text)(Code) = nullptr;
  Code (*count)(unsigned*) = nullptr;
  Code (*device)(unsigned, Device*) = nullptr;
  Code (*name)(Device, char*, unsigned) = nullptr;
  Code (*uuid)(Device, char*, unsigned) = nullptr;
  Code (*memory)(Device, Memory*) = nullptr;
  Code (*pci_info)(Device, PciInfo*) = nullptr;
  Code (*peer_status)(Device, Device, int, int*) = nullptr;
  Code (*mig_mode)(Device, unsigned*, unsigned*) = nullptr;
  Code (*most_slices)(Device, unsigned*) = nullptr;
  Code (*slice)(Device, unsigned, Device*) = nullptr;
  Code (*driver_version)(char*, unsigned) = nullptr;

  // Null where the driver has none of that.
  Code (*utilization)(Device, Utilization*) = nullptr;
  Code (*power_mw)(Device, unsigned*) = nullptr;
  Code (*temperature_c)(Device, int sensor, unsigned*) = nullptr;
  Code (*energy_mj)(Device, unsigned long long*) = nullptr;

  [[nodiscard]] std::string words(Code code) const { return error_text(code); }
};

/// Loads `library`, or else libnvidia-ml.so.1. Nothing: there is no such library, so no driver. Errors:
/// not_found, a `library` that was named and is not there; io, a driver that does not start.
[[nodiscard]] Result<std::shared_ptr<const Api>> load(const std::optional<std::string>& library);

}  // namespace paceline::nvml
