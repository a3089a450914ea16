#include "allreduce/sizes.hpp"

#include <algorithm>

#include "paceline/base/text.hpp"

namespace paceline::bench {

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  int shift = 0;
  if (!text.empty()) {
    const auto unit = std::string_view("KMG").find(text.back());
    if (unit != std::string_view::npos) {
      shift = 10 * (static_cast<int>(unit) + 1);
      text.remove_suffix(1);
    }
  }
  const auto number = parse_integer(text, 0, std::int64_t{1} << 32);
  if (!number) return std::nullopt;
  return static_cast<std::uint64_t>(*number) << shift;
}

std::uint64_t bytes_of_type(std::string_view dtype) {
  if (dtype == "f64" || dtype == "i64") return 8;
  if (dtype == "f32" || dtype == "i32") return 4;
  if (dtype == "f16" || dtype == "bf16") return 2;
  return dtype == "u8" ? 1 : 0;
}

std::vector<std::uint64_t> sizes_of(const AllreduceOptions& options) {
  const std::uint64_t element = bytes_of_type(options.dtype);
  std::vector<std::uint64_t> sizes;
  for (std::uint64_t bytes = options.min_bytes; bytes <= options.max_bytes;
       bytes *= static_cast<std::uint64_t>(options.factor)) {
    const std::uint64_t whole = std::max(bytes / element, std::uint64_t{1}) * element;
    if (whole <= options.max_bytes && (sizes.empty() || sizes.back() != whole)) sizes.push_back(whole);
  }
  return sizes;
}

int repeat_of(std::uint64_t bytes) {
  constexpr std::uint64_t batch_bytes = 256 << 10;
  return static_cast<int>(std::clamp<std::uint64_t>(batch_bytes / bytes, 1, 200));
}

std::vector<int> even_layout(int ranks, int nodes) {
  std::vector<int> layout(static_cast<std::size_t>(nodes), ranks / nodes);
  for (int node = 0; node < ranks % nodes; ++node) ++layout[static_cast<std::size_t>(node)];
  return layout;
}

std::vector<int> nodes_of_ranks(const std::vector<int>& layout) {
  std::vector<int> nodes;
  for (std::size_t node = 0; node < layout.size(); ++node)
    nodes.insert(nodes.end(), static_cast<std::size_t>(layout[node]), static_cast<int>(node));
  return nodes;
}

}  // namespace paceline::bench
