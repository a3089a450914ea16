#include "resources/node_resources.hpp"

#include "inventory.hpp"
#include "launch.hpp"
#include "paceline/base/text.hpp"
#include "resources/gpus.hpp"
#include "resources/limits.hpp"
#include "resources/network_cards.hpp"

namespace paceline {

Result<OwnResources> take_resources(const Place& place) {
  PACELINE_ASSIGN(const NodeInventory cores, take_inventory());
  OwnResources own;
  NodeResources& node = own.node;
  // In a shell there may be one name for each rank, for tests.
  node.name = place.node.substr(0, place.node.find(','));
  node.cores = cores.own;
  node.usable_cores = usable_cores(place, cores);
  node.cards = find_network_cards();
  node.free_memory_bytes = free_memory_bytes([](const char* name) { return environment(name); });
  Result<std::vector<Gpu>> gpus = find_gpus();
  if (gpus.ok())
    node.gpus = *std::move(gpus);
  else
    own.complaint = gpus.error().message;
  return own;
}

}  // namespace paceline
