#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

struct ForeignShape {
  std::vector<std::int64_t> sizes;  ///< of a sample
  ImageLayout layout = ImageLayout::chw;
};

/// What samples look like in a dataset of this shape, whose first size is their number. `layout` as in
/// ForeignOptions; an error where it is needed and not given, or does not fit.
[[nodiscard]] Result<ForeignShape> shape_of_samples(const std::vector<std::int64_t>& shape,
                                                    const std::string& layout);

/// Whether all texts can stand in a manifest: UTF-8, and not too long.
[[nodiscard]] Status check_text(const Manifest& manifest, const std::vector<std::string>& files);

}  // namespace paceline
