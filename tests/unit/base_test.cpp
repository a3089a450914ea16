#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/log.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

Result<int> half(int value) {
  if (value % 2 != 0) return Error{ErrorCode::invalid_argument, concat(value, " is odd"), 3};
  return value / 2;
}

Result<int> quarter(int value) {
  PACELINE_ASSIGN(const int once, half(value));
  PACELINE_ASSIGN(const int twice, half(once));
  return twice;
}

Status check_quarter(int value) {
  PACELINE_TRY(quarter(value));
  return {};
}

TEST(Result, CarriesTheValueOrTheErrorOutward) {
  EXPECT_EQ(quarter(12).value(), 3);
  ASSERT_FALSE(quarter(6).ok());
  EXPECT_EQ(quarter(6).error().message, "3 is odd");
  EXPECT_EQ(check_quarter(6).error().rank, 3);
  EXPECT_TRUE(check_quarter(8).ok());
  EXPECT_EQ(quarter(6).error().with_context("step 4").message, "step 4: 3 is odd");
}

TEST(ResultDeathTest, TakingTheWrongSideIsABug) {
  EXPECT_DEATH((void)quarter(6).value(), "internal error.*where a value was taken");
  EXPECT_DEATH((void)quarter(8).error(), "internal error.*where an error was taken");
}

TEST(UniqueFd, ClosesOnceAndMoves) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd writer(ends[1]);
  UniqueFd reader(ends[0]);
  UniqueFd moved(std::move(writer));
  EXPECT_FALSE(writer.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
  ASSERT_TRUE(write_all(moved.get(), "ab", "pipe").ok());
  moved.reset();
  char bytes[4];
  EXPECT_EQ(::read(reader.get(), bytes, sizeof bytes), 2);
  EXPECT_EQ(::read(reader.get(), bytes, sizeof bytes), 0) << "the write end is closed";
}

TEST(File, AtomicWriteReplacesWholeFilesAndLeavesNothingOnFailure) {
  const auto folder = std::filesystem::temp_directory_path() / concat("paceline-base-", ::getpid());
  std::filesystem::create_directory(folder);
  const std::string path = folder / "file";
  ASSERT_TRUE(write_file_atomically(path, "one", 0600).ok());
  ASSERT_TRUE(write_file_atomically(path, "two", 0600).ok());
  EXPECT_EQ(read_file(path).value(), "two");
  EXPECT_EQ(read_file(path, 2).error().code, ErrorCode::corrupt);
  EXPECT_EQ(read_file(folder / "none").error().code, ErrorCode::not_found);
  EXPECT_FALSE(write_file_atomically(folder / "none" / "file", "x").ok());
  EXPECT_TRUE(sync_folder(folder).ok());
  EXPECT_FALSE(sync_folder(folder / "none").ok());
  std::filesystem::create_directory(folder / "taken");
  EXPECT_FALSE(write_file_atomically(folder / "taken", "x").ok());
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"file", "taken"}));
  std::filesystem::remove_all(folder);
}

TEST(Files, OnceIsForWhoeverIsFirst) {
  const auto folder = std::filesystem::temp_directory_path() / concat("paceline-base-once-", ::getpid());
  std::filesystem::create_directory(folder);
  const std::string path = folder / "file";
  ASSERT_TRUE(write_file_once(path, "one", 0600).ok());
  EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
  EXPECT_TRUE(write_file_once(path, "one").ok()) << "what is there already";
  for (const char* other : {"two", "on", "one\n", ""}) {
    const Status late = write_file_once(path, other);
    ASSERT_FALSE(late.ok()) << other;
    EXPECT_EQ(late.error().code, ErrorCode::already_exists);
    EXPECT_NE(late.error().message.find(path), std::string::npos) << late.error().message;
  }
  EXPECT_EQ(read_file(path).value(), "one");
  std::filesystem::create_directory(folder / "taken");
  EXPECT_EQ(write_file_once(folder / "taken", "x").error().code, ErrorCode::already_exists);
  std::filesystem::create_symlink("nowhere", folder / "link");
  EXPECT_EQ(write_file_once(folder / "link", "x").error().code, ErrorCode::already_exists);
  const Status nowhere = write_file_once(folder / "none" / "file", "x");
  ASSERT_FALSE(nowhere.ok());
  EXPECT_NE(nowhere.error().code, ErrorCode::already_exists);
  EXPECT_NE(nowhere.error().message.find("none"), std::string::npos) << nowhere.error().message;
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"file", "link", "taken"}));
  std::filesystem::remove_all(folder);
}

TEST(Deadline, RunsOutWhenTheClockSaysSo) {
  ManualClock clock;
  const Deadline deadline(clock, std::chrono::milliseconds(10));
  clock.advance(std::chrono::microseconds(8500));
  EXPECT_EQ(deadline.left_ms(), 2) << "rounded up";
  EXPECT_FALSE(deadline.passed());
  clock.advance(std::chrono::milliseconds(5));
  EXPECT_TRUE(deadline.passed());
  EXPECT_EQ(deadline.left_ms(), 0);
}

TEST(Text, IntegersAreWholeAndInRange) {
  EXPECT_EQ(parse_integer("42", 0, 100), 42);
  for (const char* bad : {"", "4x", " 4", "101", "-1", "99999999999999999999"})
    EXPECT_FALSE(parse_integer(bad, 0, 100)) << bad;
}

TEST(Text, NearestSuggestsOnlyWhatIsNear) {
  const std::vector<std::string> keys = {"optimizer", "epochs", "ranks"};
  EXPECT_EQ(nearest("epoch", keys), "epochs");
  EXPECT_EQ(nearest("optimiser", keys), "optimizer");
  EXPECT_EQ(nearest("zzzzzzzzzzzz", keys), "");
}

TEST(Text, SplitKeepsEmptyParts) {
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split("", ','), (std::vector<std::string>{""}));
}

TEST(Text, HumanBytes) {
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(3 << 19), "1.5 MiB");
}

TEST(SplitMix64, IsUniformWithinItsBound) {
  SplitMix64 random(7);
  std::vector<int> seen(10);
  for (int i = 0; i < 10000; ++i) ++seen[random.below(10)];
  for (const int count : seen) EXPECT_NEAR(count, 1000, 150);
  EXPECT_NE(mix64(1, 2), mix64(2, 1));
}

std::vector<std::string>* records = nullptr;

TEST(Log, DropsWhatIsBelowTheLevelAndGoesToTheSink) {
  std::vector<std::string> kept;
  records = &kept;
  set_log_sink([](LogLevel, std::string_view message) { records->emplace_back(message); });
  const LogLevel before = log_level();
  set_log_level(LogLevel::info);
  log(LogLevel::debug, "dropped");
  log(LogLevel::info, "rank ", 3);
  set_log_sink(nullptr);
  set_log_level(before);
  EXPECT_EQ(kept, std::vector<std::string>{"rank 3"});
}

}  // namespace
}  // namespace paceline
