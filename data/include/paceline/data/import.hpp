#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

struct ImageExtent {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
};

/// How far an import is.
struct ImportProgress {
  std::string what;  ///< of what: "train", "tokenizer"
  std::int64_t done = 0;
  std::int64_t total = 0;  ///< 0: nobody knows
  bool in_bytes = false;   ///< else in images
};

/// Options that a kind doesn't take must be left as they are here: import_dataset refuses them by name.
struct ImportOptions {
  std::string kind;                     ///< one of import_kinds()
  std::vector<std::string> sources;     ///< folders or files; none: the kind's usual place
  std::string out;                      ///< folder that will hold train/ and test/; hdf5: the dataset
  std::string storage;                  ///< raw, lz4, zstd or jpeg; empty: what suits the kind
  std::int64_t chunk_samples = 0;       ///< of tokens: tokens; 0: about 256 KiB, at most 1024 samples
  std::int64_t shard_samples = 0;       ///< of tokens: tokens; 0: a sixteenth of the whole, from 8 to 64 MiB
  int threads = 0;                      ///< 0: one for every core
  std::optional<ImageExtent> size;      ///< image-folder: every image is scaled and cropped to this
  std::int64_t channels = 0;            ///< image-folder: 1 or 3; 0: 1 where all of a sample are grey, else 3
  std::optional<double> test_fraction;  ///< of what has no test set of its own: 0.1 of images, 0.05 of texts
  std::string tokenizer;                ///< text: a SentencePiece model, or train:VOCABULARY; empty: bytes
  std::string tokenizer_program;        ///< where paceline-tokenizer is; empty: beside this program
  std::string values;                   ///< hdf5: the dataset of the samples
  std::string labels;                   ///< hdf5: the dataset of the labels
  std::string layout;                   ///< hdf5: chw or hwc; empty: seen from the shape
  bool strict = false;                  ///< a bad image or text is an error, instead of being left out
  /// Where the import is; called now and then, from any thread, one call at a time.
  std::function<void(const ImportProgress&)> progress;
  /// One sentence about something that was left out; called as `progress` is.
  std::function<void(const std::string&)> warning;
  /// Asked now and then, from any thread, one call at a time; true gives the import up, leaving nothing.
  std::function<bool()> cancelled;
};

[[nodiscard]] std::vector<std::string> import_kinds();

/// "224x256": rows and columns, as --size is typed. invalid_argument for anything else.
[[nodiscard]] Result<ImageExtent> parse_image_extent(const std::string& text);

/// Makes out/train and out/test; of hdf5, `out` itself. Written beside `out` and renamed into place at the
/// end, so that a failed or killed import leaves nothing that looks like a dataset, and two at once do no
/// harm. What was written is read back and verified before the rename. The result depends on the sources and
/// the options, and not on the number of threads. already_exists where `out` holds anything; aborted when
/// cancelled. A full disk, a missing source or a malformed file is one clear sentence.
[[nodiscard]] Status import_dataset(const ImportOptions& options);

}  // namespace paceline
