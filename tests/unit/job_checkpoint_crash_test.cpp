// Checkpoints where processes die, race, and run out of disk.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <functional>

#include "support/checkpoints.hpp"

namespace paceline {
namespace {

using namespace checkpoint_testing;

// Processes that die: each is traced, and killed before its n-th system call.

struct Traced {
  bool refused = false;  ///< this machine lets nobody trace
  bool killed = false;   ///< else it came to its end, with `status`
  int status = 0;
  std::vector<long> calls;
};

template <class Body>
Traced run_until_call(std::size_t last_call, Body body) {
  Traced traced;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) ::_exit(99);
    ::raise(SIGSTOP);
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSTOPPED(status)) return {true, false, 0, {}};
  ::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  while (true) {
    ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
    ::waitpid(child, &status, 0);
    if (!WIFSTOPPED(status)) break;
    struct __ptrace_syscall_info info {};
    ::ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof info, &info);
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) continue;
    if (traced.calls.size() == last_call) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
      break;
    }
    traced.calls.push_back(static_cast<long>(info.entry.nr));
  }
  traced.killed = WIFSIGNALED(status);
  traced.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return traced;
}

TEST(CheckpointCrash, PublishLeavesTheOldStateOrTheNew) {
  bool was_new = false;
  bool to_the_end = false;
  std::size_t calls = 0;
  for (; !to_the_end; ++calls) {
    ASSERT_LT(calls, 1000U);
    const RunDirectory run;
    make_checkpoint(run.path(), {100, 1, 1});
    const CheckpointManifest manifest = write_parts(run.path(), {200, 1, 1}, 2, State(small_sizes, 200));
    const Traced traced =
        run_until_call(calls, [&] { return publish_checkpoint(run.path(), manifest).ok() ? 0 : 1; });
    if (traced.refused) GTEST_SKIP() << "processes can't be traced here";
    to_the_end = !traced.killed;
    const Newest newest = newest_of(run.path());
    EXPECT_TRUE(newest.passed_over.empty()) << calls << ": " << newest.passed_over[0];
    EXPECT_EQ(list_checkpoints(run.path()).value().size(), newest.step == 200 ? 2U : 1U) << calls;
    if (was_new || to_the_end) {
      EXPECT_EQ(newest.step, 200) << calls;
      EXPECT_TRUE(!to_the_end || traced.status == 0);
    }
    was_new = newest.step == 200;
    // Who takes over makes the same attempt again or the next one, and in the end nothing is left over.
    const Status again = publish_checkpoint(run.path(), manifest);
    EXPECT_TRUE(was_new ? again.error().code == ErrorCode::already_exists : again.ok()) << calls;
    make_checkpoint(run.path(), {300, 2, 2});
    expect_ok(keep_checkpoints(run.path(), 2));
    EXPECT_EQ(run.names(), (std::set<std::string>{"step-000000200.term-1", "step-000000300.term-2"}))
        << calls;
  }
  EXPECT_GT(calls, 10U);
}

// A power failure can't be made here, but its rule can be checked: sync before the name, and the folder
// after.
TEST(CheckpointCrash, WhatIsNamedWasSynced) {
  const RunDirectory run;
  const CheckpointManifest manifest = write_parts(run.path(), {200, 1, 1}, 2, State(small_sizes, 200));
  const Traced traced =
      run_until_call(1000, [&] { return publish_checkpoint(run.path(), manifest).ok() ? 0 : 1; });
  if (traced.refused) GTEST_SKIP() << "processes can't be traced here";
  std::string order;
  for (const long call : traced.calls) {
    if (call == SYS_fsync) order += "sync ";
    if (call == SYS_renameat || call == SYS_renameat2) order += "rename ";
#ifdef SYS_rename
    if (call == SYS_rename) order += "rename ";
#endif
  }
  EXPECT_EQ(order, "sync rename sync rename sync sync ");
}

