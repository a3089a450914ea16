#include "paceline/gpu/parts.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include "paceline/base/text.hpp"

namespace paceline::nvml {
namespace {

/// Whether nothing runs on it but on its slices.
bool is_cut(const Api& api, Device gpu) {
  unsigned current = 0;
  unsigned pending = 0;
  return api.mig_mode(gpu, &current, &pending) == success && current != 0;
}

std::vector<Device> slices_of(const Api& api, Device gpu) {
  std::vector<Device> slices;
  unsigned most = 0;
  if (api.most_slices(gpu, &most) != success) return slices;
  for (unsigned i = 0; i < most; ++i) {
    Device slice = nullptr;
    if (api.slice(gpu, i, &slice) == success) slices.push_back(slice);
  }
  return slices;
}

std::string uuid_of(const Api& api, Device device) {
  std::array<char, 96> text{};
  return api.uuid(device, text.data(), text.size()) == success ? text.data() : "";
}

}  // namespace

Result<std::vector<Part>> all_parts(const Api& api) {
  unsigned count = 0;
  if (const Code code = api.count(&count); code != success)
    return Error{ErrorCode::io, concat("the GPU driver does not list its GPUs: ", api.words(code))};
  std::vector<Part> parts;
  for (unsigned i = 0; i < count; ++i) {
    Device gpu = nullptr;
    if (const Code code = api.device(i, &gpu); code != success) {
      // Lost, or another job's.
      parts.push_back({nullptr, nullptr, {}, concat("GPU ", i, " does not answer: ", api.words(code))});
      continue;
    }
    const bool cut = is_cut(api, gpu);
    const std::vector<Device> devices = cut ? slices_of(api, gpu) : std::vector{gpu};
    for (const Device device : devices) parts.push_back({device, gpu, uuid_of(api, device), {}});
    if (devices.empty())
      parts.push_back({nullptr, nullptr, {}, concat("GPU ", i, " is in MIG mode and has no slice")});
  }
  return parts;
}

std::vector<std::size_t> visible(const std::vector<std::string>& uuids) {
  // Set and empty hides all of them.
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  return visible(uuids, variable != nullptr ? std::optional<std::string>(variable) : std::nullopt);
}

std::vector<std::size_t> visible(const std::vector<std::string>& uuids,
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

}  // namespace paceline::nvml
