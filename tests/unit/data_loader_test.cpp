#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "chunk_cache.hpp"
#include "data_fixture.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/data/loader.hpp"
#include "paceline/data/order.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

/// Consecutive requests of `count` positions over whole epochs, the last of each short.
Loader::Source epochs_of(std::int64_t samples, std::int64_t count, std::int64_t epochs) {
  return [=, next = LoadRequest{}]() mutable -> std::optional<LoadRequest> {
    if (next.first >= samples) next = {next.epoch + 1, 0, 0};
    if (next.epoch >= epochs) return std::nullopt;
    next.count = std::min(count, samples - next.first);
    const LoadRequest request = next;
    next.first += count;
    return request;
  };
}

/// A dataset's samples are numbered as they are stored: which one an address means.
std::vector<std::int64_t> first_samples(const Dataset& dataset) {
  std::vector<std::int64_t> first = {0};
  for (const std::int64_t samples : dataset.chunk_samples()) first.push_back(first.back() + samples);
  return first;
}

void expect_batch(const SampleBatch& batch, const std::vector<SampleAddress>& addresses,
                  const std::vector<std::int64_t>& first_sample) {
  ASSERT_EQ(batch.values.size(), addresses.size() * image_bytes);
  ASSERT_EQ(batch.labels.size(), addresses.size());
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const std::int64_t sample =
        first_sample[static_cast<std::size_t>(addresses[i].chunk)] + addresses[i].index;
    const std::byte* image = batch.values.data() + i * image_bytes;
    ASSERT_EQ(sample_of(image), sample);
    ASSERT_EQ(batch.labels[i], label_of(sample));
    ASSERT_EQ(std::to_integer<std::uint8_t>(image[783]), pixel(sample, 783));
  }
}

/// Takes two epochs from a loader and compares every batch with the order that is computed beside it.
void expect_two_epochs(const Dataset& dataset, const LoaderOptions& options, std::int64_t count) {
  Loader loader(dataset, options, epochs_of(dataset.info().samples, count, 2));
  const std::vector<std::int64_t> first_sample = first_samples(dataset);
  std::int64_t samples = 0;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    const EpochOrder order = options.shuffle ? EpochOrder(dataset.chunk_samples(), options.seed, epoch,
                                                          shuffle_window_chunks(dataset.info(), options))
                                             : EpochOrder::sequential(dataset.chunk_samples());
    for (std::int64_t first = 0; first < order.samples(); first += count) {
      Result<std::optional<SampleBatch>> batch = loader.next();
      ASSERT_TRUE(batch.ok()) << batch.error().message;
      ASSERT_TRUE(batch->has_value());
      const SampleBatch& got = **batch;
      ASSERT_EQ(got.request.epoch, epoch);
      ASSERT_EQ(got.request.first, first);
      expect_batch(got, order.addresses(first, got.request.count), first_sample);
      samples += got.request.count;
    }
  }
  EXPECT_EQ(samples, 2 * dataset.info().samples);
  EXPECT_FALSE(loader.next()->has_value());
  EXPECT_FALSE(loader.next()->has_value());
}

TEST(Loader, GivesTheOrderWhateverTheThreadsBudgetAndBatch) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  ASSERT_TRUE(dataset.ok());
  for (const int threads : {1, 2, 4})
    for (const int prefetch : {1, 3, 16})
      for (const std::int64_t count : {1, 50, 437})
        for (const std::int64_t budget : {std::int64_t{0}, std::int64_t{70000}, std::int64_t{64} << 20}) {
          LoaderOptions options;
          options.threads = threads;
          options.prefetch = prefetch;
          options.budget_bytes = budget;
          options.window_chunks = 5;
          options.shuffle = count != 50;
          expect_two_epochs(*dataset, options, count);
        }
}

