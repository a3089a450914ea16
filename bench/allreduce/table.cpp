#include "allreduce/table.hpp"

#include <cmath>
#include <cstdio>

#include "allreduce/statistics.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr int narrow = 8;
constexpr int wide = 11;

std::string right(const std::string& text, int width) {
  const auto columns = static_cast<std::size_t>(width);
  return concat(std::string(text.size() < columns ? columns - text.size() : 1, ' '), text);
}

}  // namespace

std::string short_number(double number) {
  if (!std::isfinite(number)) return "-";
  const double size = std::fabs(number);
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", size < 9.995 ? 2 : size < 99.95 ? 1 : 0, number);
  return text;
}

std::string limit_name(const AllreduceOptions& options, const Placement& placement) {
  if (placement.layout.size() == 1 && placement.hosts.empty()) return "probe";
  return options.wire_gbits > 0 && placement.hosts.size() > 1 ? "wire" : "";
}

std::string table_head(const AllreduceOptions& options, const Placement& placement) {
  const std::string limit = limit_name(options, placement);
  std::string names = concat(right("size", wide), right("count", wide), right("type", 6), right("time", wide),
                             right("algbw", narrow), right("busbw", narrow), right("errors", narrow),
                             right(limit.empty() ? "limit" : limit, wide), right("of it", narrow));
  std::string units =
      concat(right("(B)", wide), right("", wide), right("", 6), right("(us)", wide), right("(GB/s)", narrow),
             right("(GB/s)", narrow), right("", narrow), right("(us)", wide), right("", narrow));
  for (const std::string& peer : options.peers) {
    names += concat(right(peer, wide), right("ratio", narrow));
    units += concat(right("(us)", wide), right("", narrow));
  }
  return concat(names, "\n", units, "\n");
}

std::string table_row(const Row& row, const AllreduceOptions& options) {
  const double own = row.own_us();
  std::string text = concat(right(std::to_string(row.bytes), wide), right(std::to_string(row.count), wide),
                            right(options.dtype, 6), right(short_number(own), wide),
                            right(short_number(algorithm_bandwidth(row.bytes, own)), narrow),
                            right(short_number(bus_bandwidth(row.bytes, own, options.ranks)), narrow),
                            right(std::to_string(row.own_errors()), narrow));
  const bool limited = row.limit_us > 0;
  text += concat(right(limited ? short_number(row.limit_us) : "-", wide),
                 right(limited ? short_number(row.limit_us / own) : "-", narrow));
  for (const std::string& peer : options.peers)
    text += concat(right(short_number(row.us.at(peer)), wide),
                   right(short_number(row.us.at(peer) / own), narrow));
  return text + "\n";
}

}  // namespace paceline::bench
