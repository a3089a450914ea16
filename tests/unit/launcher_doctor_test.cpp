// `paceline doctor`: what figures mean, its messages between machines, and its tries on a real filesystem.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <thread>

#include "doctor/child.hpp"
#include "doctor/file_checks.hpp"
#include "doctor/machine_checks.hpp"
#include "doctor/orders.hpp"
#include "doctor/program_checks.hpp"
#include "doctor/report.hpp"
#include "doctor/rules.hpp"
#include "doctor/shared_trial.hpp"
#include "paceline/base/text.hpp"
#include "support/mutations.hpp"
#include "support/temporary_folder.hpp"

namespace paceline::doctor {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20, gib = mib << 10;
const std::string json_alphabet = R"({}[]",:0123456789-.eE\truefalsn )";

void expect_state(const Check& check, State state) {
  EXPECT_EQ(check.state, state) << check.name << ": " << check.found;
  EXPECT_EQ(check.mend.empty(), state == State::ok) << check.name << ": " << check.mend;
  EXPECT_FALSE(check.found.empty()) << check.name;
}

TEST(DoctorRules, Cores) {
  expect_state(judge_cores({.own = 4, .node = 4}), State::ok);
  expect_state(judge_cores({.own = 1, .node = 4}), State::warning);
  expect_state(judge_cores({.own = 1, .node = 4, .is_share = true}), State::ok);
  expect_state(judge_cores({.own = 4, .node = 4, .quota = 2.5}), State::warning);
  expect_state(judge_cores({.own = 4, .node = 4, .quota = 4}), State::ok);
}

TEST(DoctorRules, Memory) {
  expect_state(judge_memory(-1, 2), State::warning);
  expect_state(judge_memory(static_cast<std::int64_t>(256 * mib), 1), State::problem);
  expect_state(judge_memory(static_cast<std::int64_t>(3 * gib), 4), State::warning);
  expect_state(judge_memory(static_cast<std::int64_t>(4 * gib), 4), State::ok);
}

TEST(DoctorRules, SharedMemoryIsForNccl) {
  const auto state = [](std::uint64_t free, bool has_gpus) {
    return judge_shared_memory({64 * gib, free}, has_gpus).state;
  };
  EXPECT_EQ(state(gib, true), State::ok);
  EXPECT_EQ(state(64 * mib, true), State::problem);  // what containers have by default
  EXPECT_EQ(state(65 * mib, true), State::warning);
  EXPECT_EQ(state(0, false), State::warning);
}

TEST(DoctorRules, Limits) {
  expect_state(judge_open_files(1024, 4096), State::ok);
  expect_state(judge_open_files(std::nullopt, std::nullopt), State::ok);
  expect_state(judge_open_files(512, 4096), State::warning);
  EXPECT_EQ(judge_open_files(128, 4096).mend, "ulimit -n 1024");
  EXPECT_NE(judge_open_files(128, 128).mend.find("hard limit"), std::string::npos);
  expect_state(judge_open_files(128, 128), State::problem);
  expect_state(judge_locked_memory(8 * mib, false), State::ok);
  expect_state(judge_locked_memory(8 * mib, true), State::warning);
  expect_state(judge_locked_memory(std::nullopt, true), State::ok);
  expect_state(judge_processes(std::nullopt, 64), State::ok);
  expect_state(judge_processes(1000, 64), State::warning);
  expect_state(judge_processes(1000, 2), State::ok);
  expect_state(judge_processes(32, 1), State::problem);
  expect_state(judge_stack(8 * mib), State::ok);
  expect_state(judge_stack(mib), State::warning);
  expect_state(judge_stack(1024), State::problem);
}

TEST(DoctorRules, Kernel) {
  expect_state(judge_huge_pages("madvise"), State::ok);
  expect_state(judge_huge_pages("never"), State::warning);
  expect_state(judge_huge_pages(""), State::warning);
  expect_state(judge_io_uring("", ""), State::ok);
  expect_state(judge_io_uring("Operation not permitted", ""), State::warning);
  expect_state(judge_io_uring("Operation not permitted", "threads"), State::warning);
  expect_state(judge_io_uring("Operation not permitted", "io_uring"), State::problem);
  expect_state(judge_io_uring("", "iouring"), State::problem);
  expect_state(judge_memory_of_others("", 1), State::ok);
  const Check refused = judge_memory_of_others("Operation not permitted", 1);
  expect_state(refused, State::absent);
  EXPECT_NE(refused.found.find("ptrace_scope is 1"), std::string::npos);
}

