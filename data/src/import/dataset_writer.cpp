#include "dataset_writer.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <span>

#include "paceline/base/text.hpp"
#include "paceline/data/checksum.hpp"
#include "paceline/data/dataset.hpp"
#include "shard_writer.hpp"

namespace paceline {

std::string shard_name(std::size_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "shard-%05zu.h5", number);
  return name;
}

std::int64_t shard_samples_for(const ImportOptions& options, std::int64_t total_bytes,
                               std::int64_t sample_bytes, std::int64_t chunk_samples) {
  constexpr std::int64_t mib = std::int64_t{1} << 20;
  if (options.shard_samples > 0) return options.shard_samples;
  const std::int64_t shard_bytes = std::clamp(total_bytes / 16, 8 * mib, 64 * mib);
  return std::max<std::int64_t>(1, shard_bytes / sample_bytes / chunk_samples) * chunk_samples;
}

Status make_dataset_folder(ImportRun& run, const std::string& folder) {
  if (::mkdir(folder.c_str(), 0777) == 0) return {};
  return run.report().error(concat("cannot create ", shown(folder)), errno);
}

Status finish_dataset(ImportRun& run, const std::string& folder, const Manifest& manifest) {
  PACELINE_TRY(write_new_file(run.report(), concat(folder, "/manifest.json"), render_manifest(manifest)));
  PACELINE_TRY(sync_path(run.report(), folder));
  PACELINE_ASSIGN(const std::vector<std::string> faults, verify_dataset(folder));
  if (faults.empty()) return {};
  return Error{ErrorCode::io, concat("what was just written does not read back: ", faults.front())};
}

Result<Storage> chosen_storage(const ImportOptions& options, Storage otherwise) {
  if (options.storage.empty()) return otherwise;
  std::vector<std::string> names;
  for (const Storage storage : {Storage::raw, Storage::lz4, Storage::zstd, Storage::jpeg}) {
    if (options.storage == to_string(storage)) return storage;
    names.emplace_back(to_string(storage));
  }
  const std::string near = nearest(options.storage, names);
  return Error{ErrorCode::invalid_argument,
               concat("there is no storage ", shown(options.storage), ": use raw, lz4, zstd or jpeg",
                      near.empty() ? "" : concat(" (did you mean ", near, "?)"))};
}

std::string dataset_name(const std::string& source, const std::string& split) {
  std::filesystem::path path(source);
  if (!path.has_filename()) path = path.parent_path();
  std::error_code error;
  if (path == "." || path == "..") path = std::filesystem::canonical(path, error);
  std::string name = path.filename().string();
  if (name.empty() || !is_utf8(name)) name = "dataset";
  for (char& c : name)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '_';
  while (name.size() > 200 || !is_utf8(name)) name.pop_back();
  return concat(name, "/", split);
}

bool falls_to_test(const std::string& name, double fraction) {
  const std::uint64_t hash = checksum_of(std::as_bytes(std::span(name)));
  return std::ldexp(static_cast<double>(hash >> 11), -53) < fraction;
}

}  // namespace paceline
