#pragma once

#include <string>

#include "import_run.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

// Each writes the datasets of one kind into `folder`, which is to become options.out.
[[nodiscard]] Status import_idx(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_mnist(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_fashion_mnist(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_cifar10(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_cifar100(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_image_folder(ImportRun& run, const std::string& folder);
[[nodiscard]] Status import_text(ImportRun& run, const std::string& folder);

/// Makes options.out itself a dataset, without train/ and test/, which points into the files.
[[nodiscard]] Status import_hdf5(const ImportOptions& options);

}  // namespace paceline
