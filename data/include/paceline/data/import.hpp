#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

struct ImportOptions {
  std::string kind;                  ///< one of import_kinds()
  std::string source;                ///< folder with the IDX files, .gz or not; empty: the kind's usual place
  std::string out;                   ///< folder that will hold train/ and test/
  std::int64_t chunk_samples = 256;  ///< one batch is a few chunks; 200 KB reads of 28x28 images
  std::int64_t shard_samples = 30000;  ///< several shards even of a small set, so that they are exercised
  std::function<bool()> cancelled;  ///< asked before every chunk; true gives the import up, leaving nothing
};

[[nodiscard]] std::vector<std::string> import_kinds();

/// Makes out/train and out/test. Written beside `out` and renamed into place at the end, so that a failed or
/// killed import leaves nothing that looks like a dataset, and two at once do no harm. What was written is
/// read back and verified before the rename. already_exists where `out` holds anything; aborted when
/// cancelled. A full disk, a missing source or a malformed IDX file is one clear sentence.
[[nodiscard]] Status import_dataset(const ImportOptions& options);

}  // namespace paceline
