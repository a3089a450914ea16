#include "fleet/messages.hpp"

#include <cmath>
#include <map>

#include "json_messages.hpp"
#include "paceline/base/text.hpp"
#include "resources/inventory_file.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr std::string_view report_begin = R"({"paceline_node":)";
constexpr std::string_view more_follows = "paceline-more:";
constexpr std::string_view is_last = "paceline-last:";
constexpr std::size_t longest_piece = 900;
constexpr std::size_t longest_line = std::size_t{16} << 20;
// TLS takes credentials for valid from a minute before they were made; and logs of nodes are read together.
constexpr double most_seconds_apart = 30;
constexpr std::int64_t most = std::int64_t{1} << 40;

std::int64_t number_in(const Json& json, const char* key) {
  const Json& value = json.at(key);
  if (!value.is_number_integer()) throw std::invalid_argument(concat(key, " is no whole number"));
  const auto number = value.get<std::int64_t>();
  if (number < 0 || number > most) throw std::invalid_argument(concat(key, " is out of range"));
  return number;
}

}  // namespace

std::string to_json(const NodeReport& report) {
  Json body = {{"version", report.version}, {"node", report.node},   {"address", report.address},
               {"cores", report.cores},     {"tasks", report.tasks}, {"time", report.time},
               {"unseen", report.unseen}};
  if (report.resources) body["resources"] = to_inventory_json(*report.resources);
  if (!report.complaint.empty()) body["complaint"] = report.complaint;
  return dumped({{"paceline_node", std::move(body)}});
}

std::string to_json(const FleetOrder& order) {
  Json agents = Json::array();
  for (const AgentOrder& agent : order.agents)
    agents.push_back({{"node", agent.node}, {"index", agent.index}, {"places", agent.places}});
  return dumped({{"run_dir", order.run_dir}, {"agents", std::move(agents)}});
}

Result<NodeReport> parse_node_report(const std::string& text) {
  return parsed(text, "report of a node", [](const Json& json) {
    const Json& body = json.at("paceline_node");
    NodeReport report;
    report.version = body.at("version").get<std::string>();
    report.node = body.at("node").get<std::string>();
    if (report.node.empty()) throw std::invalid_argument("the node has no name");
    // Of another version nothing else may be as it is here.
    if (report.version != PACELINE_VERSION) return report;
    report.address = body.at("address").get<std::string>();
    report.cores = number_in(body, "cores");
    report.tasks = number_in(body, "tasks");
    report.time = body.at("time").get<double>();
    report.unseen = body.at("unseen").get<std::vector<std::string>>();
    report.complaint = body.value("complaint", "");
    if (body.contains("resources")) {
      Result<NodeResources> resources = parse_inventory_node(body.at("resources"));
      if (!resources.ok()) throw std::invalid_argument(resources.error().message);
      report.resources = *std::move(resources);
    }
    return report;
  });
}

Result<FleetOrder> parse_fleet_order(const std::string& text) {
  return parsed(text, "order to agents", [](const Json& json) {
    FleetOrder order;
    order.run_dir = json.at("run_dir").get<std::string>();
    for (const Json& agent : json.at("agents"))
      order.agents.push_back(
          {agent.at("node").get<std::string>(), number_in(agent, "index"), number_in(agent, "places")});
    return order;
  });
}

std::vector<std::string> in_pieces(const std::string& line) {
  if (line.size() <= longest_piece) return {line};
  std::vector<std::string> pieces;
  for (std::size_t begin = 0; begin < line.size(); begin += longest_piece)
    pieces.push_back(concat(begin + longest_piece < line.size() ? more_follows : is_last,
                            line.substr(begin, longest_piece)));
  return pieces;
}

std::optional<std::string> Pieces::add(const std::string& line) {
  if (line.starts_with(more_follows)) {
    if (begun_.size() < longest_line) begun_ += line.substr(more_follows.size());
    return std::nullopt;
  }
  if (!line.starts_with(is_last)) return line;
  return std::exchange(begun_, {}) + line.substr(is_last.size());
}

bool is_node_report(const std::string& line) {
  return line.starts_with(report_begin);
}

Status check_reports(const std::vector<NodeReport>& reports, double now) {
  std::map<std::string, int> names;
  for (const NodeReport& report : reports) {
    const auto refuse = [&report](const auto&... parts) {
      return Error{ErrorCode::invalid_argument, concat("node ", report.node, " ", parts...)};
    };
    if (report.version != PACELINE_VERSION)
      return refuse("has version ", report.version, " of paceline and this machine has ", PACELINE_VERSION,
                    ": install the same on all nodes");
    if (++names[report.node] > 1)
      return refuse(
          "is there twice: two machines have that name; set PACELINE_NODE on each to a name of its "
          "own, or name the machine once");
    if (!report.unseen.empty())
      return refuse("does not see ", report.unseen.front(),
                    ": all nodes need the same files at the same place, on a shared filesystem");
    if (std::abs(report.time - now) > most_seconds_apart)
      return refuse("has a clock that is ", std::llround(std::abs(report.time - now)), " s ",
                    report.time > now ? "ahead of" : "behind",
                    " this machine's: synchronise them (chrony, ntp)");
    if (report.cores < 1) return refuse("has no core for this job");
  }
  return {};
}

}  // namespace paceline
