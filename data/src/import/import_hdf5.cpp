#include "kinds.hpp"
#include "paceline/data/foreign.hpp"

namespace paceline {

Status import_hdf5(const ImportOptions& options) {
  if (options.sources.empty())
    return Error{ErrorCode::invalid_argument, "importing hdf5 needs one or more HDF5 files as SOURCE"};
  ForeignOptions foreign;
  foreign.files = options.sources;
  if (!options.values.empty()) foreign.values = options.values;
  if (!options.labels.empty()) foreign.labels = options.labels;
  foreign.out = options.out;
  foreign.layout = options.layout;
  foreign.chunk_samples = options.chunk_samples;
  foreign.cancelled = options.cancelled;
  return import_foreign(foreign);
}

}  // namespace paceline
