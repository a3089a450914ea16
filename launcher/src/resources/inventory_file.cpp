#include "resources/inventory_file.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr double bytes_per_gib = 1024.0 * 1024 * 1024;
constexpr std::int64_t most_nodes = 100'000;
constexpr std::int64_t most_cores = 65'536;
constexpr std::int64_t most_gpus = 128;
// Cores and GPUs of all nodes: beyond it a file is a slip of the keyboard.
constexpr std::int64_t most_parts = 50'000'000;
constexpr double most_gib = 1e9;

// The parser of JSON throws, so what reads its values does; parse_inventory catches.
[[noreturn]] void refuse(const std::string& what) {
  throw std::invalid_argument(what);
}

void check_keys(const Json& json, const std::string& what, std::initializer_list<const char*> known) {
  if (!json.is_object()) refuse(concat(what, " is no object"));
  const std::vector<std::string> names(known.begin(), known.end());
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(names, key) != names.end()) continue;
    const std::string near = nearest(key, names);
    refuse(concat(what, " has an unknown key ", shown(key),
                  near.empty() ? "" : concat(" (did you mean ", near, "?)")));
  }
}

std::int64_t integer(const Json& json, const char* key, std::int64_t least, std::int64_t most,
                     std::int64_t otherwise) {
  if (!json.contains(key)) return otherwise;
  const Json& value = json.at(key);
  if (!value.is_number_integer() || value < least || value > most)
    refuse(concat(key, " must be a whole number from ", least, " to ", most));
  return value.get<std::int64_t>();
}

double number(const Json& json, const char* key, double most) {
  if (!json.contains(key)) return 0;
  const Json& value = json.at(key);
  if (!value.is_number() || !(value.get<double>() >= 0) || value.get<double>() > most)
    refuse(concat(key, " must be a number from 0 to ", most));
  return value.get<double>();
}

std::string text(const Json& json, const char* key) {
  if (!json.contains(key)) return "";
  if (!json.at(key).is_string()) refuse(concat(key, " must be a text"));
  return json.at(key).get<std::string>();
}

std::int64_t bytes_of(const Json& json, const char* key) {
  return std::llround(number(json, key, most_gib) * bytes_per_gib);
}

double gib_of(std::int64_t bytes) {
  return static_cast<double>(bytes) / bytes_per_gib;
}

/// Whole numbers from `least` to `most`.
template <class Integer>
std::vector<Integer> integers(const Json& json, const char* key, std::int64_t least, std::int64_t most) {
  std::vector<Integer> values;
  if (!json.contains(key)) return values;
  if (!json.at(key).is_array()) refuse(concat(key, " must be a list"));
  for (const Json& value : json.at(key)) {
    if (!value.is_number_integer() || value < least || value > most)
      refuse(concat(key, " must have whole numbers from ", least, " to ", most));
    values.push_back(value.get<Integer>());
  }
  return values;
}

Core core_of(const Json& json) {
  check_keys(json, "a core", {"numa_node", "cpus"});
  Core core;
  core.numa_node = integer(json, "numa_node", 0, most_cores, 0);
  core.cpus = integers<int>(json, "cpus", 0, 4 * most_cores);
  if (core.cpus.empty()) refuse("a core has no cpus");
  return core;
}

/// A list of cores, or their number, spread over `numa_nodes`.
Inventory cores_of(const Json& node) {
  const std::int64_t numa_nodes = integer(node, "numa_nodes", 1, most_cores, 1);
  Inventory inventory;
  if (node.contains("cores") && node.at("cores").is_array()) {
    for (const Json& core : node.at("cores")) inventory.cores.push_back(core_of(core));
    std::set<int> used;
    for (const Core& core : inventory.cores)
      for (const int cpu : core.cpus)
        if (!used.insert(cpu).second) refuse(concat("cpu ", cpu, " is in two cores"));
    // Those of one NUMA node stand together.
    std::ranges::stable_sort(inventory.cores, {}, &Core::numa_node);
    return inventory;
  }
  const std::int64_t count = integer(node, "cores", 0, most_cores, 1);
  for (std::int64_t i = 0; i < count; ++i)
    inventory.cores.push_back({i * numa_nodes / count, {static_cast<int>(i)}});
  return inventory;
}