TEST(DoctorRules, Clocks) {
  expect_state(judge_clock(true), State::ok);
  expect_state(judge_clock(false), State::warning);
  expect_state(judge_skew(0.5, 0.001), State::ok);
  expect_state(judge_skew(-2, 0.001), State::warning);
  expect_state(judge_skew(-2, 1.5), State::ok);  // it may be the connection
  expect_state(judge_skew(31, 0.5), State::problem);
}

TEST(DoctorRules, Mpi) {
  const auto parsed = [](const char* text) {
    const MpiVersion mpi = parse_mpi_version(text);
    return concat(mpi.flavour, "/", mpi.version);
  };
  EXPECT_EQ(parsed("mpirun (Open MPI) 4.1.4\n\nReport bugs to http://www.open-mpi.org/\n"), "Open MPI/4.1.4");
  EXPECT_EQ(parsed("mpirun (Open MPI) 5.0.3\n"), "Open MPI/5.0.3");
  EXPECT_EQ(parsed("HYDRA build details:\n    Version:                                 4.0.2\n"),
            "MPICH/4.0.2");
  EXPECT_EQ(parsed("Intel(R) MPI Library for Linux* OS, Version 2021.5 Build 20211102\n"),
            "Intel MPI/2021.5");
  EXPECT_EQ(parsed("what?"), "/");
  expect_state(judge_mpi({"Open MPI", "4.1.4"}, false), State::ok);
  expect_state(judge_mpi({"Open MPI", "4.1.4"}, true), State::warning);
  expect_state(judge_mpi({"MPICH", "4.0.2"}, true), State::ok);
  expect_state(judge_mpi({}, false), State::warning);
}

TEST(DoctorRules, VersionsOfLibraries) {
  EXPECT_EQ(nccl_version(21803), "2.18.3");
  EXPECT_EQ(nccl_version(2708), "2.7.8");
  EXPECT_EQ(cuda_version(12020), "12.2");
}

TEST(DoctorRules, FilesystemOfAFolder) {
  const std::string mounts =
      "24 1 259:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
      "30 24 0:40 / /data rw,relatime shared:9 - nfs4 server:/export rw,vers=4.2\n"
      "31 24 0:41 / /data/my\\040runs rw - fuse.mfs mfs#10.0.0.1:9421 rw\n"
      "32 31 0:42 / /data/my\\040runs rw - tmpfs tmpfs rw\n"
      "nonsense\n";
  const auto type = [&](const std::string& path) { return find_filesystem(mounts, path).type; };
  EXPECT_EQ(type("/"), "ext4");
  EXPECT_EQ(type("/database"), "ext4");
  EXPECT_EQ(type("/data"), "nfs4");
  EXPECT_EQ(type("/data/my runs/a"), "tmpfs");
  EXPECT_EQ(find_filesystem(mounts, "/data/x").source, "server:/export");
  EXPECT_EQ(find_filesystem("", "/").type, "");
  expect_state(judge_filesystem({"nfs4", "server:/export"}, "/data"), State::ok);
  expect_state(judge_filesystem({"tmpfs", "tmpfs"}, "/data"), State::warning);
  expect_state(judge_filesystem({"overlay", "overlay"}, "/data"), State::warning);
}

TEST(DoctorRules, Space) {
  expect_state(judge_free_space({gib * 100, gib * 10}, std::nullopt), State::ok);
  expect_state(judge_free_space({gib * 100, gib}, 100000), State::warning);
  expect_state(judge_free_space({gib * 100, mib}, 100000), State::problem);
  expect_state(judge_free_space({gib * 100, gib * 10}, 3), State::problem);
  expect_state(judge_sync(0.01), State::ok);
  expect_state(judge_sync(3), State::warning);
  expect_state(judge_delay("renames", 0.5), State::ok);
  expect_state(judge_delay("renames", 5), State::warning);
}

TEST(DoctorRules, CgroupOfProcesses) {
  EXPECT_EQ(pids_cgroup("8:pids:/slurm/job_7\n0::/other\n"), "/pids/slurm/job_7");
  EXPECT_EQ(pids_cgroup("0::/system.slice/a.service\n"), "/system.slice/a.service");
  EXPECT_EQ(pids_cgroup(""), "/");
}

