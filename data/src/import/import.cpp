#include "paceline/data/import.hpp"

#include <algorithm>

#include "file_size_signal.hpp"
#include "import_run.hpp"
#include "kinds.hpp"
#include "manifest.hpp"
#include "paceline/base/text.hpp"
#include "staging_folder.hpp"

namespace paceline {
namespace {

using Importer = Status (*)(ImportRun& run, const std::string& folder);

struct Kind {
  const char* name;
  Importer importer;  ///< null for hdf5, which writes no shards with values
};

constexpr Kind kinds[] = {{"fashion-mnist", import_fashion_mnist},
                          {"mnist", import_mnist},
                          {"idx", import_idx},
                          {"cifar10", import_cifar10},
                          {"cifar100", import_cifar100},
                          {"image-folder", import_image_folder},
                          {"text", import_text},
                          {"hdf5", nullptr}};

/// An option that only some kinds take.
struct KindOption {
  const char* name;  ///< as it is typed
  bool (*is_given)(const ImportOptions&);
  std::vector<std::string> kinds;
};

const std::vector<KindOption>& kind_options() {
  using O = ImportOptions;
  static const std::vector<KindOption> all = {
      {"--size", [](const O& o) { return o.size.has_value(); }, {"image-folder"}},
      {"--channels", [](const O& o) { return o.channels != 0; }, {"image-folder"}},
      {"--test-fraction", [](const O& o) { return o.test_fraction.has_value(); }, {"image-folder", "text"}},
      {"--strict", [](const O& o) { return o.strict; }, {"image-folder", "text"}},
      {"--tokenizer", [](const O& o) { return !o.tokenizer.empty(); }, {"text"}},
      {"--values", [](const O& o) { return !o.values.empty(); }, {"hdf5"}},
      {"--labels", [](const O& o) { return !o.labels.empty(); }, {"hdf5"}},
      {"--layout", [](const O& o) { return !o.layout.empty(); }, {"hdf5"}},
      {"--storage",
       [](const O& o) { return !o.storage.empty(); },
       {"fashion-mnist", "mnist", "idx", "cifar10", "cifar100", "image-folder", "text"}},
  };
  return all;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i)
    text += concat(i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  return text;
}

Result<const Kind*> find_kind(const std::string& name) {
  for (const Kind& kind : kinds)
    if (kind.name == name) return &kind;
  const std::vector<std::string> names = import_kinds();
  const std::string near = nearest(name, names);
  std::string known;
  for (const std::string& each : names) known += concat(known.empty() ? "" : ", ", each);
  return Error{ErrorCode::invalid_argument,
               concat(shown(name), " cannot be imported",
                      near.empty() ? "" : concat("; did you mean ", near, "?"), " (known: ", known, ")")};
}

Status check_options(const ImportOptions& options) {
  for (const KindOption& option : kind_options())
    if (option.is_given(options) && std::ranges::find(option.kinds, options.kind) == option.kinds.end())
      return Error{ErrorCode::invalid_argument,
                   concat(option.name, " is for ", joined(option.kinds), ", and not for ", options.kind)};
  if (options.chunk_samples < 0 || options.chunk_samples > chunk_samples_limit)
    return Error{ErrorCode::invalid_argument,
                 concat("chunks of ", options.chunk_samples, " samples: use 1 to ", chunk_samples_limit)};
  if (options.shard_samples < 0 || options.shard_samples > sample_count_limit)
    return Error{ErrorCode::invalid_argument,
                 concat("shards of ", options.shard_samples, " samples: use 1 to ", sample_count_limit)};
  if (options.test_fraction && !(*options.test_fraction >= 0 && *options.test_fraction < 1))
    return Error{ErrorCode::invalid_argument,
                 concat("--test-fraction ", *options.test_fraction, ": use 0 to less than 1")};
  return {};
}

}  // namespace

std::vector<std::string> import_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds) names.emplace_back(kind.name);
  return names;
}

Status import_dataset(const ImportOptions& options) {
  PACELINE_ASSIGN(const Kind* const kind, find_kind(options.kind));
  PACELINE_TRY(check_options(options));
  if (kind->importer == nullptr) return import_hdf5(options);
  const HoldFileSizeSignal hold;  // the threads inherit it
  ImportRun run(options);
  PACELINE_ASSIGN(StagingFolder folder, StagingFolder::create(options.out));
  PACELINE_TRY(kind->importer(run, folder.path()));
  PACELINE_TRY(run.check_cancelled());
  return folder.publish(run.report());
}

}  // namespace paceline