TEST(Loader, ReadsEachChunkOnceForAllThreadsAndEpochs) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  for (int round = 0; round < 10; ++round) {
    LoaderOptions options;
    options.threads = 4;
    options.prefetch = 8;
    Loader loader(*dataset, options, epochs_of(437, 13, 3));
    while (loader.next()->has_value()) {
    }
    EXPECT_EQ(loader.chunks_read(), dataset->info().chunks);
  }
}

TEST(Loader, ASmallBudgetReadsAgainRatherThanFail) {
  const TemporaryFolder folder;
  write_source(folder / "source", 6000, 10);
  ImportOptions import = small_import(folder / "source", folder / "set");
  import.chunk_samples = 256;  // 198 KiB, so that 1 MiB holds three of the 24
  import.shard_samples = 3000;
  ASSERT_TRUE(import_dataset(import).ok());
  const Result<Dataset> dataset = Dataset::open(folder / "set/train");
  LoaderOptions options;
  options.budget_bytes = 1 << 20;
  options.threads = 2;
  EXPECT_EQ(shuffle_window_chunks(dataset->info(), options), 1);
  expect_two_epochs(*dataset, options, 128);
  // Batches that alone are more than the budget come one at a time.
  expect_two_epochs(*dataset, options, 2000);
}

TEST(Loader, TheWindowIsWhatLetsTwoFit) {
  DatasetInfo info;
  info.chunk_samples = 256;
  info.sample_bytes = 784;
  LoaderOptions options;
  EXPECT_EQ(shuffle_window_chunks(info, options), 64);  // 2 * 64 * 256 * 792 bytes are 25.9 of 192 MB
  options.budget_bytes = 4 * 2 * 10 * 256 * 792 / 3 + 4;
  EXPECT_EQ(shuffle_window_chunks(info, options), 10);
  options.window_chunks = 3;
  EXPECT_EQ(shuffle_window_chunks(info, options), 3);
  for (const std::int64_t budget : {std::int64_t{0}, std::int64_t{-7}, std::int64_t{100}}) {
    options.budget_bytes = budget;
    EXPECT_EQ(shuffle_window_chunks(info, options), 1);
  }
  options.budget_bytes = std::numeric_limits<std::int64_t>::max();
  options.window_chunks = 1000;
  EXPECT_EQ(shuffle_window_chunks(info, options), 1000);
}

TEST(Loader, RequestsMayBeEmptyAndJumpAndRepeat) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  SplitMix64 random(3);
  std::vector<LoadRequest> requests;
  for (int i = 0; i < 200; ++i) {
    const auto first = static_cast<std::int64_t>(random.below(438));
    requests.push_back({static_cast<std::int64_t>(random.below(3)), first,
                        static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(438 - first)))});
  }
  requests.push_back({0, 437, 0});
  LoaderOptions options;
  options.window_chunks = 4;
  options.threads = 3;
  Loader loader(*dataset, options, [&, i = std::size_t{0}]() mutable -> std::optional<LoadRequest> {
    return i < requests.size() ? std::optional(requests[i++]) : std::nullopt;
  });
  for (const LoadRequest& request : requests) {
    const auto batch = loader.next();
    ASSERT_TRUE(batch.ok() && batch->has_value());
    const EpochOrder order(dataset->chunk_samples(), options.seed, request.epoch, 4);
    expect_batch(**batch, order.addresses(request.first, request.count), first_samples(*dataset));
  }
  EXPECT_FALSE(loader.next()->has_value());
}

