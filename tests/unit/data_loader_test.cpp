#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

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
  for (const std::int32_t samples : dataset.chunk_samples()) first.push_back(first.back() + samples);
  return first;
}

void expect_batch(const SampleBatch& batch, const std::vector<SampleAddress>& addresses,
                  const std::vector<std::int64_t>& first_sample) {
  ASSERT_EQ(batch.size(), static_cast<std::int64_t>(addresses.size()));
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const std::int64_t sample =
        first_sample[static_cast<std::size_t>(addresses[i].chunk)] + addresses[i].index;
    const std::span<const std::byte> image = batch.sample(static_cast<std::int64_t>(i));
    ASSERT_EQ(image.size(), static_cast<std::size_t>(image_bytes));
    ASSERT_EQ(sample_of(image.data()), sample);
    ASSERT_EQ(batch.label(static_cast<std::int64_t>(i)), label_of(sample));
    ASSERT_EQ(std::to_integer<std::uint8_t>(image[783]), pixel(sample, 783));
  }
}

OrderSpec order_in_lanes(std::int64_t row, std::int64_t lanes = 5) {
  return {.seed = 1, .row = row, .lanes = lanes, .lane_chunks = 2};
}

/// Takes two epochs from a loader and compares every batch with the order that is computed beside it.
void expect_two_epochs(const Dataset& dataset, const LoaderOptions& options, std::int64_t count) {
  Loader loader(dataset, options, epochs_of(dataset.info().samples, count, 2));
  const std::vector<std::int64_t> first_sample = first_samples(dataset);
  std::int64_t samples = 0;
  for (std::int64_t epoch = 0; epoch < 2; ++epoch) {
    EpochOrder order(dataset.chunk_samples(), options.order, epoch);
    for (std::int64_t first = 0; first < order.samples(); first += count) {
      Result<std::optional<SampleBatch>> batch = loader.next();
      ASSERT_TRUE(batch.ok()) << batch.error().message;
      ASSERT_TRUE(batch->has_value());
      const SampleBatch& got = **batch;
      ASSERT_EQ(got.request(), (LoadRequest{epoch, first, got.size()}));
      expect_batch(got, order.addresses(first, got.size()), first_sample);
      samples += got.size();
    }
  }
  EXPECT_EQ(samples, 2 * dataset.info().samples);
  EXPECT_FALSE(loader.next()->has_value());
  EXPECT_FALSE(loader.next()->has_value());
}

/// Both ways of reading.
class Loaders : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ::setenv("PACELINE_READS", GetParam(), 1); }
  void TearDown() override { ::unsetenv("PACELINE_READS"); }
};
INSTANTIATE_TEST_SUITE_P(All, Loaders, testing::Values("io_uring", "threads"),
                         [](const auto& backend) { return std::string(backend.param); });

TEST_P(Loaders, GiveTheOrderWhateverTheThreadsBudgetAndBatch) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  ASSERT_TRUE(dataset.ok());
  for (const int threads : {1, 4})
    for (const int depth : {1, 6})
      for (const std::int64_t count : {1, 50, 437})
        for (const std::int64_t budget : {std::int64_t{0}, std::int64_t{70000}, std::int64_t{64} << 20}) {
          LoaderOptions options;
          options.threads = threads;
          options.depth = depth;
          options.budget_bytes = budget;
          options.order = order_in_lanes(count);
          options.order.shuffle = count != 50;
          options.finish = nullptr;
          expect_two_epochs(*dataset, options, count);
        }
}

TEST_P(Loaders, ReadEachChunkOnceForAllThreadsAndEpochs) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  for (int round = 0; round < 10; ++round) {
    LoaderOptions options;
    options.threads = 4;
    options.order = order_in_lanes(13);
    Loader loader(*dataset, options, epochs_of(437, 13, 3));
    while (loader.next()->has_value()) {
    }
    EXPECT_EQ(loader.figures().chunks_read, dataset->info().chunks);
  }
}

