#include "inventory.hpp"

#include <hwloc.h>

#include <cstdlib>
#include <memory>
#include <optional>

#include "paceline/base/text.hpp"
#include "resources/limits.hpp"

namespace paceline {
namespace {

struct TopologyDeleter {
  void operator()(hwloc_topology_t topology) const noexcept { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyDeleter>;
struct BitmapDeleter {
  void operator()(hwloc_bitmap_t bitmap) const noexcept { hwloc_bitmap_free(bitmap); }
};
using Bitmap = std::unique_ptr<hwloc_bitmap_s, BitmapDeleter>;

// hwloc loads every plugin that it finds, and graphics plugins load whole drivers: 100 ms for nothing.
class WithoutPlugins {
 public:
  WithoutPlugins() : before_(environment(name)) { ::setenv(name, "/nonexistent", 1); }
  ~WithoutPlugins() {
    if (before_)
      ::setenv(name, before_->c_str(), 1);
    else
      ::unsetenv(name);
  }
  WithoutPlugins(const WithoutPlugins&) = delete;
  WithoutPlugins& operator=(const WithoutPlugins&) = delete;

 private:
  static constexpr const char* name = "HWLOC_PLUGINS_PATH";
  std::optional<std::string> before_;
};

Result<Topology> load_topology() {
  const WithoutPlugins without_plugins;
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return system_error("hwloc cannot start");
  Topology topology(raw);
  // Packages and groups stay: a NUMA node is where its package is, and without one it is everywhere.
  hwloc_topology_set_cache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_icache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (hwloc_topology_load(raw) != 0) return system_error("hwloc cannot read this machine's cores");
  return topology;
}

/// What this process may run on; everything where the topology is not this machine's (a test's).
Bitmap allowed_cpus(hwloc_topology_t topology) {
  Bitmap allowed(hwloc_bitmap_dup(hwloc_topology_get_allowed_cpuset(topology)));
  const Bitmap bound(hwloc_bitmap_alloc());
  if (hwloc_topology_is_thissystem(topology) != 0 &&
      hwloc_get_cpubind(topology, bound.get(), HWLOC_CPUBIND_THREAD) == 0)
    hwloc_bitmap_and(allowed.get(), allowed.get(), bound.get());
  return allowed;
}

std::vector<int> cpus_of(hwloc_const_cpuset_t set) {
  std::vector<int> cpus;
  for (int cpu = hwloc_bitmap_first(set); cpu >= 0; cpu = hwloc_bitmap_next(set, cpu)) cpus.push_back(cpu);
  return cpus;
}

}  // namespace

Result<NodeInventory> take_inventory() {
  PACELINE_ASSIGN(const Topology topology, load_topology());
  const Bitmap allowed = allowed_cpus(topology.get());
  // A machine that does not tell its cores (some virtual ones) still tells its hardware threads.
  const hwloc_obj_type_t type =
      hwloc_get_nbobjs_by_type(topology.get(), HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
  NodeInventory inventory;
  inventory.quota = cpu_quota();
  hwloc_obj_t core = nullptr;
  while ((core = hwloc_get_next_obj_by_type(topology.get(), type, core)) != nullptr) {
    ++inventory.cores;
    inventory.cpus += hwloc_bitmap_weight(core->cpuset);
    const Bitmap usable(hwloc_bitmap_alloc());
    hwloc_bitmap_and(usable.get(), core->cpuset, allowed.get());
    if (hwloc_bitmap_iszero(usable.get()) != 0) continue;
    const int numa_node = hwloc_bitmap_first(core->nodeset);
    inventory.own.cores.push_back({numa_node < 0 ? 0 : numa_node, cpus_of(usable.get())});
  }
  if (inventory.own.cores.empty())
    return Error{ErrorCode::not_found,
                 "this process may use no CPU core: look at its affinity and its cgroup"};
  return inventory;
}

}  // namespace paceline
