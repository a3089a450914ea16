#pragma once

#include <cstdint>
#include <string>

#include "data/options.hpp"
#include "paceline/data/dataset.hpp"

namespace paceline::bench {

// Each function goes through a dataset, or part of it, in its own way.

/// What a pass has moved, and in what time.
struct Pass {
  std::int64_t samples = 0;
  double seconds = 0;
};

/// Whole chunks as they are stored, read with pread by `threads` threads into one buffer each: the limit of
/// every loader that reads from files.
[[nodiscard]] Result<Pass> plain_reads(const Dataset& dataset, int threads);
/// The same chunks, from memory, through the codec's own library calls: the limit where chunks are
/// compressed.
[[nodiscard]] Result<Pass> codec_alone(const Dataset& dataset, int threads);

struct LoaderPass {
  int threads = 1;
  std::int64_t batch = 256;
  std::int64_t budget_bytes = 0;
  bool copy = false;  ///< every batch into contiguous memory, as other loaders give it
};
/// Shuffled batches from our loader. The first of several epochs is not timed, so that what may be kept is.
[[nodiscard]] Result<Pass> our_loader(const Dataset& dataset, const LoaderPass& how);

/// Single samples in random order through H5Dread. Images stored raw only.
[[nodiscard]] Result<Pass> hdf5_reads(const Dataset& dataset);
/// PyTorch's DataLoader with two workers over h5py, by a Python program.
[[nodiscard]] Result<Pass> torch_loader(const std::string& folder, std::int64_t batch);

/// Asks the kernel to drop the dataset's files from its cache.
[[nodiscard]] Status forget_files(const Dataset& dataset);

}  // namespace paceline::bench
