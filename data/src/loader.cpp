#include "paceline/data/loader.hpp"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <system_error>
#include <thread>

#include "chunk_cache.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/order.hpp"

// Each thread goes round: take the next request (one thread at a time, when there is room), turn its
// positions into addresses, copy the samples out of cached chunks into a batch, and put the batch into its
// place. Batches are numbered as their requests were taken; next() waits for one number after the other.

namespace paceline {
namespace {

constexpr std::int64_t label_bytes = sizeof(std::int64_t);
constexpr Duration longest_wait = std::chrono::hours(24 * 365);  // what a clock can still be advanced by

/// A quarter of the budget is for batches made ahead, the rest for chunks.
std::int64_t batch_budget(const LoaderOptions& options) {
  return std::max<std::int64_t>(options.budget_bytes, 0) / 4;
}

std::int64_t batch_bytes(const DatasetInfo& info, std::int64_t samples) {
  return samples * (info.sample_bytes + label_bytes);
}

/// A request with everything that making its batch needs.
struct Job {
  std::int64_t number = 0;
  LoadRequest request;
  std::vector<SampleAddress> addresses;
  std::optional<Error> error;  ///< known before anything was read
};

/// A batch's places by chunk, so that each chunk is fetched once and only one is held beyond the cache. It
/// begins with `part` of `parts`: threads that make neighbouring batches need the same chunks, and should
/// read others first rather than wait for each other at every one.
std::vector<std::size_t> places_by_chunk(const std::vector<SampleAddress>& addresses, std::int64_t part,
                                         std::int64_t parts) {
  std::vector<std::size_t> places(addresses.size());
  std::iota(places.begin(), places.end(), std::size_t{0});
  std::sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
    return addresses[a].chunk != addresses[b].chunk ? addresses[a].chunk < addresses[b].chunk : a < b;
  });
  auto begin = places.begin() + static_cast<std::int64_t>(places.size()) * part / parts;
  while (begin != places.begin() && begin != places.end() &&
         addresses[*begin].chunk == addresses[*(begin - 1)].chunk)
    --begin;
  std::rotate(places.begin(), begin, places.end());
  return places;
}

/// Addresses of consecutive requests: keeps the order of the epoch and the window that it stands in, so that
/// a window is shuffled once and not once per request.
class AddressCursor {
 public:
  AddressCursor(const Dataset& dataset, const LoaderOptions& options)
      : dataset_(dataset), options_(options) {}

  [[nodiscard]] std::vector<SampleAddress> addresses(const LoadRequest& request) {
    if (!order_ || epoch_ != request.epoch) {
      const auto chunks = dataset_.chunk_samples();
      order_.emplace(options_.shuffle ? EpochOrder(chunks, options_.seed, request.epoch,
                                                   shuffle_window_chunks(dataset_.info(), options_))
                                      : EpochOrder::sequential(chunks));
      epoch_ = request.epoch;
      window_ = {};
    }
    std::vector<SampleAddress> result;
    result.reserve(static_cast<std::size_t>(request.count));
    for (std::int64_t first = request.first, left = request.count; left > 0;) {
      if (first < window_.first || first >= window_.first + window_.count) {
        window_ = order_->window_at(first);
        window_addresses_ = order_->addresses(window_.first, window_.count);
      }
      const auto begin = window_addresses_.begin() + (first - window_.first);
      const std::int64_t take = std::min(left, window_.first + window_.count - first);
      result.insert(result.end(), begin, begin + take);
      first += take;
      left -= take;
    }
    return result;
  }

 private:
  const Dataset& dataset_;
  const LoaderOptions& options_;
  std::optional<EpochOrder> order_;
  std::int64_t epoch_ = 0;
  PositionRange window_;
  std::vector<SampleAddress> window_addresses_;
};

}  // namespace

std::int64_t shuffle_window_chunks(const DatasetInfo& info, const LoaderOptions& options) {
  const std::int64_t chunk_bytes = batch_bytes(info, info.chunk_samples);
  const std::int64_t chunk_budget = std::max<std::int64_t>(options.budget_bytes, 0) - batch_budget(options);
  const std::int64_t most = std::max<std::int64_t>(options.window_chunks, 1);
  return std::clamp<std::int64_t>(chunk_budget / (2 * chunk_bytes), 1, most);
}

