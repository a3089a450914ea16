#pragma once

#include <string>

#include "manifest.hpp"

namespace paceline {

/// The manifest of a dataset folder. Where there is none, the error says what the folder is instead.
[[nodiscard]] Result<Manifest> read_manifest(const std::string& folder);

[[nodiscard]] std::string without_trailing_slashes(std::string path);

}  // namespace paceline
