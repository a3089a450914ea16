#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <map>
#include <ostream>
#include <thread>
#include <vector>

#include "paceline/base/fd.hpp"
#include "reads/read_engine.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
constexpr Duration plenty = std::chrono::seconds(60);

struct Backend {
  const char* name;
  std::function<Result<std::unique_ptr<ReadEngine>>(int depth)> make;
};

void PrintTo(const Backend& backend, std::ostream* out) {
  *out << backend.name;
}

class ReadEngines : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    auto made = GetParam().make(4);
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    engine = std::move(made).value();
  }
  std::vector<ReadEnd> collect_all() {
    std::vector<ReadEnd> ended;
    const Instant limit = steady_clock.now() + plenty;
    while (engine->under_way() > 0 && steady_clock.now() < limit) engine->collect(ended, limit);
    std::sort(ended.begin(), ended.end(), [](const ReadEnd& a, const ReadEnd& b) { return a.tag < b.tag; });
    return ended;
  }
  std::unique_ptr<ReadEngine> engine;
};

/// Byte i of the file is a function of i.
std::byte byte_at(std::int64_t i) {
  return static_cast<std::byte>(i * 7 + (i >> 8));
}

UniqueFd file_of(std::int64_t bytes) {
  UniqueFd fd(::memfd_create("paceline-reads", MFD_CLOEXEC));
  std::vector<std::byte> content(static_cast<std::size_t>(bytes));
  for (std::int64_t i = 0; i < bytes; ++i) content[static_cast<std::size_t>(i)] = byte_at(i);
  EXPECT_EQ(::pwrite(fd.get(), content.data(), content.size(), 0), bytes);
  return fd;
}

TEST_P(ReadEngines, ReadsManyPiecesIntoTheirPlaces) {
  const UniqueFd file = file_of(1 << 20);
  std::vector<std::byte> into(1 << 20);
  std::vector<ReadEnd> ended;
  constexpr std::int64_t piece = 10'007;
  std::uint64_t submitted = 0;
  for (std::int64_t offset = 0; offset < 1 << 20; offset += piece) {
    while (engine->under_way() == 4) engine->collect(ended, steady_clock.now() + plenty);
    const std::int64_t bytes = std::min<std::int64_t>(piece, (1 << 20) - offset);
    engine->submit({submitted++, file.get(), into.data() + offset, bytes, offset, nullptr});
  }
  const auto rest = collect_all();
  ended.insert(ended.end(), rest.begin(), rest.end());
  ASSERT_EQ(ended.size(), submitted);
  for (const ReadEnd& end : ended) EXPECT_EQ(end.error_number, 0);
  for (std::int64_t i = 0; i < 1 << 20; ++i) ASSERT_EQ(into[static_cast<std::size_t>(i)], byte_at(i)) << i;
}

TEST_P(ReadEngines, TheEndOfTheFileIsAShortRead) {
  const UniqueFd file = file_of(1000);
  std::vector<std::byte> into(2000);
  engine->submit({1, file.get(), into.data(), 2000, 0, nullptr});
  engine->submit({2, file.get(), into.data() + 1500, 100, 5000, nullptr});
  const auto ended = collect_all();
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_EQ(ended[0].got, 1000);
  EXPECT_EQ(ended[1].got, 0);
  EXPECT_EQ(ended[0].error_number, 0);
}

TEST_P(ReadEngines, AnErrorIsToldWithItsNumber) {
  const UniqueFd folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::vector<std::byte> into(10);
  engine->submit({1, folder.get(), into.data(), 10, 0, nullptr});
  engine->submit({2, 12345, into.data(), 10, 0, nullptr});
  const auto ended = collect_all();
  ASSERT_EQ(ended.size(), 2U);
  EXPECT_EQ(ended[0].error_number, EISDIR);
  EXPECT_EQ(ended[1].error_number, EBADF);
}

TEST_P(ReadEngines, WakesFromAnotherThreadAndLooksWithoutWaiting) {
  std::vector<ReadEnd> ended;
  engine->collect(ended, Instant{});  // returns at once
  std::thread waker([&] { engine->wake(); });
  engine->collect(ended, steady_clock.now() + plenty);
  waker.join();
  EXPECT_TRUE(ended.empty());
  engine->wake();
  engine->wake();
  engine->collect(ended, steady_clock.now() + plenty);
}

INSTANTIATE_TEST_SUITE_P(All, ReadEngines,
                         testing::Values(Backend{"io_uring",
                                                 [](int depth) { return make_uring_reads(depth); }},
                                         Backend{"threads",
                                                 [](int depth) -> Result<std::unique_ptr<ReadEngine>> {
                                                   return make_thread_reads(depth);
                                                 }}),
                         [](const auto& backend) { return std::string(backend.param.name); });

// A pipe that nobody writes to stands for a filesystem that does not answer. (pread cannot read pipes; reads
// that hang on threads are tested with a frozen MooseFS.)
TEST(UringReads, DoNotWaitForAReadThatHangs) {
  auto made = make_uring_reads(4);
  if (!made.ok()) GTEST_SKIP() << made.error().message;
  std::unique_ptr<ReadEngine> engine = std::move(made).value();
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  struct Kept {
    std::vector<std::byte> memory = std::vector<std::byte>(100);
    bool* freed;
    ~Kept() { *freed = true; }
  };
  static bool freed;
  freed = false;
  auto kept = std::make_shared<Kept>();
  kept->freed = &freed;
  // At -1, which is a pipe's current place.
  engine->submit({1, from.get(), kept->memory.data(), 100, -1, kept});
  kept.reset();
  std::vector<ReadEnd> ended;
  engine->collect(ended, steady_clock.now() + std::chrono::milliseconds(20));
  EXPECT_TRUE(ended.empty());
  EXPECT_FALSE(freed) << "the read still owns its memory";
  engine.reset();
  EXPECT_TRUE(freed) << "a pipe's read can be cancelled";
}

}  // namespace
}  // namespace paceline
