#include "paceline/data/loader.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "lookahead.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/buffer.hpp"
#include "reads/read_engine.hpp"
#include "request_planner.hpp"

// Threads of the loader go round: finish a batch whose chunks are there, else begin a read, else plan a
// request, else wait for a read to end or for something to do. What is needed and what is dropped is the
// Lookahead's decision, and all that the threads share stands in it, under one mutex; reading, checking,
// decoding and finishing go on without it.

namespace paceline {
namespace {

const SteadyClock steady_clock;

constexpr Duration nap = std::chrono::seconds(10);      // waiting threads look up so often, whatever happens
constexpr Duration farewell = std::chrono::seconds(1);  // longer, and a read hangs
// Planned addresses take 8 bytes a sample: 2 MiB.
constexpr std::int64_t samples_ahead = std::int64_t{1} << 18;

Error read_error(const Dataset& dataset, std::int32_t chunk, const ReadEnd& end, std::int64_t bytes) {
  if (end.error_number != 0)
    return system_error(concat("cannot read ", dataset.describe(chunk)), end.error_number);
  return {ErrorCode::corrupt,
          concat(dataset.describe(chunk), ": the file ends ", bytes - end.got,
                 " bytes before the chunk does; restore the file or import the dataset again")};
}

Error no_memory(const Dataset& dataset) {
  return {ErrorCode::internal,
          concat("no memory for more of ", dataset.info().path, ": lower data.budget_mib")};
}

/// `first` for so many requests, which have not been planned yet, and then `second`.
Loader::Source continued(Loader::Source first, std::int64_t count, Loader::Source second) {
  if (count <= 0) return second;
  return
      [first = std::move(first), count, second = std::move(second)]() mutable -> std::optional<LoadRequest> {
        if (count == 0) return second();
        std::optional<LoadRequest> request = first();
        if (--count == 0) first = nullptr;
        return request;
      };
}

}  // namespace

/// Makes batches from planned requests and their chunks.
class BatchMaker {
 public:
  static Result<SampleBatch> make(const PlannedRequest& plan,
                                  std::vector<std::shared_ptr<const Chunk>> chunks,
                                  const std::function<Status(SampleBatch&)>& finish) {
    SampleBatch batch;
    batch.request_ = plan.request;
    batch.views_.reserve(plan.addresses.size());
    for (const SampleAddress& address : plan.addresses) {
      const Chunk& chunk = *chunks[static_cast<std::size_t>(address.chunk)];
      const std::span<const std::byte> sample = chunk.sample(address.index);
      batch.views_.push_back(
          {sample.data(), static_cast<std::uint32_t>(sample.size()), chunk.label(address.index)});
    }
    batch.chunks_ = std::move(chunks);
    if (finish) PACELINE_TRY(finish(batch));
    return batch;
  }
};

class Loader::Impl : public std::enable_shared_from_this<Loader::Impl> {
 public:
  Impl(const Dataset& dataset, const LoaderOptions& options, Source source);
  void start();
  void stop();
  [[nodiscard]] Result<std::optional<SampleBatch>> next();
  void redirect(std::int64_t from, Source source);
  [[nodiscard]] Figures figures() const;

 private:
  using Lock = std::unique_lock<std::mutex>;
  /// A chunk on its way from the file.
  struct Reading {
    std::int32_t chunk = 0;
    ChunkPlace place;
    ByteBuffer buffer;
    int attempt = 1;
    int extents_left = 0;
    std::optional<Error> error;  // of an extent
  };
  /// What one thread works with.
  struct Reader {
    std::unique_ptr<ReadEngine> engine;
    struct Extent {
      std::shared_ptr<Reading> reading;
      std::int64_t bytes = 0;
    };
    std::map<std::uint64_t, Extent> under_way;
    std::vector<ReadEnd> ended;
    std::uint64_t next_tag = 0;
  };

  void serve();
  void work(Reader& reader);
  [[nodiscard]] bool plan_request(Lock& lock);
  [[nodiscard]] bool finish_batch(Lock& lock);
  void make_batch(Lock& lock, Lookahead::Entry& entry);
  [[nodiscard]] bool begin_read(Lock& lock, Reader& reader);
  void submit(Reader& reader, const std::shared_ptr<Reading>& reading);
  void process_ended(Lock& lock, Reader& reader);
  void process(Lock& lock, Reader& reader, std::shared_ptr<Reading> reading);
  [[nodiscard]] Result<Chunk> decode(Reading& reading);
  void settle(std::int32_t chunk, Result<Chunk> content);
  void tell_if_ready();
  [[nodiscard]] bool schedule();
  void wait_for_work(Lock& lock, Reader& reader);
  void wake_one();
  [[nodiscard]] Status wait_for_front(Lock& lock);
  [[nodiscard]] Status check_reads() const;

