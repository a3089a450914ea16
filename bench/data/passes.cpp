#include "data/passes.hpp"

#include <fcntl.h>
#include <lz4.h>
#include <unistd.h>
#include <zstd.h>

#include <atomic>
#include <bit>
#include <cstring>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "paceline/base/clock.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/loader.hpp"

namespace paceline::bench {
namespace {

const SteadyClock steady_clock;

/// Runs `work(thread, chunk)` for every chunk on so many threads; gives the time and the first error.
Result<Pass> over_chunks(const Dataset& dataset, int threads,
                         const std::function<Status(int, std::int64_t)>& work) {
  std::atomic<std::int64_t> next = 0;
  std::mutex mutex;
  Status status;
  const auto serve = [&](int thread) {
    for (std::int64_t chunk; (chunk = next++) < dataset.info().chunks;) {
      Status done = work(thread, chunk);
      if (done.ok()) continue;
      const std::lock_guard lock(mutex);
      status = std::move(done);
      next = dataset.info().chunks;
    }
  };
  const Instant begin = steady_clock.now();
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(serve, thread);
  serve(0);
  for (std::thread& other : others) other.join();
  PACELINE_TRY(status);
  return Pass{dataset.info().samples, to_seconds(steady_clock.now() - begin)};
}

Status read_all(const ChunkPlace& place, std::byte* into, const Dataset& dataset, std::int64_t chunk) {
  for (int i = 0; i < place.count; ++i) {
    const ChunkPlace::Extent& extent = place.extents[static_cast<std::size_t>(i)];
    const ssize_t got =
        ::pread(extent.file->get(), into, static_cast<std::size_t>(extent.bytes), extent.offset);
    if (got != extent.bytes) return system_error(concat("cannot read ", dataset.describe(chunk)));
    into += extent.bytes;
  }
  return {};
}

std::uint64_t big_endian(const std::byte* bytes, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

/// The values of a chunk of storage "lz4" (the HDF5 filter's layout) or "zstd", by the library alone.
bool decode_alone(const std::string& storage, const std::byte* from, std::size_t stored, std::byte* to,
                  std::size_t raw) {
  if (storage == "zstd") return !ZSTD_isError(ZSTD_decompress(to, raw, from, stored));
  std::size_t done = 0;
  const std::uint64_t block = big_endian(from + 8, 4);
  for (std::size_t at = 12; done < raw;) {
    const auto bytes = static_cast<int>(big_endian(from + at, 4));
    const int capacity = static_cast<int>(std::min<std::uint64_t>(block, raw - done));
    at += 4;
    if (bytes == capacity)
      std::memcpy(to + done, from + at, static_cast<std::size_t>(bytes));
    else if (LZ4_decompress_safe(reinterpret_cast<const char*>(from + at), reinterpret_cast<char*>(to + done),
                                 bytes, capacity) != capacity)
      return false;
    at += static_cast<std::size_t>(bytes);
    done += static_cast<std::size_t>(capacity);
  }
  return true;
}

/// Requests for a whole epoch after the other, for `epochs` epochs.
Loader::Source epochs_of(std::int64_t samples, std::int64_t batch, std::int64_t epochs) {
  return [=, next = LoadRequest{}]() mutable -> std::optional<LoadRequest> {
    if (next.first >= samples) next = {next.epoch + 1, 0, 0};
    if (next.epoch >= epochs) return std::nullopt;
    next.count = std::min(batch, samples - next.first);
    const LoadRequest request = next;
    next.first += batch;
    return request;
  };
}

}  // namespace

Result<Pass> plain_reads(const Dataset& dataset, int threads) {
  std::vector<std::vector<std::byte>> buffers(static_cast<std::size_t>(threads));
  return over_chunks(dataset, threads, [&](int thread, std::int64_t chunk) -> Status {
    PACELINE_ASSIGN(const ChunkPlace place, dataset.place(chunk));
    std::vector<std::byte>& buffer = buffers[static_cast<std::size_t>(thread)];
    if (std::cmp_less(buffer.size(), place.bytes)) buffer.resize(static_cast<std::size_t>(place.bytes));
    return read_all(place, buffer.data(), dataset, chunk);
  });
}

Result<Pass> codec_alone(const Dataset& dataset, int threads) {
  const DatasetInfo& info = dataset.info();
  std::vector<std::vector<std::byte>> stored(static_cast<std::size_t>(info.chunks));
  for (std::int64_t chunk = 0; chunk < info.chunks; ++chunk) {
    PACELINE_ASSIGN(const ChunkPlace place, dataset.place(chunk));
    stored[static_cast<std::size_t>(chunk)].resize(static_cast<std::size_t>(place.bytes));
    PACELINE_TRY(read_all(place, stored[static_cast<std::size_t>(chunk)].data(), dataset, chunk));
  }
  // A record is the values as stored and a few bytes for every sample (a label) or for all (the token after
  // it).
  const bool images = info.kind == SampleKind::image;
  const std::int64_t element = info.dtype == "u8" ? 1 : info.dtype == "u16" ? 2 : 4;
  const std::int64_t tail = images ? 4 * info.chunk_samples : element;
  const auto raw = static_cast<std::size_t>(images ? info.chunk_samples * info.sample_bytes
                                                   : info.chunk_samples * element);
  std::vector<std::vector<std::byte>> out(static_cast<std::size_t>(threads), std::vector<std::byte>(raw));
  return over_chunks(dataset, threads, [&](int thread, std::int64_t chunk) -> Status {
    const std::vector<std::byte>& record = stored[static_cast<std::size_t>(chunk)];
    const std::size_t values = record.size() - static_cast<std::size_t>(tail);
    std::byte* to = out[static_cast<std::size_t>(thread)].data();
    if (values == raw)
      std::memcpy(to, record.data(), raw);
    else if (!decode_alone(info.storage, record.data(), values, to, raw))
      return Error{ErrorCode::corrupt, concat(dataset.describe(chunk), ": it does not decode")};
    return {};
  });
}

Result<Pass> our_loader(const Dataset& dataset, const LoaderPass& how) {
  constexpr std::int64_t epochs = 6;  // what was read ahead when the clock starts is little of five epochs
  const DatasetInfo& info = dataset.info();
  LoaderOptions options;
  options.threads = how.threads;
  options.budget_bytes = how.budget_bytes;
  options.order = shuffled_order(info, 1, how.batch, how.budget_bytes);
  Loader loader(dataset, options, epochs_of(info.samples, how.batch, epochs));
  std::vector<std::byte> copy(how.copy ? static_cast<std::size_t>(how.batch * info.sample_bytes) : 0);
  Pass pass;
  Instant begin{};
  while (true) {
    PACELINE_ASSIGN(const std::optional<SampleBatch> batch, loader.next());
    if (!batch) break;
    const LoadRequest& request = batch->request();
    if (request.epoch == 0) {
      if (request.first + request.count == info.samples) begin = steady_clock.now();
      continue;
    }
    for (std::int64_t i = 0; how.copy && i < batch->size(); ++i)
      std::memcpy(copy.data() + i * info.sample_bytes, batch->sample(i).data(), batch->sample(i).size());
    pass.samples += request.count;
  }
  pass.seconds = to_seconds(steady_clock.now() - begin);
  return pass;
}

Status forget_files(const Dataset& dataset) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dataset.info().path, error)) {
    const UniqueFd fd(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return system_error(concat("cannot open ", entry.path().string()));
    ::fsync(fd.get());  // what is not written yet stays cached
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  }
  if (error) return system_error(concat("cannot list ", dataset.info().path), error.value());
  return {};
}

}  // namespace paceline::bench
