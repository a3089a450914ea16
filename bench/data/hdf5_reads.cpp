#include <hdf5.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "data/passes.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr std::int64_t most_samples = 20'000;  // a pass of a tenth of a second and more

/// A shard, opened the way that h5py would.
struct OpenShard {
  hid_t file = H5I_INVALID_HID;
  hid_t values = H5I_INVALID_HID;
  hid_t space = H5I_INVALID_HID;
  std::vector<hsize_t> shape;

  explicit OpenShard(const std::string& path) {
    file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
    if (file >= 0) values = H5Dopen2(file, "values", H5P_DEFAULT);
    if (values >= 0) space = H5Dget_space(values);
    if (space < 0) return;
    shape.resize(static_cast<std::size_t>(std::max(H5Sget_simple_extent_ndims(space), 0)));
    H5Sget_simple_extent_dims(space, shape.data(), nullptr);
  }
  ~OpenShard() {
    if (space >= 0) H5Sclose(space);
    if (values >= 0) H5Dclose(values);
    if (file >= 0) H5Fclose(file);
  }
  OpenShard(const OpenShard&) = delete;
  OpenShard& operator=(const OpenShard&) = delete;

  [[nodiscard]] bool read(std::uint64_t sample, hid_t one, std::vector<std::byte>& into) const {
    std::vector<hsize_t> start(shape.size(), 0);
    std::vector<hsize_t> count = shape;
    start[0] = sample;
    count[0] = 1;
    return H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr) >= 0 &&
           H5Dread(values, H5T_NATIVE_UINT8, one, space, H5P_DEFAULT, into.data()) >= 0;
  }
};

}  // namespace

Result<Pass> hdf5_reads(const Dataset& dataset) {
  const DatasetInfo& info = dataset.info();
  if (info.kind != SampleKind::image || info.storage != "raw")
    return Error{ErrorCode::unsupported, concat("h5dread reads images that are stored raw, and ", info.path,
                                                " is not: HDF5 has no ", info.storage, " here")};
  std::vector<std::unique_ptr<OpenShard>> shards;
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(info.path))
    if (entry.path().extension() == ".h5") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) {
    shards.push_back(std::make_unique<OpenShard>(path));
    if (shards.back()->space < 0) return Error{ErrorCode::io, concat("HDF5 cannot open ", path)};
  }
  std::vector<hsize_t> one_sample = shards.front()->shape;
  one_sample[0] = 1;
  const hid_t one = H5Screate_simple(static_cast<int>(one_sample.size()), one_sample.data(), nullptr);
  std::vector<std::byte> into(static_cast<std::size_t>(info.sample_bytes));
  SplitMix64 random(1);
  Pass pass;
  pass.samples = std::min(most_samples, info.samples);
  const SteadyClock clock;
  const Instant begin = clock.now();
  bool ok = true;
  for (std::int64_t i = 0; i < pass.samples && ok; ++i) {
    const OpenShard& shard = *shards[random.below(shards.size())];
    ok = shard.read(random.below(shard.shape[0]), one, into);
  }
  pass.seconds = to_seconds(clock.now() - begin);
  H5Sclose(one);
  if (!ok) return Error{ErrorCode::io, concat("HDF5 cannot read a sample of ", info.path)};
  return pass;
}

}  // namespace paceline::bench