  const Dataset dataset_;
  const LoaderOptions options_;
  BufferPool pool_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;  // for next(), redirect() and stop()
  Lookahead book_;
  RequestPlanner planner_;  // used by whoever has set planning_
  Source source_;
  bool planning_ = false;
  bool redirecting_ = false;
  bool source_ended_ = false;
  bool stopping_ = false;
  bool failed_ = false;  // next() has given an error
  int threads_ = 0;
  std::vector<ReadEngine*> waiting_;       // of threads that have nothing to do
  std::map<std::int32_t, Instant> reads_;  // chunks being read, and since when
  Figures figures_;
};

Loader::Impl::Impl(const Dataset& dataset, const LoaderOptions& options, Source source)
    : dataset_(dataset),
      options_(options),
      pool_(options.budget_bytes),  // so that chunks, reads under way and spare buffers share one budget
      book_(dataset.info().chunk_bytes, options.budget_bytes, samples_ahead),
      planner_(dataset_, options.order),
      source_(std::move(source)) {
}

void Loader::Impl::start() {
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < std::max(options_.threads, 1); ++i) {
    try {
      std::thread([self = shared_from_this()] {
        self->serve();
      }).detach();  // ended by stop(), unless a read hangs
      ++threads_;
    } catch (const std::system_error&) {
      if (threads_ > 0) return;  // fewer threads do the same, only slower
      PlannedRequest refused;
      refused.error =
          Error{ErrorCode::internal, "cannot start a thread for the loader: too many on this machine"};
      book_.add(std::move(refused));
    }
  }
}

void Loader::Impl::stop() {
  Lock lock(mutex_);
  stopping_ = true;
  for (ReadEngine* engine : waiting_) engine->wake();
  while (!changed_.wait_for(lock, farewell, [&] { return threads_ == 0; }) && book_.making_from(0)) {
  }
}

void Loader::Impl::serve() {
  Reader reader;
  auto engine = make_reads(std::max(options_.depth, 2));
  if (engine.ok()) {
    reader.engine = std::move(engine).value();
    work(reader);
  }
  const std::lock_guard lock(mutex_);
  if (!engine.ok()) {
    PlannedRequest refused;
    refused.error = engine.error();
    book_.add(std::move(refused));
    source_ended_ = true;
  }
  --threads_;
  changed_.notify_all();
}

void Loader::Impl::work(Reader& reader) {
  Lock lock(mutex_);
  while (!stopping_) {
    if (finish_batch(lock)) continue;
    if (begin_read(lock, reader)) continue;
    if (plan_request(lock)) continue;
    wait_for_work(lock, reader);
  }
}

/// True if something was done.
bool Loader::Impl::plan_request(Lock& lock) {
  if (schedule()) return true;
  if (planning_ || source_ended_ || !book_.wants_request()) return false;
  planning_ = true;
  lock.unlock();
  std::optional<PlannedRequest> planned;
  if (const std::optional<LoadRequest> request = source_()) planned = planner_.plan(*request);
  lock.lock();
  planning_ = false;
  if (planned)
    book_.add(std::move(*planned));
  else
    source_ended_ = true;
  if (source_ended_ || redirecting_) changed_.notify_all();
  if (schedule()) wake_one();
  return true;
}

bool Loader::Impl::finish_batch(Lock& lock) {
  if (!options_.finish) return false;  // views alone are made by next(), at no cost
  Lookahead::Entry* entry = book_.find_makeable(std::max(options_.prefetch, 1));
  if (entry == nullptr) return false;
  make_batch(lock, *entry);
  return true;
}