struct Loader::Impl {
  Impl(const Dataset& dataset, const LoaderOptions& options, Source source);
  ~Impl();

  void run();
  [[nodiscard]] std::optional<Job> take();
  [[nodiscard]] Job prepare(const LoadRequest& request);
  [[nodiscard]] Error no_memory(const LoadRequest& request) const;
  [[nodiscard]] bool wait_for_room(std::int64_t bytes);
  [[nodiscard]] Result<SampleBatch> make(const Job& job);
  [[nodiscard]] Status copy_samples(const Job& job, SampleBatch& batch);
  void put(const Job& job, Result<SampleBatch> batch);
  void account(std::int64_t bytes);  // with the mutex held
  [[nodiscard]] Result<std::optional<SampleBatch>> next(Duration deadline);
  [[nodiscard]] Error too_late(Duration deadline) const;

  const Dataset& dataset;
  const LoaderOptions options;
  const Source source;
  ChunkCache cache;

  std::mutex source_mutex;  // held by the thread that takes a request; taken before `mutex`
  AddressCursor cursor;     // guarded by source_mutex

  mutable std::mutex mutex;  // guards all below
  std::condition_variable room_made;
  std::condition_variable batch_made;
  std::map<std::int64_t, Result<SampleBatch>> made;
  std::int64_t taken = 0;      // how many requests
  std::int64_t delivered = 0;  // how many batches
  std::int64_t bytes_ahead = 0;
  bool source_ended = false;
  bool stopping = false;
  bool failed = false;  // next() has given an error
  std::atomic<std::int64_t> waited_ns = 0;

  std::vector<std::thread> threads;  // last: they use everything above
};

Loader::Impl::Impl(const Dataset& dataset_, const LoaderOptions& options_, Source source_)
    : dataset(dataset_),
      options(options_),
      source(std::move(source_)),
      cache([this](std::int64_t chunk) { return dataset.read_chunk(chunk); },
            std::max<std::int64_t>(options.budget_bytes, 0)),
      cursor(dataset, options) {
  try {
    for (int i = 0; i < std::max(options.threads, 1); ++i) threads.emplace_back([this] { run(); });
  } catch (const std::system_error& error) {
    if (!threads.empty()) return;  // fewer threads do the same, only slower
    const std::lock_guard lock(mutex);
    made.emplace(0, system_error("cannot start a loader thread", error.code().value()));
    taken = 1;
  }
}

Loader::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  room_made.notify_all();
  cache.stop();
  for (std::thread& thread : threads) thread.join();
}

void Loader::Impl::run() {
  while (std::optional<Job> job = take()) {
    try {
      put(*job, make(*job));
    } catch (const std::bad_alloc&) {
      put(*job, no_memory(job->request));
    }
  }
}

void Loader::Impl::account(std::int64_t bytes) {
  bytes_ahead += bytes;
  cache.set_capacity(std::max<std::int64_t>(options.budget_bytes - bytes_ahead, 0));
}

/// Room for one more batch; `bytes` 0 asks only whether there may be one more at all. There is always room
/// for one, however small the budget.
bool Loader::Impl::wait_for_room(std::int64_t bytes) {
  std::unique_lock lock(mutex);
  room_made.wait(lock, [&] {
    const bool one_more = taken - delivered < std::max(options.prefetch, 1);
    const bool fits = bytes_ahead == 0 || bytes_ahead + bytes <= batch_budget(options);
    return stopping || source_ended || (one_more && fits);
  });
  if (stopping || source_ended) return false;
  account(bytes);
  return true;
}

std::optional<Job> Loader::Impl::take() {
  const std::lock_guard taking(source_mutex);
  if (!wait_for_room(0)) return std::nullopt;
  const std::optional<LoadRequest> request = source();
  if (!request) {
    const std::lock_guard lock(mutex);
    source_ended = true;
    batch_made.notify_all();
    return std::nullopt;
  }
  Job job = prepare(*request);
  if (!job.error && !wait_for_room(batch_bytes(dataset.info(), request->count))) return std::nullopt;
  const std::lock_guard lock(mutex);
  job.number = taken++;
  return job;
}