/// The part that rank 1 of 2 has of every row.
Loader::Source second_halves(std::int64_t samples, std::int64_t row) {
  return [=, first = std::int64_t{0}]() mutable -> std::optional<LoadRequest> {
    if (first >= samples) return std::nullopt;
    const std::int64_t count = std::min(row, samples - first);
    const LoadRequest request{0, first + count / 2, count - count / 2};
    first += row;
    return request;
  };
}

TEST(Loader, ARankReadsLittleMoreThanItsShare) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 2000));
  LoaderOptions options;
  options.order = order_in_lanes(64, 16);
  Loader loader(*dataset, options, second_halves(2000, 64));
  while (loader.next()->has_value()) {
  }
  const std::int64_t chunks = dataset->info().chunks;
  EXPECT_GE(loader.figures().chunks_read, chunks / 2);
  EXPECT_LE(loader.figures().chunks_read, chunks / 2 + chunks / 16 + 2) << "one lane may be shared";
}

TEST(Loader, ASmallBudgetReadsAgainRatherThanFail) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 1000));
  LoaderOptions options;
  options.threads = 2;
  options.budget_bytes = 6 * dataset->info().chunk_bytes;
  options.order = shuffled_order(dataset->info(), 1, 64, options.budget_bytes);
  EXPECT_EQ(options.order.lanes, 3);
  expect_two_epochs(*dataset, options, 64);
  // A batch that alone is more than the budget is delivered all the same.
  expect_two_epochs(*dataset, options, 700);
  // Batches of 12 need two chunks of each lane at most; chunks take whole pages.
  options.order = shuffled_order(dataset->info(), 1, 12, options.budget_bytes);
  Loader loader(*dataset, options, epochs_of(1000, 12, 3));
  while (loader.next()->has_value()) {
  }
  EXPECT_LE(loader.figures().most_bytes_held, options.budget_bytes + 6 * 4096);
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
  options.order = order_in_lanes(32);
  options.threads = 3;
  Loader loader(*dataset, options, [&, i = std::size_t{0}]() mutable -> std::optional<LoadRequest> {
    return i < requests.size() ? std::optional(requests[i++]) : std::nullopt;
  });
  for (const LoadRequest& request : requests) {
    const auto batch = loader.next();
    ASSERT_TRUE(batch.ok() && batch->has_value());
    EpochOrder order(dataset->chunk_samples(), options.order, request.epoch);
    expect_batch(**batch, order.addresses(request.first, request.count), first_samples(*dataset));
  }
  EXPECT_FALSE(loader.next()->has_value());
}

// Shares change in the middle of an epoch: from its 5th batch on a rank gets other parts of the same rows.
TEST(Loader, FollowsAChangeOfShares) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 1000));
  for (const std::int64_t budget : {40'000, 100'000'000}) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      SplitMix64 random(seed);
      LoaderOptions options;
      options.order = order_in_lanes(50);
      options.budget_bytes = budget;
      options.threads = 1 + static_cast<int>(random.below(3));
      std::vector<std::int64_t> widths(20, 10);
      const auto source = [](std::int64_t row, std::int64_t count) -> Loader::Source {
        return [row, count]() mutable -> std::optional<LoadRequest> {
          return row < 20 ? std::optional(LoadRequest{0, row++ * 50, count}) : std::nullopt;
        };
      };
      Loader loader(*dataset, options, source(0, widths[0]));
      EpochOrder order(dataset->chunk_samples(), options.order, 0);
      for (std::int64_t row = 0; row < 20; ++row) {
        if (random.below(4) == 0) {
          // Perhaps of later ones, which may not have been planned yet.
          const auto first = std::min<std::int64_t>(19, row + static_cast<std::int64_t>(random.below(4)));
          const auto width = 1 + static_cast<std::int64_t>(random.below(50));
          std::fill(widths.begin() + first, widths.end(), width);
          loader.redirect(first, source(first, width));
        }
        const std::int64_t width = widths[static_cast<std::size_t>(row)];
        const auto batch = loader.next();
        ASSERT_TRUE(batch.ok()) << batch.error().message;
        ASSERT_TRUE(batch->has_value());
        ASSERT_EQ((*batch)->request(), (LoadRequest{0, row * 50, width}));
        expect_batch(**batch, order.addresses(row * 50, width), first_samples(*dataset));
      }
      EXPECT_FALSE(loader.next()->has_value());
    }
  }
}