TEST(Loader, AReadErrorComesInItsPlaceOnce) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 160);  // shards of 100 and 60: chunks 0-6 and 7-10
  const Result<Dataset> dataset = Dataset::open(train);
  {
    // The last byte of chunk 8, samples 116 to 131, found by what it holds: the next begins with its number.
    const std::string bytes = read_bytes(train + "/shard-00001.h5");
    std::string next = "\x84";  // 132
    next.append(3, '\0');
    next += static_cast<char>(pixel(132, 4));
    next += static_cast<char>(pixel(132, 5));
    const std::size_t at = bytes.find(next);
    ASSERT_NE(at, std::string::npos);
    std::fstream file(train + "/shard-00001.h5", std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(static_cast<std::streamoff>(at) - 1);
    file.put(static_cast<char>(pixel(131, 783) + 1));
  }
  for (const int threads : {1, 3}) {
    LoaderOptions options;
    options.shuffle = false;
    options.threads = threads;
    Loader loader(*dataset, options, epochs_of(160, 10, 1));
    for (std::int64_t first = 0; first < 110; first += 10) {
      const auto batch = loader.next();
      ASSERT_TRUE(batch.ok()) << batch.error().message;
      EXPECT_EQ((*batch)->request.first, first);
    }
    const auto bad = loader.next();
    ASSERT_FALSE(bad.ok());
    EXPECT_EQ(bad.error().code, ErrorCode::corrupt);
    EXPECT_NE(bad.error().message.find("shard-00001.h5: chunk 1 at byte"), std::string::npos)
        << bad.error().message;
    EXPECT_EQ(loader.next().error().code, ErrorCode::aborted);
  }
}

TEST(Loader, ARequestBeyondTheEpochIsAnError) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 40));
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  const std::vector<LoadRequest> bad = {{0, 35, 6}, {0, -1, 3},   {0, 0, -1},
                                        {-1, 0, 1}, {0, most, 1}, {0, 1, most}};
  for (const LoadRequest& request : bad) {
    Loader loader(*dataset, {}, [&, left = 2]() mutable -> std::optional<LoadRequest> {
      return left-- == 2 ? LoadRequest{0, 0, 5} : request;
    });
    EXPECT_TRUE(loader.next().ok());
    const auto batch = loader.next();
    ASSERT_FALSE(batch.ok());
    EXPECT_EQ(batch.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(batch.error().message.find("has 40 samples"), std::string::npos) << batch.error().message;
  }
}

TEST(Loader, AWaitEndsAtItsDeadlineAndTheBatchStillComes) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 40));
  std::atomic<bool> open = false;
  Loader loader(*dataset, {}, [&, sent = false]() mutable -> std::optional<LoadRequest> {
    while (!open) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return std::exchange(sent, true) ? std::nullopt : std::optional(LoadRequest{0, 0, 7});
  });
  const auto early = loader.next(std::chrono::milliseconds(30));
  ASSERT_FALSE(early.ok());
  EXPECT_EQ(early.error().code, ErrorCode::timeout);
  EXPECT_GE(loader.waited(), std::chrono::milliseconds(30));
  open = true;
  EXPECT_EQ((*loader.next())->request.count, 7);
  EXPECT_FALSE(loader.next(Duration::max())->has_value());
}

TEST(Loader, StopsAtAnyMoment) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  const SteadyClock clock;
  const Deadline deadline(clock, std::chrono::seconds(60));
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SplitMix64 random(seed);
    LoaderOptions options;
    options.threads = static_cast<int>(1 + random.below(4));
    options.prefetch = static_cast<int>(1 + random.below(4));
    options.budget_bytes = seed % 2 == 0 ? 50000 : 1 << 24;
    Loader loader(*dataset, options, epochs_of(437, 11, 1000));
    for (std::uint64_t left = random.below(20); left > 0; --left) ASSERT_TRUE(loader.next()->has_value());
    if (seed % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.below(2000)));
  }
  EXPECT_FALSE(deadline.passed());
}

TEST(Loader, FashionMnistOverOneEpochHasEachLabelSixThousandTimes) {
  if (!fs::exists("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz"))
    GTEST_SKIP() << "install dataset-fashion-mnist";
  const TemporaryFolder folder;
  ImportOptions import;
  import.kind = "fashion-mnist";
  import.out = folder / "set";
  ASSERT_TRUE(import_dataset(import).ok());
  const Result<Dataset> dataset = Dataset::open(folder / "set/train");
  Loader loader(*dataset, {}, epochs_of(60000, 256, 1));
  std::array<int, 10> count{};
  while (true) {
    const auto batch = loader.next();
    ASSERT_TRUE(batch.ok()) << batch.error().message;
    if (!batch->has_value()) break;
    for (const std::int64_t label : (*batch)->labels) ++count[static_cast<std::size_t>(label)];
  }
  for (const int samples : count) EXPECT_EQ(samples, 6000);
  EXPECT_EQ(loader.chunks_read(), dataset->info().chunks);
}