/// With the source's mutex held.
Job Loader::Impl::prepare(const LoadRequest& request) {
  Job job;
  job.request = request;
  const std::int64_t samples = dataset.info().samples;
  if (request.epoch < 0 || request.first < 0 || request.count < 0 || request.count > samples ||
      request.first > samples - request.count) {
    job.error = Error{ErrorCode::invalid_argument,
                      concat("epoch ", request.epoch, ", ", request.count, " samples from position ",
                             request.first, " on: ", dataset.info().path, " has ", samples, " samples")};
    return job;
  }
  try {
    job.addresses = cursor.addresses(request);
  } catch (const std::bad_alloc&) {
    job.error = no_memory(request);
  }
  return job;
}

Error Loader::Impl::no_memory(const LoadRequest& request) const {
  return {ErrorCode::internal, concat("no memory for a batch of ", request.count, " samples of ",
                                      dataset.info().path, ": lower the batch or the data budget")};
}

Status Loader::Impl::copy_samples(const Job& job, SampleBatch& batch) {
  const auto sample_bytes = static_cast<std::size_t>(dataset.info().sample_bytes);
  ChunkCache::Shared chunk;
  std::int32_t chunk_number = -1;
  const int parts = std::max(options.threads, 1);
  for (const std::size_t place : places_by_chunk(job.addresses, job.number % parts, parts)) {
    const SampleAddress& address = job.addresses[place];
    if (address.chunk != chunk_number) {
      chunk.reset();
      PACELINE_ASSIGN(chunk, cache.get(address.chunk));
      chunk_number = address.chunk;
    }
    const auto index = static_cast<std::size_t>(address.index);
    std::memcpy(batch.values.data() + place * sample_bytes, chunk->values.data() + index * sample_bytes,
                sample_bytes);
    batch.labels[place] = chunk->labels[index];
  }
  return {};
}

Result<SampleBatch> Loader::Impl::make(const Job& job) {
  if (job.error) return *job.error;
  SampleBatch batch;
  batch.request = job.request;
  batch.values.resize(static_cast<std::size_t>(job.request.count * dataset.info().sample_bytes));
  batch.labels.resize(static_cast<std::size_t>(job.request.count));
  PACELINE_TRY(copy_samples(job, batch));
  return batch;
}

void Loader::Impl::put(const Job& job, Result<SampleBatch> batch) {
  const std::lock_guard lock(mutex);
  if (!batch.ok()) {
    // Nothing after an error is delivered, so nothing more need be read.
    source_ended = true;
    room_made.notify_all();
  }
  made.emplace(job.number, std::move(batch));
  batch_made.notify_all();
}

Error Loader::Impl::too_late(Duration deadline) const {
  return {
      ErrorCode::timeout,
      concat("batch ", delivered, " of ", dataset.info().path, " was not there within ", to_seconds(deadline),
             " s: the filesystem does not answer, or the source of requests does not go on")};
}

Result<std::optional<SampleBatch>> Loader::Impl::next(Duration deadline) {
  std::unique_lock lock(mutex);
  if (failed)
    return Error{ErrorCode::aborted,
                 concat("the loader of ", dataset.info().path, " has failed: make a new one")};
  const auto ready = [&] { return made.contains(delivered) || (source_ended && delivered == taken); };
  if (!ready()) {
    const SteadyClock clock;
    const Instant begin = clock.now();
    const bool in_time = batch_made.wait_until(lock, begin + std::min(deadline, longest_wait), ready);
    waited_ns += (clock.now() - begin).count();
    if (!in_time) return too_late(deadline);
  }
  const auto found = made.find(delivered);
  if (found == made.end()) return std::optional<SampleBatch>();
  Result<SampleBatch> batch = std::move(found->second);
  made.erase(found);
  ++delivered;
  if (!batch.ok()) {
    failed = true;
    return std::move(batch).error();
  }
  account(-batch_bytes(dataset.info(), batch->request.count));
  room_made.notify_all();
  return std::optional(std::move(batch).value());
}

Loader::Loader(const Dataset& dataset, LoaderOptions options, Source source)
    : impl_(std::make_unique<Impl>(dataset, options, std::move(source))) {
}

Loader::~Loader() = default;

Result<std::optional<SampleBatch>> Loader::next(Duration deadline) {
  return impl_->next(deadline);
}

Duration Loader::waited() const noexcept {
  return Duration(impl_->waited_ns.load());
}

std::int64_t Loader::chunks_read() const noexcept {
  return impl_->cache.reads();
}

}  // namespace paceline
