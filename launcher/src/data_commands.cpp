#include <cstdio>
#include <filesystem>
#include <iostream>

#include "agent.hpp"
#include "commands.hpp"
#include "format.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/import.hpp"

namespace paceline {
namespace {

std::string count(std::int64_t number, const char* what = "") {
  const bool plural = number != 1 && *what != '\0';
  return concat(with_commas(static_cast<double>(number)), what, plural ? "s" : "");
}

/// The folder itself, or the datasets in it where it is a folder of datasets.
std::vector<std::string> datasets_in(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto is_dataset = [&error](const fs::path& path) {
    return fs::exists(path / "manifest.json", error);
  };
  std::vector<std::string> found;
  if (!is_dataset(folder))
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
      if (is_dataset(entry.path())) found.push_back(entry.path().string());
  if (found.empty()) return {folder};
  std::sort(found.begin(), found.end());
  return found;
}

std::string describe(const DatasetInfo& info) {
  std::string shape;
  for (const std::int64_t size : info.sample_shape) shape += concat(shape.empty() ? "" : "x", size);
  std::string text = concat(info.path, "\n  name     ", info.name, "\n");
  text +=
      concat("  task     ", info.task, ", ", info.classes, info.classes == 1 ? " class" : " classes", "\n");
  text += concat("  samples  ", count(info.samples), " of ", shape, " bytes\n");
  text += concat("  files    ", count(info.shards, " shard"), ", ", count(info.chunks, " chunk"),
                 " of up to ", count(info.chunk_samples, " sample"), ", ",
                 human_bytes(static_cast<std::uint64_t>(info.stored_bytes)), "\n");
  text += concat("  values   mean ", fixed(info.mean, 4), ", standard deviation ",
                 fixed(info.standard_deviation, 4), "\n");
  return text;
}

}  // namespace

int data_import(const DataImportOptions& options) {
  ImportOptions import;
  import.kind = options.kind;
  import.source = options.source;
  import.out = options.out;
  const auto signals = StopSignals::catch_all();
  if (!signals.ok()) return complain(signals.error());
  import.cancelled = [&signals] { return signals.value()->take() != 0;
};
const Status imported = import_dataset(import);
if (!imported.ok()) {
  const int code = complain(imported.error());
  return signals.value()->first() != 0 ? 128 + signals.value()->first() : code;
}
return data_info({options.out});
}  // namespace paceline

int data_info(const DataInfoOptions& options) {
  for (const std::string& folder : datasets_in(options.folder)) {
    const Result<Dataset> dataset = Dataset::open(folder);
    if (!dataset.ok()) return complain(dataset.error());
    std::cout << describe(dataset->info());
  }
  return exit_done;
}

int data_verify(const DataVerifyOptions& options) {
  int exit_code = exit_done;
  for (const std::string& folder : datasets_in(options.folder)) {
    const Result<std::vector<std::string>> faults = verify_dataset(folder);
    if (!faults.ok()) return complain(faults.error());
    for (const std::string& fault : *faults) complain({ErrorCode::corrupt, fault});
    if (!faults->empty()) exit_code = exit_failed;
    if (faults->empty()) std::cout << folder << ": every chunk is as it was written\n";
  }
  return exit_code;
}

}  // namespace paceline