void Loader::Impl::make_batch(Lock& lock, Lookahead::Entry& entry) {
  entry.state = Lookahead::State::making;
  std::vector<Lookahead::Shared> chunks = book_.chunks_of(entry);
  lock.unlock();
  Result<SampleBatch> batch = [&]() -> Result<SampleBatch> {
    try {
      return BatchMaker::make(entry, std::move(chunks), options_.finish);
    } catch (const std::bad_alloc&) {
      return no_memory(dataset_);
    }
  }();
  lock.lock();
  entry.batch = std::move(batch);
  entry.state = Lookahead::State::made;
  changed_.notify_all();
}

bool Loader::Impl::begin_read(Lock& lock, Reader& reader) {
  if (reader.engine->under_way() + 2 > std::max(options_.depth, 2)) return false;  // a chunk may be two reads
  const std::optional<std::int32_t> chunk = book_.take_read();
  if (!chunk) return false;
  reads_.emplace(*chunk, steady_clock.now());
  if (book_.has_reads()) wake_one();
  lock.unlock();
  auto reading = std::make_shared<Reading>();
  reading->chunk = *chunk;
  auto place = dataset_.place(*chunk);
  if (place.ok()) {
    reading->place = std::move(place).value();
    reading->buffer = pool_.take(reading->place.bytes);
    submit(reader, reading);
    reader.engine->collect(reader.ended, Instant{});
  }
  lock.lock();
  if (!place.ok()) settle(*chunk, place.error());
  process_ended(lock, reader);
  return true;
}

void Loader::Impl::submit(Reader& reader, const std::shared_ptr<Reading>& reading) {
  std::byte* into = reading->buffer.data();
  reading->extents_left = reading->place.count;
  reading->error.reset();
  for (int i = 0; i < reading->place.count; ++i) {
    const ChunkPlace::Extent& extent = reading->place.extents[static_cast<std::size_t>(i)];
    const std::uint64_t tag = reader.next_tag++;
    reader.under_way.emplace(tag, Reader::Extent{reading, extent.bytes});
    reader.engine->submit({tag, extent.file->get(), into, extent.bytes, extent.offset, reading});
    into += extent.bytes;
  }
}

void Loader::Impl::process_ended(Lock& lock, Reader& reader) {
  while (!reader.ended.empty()) {
    const ReadEnd end = reader.ended.back();
    reader.ended.pop_back();
    const auto found = reader.under_way.find(end.tag);
    auto [reading, bytes] = std::move(found->second);
    reader.under_way.erase(found);
    if (end.error_number != 0 || end.got < bytes)
      reading->error = read_error(dataset_, reading->chunk, end, bytes);
    if (--reading->extents_left == 0) process(lock, reader, std::move(reading));
  }
}

/// All of a chunk's bytes are there, or as many as there are.
void Loader::Impl::process(Lock& lock, Reader& reader, std::shared_ptr<Reading> reading) {
  lock.unlock();
  Result<Chunk> content = decode(*reading);
  const bool again = !content.ok() && reading->attempt == 1 && content.error().code != ErrorCode::internal;
  if (again) {
    log(LogLevel::warning, content.error().message, " (reading it again)");
    dataset_.forget(reading->chunk);
    auto place = dataset_.place(reading->chunk);
    if (place.ok()) {
      auto second = std::make_shared<Reading>();
      second->chunk = reading->chunk;
      second->attempt = 2;
      second->place = std::move(place).value();
      second->buffer = pool_.take(second->place.bytes);
      submit(reader, second);
    } else {
      content = place.error();
    }
    lock.lock();
    if (!place.ok()) settle(reading->chunk, std::move(content));
    return;
  }
  lock.lock();
  figures_.bytes_read += reading->place.bytes;
  settle(reading->chunk, std::move(content));
}

Result<Chunk> Loader::Impl::decode(Reading& reading) {
  if (reading.error) return *reading.error;
  try {
    return dataset_.decode(reading.chunk, std::move(reading.buffer), pool_);
  } catch (const std::bad_alloc&) {
    return no_memory(dataset_);
  }
}

/// The end of a chunk's reading, with the mutex held.
void Loader::Impl::settle(std::int32_t chunk, Result<Chunk> content) {
  reads_.erase(chunk);
  ++figures_.chunks_read;
  if (content.ok())
    book_.arrived(chunk, std::make_shared<const Chunk>(std::move(content).value()));
  else
    book_.failed(chunk, content.error());
  tell_if_ready();
}

/// next() is not woken for every chunk of the batch that it waits for.
void Loader::Impl::tell_if_ready() {
  if (!book_.empty() && book_.front().ready()) changed_.notify_all();
}

