#include "audit_order.hpp"

#include <limits>
#include <memory>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

template <class T>
const T* find(const JournalHeader& header, const std::string& name) {
  const auto found = header.order.find(name);
  return found == header.order.end() ? nullptr : std::get_if<T>(&found->second);
}

Error bad_value(const std::string& name) {
  return {ErrorCode::corrupt, concat("the journal's header has no usable value of order.", name)};
}

}  // namespace

Result<std::int64_t> order_integer(const JournalHeader& header, const std::string& name, std::int64_t least) {
  const auto* value = find<std::int64_t>(header, name);
  if (value == nullptr || *value < least) return bad_value(name);
  return *value;
}

Result<std::string> order_text(const JournalHeader& header, const std::string& name) {
  const auto* value = find<std::string>(header, name);
  if (value == nullptr) return bad_value(name);
  return *value;
}

Result<EpochAddresses> order_of(const JournalHeader& header, const Dataset& dataset, std::int64_t epoch) {
  PACELINE_ASSIGN(const std::string kind, order_text(header, "kind"));
  if (kind != "lanes")
    return Error{ErrorCode::unsupported,
                 concat("the run's order of samples is of the kind \"", kind,
                        "\", which this program does not know: use the version that trained it")};
  OrderSpec spec;
  PACELINE_ASSIGN(const std::int64_t seed,
                  order_integer(header, "seed", std::numeric_limits<std::int64_t>::min()));
  spec.seed = static_cast<std::uint64_t>(seed);
  PACELINE_ASSIGN(spec.row, order_integer(header, "batch_global", 1));
  PACELINE_ASSIGN(spec.lanes, order_integer(header, "lanes", 1));
  PACELINE_ASSIGN(spec.lane_chunks, order_integer(header, "lane_chunks", 1));
  const auto order = std::make_shared<EpochOrder>(dataset.chunk_samples(), spec, epoch - 1);
  return EpochAddresses(
      [order](std::int64_t first, std::int64_t count) { return order->addresses(first, count); });
}

}  // namespace paceline