TEST(CheckpointCrash, ARankLeavesNothingThatCouldBeTakenForACheckpoint) {
  const State state(small_sizes, 200);
  const auto view = state.view();
  bool to_the_end = false;
  for (std::size_t calls = 0; !to_the_end; ++calls) {
    const RunDirectory run;
    make_checkpoint(run.path(), {100, 1, 1});
    const Traced traced = run_until_call(calls, [&] {
      return write_checkpoint_part(run.path(), {200, 1, 1}, 0, 2, view).ok() ? 0 : 1;
    });
    if (traced.refused) GTEST_SKIP() << "processes can't be traced here";
    to_the_end = !traced.killed;
    const Newest newest = newest_of(run.path());
    EXPECT_EQ(newest.step, 100) << calls;
    EXPECT_TRUE(newest.passed_over.empty()) << calls;
    expect_ok(abandon_checkpoint(run.path(), {200, 1, 1}));
    EXPECT_EQ(run.names(), std::set<std::string>{"step-000000100.term-1"}) << calls;
  }
}

TEST(CheckpointCrash, KeepNeverLeavesAHalfRemovedOne) {
  bool to_the_end = false;
  for (std::size_t calls = 0; !to_the_end; ++calls) {
    const RunDirectory run;
    for (const std::int64_t step : {100, 200, 300}) make_checkpoint(run.path(), {step, 2, 1}, 1);
    write_parts(run.path(), {100, 1, 1}, 1, State(small_sizes, 1));
    const Traced traced = run_until_call(calls, [&] { return keep_checkpoints(run.path(), 1).ok() ? 0 : 1; });
    if (traced.refused) GTEST_SKIP() << "processes can't be traced here";
    to_the_end = !traced.killed;
    EXPECT_EQ(newest_of(run.path()).step, 300) << calls;
    const auto listings = list_checkpoints(run.path()).value();
    for (const CheckpointListing& listing : listings) EXPECT_EQ(listing.problem, "") << calls;
    expect_ok(keep_checkpoints(run.path(), 1));
    EXPECT_EQ(run.names(), std::set<std::string>{"step-000000300.term-2"}) << calls;
  }
}

/// Runs all bodies at once, each in a process; their exit statuses.
std::vector<int> run_at_once(const std::vector<std::function<int()>>& bodies) {
  int gate[2];
  EXPECT_EQ(::pipe(gate), 0);
  std::vector<pid_t> children;
  for (const auto& body : bodies) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(gate[1]);
      char byte = 0;
      (void)!::read(gate[0], &byte, 1);  // until the gate is closed
      ::_exit(body());
    }
    children.push_back(child);
  }
  ::close(gate[0]);
  ::close(gate[1]);
  std::vector<int> statuses;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    statuses.push_back(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
  return statuses;
}

int status_of(const Status& published) {
  return published.ok() ? 0 : 1 + static_cast<int>(published.error().code);
}

TEST(CheckpointRace, OfManyPublishersOneWins) {
  constexpr int taken = 1 + static_cast<int>(ErrorCode::already_exists);
  for (int round = 0; round < 20; ++round) {
    const RunDirectory run;
    // Two attempts at the same step, each with two who would publish it.
    std::vector<CheckpointManifest> manifests;
    for (const std::int64_t generation : {1, 2})
      manifests.push_back(write_parts(run.path(), {200, 1, generation}, 2, State(small_sizes, generation)));
    std::vector<std::function<int()>> bodies;
    for (int i = 0; i < 4; ++i)
      bodies.emplace_back([&, i] { return status_of(publish_checkpoint(run.path(), manifests[i % 2])); });
    const std::vector<int> statuses = run_at_once(bodies);
    EXPECT_EQ(std::ranges::count(statuses, 0), 1) << round;
    EXPECT_EQ(std::ranges::count(statuses, taken), 3) << round;
    std::vector<std::string> passed_over;
    const auto checkpoint = open_newest_checkpoint(run.path(), passed_over);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
    const auto winner = static_cast<std::size_t>(std::ranges::find(statuses, 0) - statuses.begin());
    EXPECT_EQ(checkpoint->manifest.id.generation, manifests[winner % 2].id.generation);
  }
}

