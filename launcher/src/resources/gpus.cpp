#include "resources/gpus.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/gpu/parts.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

/// -1: the kernel does not say.
std::int64_t numa_node_of(const nvml::Api& api, nvml::Device device) {
  nvml::PciInfo pci{};
  if (api.pci_info(device, &pci) != nvml::success) return -1;
  // The kernel writes the domain with four digits, NVML with eight.
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "%04x:%02x:%02x.0", pci.domain, pci.bus, pci.device);
  const Result<std::string> text = read_file(concat("/sys/bus/pci/devices/", name.data(), "/numa_node"));
  if (!text.ok()) return -1;
  return parse_integer(text->substr(0, text->find('\n')), 0, 1 << 20).value_or(-1);
}

Gpu describe(const nvml::Api& api, nvml::Device device) {
  Gpu gpu;
  std::array<char, 96> text{};
  if (api.name(device, text.data(), text.size()) == nvml::success) gpu.name = text.data();
  nvml::Memory memory{};
  if (api.memory(device, &memory) == nvml::success) {
    gpu.memory_bytes = static_cast<std::int64_t>(memory.total);
    gpu.free_bytes = static_cast<std::int64_t>(memory.free);
  }
  return gpu;
}

/// Slices have no links of their own.
void find_links(const nvml::Api& api, const std::vector<nvml::Part>& parts, std::vector<Gpu>& gpus) {
  for (std::size_t i = 0; i < parts.size(); ++i)
    for (std::size_t j = 0; j < parts.size(); ++j) {
      int status = -1;
      if (i == j || parts[i].is_slice() || parts[j].is_slice()) continue;
      if (api.peer_status(parts[i].device, parts[j].device, nvml::peer_by_nvlink, &status) != nvml::success)
        continue;
      if (status == 0) gpus[i].linked.push_back(static_cast<std::int64_t>(j));
    }
}

std::vector<Gpu> keep(const std::vector<Gpu>& gpus, const std::vector<std::size_t>& places) {
  std::vector<Gpu> kept;
  for (const std::size_t place : places) {
    Gpu gpu = gpus[place];
    std::vector<std::int64_t> linked;
    for (std::size_t i = 0; i < places.size(); ++i)
      if (std::ranges::find(gpu.linked, static_cast<std::int64_t>(places[i])) != gpu.linked.end())
        linked.push_back(static_cast<std::int64_t>(i));
    gpu.linked = std::move(linked);
    kept.push_back(std::move(gpu));
  }
  return kept;
}

}  // namespace

Result<std::vector<Gpu>> find_gpus() {
  PACELINE_ASSIGN(const auto api, nvml::load(environment("PACELINE_NVML")));
  if (!api) return std::vector<Gpu>{};
  PACELINE_ASSIGN(const std::vector<nvml::Part> parts, nvml::all_parts(*api));
  std::vector<Gpu> gpus;
  std::vector<std::string> uuids;
  for (const nvml::Part& part : parts) {
    uuids.push_back(part.uuid);
    if (part.device == nullptr) {
      gpus.emplace_back();
      continue;
    }
    Gpu& gpu = gpus.emplace_back(describe(*api, part.device));
    gpu.uuid = part.uuid;
    gpu.numa_node = numa_node_of(*api, part.gpu);
  }
  find_links(*api, parts, gpus);
  const std::vector<std::size_t> visible = nvml::visible(uuids);
  std::vector<std::size_t> usable;
  std::ranges::copy_if(visible, std::back_inserter(usable),
                       [&](std::size_t place) { return parts[place].device != nullptr; });
  if (usable.empty() && !visible.empty()) return Error{ErrorCode::io, parts[visible.front()].complaint};
  return keep(gpus, usable);
}

}  // namespace paceline
