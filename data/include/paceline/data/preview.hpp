#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

struct PreviewOptions {
  std::int64_t count = 0;         ///< samples or windows, evenly spread; 0: 64 images, or 4 windows of text
  std::string tokenizer_program;  ///< as in ImportOptions
};

/// What a person is shown of a dataset.
struct Preview {
  std::string png;  ///< of images: a sheet of them; else empty
  std::vector<std::vector<std::string>>
      labels;                      ///< of images: by row of the sheet, the names of their classes
  std::vector<std::string> texts;  ///< of tokens: some of the text, decoded; any bytes
};

/// Reads a few samples of a dataset and makes them visible. unsupported for samples that are no pictures.
[[nodiscard]] Result<Preview> preview_dataset(const std::string& path, const PreviewOptions& options = {});

}  // namespace paceline
