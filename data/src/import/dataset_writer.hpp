#pragma once

#include <cstdint>
#include <string>

#include "import_run.hpp"
#include "manifest.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// "shard-00003.h5".
[[nodiscard]] std::string shard_name(std::size_t number);
/// How many samples a shard is to have, of a dataset of about `total_bytes`: whole chunks, unless the user
/// said.
[[nodiscard]] std::int64_t shard_samples_for(const ImportOptions& options, std::int64_t total_bytes,
                                             std::int64_t sample_bytes, std::int64_t chunk_samples);
[[nodiscard]] Status make_dataset_folder(ImportRun& run, const std::string& folder);
/// Writes the manifest of a folder whose shards are written, and verifies all of it.
[[nodiscard]] Status finish_dataset(ImportRun& run, const std::string& folder, const Manifest& manifest);
/// What the user gave as --storage, or `otherwise`; invalid_argument for a word that is none of them.
[[nodiscard]] Result<Storage> chosen_storage(const ImportOptions& options, Storage otherwise);
/// A dataset's name from what the user called the source: "cats/train".
[[nodiscard]] std::string dataset_name(const std::string& source, const std::string& split);
/// Whether something with this name belongs to the test set, of which there is to be such a fraction: a
/// function of the name alone.
[[nodiscard]] bool falls_to_test(const std::string& name, double fraction);

}  // namespace paceline
