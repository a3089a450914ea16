#include "gpu_sensor.hpp"

#include <algorithm>
#include <utility>
#include <vector>

namespace paceline {
namespace {

// What no GPU has.
constexpr unsigned most_milliwatts = 100'000'000;
constexpr unsigned most_celsius = 200;
constexpr unsigned long long most_millijoules = 1ULL << 53;

std::optional<double> busy_of(const nvml::Api& api, nvml::Device gpu) {
  nvml::Utilization percent;
  if (api.utilization == nullptr || api.utilization(gpu, &percent) != nvml::success || percent.gpu > 100)
    return std::nullopt;
  return percent.gpu / 100.0;
}

std::optional<double> power_of(const nvml::Api& api, nvml::Device gpu) {
  unsigned milliwatts = 0;
  if (api.power_mw == nullptr || api.power_mw(gpu, &milliwatts) != nvml::success ||
      milliwatts > most_milliwatts)
    return std::nullopt;
  return milliwatts / 1e3;
}

std::optional<double> temperature_of(const nvml::Api& api, nvml::Device gpu) {
  unsigned celsius = 0;
  if (api.temperature_c == nullptr ||
      api.temperature_c(gpu, nvml::temperature_of_gpu, &celsius) != nvml::success || celsius > most_celsius)
    return std::nullopt;
  return celsius;
}

std::optional<double> energy_of(const nvml::Api& api, nvml::Device gpu) {
  unsigned long long millijoules = 0;
  if (api.energy_mj == nullptr || api.energy_mj(gpu, &millijoules) != nvml::success ||
      millijoules > most_millijoules)
    return std::nullopt;
  return static_cast<double>(millijoules) / 1e3;
}

std::optional<double> memory_of(const nvml::Api& api, nvml::Device device) {
  nvml::Memory memory;
  if (api.memory(device, &memory) != nvml::success || memory.used > memory.total) return std::nullopt;
  return static_cast<double>(memory.used);
}

}  // namespace

Result<GpuSensor> GpuSensor::open(const std::optional<std::string>& library) {
  GpuSensor sensor;
  PACELINE_ASSIGN(sensor.api_, nvml::load(library));
  if (sensor.api_ == nullptr) return sensor;
  PACELINE_ASSIGN(const std::vector<nvml::Part> parts, nvml::all_parts(*sensor.api_));
  std::vector<std::string> uuids;
  for (const nvml::Part& part : parts) uuids.push_back(part.uuid);
  const std::vector<std::size_t> visible = nvml::visible(uuids);
  if (!visible.empty() && parts[visible.front()].device != nullptr) sensor.part_ = parts[visible.front()];
  return sensor;
}

void GpuSensor::read(Telemetry& telemetry) {
  if (!part_) return;
  telemetry.gpu_busy = busy_of(*api_, part_->gpu);
  telemetry.gpu_memory_bytes = memory_of(*api_, part_->device);
  telemetry.gpu_power_w = power_of(*api_, part_->gpu);
  telemetry.gpu_temperature_c = temperature_of(*api_, part_->gpu);
  if (const std::optional<double> joules = energy_of(*api_, part_->gpu))
    telemetry.gpu_energy_j = std::max(*joules, telemetry.gpu_energy_j.value_or(0));
}

}  // namespace paceline
