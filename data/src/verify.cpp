#include <string>
#include <vector>

#include "dataset_folder.hpp"
#include "hdf5_shard.hpp"
#include "open_files.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "shard.hpp"

namespace paceline {
namespace {

constexpr std::size_t faults_listed = 10;

/// The faults of one shard: those of its index and labels, else of its chunks, else what the HDF5 library
/// sees.
void verify_shard(const std::string& folder, const Manifest& manifest, const ShardEntry& entry,
                  std::vector<std::string>& faults) {
  const Result<Shard> shard = load_shard(folder, manifest, entry);
  if (!shard.ok()) {
    faults.push_back(shard.error().message);
    return;
  }
  const Result<UniqueFd> fd = open_for_reading(shard->path);
  if (!fd.ok()) {
    faults.push_back(fd.error().message);
    return;
  }
  const std::size_t before = faults.size();
  for (std::size_t chunk = 0; chunk < shard->chunks.size() && faults.size() < faults_listed; ++chunk) {
    const auto bytes = read_stored_chunk(fd->get(), *shard, chunk);
    if (!bytes.ok()) faults.push_back(bytes.error().message);
  }
  if (faults.size() != before) return;
  const Status same = check_with_hdf5(*shard, manifest);
  if (!same.ok()) faults.push_back(same.error().message);
}

}  // namespace

Result<std::vector<std::string>> verify_dataset(const std::string& given_path) {
  const std::string path = without_trailing_slashes(given_path);
  PACELINE_ASSIGN(const Manifest manifest, read_manifest(path));
  std::vector<std::string> faults;
  for (const ShardEntry& entry : manifest.shards) {
    verify_shard(path, manifest, entry, faults);
    if (faults.size() >= faults_listed) break;
  }
  return faults;
}

}  // namespace paceline
