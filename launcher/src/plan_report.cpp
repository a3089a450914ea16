#include "plan_report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "format.hpp"
#include "paceline/base/text.hpp"
#include "resources/inventory_file.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

/// A kind of GPU has spaces in its name, and needs no quotes for them in a table.
std::string named(const std::string& name) {
  const bool plain =
      std::ranges::all_of(name, [](unsigned char letter) { return std::isprint(letter) != 0; });
  return plain ? name : shown(name);
}

/// "2 H100 80GB (GPU-1a2b3c4d)"
std::string describe(const NodeResources& node, std::int64_t gpu) {
  if (gpu < 0) return "-";
  const Gpu& one = node.gpus[static_cast<std::size_t>(gpu)];
  return concat(gpu, one.name.empty() ? "" : " ", named(one.name),
                one.uuid.empty() ? "" : concat(" (", one.uuid.substr(0, 12), ")"));
}

std::string describe_cores(const RankPlace& place) {
  if (!place.cpus.empty()) return cpu_list(place.cpus);
  return place.cores > 0 ? concat("any ", place.cores) : "shared";
}

std::vector<std::string> row_of(const PlanReport& report, const PlacedRank& rank) {
  const NodeResources& node = report.nodes[rank.node];
  std::vector<std::string> row = {concat(rank.rank), named(node.name)};
  if (report.needs.gpu) row.push_back(describe(node, rank.gpu));
  row.push_back(describe_cores(rank.place));
  row.push_back(concat(rank.place.threads));
  row.push_back(rank.card < 0 ? "-" : named(node.cards[static_cast<std::size_t>(rank.card)].name));
  return row;
}

std::string headline(const PlanReport& report) {
  const auto ranks = report.placement.ranks.size();
  const auto used =
      std::ranges::count_if(report.placement.per_node, [](std::int64_t share) { return share > 0; });
  std::string text = concat(named(report.job), ": ", ranks, ranks == 1 ? " rank" : " ranks",
                            report.needs.gpu ? ", each with a GPU," : "", " on ", used);
  if (used < std::ssize(report.nodes)) text += concat(" of ", report.nodes.size());
  return text + (report.nodes.size() == 1 ? " node\n" : " nodes\n");
}

Json to_json(const PlanReport& report, const PlacedRank& rank) {
  const NodeResources& node = report.nodes[rank.node];
  Json json = {{"rank", rank.rank},         {"node", node.name},       {"local_rank", rank.place.rank},
               {"cores", rank.place.cores}, {"cpus", rank.place.cpus}, {"threads", rank.place.threads}};
  if (rank.gpu >= 0) {
    const Gpu& gpu = node.gpus[static_cast<std::size_t>(rank.gpu)];
    json["gpu"] = {{"index", rank.gpu}, {"uuid", gpu.uuid}, {"kind", gpu.name}};
  }
  if (rank.card >= 0) json["card"] = node.cards[static_cast<std::size_t>(rank.card)].name;
  return json;
}

}  // namespace

std::string to_text(const PlanReport& report) {
  std::vector<std::vector<std::string>> rows(1);
  rows[0] = {"rank", "node"};
  if (report.needs.gpu) rows[0].emplace_back("gpu");
  rows[0].insert(rows[0].end(), {"cores", "threads", "card"});
  for (const PlacedRank& rank : report.placement.ranks) rows.push_back(row_of(report, rank));
  std::string text = headline(report) + table_text(rows);
  std::vector<std::vector<std::string>> others = {{"node", "has no rank because it"}};
  for (std::size_t i = 0; i < report.nodes.size(); ++i)
    if (!report.placement.reasons[i].empty())
      others.push_back({named(report.nodes[i].name), report.placement.reasons[i]});
  if (others.size() > 1) text += concat("\n", table_text(others));
  return text;
}

Json to_json(const PlanReport& report) {
  Json nodes = Json::array();
  for (std::size_t i = 0; i < report.nodes.size(); ++i) {
    Json node = to_inventory_json(report.nodes[i]);
    node["ranks"] = report.placement.per_node[i];
    if (!report.placement.reasons[i].empty()) node["reason"] = report.placement.reasons[i];
    nodes.push_back(std::move(node));
  }
  Json ranks = Json::array();
  for (const PlacedRank& rank : report.placement.ranks) ranks.push_back(to_json(report, rank));
  return {{"version", PACELINE_VERSION},
          {"job", report.job},
          {"ranks", std::move(ranks)},
          {"nodes", std::move(nodes)}};
}

}  // namespace paceline
