#include "read_engine.hpp"

#include <cstdlib>
#include <string_view>

#include "paceline/base/text.hpp"

namespace paceline {

Result<std::unique_ptr<ReadEngine>> make_reads(int depth) {
  const char* forced = std::getenv("PACELINE_READS");
  const std::string_view wish = forced == nullptr ? "" : forced;
  if (wish == "threads") return make_thread_reads(depth);
  if (wish != "" && wish != "io_uring")
    return Error{ErrorCode::invalid_argument,
                 concat("PACELINE_READS is \"", wish, "\": it takes io_uring or threads")};
  auto ring = make_uring_reads(depth);
  if (ring.ok() || wish == "io_uring") return ring;
  return make_thread_reads(depth);
}

}  // namespace paceline