Gpu gpu_of(const Json& json, std::size_t place, std::size_t count) {
  check_keys(json, "a GPU", {"uuid", "kind", "memory_gib", "free_gib", "numa_node", "linked"});
  Gpu gpu;
  gpu.uuid = text(json, "uuid");
  gpu.name = text(json, "kind");
  gpu.memory_bytes = bytes_of(json, "memory_gib");
  gpu.free_bytes = json.contains("free_gib") ? bytes_of(json, "free_gib") : gpu.memory_bytes;
  gpu.numa_node = integer(json, "numa_node", -1, most_cores, -1);
  gpu.linked = integers<std::int64_t>(json, "linked", 0, static_cast<std::int64_t>(count) - 1);
  if (std::ranges::find(gpu.linked, static_cast<std::int64_t>(place)) != gpu.linked.end())
    refuse(concat("GPU ", place, " is linked with itself"));
  return gpu;
}

/// So many alike, spread over the node's NUMA nodes.
std::vector<Gpu> equal_gpus(const Json& json, std::int64_t numa_nodes) {
  check_keys(json, "gpus", {"count", "kind", "memory_gib", "free_gib", "nvlink"});
  const std::int64_t count = integer(json, "count", 0, most_gpus, 1);
  if (json.contains("nvlink") && !json.at("nvlink").is_boolean()) refuse("nvlink must be true or false");
  const bool linked = json.value("nvlink", false);
  Json one = json;
  one.erase("count");
  one.erase("nvlink");
  std::vector<Gpu> gpus;
  for (std::int64_t i = 0; i < count; ++i) {
    Gpu& gpu = gpus.emplace_back(gpu_of(one, static_cast<std::size_t>(i), static_cast<std::size_t>(count)));
    gpu.numa_node = i * numa_nodes / count;
    for (std::int64_t other = 0; linked && other < count; ++other)
      if (other != i) gpu.linked.push_back(other);
  }
  return gpus;
}

std::vector<Gpu> gpus_of(const Json& node) {
  if (!node.contains("gpus")) return {};
  const Json& gpus = node.at("gpus");
  if (gpus.is_object()) return equal_gpus(gpus, integer(node, "numa_nodes", 1, most_cores, 1));
  if (!gpus.is_array()) refuse("gpus must be a list, or {count, kind, memory_gib}");
  if (std::ssize(gpus) > most_gpus) refuse(concat("more than ", most_gpus, " gpus"));
  std::vector<Gpu> list;
  for (const Json& gpu : gpus) list.push_back(gpu_of(gpu, list.size(), gpus.size()));
  return list;
}

std::vector<NetworkCard> cards_of(const Json& node) {
  std::vector<NetworkCard> cards;
  if (!node.contains("cards")) return cards;
  if (!node.at("cards").is_array()) refuse("cards must be a list");
  for (const Json& card : node.at("cards")) {
    check_keys(card, "a card", {"name", "numa_node", "gbit_per_s"});
    cards.push_back({text(card, "name"), integer(card, "numa_node", -1, most_cores, -1),
                     number(card, "gbit_per_s", 1e6)});
  }
  return cards;
}

NodeResources node_of(const Json& json) {
  check_keys(json, "the node",
             {"name", "cores", "usable_cores", "numa_nodes", "slots", "gpus", "cards", "free_memory_gib",
              "refused", "ranks", "reason"});
  NodeResources node;
  node.name = text(json, "name");
  if (node.name.empty()) refuse("it has no name");
  node.cores = cores_of(json);
  const std::int64_t count = std::ssize(node.cores.cores);
  node.usable_cores = integer(json, "usable_cores", 0, count, count);
  node.slots = integer(json, "slots", 0, most_cores, 0);
  node.gpus = gpus_of(json);
  node.cards = cards_of(json);
  if (json.contains("free_memory_gib")) node.free_memory_bytes = bytes_of(json, "free_memory_gib");
  node.refused = text(json, "refused");
  return node;
}