TEST(CheckpointRace, TheNewerTermsIsTheNewest) {
  constexpr int stale = 1 + static_cast<int>(ErrorCode::mismatch);
  for (int round = 0; round < 20; ++round) {
    const RunDirectory run;
    const CheckpointManifest older = write_parts(run.path(), {200, 1, 1}, 1, State(small_sizes, 1));
    CheckpointManifest newer;
    const std::vector<int> statuses = run_at_once(
        {[&] { return status_of(publish_checkpoint(run.path(), older)); },
         [&] {
           const CheckpointManifest mine = write_parts(run.path(), {150, 2, 2}, 1, State(small_sizes, 2));
           const int status = status_of(publish_checkpoint(run.path(), mine));
           return keep_checkpoints(run.path(), 5).ok() ? status : 77;
         }});
    // The older one was in time, was refused, or lost its folder to the newer term's tidying.
    EXPECT_TRUE(statuses[0] == 0 || statuses[0] == stale ||
                statuses[0] == 1 + static_cast<int>(ErrorCode::not_found))
        << statuses[0];
    EXPECT_EQ(statuses[1], 0);
    const Newest newest = newest_of(run.path());
    EXPECT_EQ(newest.step, 150);
    EXPECT_TRUE(newest.passed_over.empty());
  }
}

/// A small filesystem of its own.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, std::int64_t bytes) : path_(path) {
    fs::create_directories(path);
    mounted_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, concat("size=", bytes).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(path_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] bool make_read_only() const {
    return ::mount("", path_.c_str(), "", MS_REMOUNT | MS_RDONLY, "") == 0;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

TEST(CheckpointDisk, AFullOneIsSaidAndNothingIsLeft) {
  const RunDirectory run;
  const State state({200'000}, 1);
  const auto view = state.view();
  for (std::int64_t pages = 1; pages < 48; pages += 5) {
    const SmallDisk disk(run.path(), pages * 4096);
    if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
    const auto part = write_checkpoint_part(run.path(), {5, 1, 1}, 0, 1, view);
    expect_part(message_of(part), "cannot write " + run.in(".step-000000005.term-1.gen-1/part-0-of-1.bin") +
                                      ": No space left on device");
    EXPECT_TRUE(run.names().empty());
  }
  const SmallDisk disk(run.path(), 100 * 4096);
  const CheckpointManifest manifest = write_parts(run.path(), {5, 1, 1}, 2, state);
  std::ofstream(run.path() + "/filler") << std::string(1 << 20, 'x');
  const Status published = publish_checkpoint(run.path(), manifest);
  expect_part(message_of(published), ": No space left on device");
  EXPECT_TRUE(list_checkpoints(run.path()).value().empty());
  EXPECT_EQ(std::distance(fs::directory_iterator(run.in(".step-000000005.term-1.gen-1")), {}), 2)
      << "the parts and nothing else";
  fs::remove(run.path() + "/filler");
  expect_ok(publish_checkpoint(run.path(), manifest));
}

TEST(CheckpointDisk, AReadOnlyOneIsSaid) {
  const RunDirectory run;
  const SmallDisk disk(run.path(), 1 << 20);
  if (!disk.mounted()) GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(errno);
  make_checkpoint(run.path(), {4, 1, 1});
  const State state(small_sizes, 5);
  const auto view = state.view();
  const CheckpointManifest manifest = write_parts(run.path(), {5, 1, 1}, 2, state);
  ASSERT_TRUE(disk.make_read_only());
  expect_part(message_of(write_checkpoint_part(run.path(), {6, 1, 1}, 0, 1, view)),
              ": Read-only file system");
  expect_part(message_of(publish_checkpoint(run.path(), manifest)), ": Read-only file system");
  EXPECT_EQ(newest_of(run.path()).step, 4);
}

}  // namespace
}  // namespace paceline
