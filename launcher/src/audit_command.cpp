#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <numeric>
#include <thread>

#include "audit_order.hpp"
#include "audit_report.hpp"
#include "commands.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/consumed.hpp"
#include "paceline/job/plan.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

/// How much of the dataset has been read: a line that is drawn again on a terminal, one now and then
/// elsewhere.
class ReadingProgress {
 public:
  explicit ReadingProgress(std::int64_t chunks) : chunks_(chunks), shown_(clock_.now()) {}
  ~ReadingProgress() { clear(); }
  ReadingProgress(const ReadingProgress&) = delete;
  ReadingProgress& operator=(const ReadingProgress&) = delete;

  void show(std::int64_t done) {
    const Duration period = terminal_ ? std::chrono::milliseconds(100) : std::chrono::seconds(5);
    if (clock_.now() - shown_ < period) return;
    shown_ = clock_.now();
    clear();
    std::printf("reading the samples: %lld%%", static_cast<long long>(100 * done / chunks_));
    drawn_ = terminal_;
    if (!terminal_) std::fputs("\n", stdout);
    std::fflush(stdout);
  }

 private:
  void clear() {
    if (drawn_) std::fputs("\r\x1b[K", stdout);
    drawn_ = false;
  }

  const SteadyClock clock_;
  const bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  std::int64_t chunks_;
  Instant shown_;
  bool drawn_ = false;
};

/// Anything but the job that was trained makes the rest of the proof worthless.
void compare_with_job(const JournalHeader& header, const Job& job, AuditFaults& faults) {
  const auto compare = [&](const char* name, const char* key, std::int64_t of_job) {
    const auto found = header.order.find(name);
    if (found != header.order.end() && found->second == OrderValue(of_job)) return;
    faults.add({AuditFaultKind::job,
                concat("the job in the run directory has ", key, ": ", of_job,
                       ", and the journal does not say that the run had: they do not belong together")});
  };
  compare("seed", "seed", job.seed);
  compare("batch_global", "batch.global", job.batch.global);
}

Status compare_with_dataset(const JournalHeader& header, const DatasetInfo& info, AuditFaults& faults) {
  PACELINE_ASSIGN(const std::string expected, order_text(header, "manifest"));
  PACELINE_ASSIGN(const std::uint64_t found, manifest_checksum(info.path));
  if (hex_word(found) != expected)
    faults.add({AuditFaultKind::dataset, concat("the dataset at ", info.path,
                                                " has changed since the run: the checksum of its manifest "
                                                "is ",
                                                hex_word(found), ", and was ", expected)});
  return {};
}

Result<std::vector<std::uint64_t>> read_checksums(const Dataset& dataset) {
  ReadingProgress progress(dataset.info().chunks);
  SampleChecksumOptions options;
  options.threads = static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, 64U));
  options.progress = [&progress](std::int64_t done) {
    progress.show(done);
    return true;
  };
  return all_sample_checksums(dataset, options);
}

/// The journal's order as places in the stored dataset. What it is given must outlive it.
PositionSource positions_of(const JournalHeader& header, const Dataset& dataset) {
  const auto sizes = dataset.chunk_samples();
  std::vector<std::int64_t> first_of_chunk(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), first_of_chunk.begin(), std::int64_t{0});
  return
      [&header, &dataset, first_of_chunk = std::move(first_of_chunk)](
          std::int64_t epoch, std::int64_t first, std::int64_t count) -> Result<std::vector<std::int64_t>> {
        PACELINE_ASSIGN(const EpochAddresses addresses, order_of(header, dataset, epoch));
        std::vector<std::int64_t> samples;
        samples.reserve(static_cast<std::size_t>(count));
        for (const SampleAddress& address : addresses(first, count))
          samples.push_back(first_of_chunk[static_cast<std::size_t>(address.chunk)] + address.index);
        return samples;
      };
}

/// Where the job's `steps` end it before its epochs do.
void end_with_steps(const Job& job, AuditGround& ground) {
  const StepPlan plan(ground.samples, job.batch.global, job.epochs, job.steps);
  const PositionRange last = plan.range(plan.steps() - 1).positions;
  ground.epochs = plan.epochs();
  ground.last_epoch = last.first + last.count;
}

/// What can't be done is a fault too, with what was found before it.
Status examine(const std::string& run_dir, const Job& job, AuditResult& result) {
  PACELINE_ASSIGN(const Journal journal, read_lineage(run_dir));
  result.torn_end = journal.torn_end;
  result.terms = journal.terms;
  if (journal.end.has_value()) result.end = journal.end->status;
  AuditFaults faults;
  compare_with_job(journal.header, job, faults);
  AuditGround ground;
  ground.epochs = job.epochs;
  ground.batch = job.batch.global;
  PACELINE_ASSIGN(ground.samples, order_integer(journal.header, "samples", 1));
  end_with_steps(job, ground);
  PACELINE_ASSIGN(const std::string path, order_text(journal.header, "dataset"));
  std::vector<std::uint64_t> checksums;
  DatasetOptions options;
  if (journal.header.order.contains("window")) {
    PACELINE_ASSIGN(options.window, order_integer(journal.header, "window", 1));
  }
  const Result<Dataset> dataset = Dataset::open(path, options);
  const auto read = [&]() -> Status {
    if (!dataset.ok()) return dataset.error();
    PACELINE_TRY(compare_with_dataset(journal.header, dataset->info(), faults));
    if (dataset->info().samples != ground.samples)
      return Error{ErrorCode::mismatch, concat("the dataset at ", path, " has ", dataset->info().samples,
                                               " samples, and had ", ground.samples)};
    PACELINE_TRY(order_of(journal.header, *dataset, 1));
    PACELINE_ASSIGN(checksums, read_checksums(*dataset));
    ground.samples_at = positions_of(journal.header, *dataset);
    return {};
  };
  const Status compared = read();
  if (!compared.ok()) faults.add({AuditFaultKind::dataset, compared.error().message});
  ground.checksums = checksums;
  PACELINE_ASSIGN(result.report, audit(journal, ground));
  for (const AuditFault& fault : result.report.faults.list) faults.add(fault);
  faults.count += result.report.faults.count - static_cast<std::int64_t>(result.report.faults.list.size());
  result.report.faults = std::move(faults);
  return {};
}

Result<Job> job_of(const std::string& run_dir) {
  const Result<std::string> json = read_file(run_dir + "/job.json");
  if (!json.ok())
    return Error{ErrorCode::invalid_argument,
                 concat(run_dir, " is not a run directory (", json.error().message,
                        "): give the folder that `paceline train` named")};
  return job_from_json(*json);
}

}  // namespace

int audit_run(const AuditOptions& options) {
  AuditResult result;
  result.run = absolute_path(options.run_dir);
  const Result<Job> job = job_of(result.run);
  if (!job.ok()) return complain(job.error());
  if (!options.json.empty()) {
    const Status writable = check_writable(options.json, "--json");
    if (!writable.ok()) return complain(writable.error());
  }
  const Status examined = examine(result.run, *job, result);
  AuditFaults& faults = result.report.faults;
  if (!examined.ok()) faults.add({AuditFaultKind::journal, examined.error().message});
  for (const AuditFault& fault : faults.list) complain({ErrorCode::corrupt, fault.message});
  if (faults.count > 0)
    complain({ErrorCode::corrupt, fault_summary(result)});
  else
    std::cout << proof_text(result) << "\n";
  if (!options.json.empty()) {
    const Status written = write_file_atomically(options.json, audit_json(result));
    if (!written.ok()) return complain(written.error());
  }
  return faults.count > 0 ? exit_failed : exit_done;
}

}  // namespace paceline
