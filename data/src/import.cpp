#include "paceline/data/import.hpp"

#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <optional>
#include <span>

#include "idx.hpp"
#include "manifest.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "shard_writer.hpp"
#include "staging_folder.hpp"

namespace paceline {
namespace {

struct Split {
  const char* name;
  const char* images;
  const char* labels;
};

/// Everything that tells one importable dataset from another.
struct Kind {
  const char* name;
  const char* default_source;  ///< null: the user must say
  const char* debian_package;  ///< that puts it there
  std::int64_t classes;
  std::int64_t rows;
  std::int64_t columns;
  std::vector<Split> splits;
};

const std::vector<Kind>& kinds() {
  static const std::vector<Split> idx_splits = {
      {"train", "train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
      {"test", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
  static const std::vector<Kind> all = {
      {"fashion-mnist", "/usr/share/datasets/fashion-mnist", "dataset-fashion-mnist", 10, 28, 28, idx_splits},
      {"mnist", nullptr, nullptr, 10, 28, 28, idx_splits}};
  return all;
}

Result<const Kind*> find_kind(const std::string& name) {
  for (const Kind& kind : kinds())
    if (kind.name == name) return &kind;
  const std::vector<std::string> names = import_kinds();
  const std::string near = nearest(name, names);
  std::string known;
  for (const std::string& each : names) known += concat(known.empty() ? "" : ", ", each);
  return Error{ErrorCode::invalid_argument,
               concat("\"", name, "\" cannot be imported",
                      near.empty() ? "" : concat("; did you mean ", near, "?"), " (known: ", known, ")")};
}

Result<std::string> find_source(const Kind& kind, const ImportOptions& options) {
  const bool is_default = options.source.empty();
  if (is_default && kind.default_source == nullptr)
    return Error{ErrorCode::invalid_argument,
                 concat("importing ", kind.name, " needs the folder with its IDX files as SOURCE")};
  const std::string source = is_default ? kind.default_source : options.source;
  struct stat status {};
  if (::stat(source.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) return source;
  if (is_default)
    return Error{ErrorCode::not_found,
                 concat(kind.name, " is not at ", source, ": install the Debian package ",
                        kind.debian_package, ", or give the folder with its IDX files as SOURCE")};
  return Error{ErrorCode::not_found,
               concat(source, " is not a folder: give the one that holds the IDX files of ", kind.name)};
}

Result<std::string> find_file(const std::string& source, const char* name) {
  struct stat status {};
  for (const char* ending : {"", ".gz"}) {
    std::string path = concat(source, "/", name, ending);
    if (::stat(path.c_str(), &status) == 0) return path;
  }
  return Error{ErrorCode::not_found, concat(source, " has neither ", name, " nor ", name,
                                            ".gz: give the folder that holds the IDX files")};
}

/// The two files of one split, opened, with headers that agree.
struct Pair {
  IdxFile images;
  IdxFile labels;
  [[nodiscard]] std::int64_t samples() const { return images.sizes()[0]; }
};

Result<Pair> open_pair(const Kind& kind, const std::string& source, const Split& split) {
  PACELINE_ASSIGN(const std::string images_path, find_file(source, split.images));
  PACELINE_ASSIGN(const std::string labels_path, find_file(source, split.labels));
  PACELINE_ASSIGN(IdxFile images, IdxFile::open(images_path, 3));
  PACELINE_ASSIGN(IdxFile labels, IdxFile::open(labels_path, 1));
  if (images.sizes()[1] != kind.rows || images.sizes()[2] != kind.columns)
    return Error{ErrorCode::corrupt, concat(images_path, ": its images are ", images.sizes()[1], "x",
                                            images.sizes()[2], ", and those of ", kind.name, " are ",
                                            kind.rows, "x", kind.columns, "; is it the right file?")};
  if (images.sizes()[0] != labels.sizes()[0])
    return Error{ErrorCode::corrupt,
                 concat(images_path, " has ", images.sizes()[0], " images, but ", labels_path, " has ",
                        labels.sizes()[0], " labels; do they belong together?")};
  if (images.sizes()[0] < 1 || images.sizes()[0] > sample_count_limit)
    return Error{ErrorCode::corrupt, concat(images_path, ": it has ", images.sizes()[0],
                                            " images, which is not 1 to ", sample_count_limit)};
  return Pair{std::move(images), std::move(labels)};
}

/// Mean and standard deviation of value / 255, from exact sums.
class Moments {
 public:
  void add(std::span<const std::byte> values) {
    for (const std::byte value : values) {
      const auto v = std::to_integer<std::uint64_t>(value);
      sum_ += v;
      squares_ += v * v;
    }
    count_ += values.size();
  }
  [[nodiscard]] double mean() const { return per_value(sum_) / 255; }
  [[nodiscard]] double standard_deviation() const {
    const double variance = per_value(squares_) / (255.0 * 255.0) - mean() * mean();
    // Values that are all the same are not to be scaled; a divisor of zero would make them no numbers.
    return variance > 1e-12 ? std::sqrt(variance) : 1;
  }

 private:
  [[nodiscard]] double per_value(std::uint64_t sum) const {
    return static_cast<double>(sum) / static_cast<double>(count_);
  }
  std::uint64_t sum_ = 0;
  std::uint64_t squares_ = 0;
  std::uint64_t count_ = 0;
};

Status read_labels(const Kind& kind, Pair& pair, std::int64_t first, std::span<std::byte> raw,
                   std::vector<std::int32_t>& labels) {
  PACELINE_TRY(pair.labels.read(raw));
  labels.clear();
  for (const std::byte label : raw) {
    labels.push_back(std::to_integer<std::int32_t>(label));
    if (labels.back() >= kind.classes)
      return Error{ErrorCode::corrupt, concat(pair.labels.path(), ": label ",
                                              first + static_cast<std::int64_t>(labels.size()) - 1, " is ",
                                              labels.back(), ", and ", kind.name, " has the classes 0 to ",
                                              kind.classes - 1, "; get the file again")};
  }
  return {};
}

/// One import: what all its steps need to know.
struct Import {
  const Kind& kind;
  const ImportOptions& options;
  SpaceReport report;
};

Status import_shard(const Import& import, Pair& pair, std::int64_t first, ShardWriter& writer,
                    const Manifest& manifest, std::int64_t samples, Moments& moments) {
  std::vector<std::byte> values;
  std::vector<std::byte> raw_labels;
  std::vector<std::int32_t> labels;
  for (std::int64_t done = 0; done < samples;) {
    if (import.options.cancelled && import.options.cancelled())
      return Error{ErrorCode::aborted, concat("the import into ", import.report.out, " was cancelled")};
    const std::int64_t count = std::min(manifest.chunk_samples, samples - done);
    values.resize(static_cast<std::size_t>(count * manifest.sample_bytes));
    raw_labels.resize(static_cast<std::size_t>(count));
    PACELINE_TRY(pair.images.read(values));
    PACELINE_TRY(read_labels(import.kind, pair, first + done, raw_labels, labels));
    moments.add(values);
    PACELINE_TRY(writer.append(values, labels));
    done += count;
  }
  return {};
}

std::string shard_name(std::size_t number) {
  char name[32];
  std::snprintf(name, sizeof name, "shard-%05zu.h5", number);
  return name;
}

Status import_split(const Import& import, Pair& pair, const Split& split, const std::string& folder) {
  if (::mkdir(folder.c_str(), 0777) != 0) return import.report.error(concat("cannot create ", folder), errno);
  Manifest manifest;
  manifest.name = concat(import.kind.name, "/", split.name);
  manifest.task = "image-classification";
  manifest.sample_shape = {1, import.kind.rows, import.kind.columns};
  manifest.sample_bytes = import.kind.rows * import.kind.columns;
  manifest.classes = import.kind.classes;
  manifest.samples = pair.samples();
  manifest.chunk_samples = import.options.chunk_samples;
  Moments moments;
  for (std::int64_t first = 0; first < pair.samples(); first += import.options.shard_samples) {
    const std::int64_t samples = std::min(import.options.shard_samples, pair.samples() - first);
    PACELINE_ASSIGN(
        ShardWriter writer,
        ShardWriter::create(import.report, folder, shard_name(manifest.shards.size()), manifest, samples));
    PACELINE_TRY(import_shard(import, pair, first, writer, manifest, samples, moments));
    PACELINE_ASSIGN(ShardEntry entry, writer.finish());
    manifest.shards.push_back(std::move(entry));
  }
  PACELINE_TRY(pair.images.expect_end());
  PACELINE_TRY(pair.labels.expect_end());
  manifest.mean = moments.mean();
  manifest.standard_deviation = moments.standard_deviation();
  PACELINE_TRY(write_new_file(import.report, concat(folder, "/manifest.json"), render_manifest(manifest)));
  PACELINE_TRY(sync_path(import.report, folder));
  PACELINE_ASSIGN(const std::vector<std::string> faults, verify_dataset(folder));
  if (faults.empty()) return {};
  return Error{ErrorCode::io, concat("what was just written does not read back: ", faults.front())};
}

Status check_sizes(const ImportOptions& options, const Kind& kind) {
  const std::int64_t most = std::min(shard_samples_limit, chunk_limit_bytes / (kind.rows * kind.columns));
  if (options.chunk_samples < 1 || options.chunk_samples > most)
    return Error{ErrorCode::invalid_argument,
                 concat("chunks of ", options.chunk_samples, " samples: use 1 to ", most)};
  if (options.shard_samples < 1 || options.shard_samples > shard_samples_limit)
    return Error{ErrorCode::invalid_argument,
                 concat("shards of ", options.shard_samples, " samples: use 1 to ", shard_samples_limit)};
  return {};
}

/// A file-size limit (ulimit -f) kills by a signal unless it is held back; then it is an error like a full
/// disk.
class HoldFileSizeSignal {
 public:
  HoldFileSizeSignal() {
    sigemptyset(&signal_);
    sigaddset(&signal_, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  ~HoldFileSizeSignal() {
    if (sigismember(&before_, SIGXFSZ) == 1) return;
    constexpr timespec at_once{};
    while (sigtimedwait(&signal_, nullptr, &at_once) == SIGXFSZ) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  HoldFileSizeSignal(const HoldFileSizeSignal&) = delete;
  HoldFileSizeSignal& operator=(const HoldFileSizeSignal&) = delete;

 private:
  sigset_t signal_{};
  sigset_t before_{};
};

}  // namespace

std::vector<std::string> import_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : kinds()) names.emplace_back(kind.name);
  return names;
}

Status import_dataset(const ImportOptions& options) {
  PACELINE_ASSIGN(const Kind* const kind, find_kind(options.kind));
  PACELINE_TRY(check_sizes(options, *kind));
  PACELINE_ASSIGN(const std::string source, find_source(*kind, options));
  std::vector<Pair> pairs;
  std::int64_t needed_bytes = 0;
  for (const Split& split : kind->splits) {
    PACELINE_ASSIGN(Pair pair, open_pair(*kind, source, split));
    needed_bytes += pair.samples() * (kind->rows * kind->columns + std::int64_t{sizeof(std::int32_t)});
    pairs.push_back(std::move(pair));
  }
  const HoldFileSizeSignal hold;
  const Import import{*kind, options, {options.out, needed_bytes}};
  PACELINE_ASSIGN(StagingFolder folder, StagingFolder::create(options.out));
  for (std::size_t i = 0; i < pairs.size(); ++i)
    PACELINE_TRY(
        import_split(import, pairs[i], kind->splits[i], concat(folder.path(), "/", kind->splits[i].name)));
  return folder.publish(import.report);
}

}  // namespace paceline