/// True if there is something new to read. What was scheduled may be in memory already.
bool Loader::Impl::schedule() {
  const bool more = book_.schedule();
  tell_if_ready();
  return more;
}

void Loader::Impl::wait_for_work(Lock& lock, Reader& reader) {
  waiting_.push_back(reader.engine.get());
  lock.unlock();
  reader.engine->collect(reader.ended, steady_clock.now() + nap);
  lock.lock();
  std::erase(waiting_, reader.engine.get());
  process_ended(lock, reader);
}

void Loader::Impl::wake_one() {
  if (waiting_.empty()) return;
  waiting_.back()->wake();
  waiting_.pop_back();
}

/// An error if some read has taken too long.
Status Loader::Impl::check_reads() const {
  const Instant now = steady_clock.now();
  for (const auto& [chunk, since] : reads_)
    if (now - since > options_.read_timeout)
      return Error{ErrorCode::timeout,
                   concat("reading ", dataset_.describe(chunk), " has not returned for ",
                          to_seconds(options_.read_timeout),
                          " s: the filesystem does not answer; see that it does, or raise "
                          "data.read_timeout_s")};
  return {};
}

/// Until the first request can be delivered or there is none.
Status Loader::Impl::wait_for_front(Lock& lock) {
  const auto ready = [&] {
    if (book_.empty()) return source_ended_ && !planning_;
    Lookahead::Entry& front = book_.front();
    if (front.error) return true;
    return front.ready() && front.state != Lookahead::State::making;
  };
  if (ready()) return {};
  const Instant begin = steady_clock.now();
  Status status;
  while (status.ok() && !ready()) {
    changed_.wait_for(lock, std::min<Duration>(options_.read_timeout / 4, std::chrono::seconds(1)));
    status = check_reads();
  }
  figures_.blocked += steady_clock.now() - begin;
  return status;
}

Result<std::optional<SampleBatch>> Loader::Impl::next() {
  Lock lock(mutex_);
  if (failed_)
    return Error{ErrorCode::aborted,
                 concat("the loader of ", dataset_.info().path, " has failed: make a new one")};
  Status waited = wait_for_front(lock);
  if (waited.ok() && book_.empty()) return std::optional<SampleBatch>();
  Result<std::optional<SampleBatch>> batch = std::optional<SampleBatch>();
  if (!waited.ok()) {
    batch = waited.error();
  } else if (book_.front().error) {
    batch = *book_.front().error;
  } else {
    Lookahead::Entry& front = book_.front();
    if (front.state == Lookahead::State::planned) {
      const Instant begin = steady_clock.now();
      make_batch(lock, front);
      if (options_.finish) figures_.blocked += steady_clock.now() - begin;
    }
    if (front.batch->ok())
      batch = std::optional(std::move(*front.batch).value());
    else
      batch = front.batch->error();
    book_.deliver_front();
  }
  failed_ = !batch.ok();
  const bool more_to_plan = !source_ended_ && !planning_ && book_.wants_request();
  const bool more_to_finish = options_.finish && book_.find_makeable(options_.prefetch) != nullptr;
  if (book_.schedule() || more_to_plan || more_to_finish) wake_one();
  return batch;
}

void Loader::Impl::redirect(std::int64_t from, Source source) {
  Lock lock(mutex_);
  redirecting_ = true;
  changed_.wait(lock, [&] { return !planning_ && !book_.making_from(from); });
  redirecting_ = false;
  book_.drop_from(from);
  source_ = continued(std::move(source_), from - book_.next_number(), std::move(source));
  source_ended_ = false;
  wake_one();
}

Loader::Figures Loader::Impl::figures() const {
  const std::lock_guard lock(mutex_);
  Figures figures = figures_;
  figures.most_bytes_held = book_.most_bytes_held();
  return figures;
}

Loader::Loader(const Dataset& dataset, LoaderOptions options, Source source)
    : impl_(std::make_shared<Impl>(dataset, options, std::move(source))) {
  impl_->start();
}

Loader::~Loader() {
  impl_->stop();
}

Result<std::optional<SampleBatch>> Loader::next() {
  return impl_->next();
}

void Loader::redirect(std::int64_t from, Source source) {
  impl_->redirect(from, std::move(source));
}

Loader::Figures Loader::figures() const {
  return impl_->figures();
}

}  // namespace paceline
