#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// HDF5 files of images and labels that someone else made, to be used where they lie.
struct ForeignOptions {
  std::vector<std::string> files;  ///< at least one; all with samples of one shape
  std::string values = "/values";  ///< u8 [N, H, W], [N, H, W, C], [N, C, H, W] or [N, D]
  std::string labels = "/labels";  ///< any integers [N]
  std::string out;                 ///< the dataset's folder: new or empty, or one that holds the files
  std::string name;                ///< of the dataset; empty: that of the folder
  std::string layout;              ///< "chw" or "hwc"; empty: as the one of the sizes that is 1, 3 or 4 tells
  std::int64_t classes = 0;        ///< 0: one more than the highest label
  std::vector<std::string> class_names;  ///< none, or one for each class
  std::int64_t chunk_samples = 0;        ///< of values without chunks; 0: such that a chunk is about 256 KiB
  std::function<bool()> cancelled;  ///< asked before every chunk; true gives the import up, leaving nothing
};

/// Makes a dataset that copies no values: a manifest, and for each file a shard with its labels and an index
/// that points into it. Every chunk is read once for its checksum and once more to see that it reads back.
/// What cannot be used as it is, is refused with the reason: other types, filters but gzip, chunks that hold
/// parts of samples or were never written, a file that is still being written. Files outside of `out` must
/// keep their absolute paths. already_exists where `out` holds a dataset or other files; aborted when
/// cancelled.
[[nodiscard]] Status import_foreign(const ForeignOptions& options);

}  // namespace paceline
