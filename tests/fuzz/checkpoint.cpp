// A checkpoint's manifest of any bytes, as it is, and with a right checksum where it ends like one without,
// so that what lies behind the checksum is reached too. And folder names.

#include <cstdlib>

#include "../../job/src/checkpoint_files.hpp"

using namespace paceline;

namespace {

void check_manifest(std::string_view text) {
  const Result<CheckpointManifest> manifest = parse_checkpoint_manifest(text, "manifest.json");
  if (!manifest.ok()) {
    if (manifest.error().message.empty()) std::abort();
    return;
  }
  // What was accepted keeps its promises, and is written as it was read.
  std::int64_t end = 0;
  for (const CheckpointPart& part : manifest->parts) {
    if (part.slice.offset != end || part.slice.bytes < 0) std::abort();
    if (static_cast<std::int64_t>(part.checksums.size()) != blocks_in(part.slice.bytes)) std::abort();
    end += part.slice.bytes;
  }
  if (end != state_bytes(*manifest) || end < 0) std::abort();
  const Result<std::string> rendered = render_checkpoint_manifest(*manifest);
  if (!rendered.ok()) std::abort();
  const Result<CheckpointManifest> again = parse_checkpoint_manifest(*rendered, "manifest.json");
  if (!again.ok() || render_checkpoint_manifest(*again).value() != *rendered) std::abort();
  if (again->scalars != manifest->scalars || again->layout != manifest->layout) std::abort();
  if (again->parts != manifest->parts || again->id != manifest->id) std::abort();
}

void check_name(const std::string& name) {
  const auto folder = parse_checkpoint_folder(name);
  if (!folder || folder->kind == CheckpointFolder::Kind::removed) return;
  if (name != published_name(folder->id) && name != unfinished_name(folder->id)) std::abort();
  if (name.find('/') != std::string::npos) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  check_name(text);
  check_manifest(text);
  if (text.ends_with("\n}\n")) check_manifest(seal_manifest(std::string_view(text).substr(0, size - 1)));
  return 0;
}
