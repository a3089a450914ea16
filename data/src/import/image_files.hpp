#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "image_source.hpp"
#include "listing.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

struct ImageFile {
  std::string path;
  std::int64_t bytes = 0;
  std::int32_t label = 0;
};

/// The image files of a folder of classes, as they are to be imported.
struct ImageFolder {
  struct Split {
    std::string name;
    std::vector<ImageFile> files;  ///< in the order of the dataset
  };
  std::vector<Split> splits;
  std::vector<std::string> class_names;
  [[nodiscard]] std::int64_t files() const;
};

/// Finds the images: SOURCE/train/CLASS and SOURCE/test/CLASS or SOURCE/val/CLASS, or SOURCE/CLASS, of which
/// `test_fraction` becomes the test set.
[[nodiscard]] Result<ImageFolder> find_images(const std::string& source, std::optional<double> test_fraction);

/// What every image of a dataset is turned into.
struct ImageTarget {
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::int64_t channels = 0;
  bool scaled = false;  ///< else an image of another size is an error
  Storage storage = Storage::raw;
  std::string model;  ///< the file that the size is from, for messages; empty: the user said it
};

/// Decides what the user left open by looking at the headers of up to a thousand of the files.
[[nodiscard]] Result<ImageTarget> choose_target(ImportRun& run, const ImageFolder& folder);

/// The files of one split as a source. `files` outlives it.
[[nodiscard]] std::unique_ptr<ImageSource> image_files_source(ImportRun& run, const ImageTarget& target,
                                                              const std::vector<ImageFile>& files);

}  // namespace paceline
