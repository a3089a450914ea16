#include "allreduce/report.hpp"

#include <nlohmann/json.hpp>

#include "allreduce/statistics.hpp"
#include "allreduce/table.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

json to_json(const AllreduceOptions& options, const Placement& placement) {
  json settings = {{"ranks", options.ranks},
                   {"layout", placement.layout},
                   {"transport", options.transport},
                   {"memory", options.memory},
                   {"dtype", options.dtype},
                   {"codec", options.codec},
                   {"rounds", options.rounds},
                   {"pinned", !placement.cpus.empty()},
                   {"limit", limit_name(options, placement)}};
  for (const Host& host : placement.hosts) settings["hosts"].push_back(host.name);
  if (options.wire_gbits > 0) settings["wire_gbits"] = options.wire_gbits;
  return settings;
}

json to_json(const Row& row, const AllreduceOptions& options) {
  const double own = row.own_us();
  json entry = {{"bytes", row.bytes},
                {"count", row.count},
                {"us_p50", own},
                {"algbw_gbytes_per_s", algorithm_bandwidth(row.bytes, own)},
                {"busbw_gbytes_per_s", bus_bandwidth(row.bytes, own, options.ranks)},
                {"errors", row.own_errors()},
                {"limit_us", nullptr},
                {"fraction_of_limit", nullptr},
                {"probe_us_p50", nullptr},
                {"fraction_of_probe", nullptr},
                {"peers", json::object()}};
  if (row.limit_us > 0) {
    entry["limit_us"] = row.limit_us;
    entry["fraction_of_limit"] = row.limit_us / own;
  }
  if (const auto probe = row.us.find("probe"); probe != row.us.end()) {
    entry["probe_us_p50"] = probe->second;
    entry["fraction_of_probe"] = probe->second / own;
  }
  for (const std::string& peer : options.peers) {
    const double us = row.us.at(peer);
    entry["peers"][peer] = {{"us_p50", us}, {"ratio", us / own}, {"errors", row.errors.at(peer)}};
  }
  return entry;
}

}  // namespace

nlohmann::json to_json(const Machine& machine) {
  return {{"processor", machine.processor},
          {"cores", machine.cores},
          {"memory_bytes", machine.memory_bytes},
          {"kernel", machine.kernel},
          {"transparent_huge_pages", machine.huge_pages},
          {"transparent_huge_pages_shared", machine.shared_huge_pages},
          {"load_before", machine.load}};
}

std::string report_json(const std::vector<Row>& rows, const AllreduceOptions& options,
                        const Placement& placement, const Machine& machine) {
  json report = {
      {"machine", to_json(machine)}, {"settings", to_json(options, placement)}, {"rows", json::array()}};
  for (const Row& row : rows) report["rows"].push_back(to_json(row, options));
  return report.dump(2) + "\n";
}

}  // namespace paceline::bench