TEST(DoctorMessages, ComeBackAsTheyWere) {
  const Check check = problem("open \"files\"\n", "\xc3\xbc", "mend");
  EXPECT_EQ(parse_check(to_json(check)).value(), check);
  EXPECT_EQ(to_json(check).find('\n'), std::string::npos);
  Order order{.number = 7, .task = Task::connect, .path = "/a b", .content = "c", .by = "d"};
  order.endpoints = {{"n1", "10.0.0.1", 65535}};
  EXPECT_EQ(parse_order(to_json(order)).value(), order);
  const Answer answer{
      .number = 7, .who = "n", .error = "e\n", .made = true, .seconds = 0.5, .time = 9, .missed = {"x"}};
  EXPECT_EQ(parse_answer(to_json(answer)).value(), answer);
  const Hello hello{.version = "1", .node = "n", .who = "w", .host = "10.0.0.1", .port = 1};
  EXPECT_EQ(parse_hello(to_json(hello)).value(), hello);
}

TEST(DoctorMessages, DamagedOnesAreErrors) {
  Order order{.number = 1, .task = Task::await, .path = "/r"};
  order.endpoints = {{"n1", "10.0.0.1", 80}};
  const std::vector<std::string> seeds = {
      to_json(order), to_json(Answer{.number = 1, .who = "n", .missed = {"x"}}),
      to_json(Hello{.version = "1", .node = "n", .who = "w"}), to_json(fine("a", "b"))};
  const Tally tally = feed(seeds, json_alphabet, 1, [](const std::string& text) {
    const Result<Order> read = parse_order(text);
    const bool good =
        read.ok() || parse_answer(text).ok() || parse_hello(text).ok() || parse_check(text).ok();
    EXPECT_TRUE(read.ok() || read.error().code == ErrorCode::corrupt);
    return good;
  });
  EXPECT_GT(tally.good, 100);
  EXPECT_GT(tally.bad, 1000);
}

TEST(DoctorReport, CountsAndShowsWhatIsWrong) {
  Examination all;
  all.nodes = {{"n1", {fine("cores", "2"), warning("clock", "off", "run chrony")}},
               {"n2", {problem("ports", "taken", "free one"), absent("ssh", "no ssh", "install it")}}};
  all.together = {problem("renames", "late", "remount")};
  EXPECT_EQ(verdict(all), "2 problems, 1 warning");
  EXPECT_EQ(line_of(all.nodes[0].checks[1]), "  warning    clock               off: run chrony");
  EXPECT_EQ(short_text_of(all.nodes[1]),
            "node n2: 0 ok, 1 not there\n  problem    ports               taken: free one\n");
  EXPECT_NE(to_json(all).find("\"problems\": 2"), std::string::npos);
  EXPECT_EQ(verdict({}), "no problems, no warnings");
}

TEST(DoctorChecks, AdviceOfAnError) {
  const Check check =
      from_advice("ports", State::problem, Error{ErrorCode::io, "port 1: is taken: take another"});
  EXPECT_EQ(check.found, "port 1: is taken");
  EXPECT_EQ(check.mend, "take another");
}

class DoctorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto caught = StopSignals::catch_all();
    ASSERT_TRUE(caught.ok());
    signals_ = std::move(caught).value();
  }
  [[nodiscard]] std::vector<Check> run(const Group& group) {
    std::vector<Check> checks;
    run_group(group, *signals_, [&checks](const Check& check) { checks.push_back(check); });
    return checks;
  }
  [[nodiscard]] std::vector<std::string> left_in(const std::string& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      names.push_back(entry.path().filename());
    return names;
  }

  std::unique_ptr<StopSignals> signals_;
};

TEST_F(DoctorTest, AGroupThatHangsOrCrashesIsAProblemOfItsOwn) {
  const auto group = [](const std::function<void()>& end) {
    return Group{
        .name = "group", .limit = std::chrono::seconds(2), .mend = "mend", .work = [end](const Sink& sink) {
          sink(fine("first", "done"));
          end();
        }};
  };
  EXPECT_EQ(run(group([] {})).size(), 1U);
  const std::vector<Check> hung = run(group([] {
    while (true) ::pause();
  }));
  ASSERT_EQ(hung.size(), 2U);
  EXPECT_EQ(hung[1], problem("group", "no answer within 2 s, after the check of first", "mend"));
  const std::vector<Check> crashed = run(group([] { ::kill(::getpid(), SIGKILL); }));
  ASSERT_EQ(crashed.size(), 2U);
  EXPECT_EQ(crashed[1].found, "broke off (it was killed by signal 9 (Killed)), after the check of first");
}