TEST(Loader, FinishesBatchesOnItsOwnThreadsAndTellsTheirErrors) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  for (const int threads : {1, 3}) {
    LoaderOptions options;
    options.order = order_in_lanes(10);
    options.threads = threads;
    options.finish = [](SampleBatch& batch) -> Status {
      if (batch.request().first == 300) return Error{ErrorCode::corrupt, "planted"};
      for (std::int64_t i = 0; i < batch.size(); ++i)
        batch.values.push_back(static_cast<float>(sample_of(batch.sample(i).data())));
      return {};
    };
    Loader loader(*dataset, options, epochs_of(437, 10, 1));
    EpochOrder order(dataset->chunk_samples(), options.order, 0);
    const auto first_sample = first_samples(*dataset);
    for (std::int64_t first = 0; first < 300; first += 10) {
      const auto batch = loader.next();
      ASSERT_TRUE(batch.ok());
      const auto addresses = order.addresses(first, 10);
      for (std::size_t i = 0; i < 10; ++i)
        ASSERT_EQ((*batch)->values[i],
                  static_cast<float>(first_sample[static_cast<std::size_t>(addresses[i].chunk)] +
                                     addresses[i].index));
    }
    EXPECT_EQ(loader.next().error().message, "planted");
    EXPECT_EQ(loader.next().error().code, ErrorCode::aborted);
  }
}

TEST(Loader, ABatchOutlivesItsLoader) {
  const TemporaryFolder folder;
  std::optional<SampleBatch> kept;
  std::vector<SampleAddress> addresses;
  std::vector<std::int64_t> first_sample;
  {
    const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
    LoaderOptions options;
    options.order = order_in_lanes(100);
    Loader loader(*dataset, options, epochs_of(437, 100, 2));
    kept = std::move(loader.next()).value();
    addresses = EpochOrder(dataset->chunk_samples(), options.order, 0).addresses(0, 100);
    first_sample = first_samples(*dataset);
  }
  expect_batch(*kept, addresses, first_sample);
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
    options.order = {.shuffle = false, .row = 10};
    options.threads = threads;
    Loader loader(*dataset, options, epochs_of(160, 10, 1));
    for (std::int64_t first = 0; first < 110; first += 10) {
      const auto batch = loader.next();
      ASSERT_TRUE(batch.ok()) << batch.error().message;
      EXPECT_EQ((*batch)->request().first, first);
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

TEST(Loader, StopsAtAnyMoment) {
  const TemporaryFolder folder;
  const Result<Dataset> dataset = Dataset::open(make_dataset(folder, 437));
  const SteadyClock clock;
  const Deadline deadline(clock, std::chrono::seconds(60));
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SplitMix64 random(seed);
    LoaderOptions options;
    options.threads = static_cast<int>(1 + random.below(4));
    options.order = order_in_lanes(11);
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
  LoaderOptions options;
  options.order = shuffled_order(dataset->info(), 1, 256, options.budget_bytes);
  Loader loader(*dataset, options, epochs_of(60000, 256, 1));
  std::array<int, 10> count{};
  while (true) {
    const auto batch = loader.next();
    ASSERT_TRUE(batch.ok()) << batch.error().message;
    if (!batch->has_value()) break;
    for (std::int64_t i = 0; i < (*batch)->size(); ++i) ++count[static_cast<std::size_t>((*batch)->label(i))];
  }
  for (const int samples : count) EXPECT_EQ(samples, 6000);
  EXPECT_EQ(loader.figures().chunks_read, dataset->info().chunks);
}

}  // namespace
}  // namespace paceline
