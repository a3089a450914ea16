#include "where/place.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>

#include "paceline/base/text.hpp"
#include "where/adapters.hpp"

namespace paceline {

Result<std::int64_t> launcher_variable(const Environment& environment, const char* name, std::int64_t least,
                                       std::int64_t greatest) {
  const std::optional<std::string> text = environment(name);
  if (!text)
    return Error{ErrorCode::invalid_argument, concat("the environment looks like a launcher's, but ", name,
                                                     " is not set: unset the rest of it too")};
  const std::optional<std::int64_t> value = parse_integer(*text, least, greatest);
  if (!value)
    return Error{ErrorCode::invalid_argument,
                 concat(name, " is '", *text, "', which is not a number from ", least, " to ", greatest,
                        ": unset it, or set what its launcher set")};
  return *value;
}

std::string node_name(const Environment& environment, const char* launchers_name) {
  if (const auto by_hand = environment("PACELINE_NODE")) return *by_hand;
  if (launchers_name != nullptr)
    if (const auto by_launcher = environment(launchers_name)) return *by_launcher;
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "localhost";
  return name.data();
}

Result<Place> find_place(const Environment& environment) {
  for (const auto adapter : {openmpi_place, hydra_place, slurm_place}) {
    PACELINE_ASSIGN(std::optional<Place> place, adapter(environment));
    if (place) return *std::move(place);
  }
  return shell_place(environment);
}

Result<std::vector<std::string>> node_names(const Place& place, std::int64_t ranks) {
  const std::vector<std::string> names =
      place.in_shell() ? split(place.node, ',') : std::vector<std::string>{place.node};
  if (std::find(names.begin(), names.end(), "") != names.end())
    return Error{ErrorCode::invalid_argument,
                 concat("PACELINE_NODE is '", place.node, "': a node needs a name")};
  if (names.size() == 1) return std::vector<std::string>(static_cast<std::size_t>(ranks), names[0]);
  if (static_cast<std::int64_t>(names.size()) != ranks)
    return Error{ErrorCode::invalid_argument,
                 concat("PACELINE_NODE names ", names.size(), " nodes for ", ranks,
                        " ranks: give one name for all, or one for each rank")};
  return names;
}

}  // namespace paceline