TEST_F(DoctorTest, ASignalEndsAWait) {
  ::kill(::getpid(), SIGTERM);
  const auto hangs = [] {
    while (true) ::pause();
    return std::string();
  };
  const Result<std::string> result = in_child(hangs, std::chrono::seconds(60), *signals_);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::aborted);
  EXPECT_EQ(signals_->first(), SIGTERM);
}

TEST_F(DoctorTest, WordsOfPrograms) {
  EXPECT_EQ(words_of({"sh", "-c", "echo a; echo b >&2"}, *signals_).value().size(), 4U);
  EXPECT_EQ(words_of({"/nonexistent/program"}, *signals_).error().code, ErrorCode::not_found);
  const Result<std::string> failed = words_of({"sh", "-c", "echo why; exit 3"}, *signals_);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().message, "sh exited with status 3: why");
}

TEST_F(DoctorTest, FilesOfThisMachine) {
  const TemporaryFolder folder;
  std::vector<std::string> names;
  check_files(folder.path(), [&names](const Check& check) {
    EXPECT_NE(check.state, State::problem) << check.name << ": " << check.found;
    names.push_back(check.name);
  });
  EXPECT_EQ(names,
            (std::vector<std::string>{"folder", "free space", "fsync", "rename", "O_EXCL", "link", "flock"}));
  EXPECT_TRUE(left_in(folder.path()).empty());
}

TEST_F(DoctorTest, FoldersThatCannotBeUsed) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file_atomically(folder / "file", "").ok());
  for (const std::string& name : {folder / "file", folder / "missing", std::string("/proc")}) {
    std::vector<Check> checks;
    check_files(name, [&checks](const Check& check) { checks.push_back(check); });
    ASSERT_FALSE(checks.empty());
    EXPECT_TRUE(std::ranges::any_of(checks, [](const Check& check) { return check.state == State::problem; }))
        << name;
  }
}

TEST_F(DoctorTest, ATrialOfSeveralMachines) {
  const TemporaryFolder folder;
  {
    const Result<SharedTrial> trial = SharedTrial::start(folder.path(), *signals_);
    ASSERT_TRUE(trial.ok()) << trial.error().message;
    const auto does = [&](const Order& order, const std::string& who) {
      return carry_out(order, who, *signals_);
    };
    EXPECT_EQ(does({.number = 3, .task = Task::await, .path = trial->marker(), .content = trial->mark()}, "a")
                  .error,
              "");
    for (const Task task : {Task::link, Task::create}) {
      const Order order{
          .number = 4, .task = task, .path = concat(trial->path(), "/", static_cast<int>(task))};
      EXPECT_TRUE(does(order, "a").made);
      const Answer second = does(order, "b");
      EXPECT_FALSE(second.made);
      EXPECT_EQ(second.error, "");
    }
    const std::string path = trial->path() + "/replaced";
    EXPECT_EQ(does({.number = 5, .task = Task::replace, .path = path, .content = "x", .by = "a"}, "b").error,
              "");
    EXPECT_FALSE(does({.number = 6, .task = Task::look, .path = path}, "b").made);
    EXPECT_TRUE(
        does({.number = 7, .task = Task::replace, .path = path, .content = "x", .by = "a"}, "a").made);
    EXPECT_TRUE(does({.number = 8, .task = Task::look, .path = path}, "b").made);
    EXPECT_TRUE(trial->is_locked());
    EXPECT_FALSE(does({.number = 9, .task = Task::lock, .path = trial->lock()}, "b").made);
    EXPECT_NE(does({.number = 10, .task = Task::link, .path = "/nonexistent/x"}, "b").error, "");
  }
  EXPECT_TRUE(left_in(folder.path()).empty());
  EXPECT_FALSE(SharedTrial::start(folder / "missing", *signals_).ok());
}

TEST_F(DoctorTest, ConnectionsThatDoNotComeAbout) {
  Order order{.number = 1, .task = Task::connect};
  order.endpoints = {{"n1", "127.0.0.1", 1}, {"n2", "nonsense", 1}};
  const Answer answer = carry_out(order, "a", *signals_);
  ASSERT_EQ(answer.missed.size(), 2U);
  EXPECT_EQ(answer.missed[0], "n1 at 127.0.0.1:1 (Connection refused)");
}

TEST_F(DoctorTest, ProcessesOfOneParentReadEachOther) {
  const Check check = check_memory_of_others(*signals_);
  EXPECT_TRUE(check.state == State::ok || check.state == State::absent) << check.found;
}

}  // namespace
}  // namespace paceline::doctor
