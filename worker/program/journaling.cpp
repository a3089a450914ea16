#include "journaling.hpp"

#include <filesystem>
#include <random>

#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"

namespace paceline {
namespace {

/// The run directory by its last two folders: "fashion-mnist/20261122T062943Z".
std::string run_name(const std::string& run_dir) {
  const std::filesystem::path path(run_dir);
  return (path.parent_path().filename() / path.filename()).string();
}

/// Not a function of the job: two runs of one job have different sums.
std::uint64_t draw_key() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

}  // namespace

Result<OpenJournal> open_journal(const StartMessage& start, const DatasetInfo& dataset,
                                 const OrderSpec& order, const Clock& clock) {
  const std::uint64_t key = draw_key();
  PACELINE_ASSIGN(const std::uint64_t manifest, manifest_checksum(dataset.path));
  JournalHeader header{.run = run_name(start.run_dir), .key = key, .order = {}};
  header.order["kind"] = "lanes";
  header.order["seed"] = start.job.seed;
  header.order["dataset"] = std::filesystem::absolute(dataset.path).lexically_normal().string();
  header.order["dataset_name"] = dataset.name;
  header.order["manifest"] = hex_word(manifest);
  header.order["samples"] = dataset.samples;
  header.order["batch_global"] = start.job.batch.global;
  header.order["lanes"] = order.lanes;
  header.order["lane_chunks"] = order.lane_chunks;
  if (dataset.kind == SampleKind::tokens) header.order["window"] = dataset.sample_shape.at(0);
  PACELINE_ASSIGN(JournalWriter writer,
                  JournalWriter::create(concat(start.run_dir, "/", journal_file), clock, header));
  return OpenJournal{key, std::move(writer)};
}

}  // namespace paceline
