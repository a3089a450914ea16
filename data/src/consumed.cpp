#include "paceline/data/consumed.hpp"

#include "manifest.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"

namespace paceline {

std::uint64_t sample_checksum(std::span<const std::byte> sample, std::int32_t label) noexcept {
  return mix64(checksum_of(sample), label);
}

Result<std::uint64_t> manifest_checksum(const std::string& dataset_path) {
  PACELINE_ASSIGN(const std::string text, read_file(concat(dataset_path, "/manifest.json"),
                                                    static_cast<std::size_t>(manifest_limit_bytes)));
  return checksum_of(std::as_bytes(std::span(text)));
}

}  // namespace paceline
