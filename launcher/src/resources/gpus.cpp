#include "resources/gpus.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "resources/nvml.hpp"
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
  if (api.uuid(device, text.data(), text.size()) == nvml::success) gpu.uuid = text.data();
  nvml::Memory memory{};
  if (api.memory(device, &memory) == nvml::success) {
    gpu.memory_bytes = static_cast<std::int64_t>(memory.total);
    gpu.free_bytes = static_cast<std::int64_t>(memory.free);
  }
  return gpu;
}

/// The slices of a GPU that is cut into some.
std::vector<nvml::Device> slices_of(const nvml::Api& api, nvml::Device device) {
  std::vector<nvml::Device> slices;
  unsigned current = 0;
  unsigned pending = 0;
  unsigned most = 0;
  if (api.mig_mode(device, &current, &pending) != nvml::success || current == 0) return slices;
  if (api.most_slices(device, &most) != nvml::success) return slices;
  for (unsigned i = 0; i < most; ++i) {
    nvml::Device slice = nullptr;
    if (api.slice(device, i, &slice) == nvml::success) slices.push_back(slice);
  }
  return slices;
}

struct Found {
  std::vector<Gpu> gpus;
  std::vector<nvml::Device> devices;  ///< of the GPU, also for a slice
};

Status add_device(const nvml::Api& api, unsigned index, Found& found) {
  nvml::Device device = nullptr;
  if (const auto code = api.device(index, &device); code != nvml::success)
    return Error{ErrorCode::io, concat("GPU ", index, " does not answer: ", api.words(code))};
  const std::int64_t numa_node = numa_node_of(api, device);
  const std::vector<nvml::Device> slices = slices_of(api, device);
  for (const nvml::Device part : slices.empty() ? std::vector{device} : slices) {
    Gpu& gpu = found.gpus.emplace_back(describe(api, part));
    gpu.numa_node = numa_node;
    found.devices.push_back(slices.empty() ? device : nullptr);
  }
  return {};
}

/// Slices have no links of their own.
void find_links(const nvml::Api& api, Found& found) {
  for (std::size_t i = 0; i < found.gpus.size(); ++i)
    for (std::size_t j = 0; j < found.gpus.size(); ++j) {
      int status = -1;
      if (i == j || found.devices[i] == nullptr || found.devices[j] == nullptr) continue;
      if (api.peer_status(found.devices[i], found.devices[j], nvml::peer_by_nvlink, &status) != nvml::success)
        continue;
      if (status == 0) found.gpus[i].linked.push_back(static_cast<std::int64_t>(j));
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

std::vector<std::size_t> visible_gpus(const std::vector<std::string>& uuids,
                                      const std::optional<std::string>& variable) {
  std::vector<std::size_t> places(uuids.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  if (!variable) return places;
  places.clear();
  for (const std::string& entry : split(*variable, ',')) {
    std::size_t place = uuids.size();
    if (const auto number = parse_integer(entry, 0, std::ssize(uuids) - 1)) {
      place = static_cast<std::size_t>(*number);
    } else if (entry.starts_with("GPU-") || entry.starts_with("MIG-")) {
      place = static_cast<std::size_t>(
          std::ranges::find_if(uuids, [&](const std::string& uuid) { return uuid.starts_with(entry); }) -
          uuids.begin());
    }
    if (place >= uuids.size() || std::ranges::find(places, place) != places.end()) break;
    places.push_back(place);
  }
  return places;
}

Result<std::vector<Gpu>> find_gpus() {
  PACELINE_ASSIGN(const auto api, nvml::load(environment("PACELINE_NVML")));
  if (!api) return std::vector<Gpu>{};
  unsigned count = 0;
  if (const auto code = api->count(&count); code != nvml::success)
    return Error{ErrorCode::io, concat("the GPU driver does not list its GPUs: ", api->words(code))};
  Found found;
  for (unsigned i = 0; i < count; ++i) PACELINE_TRY(add_device(*api, i, found));
  find_links(*api, found);
  std::vector<std::string> uuids;
  for (const Gpu& gpu : found.gpus) uuids.push_back(gpu.uuid);
  // Set and empty hides all of them.
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  return keep(found.gpus,
              visible_gpus(uuids, variable != nullptr ? std::optional<std::string>(variable) : std::nullopt));
}

}  // namespace paceline
