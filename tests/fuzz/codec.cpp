// Coded chunks of any bytes, for a length that the first bytes choose: decoded into exactly that many, or an
// error.

#include "../../data/src/codec.hpp"

#include <cstdint>
#include <vector>

using namespace paceline;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size < 4) return 0;
  static constexpr Storage coded[] = {Storage::zstd, Storage::lz4, Storage::deflate};
  const std::size_t bytes = data[1] | std::size_t{data[2]} << 8 | (std::size_t{data[3]} & 1) << 16;
  const auto stored = std::as_bytes(std::span(data + 4, size - 4));
  // Memory of exactly these lengths, so that a byte too far is seen.
  const std::vector<std::byte> from(stored.begin(), stored.end());
  std::vector<std::byte> values(bytes);
  (void)decode_values(coded[data[0] % 3], from, values);

  std::vector<std::byte> again;
  for (const Storage storage : {Storage::zstd, Storage::lz4}) {
    again.clear();
    if (!encode_values(storage, from, again)) continue;
    std::vector<std::byte> back(from.size());
    if (again.size() >= from.size() || !decode_values(storage, again, back).ok() || back != from)
      __builtin_trap();
  }
  return 0;
}
