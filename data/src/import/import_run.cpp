#include "import_run.hpp"

#include <algorithm>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr Duration progress_period = std::chrono::milliseconds(100);
constexpr std::int64_t warnings_listed = 10;
constexpr std::int64_t one_bad_in = 20;
// Every thread may hold a whole shard in memory.
constexpr int most_threads = 32;

int thread_count(int wanted) {
  const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  return std::min(wanted > 0 ? wanted : cores, most_threads);
}

}  // namespace

ImportRun::ImportRun(const ImportOptions& options)
    : options_(options), report_{shown(options.out), 0}, threads_(thread_count(options.threads)) {
}

Status ImportRun::check_cancelled() {
  const std::lock_guard lock(mutex_);
  if (!cancelled_ && options_.cancelled) cancelled_ = options_.cancelled();
  if (!cancelled_ && !stopped_) return {};
  return Error{ErrorCode::aborted, concat("the import into ", report_.out, " was cancelled")};
}

Status ImportRun::run_threads(const std::function<Status()>& work) {
  const auto body = [&] {
    Status status;
    try {
      status = work();
    } catch (const std::bad_alloc&) {
      status = Error{ErrorCode::internal, "no memory for this import: use fewer --threads"};
    }
    const std::lock_guard lock(mutex_);
    if (status.ok() || stopped_) return;
    failed_ = std::move(status);
    stopped_ = true;
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(threads_));
  try {
    for (int i = 1; i < threads_; ++i) threads.emplace_back(body);
  } catch (const std::system_error&) {  // the machine has no more: fewer do the same, only slower
  }
  body();
  for (std::thread& thread : threads) thread.join();
  return failed_;
}

void ImportRun::begin(const std::string& what, std::int64_t total, bool in_bytes) {
  const std::lock_guard lock(mutex_);
  progress_ = {what, 0, total, in_bytes};
  tell_progress(true);
}

void ImportRun::advance(std::int64_t more) {
  const std::lock_guard lock(mutex_);
  progress_.done += more;
  tell_progress(progress_.done >= progress_.total);
}

void ImportRun::tell_progress(bool now) {
  if (!options_.progress) return;
  const Instant instant = SteadyClock().now();
  if (!now && instant < told_ + progress_period) return;
  told_ = instant;
  options_.progress(progress_);
}

void ImportRun::warn(const std::string& sentence) {
  const std::lock_guard lock(mutex_);
  if (options_.warning) options_.warning(sentence);
}

Status ImportRun::skip(const Error& error) {
  if (options_.strict) return error;
  const std::lock_guard lock(mutex_);
  ++skipped_;
  if (skipped_ * one_bad_in > files_)
    return Error{error.code, concat(skipped_, " of ", files_, files_ == 1 ? " file" : " files",
                                    " can't be used, and up to one in ", one_bad_in,
                                    " may be; the last one: ", error.message)};
  if (skipped_ <= warnings_listed && options_.warning) options_.warning(concat("left out: ", error.message));
  return {};
}

void ImportRun::tell_skipped() {
  const std::lock_guard lock(mutex_);
  if (skipped_ == 0 || !options_.warning) return;
  options_.warning(concat("left out ", skipped_, " of ", files_,
                          " files that can't be used (--strict makes that an error)"));
}

}  // namespace paceline
