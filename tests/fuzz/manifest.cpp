// A dataset's manifest of any bytes, with a right checksum where it has the place for one, so that what lies
// behind the checksum is reached too.

#include "../../data/src/manifest.hpp"

#include <cstdlib>
#include <span>

#include "../../data/src/record.hpp"
#include "paceline/data/checksum.hpp"

using namespace paceline;

namespace {

std::string sign(std::string text) {
  const std::string key = "\"manifest_checksum\":\"0x";
  const std::size_t at = text.find(key);
  if (at == std::string::npos || text.size() < at + key.size() + 16) return text;
  text.replace(at + key.size(), 16, 16, '0');
  const std::string checksum = checksum_text(checksum_of(std::as_bytes(std::span(text))));
  return text.replace(at + key.size(), 16, checksum.substr(2));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const Result<Manifest> manifest =
      parse_manifest(sign(std::string(reinterpret_cast<const char*>(data), size)), "manifest.json");
  if (!manifest.ok()) return 0;
  // What was accepted keeps its promises, and is written as it was read.
  if (largest_chunk_bytes(*manifest) < 1 || sample_bytes(*manifest) < 1) std::abort();
  for (const ShardEntry& shard : manifest->shards) {
    const std::int64_t last = chunks_in(*manifest, shard) - 1;
    if (last < 0 || record_shape(*manifest, shard, last).samples < 1) std::abort();
  }
  const std::string rendered = render_manifest(*manifest);
  const Result<Manifest> again = parse_manifest(rendered, "manifest.json");
  if (!again.ok() || render_manifest(*again) != rendered) std::abort();
  return 0;
}