/// "n[08-10]" is n08, n09 and n10.
std::vector<std::string> expand_name(const std::string& name) {
  const std::size_t open = name.find('[');
  if (open == std::string::npos) return {name};
  const std::size_t dash = name.find('-', open);
  const std::size_t close = name.find(']', open);
  if (dash == std::string::npos || close == std::string::npos || dash > close)
    refuse("a name with brackets is like n[01-16]");
  const std::string first = name.substr(open + 1, dash - open - 1);
  const auto begin = parse_integer(first, 0, 1'000'000'000);
  const auto end = parse_integer(name.substr(dash + 1, close - dash - 1), 0, 1'000'000'000);
  if (!begin || !end || *end < *begin || *end - *begin >= most_nodes)
    refuse(concat("a name with brackets is like n[01-16], with at most ", most_nodes, " nodes"));
  std::vector<std::string> names;
  for (std::int64_t i = *begin; i <= *end; ++i) {
    std::string digits = concat(i);
    if (digits.size() < first.size()) digits.insert(0, first.size() - digits.size(), '0');
    names.push_back(name.substr(0, open) + digits + name.substr(close + 1));
  }
  return names;
}

void add_nodes(const Json& entry, std::vector<NodeResources>& nodes, std::set<std::string>& names) {
  NodeResources node = node_of(entry);
  const std::vector<std::string> expanded = expand_name(node.name);
  std::int64_t parts = std::ssize(node.cores.cores);
  for (const Gpu& gpu : node.gpus) parts += 1 + std::ssize(gpu.linked);
  if (std::ssize(expanded) * parts > most_parts) refuse("its nodes have too many cores and GPUs together");
  for (const std::string& name : expanded) {
    if (!names.insert(name).second) refuse(concat("node ", shown(name), " is there twice"));
    if (std::ssize(nodes) == most_nodes) refuse(concat("more than ", most_nodes, " nodes"));
    nodes.push_back(node);
    nodes.back().name = name;
  }
}

/// For messages: its name, or its place in the list.
std::string describe(const Json& entry, std::size_t place) {
  if (entry.is_object() && entry.contains("name") && entry.at("name").is_string())
    return concat("node ", shown(entry.at("name").get<std::string>()));
  return concat("node ", place + 1, " of the list");
}

}  // namespace

nlohmann::json to_inventory_json(const NodeResources& node) {
  Json cores = Json::array();
  for (const Core& core : node.cores.cores)
    cores.push_back({{"numa_node", core.numa_node}, {"cpus", core.cpus}});
  Json gpus = Json::array();
  for (const Gpu& gpu : node.gpus)
    gpus.push_back({{"uuid", gpu.uuid},
                    {"kind", gpu.name},
                    {"memory_gib", gib_of(gpu.memory_bytes)},
                    {"free_gib", gib_of(gpu.free_bytes)},
                    {"numa_node", gpu.numa_node},
                    {"linked", gpu.linked}});
  Json cards = Json::array();
  for (const NetworkCard& card : node.cards)
    cards.push_back({{"name", card.name}, {"numa_node", card.numa_node}, {"gbit_per_s", card.gbit_per_s}});
  Json json = {{"name", node.name},
               {"cores", std::move(cores)},
               {"usable_cores", node.usable_cores},
               {"gpus", std::move(gpus)},
               {"cards", std::move(cards)}};
  if (node.slots > 0) json["slots"] = node.slots;
  if (node.free_memory_bytes >= 0) json["free_memory_gib"] = gib_of(node.free_memory_bytes);
  if (!node.refused.empty()) json["refused"] = node.refused;
  return json;
}

Result<NodeResources> parse_inventory_node(const nlohmann::json& entry) {
  try {
    return node_of(entry);
  } catch (const std::exception& problem) {
    return Error{ErrorCode::invalid_argument, problem.what()};
  }
}

Result<std::vector<NodeResources>> parse_inventory(const std::string& text, const std::string& source) {
  std::string where = source;
  try {
    const Json json = Json::parse(text);
    check_keys(json, "the inventory", {"nodes", "job", "ranks", "needs", "version"});
    if (!json.contains("nodes") || !json.at("nodes").is_array() || json.at("nodes").empty())
      refuse("it needs a list of nodes: {\"nodes\": [{\"name\": \"n1\", \"cores\": 8}]}");
    std::vector<NodeResources> nodes;
    std::set<std::string> names;
    std::size_t place = 0;
    for (const Json& entry : json.at("nodes")) {
      where = concat(source, ", ", describe(entry, place++));
      add_nodes(entry, nodes, names);
    }
    return nodes;
  } catch (const std::exception& problem) {
    return Error{ErrorCode::invalid_argument, concat(where, ": ", problem.what())};
  }
}

}  // namespace paceline