Chunk chunk_of(std::int64_t bytes) {
  Chunk chunk;
  chunk.samples = 1;
  chunk.values.resize(static_cast<std::size_t>(bytes) - 8);
  chunk.labels.resize(1);
  return chunk;
}

TEST(ChunkCache, KeepsTheMostRecentWithinItsCapacity) {
  ChunkCache cache([](std::int64_t) -> Result<Chunk> { return chunk_of(100); }, 300);
  for (const std::int64_t chunk : {0, 1, 2, 0, 1, 2}) ASSERT_TRUE(cache.get(chunk).ok());
  EXPECT_EQ(cache.reads(), 3);
  EXPECT_EQ(cache.cached_bytes(), 300);
  ASSERT_TRUE(cache.get(0).ok());  // now 1 is the oldest
  ASSERT_TRUE(cache.get(3).ok());
  EXPECT_EQ(cache.cached_bytes(), 300);
  ASSERT_TRUE(cache.get(0).ok());
  EXPECT_EQ(cache.reads(), 4);
  ASSERT_TRUE(cache.get(1).ok());
  EXPECT_EQ(cache.reads(), 5);
  cache.set_capacity(150);
  EXPECT_EQ(cache.cached_bytes(), 100);
  cache.set_capacity(0);
  EXPECT_EQ(cache.cached_bytes(), 0);
  ASSERT_TRUE(cache.get(1).ok());
  ASSERT_TRUE(cache.get(1).ok());
  EXPECT_EQ(cache.reads(), 7);
}

/// A reader that holds its caller until it is let go, so that others can be seen to wait for it.
class GatedReader {
 public:
  Result<Chunk> read(std::int64_t chunk) {
    std::unique_lock lock(mutex_);
    ++started_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    if (chunk == 13) return Error{ErrorCode::corrupt, "thirteen"};
    return chunk_of(100);
  }
  void wait_for_start() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return started_ > 0; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int started_ = 0;
  bool open_ = false;
};

TEST(ChunkCache, ThreadsThatWantTheSameChunkShareOneRead) {
  for (const std::int64_t chunk : {5, 13}) {
    GatedReader reader;
    ChunkCache cache([&](std::int64_t wanted) { return reader.read(wanted); }, 1000);
    std::atomic<int> good = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { good += cache.get(chunk).ok() ? 1 : 0; });
    reader.wait_for_start();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others come to wait
    reader.open();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(good, chunk == 13 ? 0 : 4);
    EXPECT_TRUE(chunk == 13 || cache.reads() == 1) << cache.reads();
    const std::int64_t before = cache.reads();
    EXPECT_EQ(cache.get(chunk).ok(), chunk != 13);
    EXPECT_EQ(cache.reads() - before, chunk == 13 ? 1 : 0);  // an error is not kept
  }
}

TEST(ChunkCache, StopWakesThoseWhoWaitForAnother) {
  GatedReader reader;
  ChunkCache cache([&](std::int64_t wanted) { return reader.read(wanted); }, 1000);
  std::thread first([&] { EXPECT_TRUE(cache.get(1).ok()); });
  reader.wait_for_start();
  std::thread second([&] { EXPECT_EQ(cache.get(1).error().code, ErrorCode::aborted); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  cache.stop();
  second.join();  // while the read still goes on
  reader.open();
  first.join();
  EXPECT_EQ(cache.get(2).error().code, ErrorCode::aborted);
}

}  // namespace
}  // namespace paceline
