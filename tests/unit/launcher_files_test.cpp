#include <gtest/gtest.h>

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "inventory.hpp"
#include "listener.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "rendezvous.hpp"
#include "run_directory.hpp"
#include "spawn.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;

class Folder : public testing::Test {
 protected:
  std::string in(const std::string& name) const { return folder_ / name; }

  TemporaryFolder folder_;
};

using RunDirectoryTest = Folder;
using RendezvousTest = Folder;

TEST_F(RunDirectoryTest, TwoOfTheSameSecondAreTwo) {
  // 2026-11-22 04:15:00 UTC.
  const Result<RunDirectory> first = RunDirectory::make(in("runs"), 1795320900);
  const Result<RunDirectory> second = RunDirectory::make(in("runs"), 1795320900);
  EXPECT_EQ(first.value().path(), in("runs/20261122T041500Z"));
  EXPECT_EQ(second.value().path(), in("runs/20261122T041500Z-2"));
  EXPECT_TRUE(fs::is_directory(first.value().path() + "/logs"));
}

TEST_F(RunDirectoryTest, HasOneHolderAtATime) {
  {
    const Result<RunDirectory> held = RunDirectory::take(in("run"));
    ASSERT_TRUE(held.ok());
    const Result<RunDirectory> second = RunDirectory::take(in("run"));
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::already_exists);
    EXPECT_NE(second.error().message.find(concat("in use by process ", ::getpid())), std::string::npos)
        << second.error().message;
  }
  EXPECT_TRUE(RunDirectory::take(in("run")).ok());
}

TEST_F(RunDirectoryTest, IsUsedOnce) {
  EXPECT_TRUE(RunDirectory::take(in("run")).ok());
  std::ofstream(in("run/job.json")) << "{}";
  EXPECT_EQ(RunDirectory::take(in("run")).error().code, ErrorCode::already_exists);
}

TEST_F(RunDirectoryTest, AFileInTheWayIsAnError) {
  std::ofstream(in("file")) << "x";
  EXPECT_FALSE(RunDirectory::take(in("file")).ok());
  EXPECT_FALSE(RunDirectory::make(in("file"), 0).ok());
}

TEST_F(RunDirectoryTest, WritablePathsAreKnownBefore) {
  EXPECT_TRUE(check_writable(in("out.json"), "--json").ok());
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_EQ(check_writable(folder_.path(), "--json").error().code, ErrorCode::invalid_argument);
  const Status missing = check_writable(in("no/out.json"), "--json");
  EXPECT_NE(missing.error().message.find("--json"), std::string::npos);
}

Rendezvous meeting() {
  return {.action = "train", .run_dir = "/r", .node = "n", .host = "10.0.0.1", .port = 4711, .secret = "s"};
}

TEST_F(RendezvousTest, IsReadByTheOthersAndGoneAfterwards) {
  Place place;
  place.launch_id = "some launch";
  const std::string path = rendezvous_path(in("runs"), place);
  const SteadyClock clock;
  {
    PublishedRendezvous published(path);
    ASSERT_TRUE(published.publish(meeting()).ok());
    struct stat found {};
    ASSERT_EQ(::stat(path.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 0777U, 0600U);
    const Result<Rendezvous> read = await_rendezvous(path, clock, std::chrono::seconds(1));
    EXPECT_EQ(read.value().run_dir, "/r");
    EXPECT_EQ(read.value().port, 4711);
    EXPECT_EQ(read.value().secret, "s");
    EXPECT_EQ(read.value().error, "");
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  place.launch_id = "another";
  EXPECT_NE(rendezvous_path(in("runs"), place), path);
}

TEST_F(RendezvousTest, LeavesAFolderThatWasThere) {
  fs::create_directory(in("runs"));
  {
    PublishedRendezvous published(in("runs/.launch-x.json"));
    ASSERT_TRUE(published.publish(meeting()).ok());
  }
  EXPECT_TRUE(fs::is_empty(in("runs")));
}

TEST_F(RendezvousTest, TellsWhatItWaitedForAndRefusesRubbish) {
  const SteadyClock clock;
  const Result<Rendezvous> none = await_rendezvous(in("nothing"), clock, std::chrono::milliseconds(30));
  EXPECT_EQ(none.error().code, ErrorCode::timeout);
  EXPECT_NE(none.error().message.find(in("nothing")), std::string::npos);
  for (const char* text : {"", "{", "[]", "{\"error\": 1}", "{\"error\": \"\"}", "null"}) {
    std::ofstream(in("rubbish"), std::ios::trunc) << text;
    EXPECT_EQ(await_rendezvous(in("rubbish"), clock, std::chrono::seconds(1)).error().code,
              ErrorCode::corrupt)
        << text;
  }
}

TEST(Secret, IsLongAndNeverTheSame) {
  EXPECT_EQ(random_secret().value().size(), 32U);
  EXPECT_NE(random_secret().value(), random_secret().value());
}

TEST(Listener, TakesAFreePortOfTheRange) {
  const Result<Listener> taken = listen_on("127.0.0.1", {});
  ASSERT_TRUE(taken.ok());
  const std::uint16_t port = taken->port;
  EXPECT_GT(port, 0);
  const Result<Listener> full = listen_on("127.0.0.1", {port, port});
  EXPECT_EQ(full.error().code, ErrorCode::already_exists);
  EXPECT_NE(full.error().message.find(concat("port ", port)), std::string::npos);
  ASSERT_LT(port, 65000);
  const Result<Listener> next = listen_on("127.0.0.1", {port, static_cast<std::uint16_t>(port + 50)});
  ASSERT_TRUE(next.ok());
  EXPECT_GT(next->port, port);
  EXPECT_NE(::fcntl(next->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(Listener, ReadsRanges) {
  EXPECT_EQ(parse_ports(std::nullopt)->first, 0);
  EXPECT_EQ(parse_ports("20000-20100")->last, 20100);
  EXPECT_EQ(parse_ports("7")->first, 7);
  for (const char* bad : {"0", "9-8", "1-2-3", "a-b", "70000", "5-"})
    EXPECT_FALSE(parse_ports(bad).ok()) << bad;
}

TEST(Listener, InterfacesByNameOrAddress) {
  EXPECT_EQ(outside_address("lo").value(), "127.0.0.1");
  EXPECT_EQ(outside_address("127.0.0.1").value(), "127.0.0.1");
  const Result<std::string> none = outside_address("nosuch0");
  EXPECT_EQ(none.error().code, ErrorCode::invalid_argument);
  EXPECT_NE(none.error().message.find("lo (127.0.0.1)"), std::string::npos) << none.error().message;
}

TEST(Inventory, OfThisMachineFollowsTheAffinity) {
  const Result<NodeInventory> inventory = take_inventory();
  ASSERT_TRUE(inventory.ok());
  cpu_set_t before;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  std::size_t cpus = 0;
  for (const Core& core : inventory->own.cores) {
    cpus += core.cpus.size();
    for (const int cpu : core.cpus) EXPECT_TRUE(CPU_ISSET(cpu, &before));
  }
  EXPECT_EQ(cpus, static_cast<std::size_t>(CPU_COUNT(&before)));
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(inventory->own.cores.back().cpus.back(), &one);
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  const Result<NodeInventory> bound = take_inventory();
  ASSERT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(bound.value().own.cores.size(), 1U);
  EXPECT_EQ(bound.value().cores, inventory->cores);
}

TEST(Inventory, OfALargerMachine) {
  ASSERT_EQ(::setenv("HWLOC_SYNTHETIC", "package:2 numa:1 core:3 pu:2", 1), 0);
  const Result<NodeInventory> inventory = take_inventory();
  ASSERT_EQ(::unsetenv("HWLOC_SYNTHETIC"), 0);
  ASSERT_TRUE(inventory.ok());
  EXPECT_EQ(inventory->cores, 6);
  EXPECT_EQ(inventory->cpus, 12);
  EXPECT_EQ(inventory->own.cores[2].numa_node, 0);
  EXPECT_EQ(inventory->own.cores[3].numa_node, 1);
  EXPECT_EQ(inventory->own.cores[3].cpus, (std::vector<int>{6, 7}));
}

TEST(WorkerEnvironment, ReplacesItsOwnAndKeepsTheRest) {
  const std::vector<std::string> mine = worker_environment(
      {"PATH=/bin", "OMP_NUM_THREADS=64", "GLIBC_TUNABLES=glibc.malloc.check=1", "OMP_NUM_THREADS_X=1"}, 3,
      2);
  const std::vector<std::string> expected = {"PATH=/bin",
                                             "OMP_NUM_THREADS_X=1",
                                             "OMP_NUM_THREADS=2",
                                             "OPENBLAS_NUM_THREADS=2",
                                             "MKL_NUM_THREADS=2",
                                             "PACELINE_RANK=3",
                                             "GLIBC_TUNABLES=glibc.malloc.check=1:glibc.malloc.hugetlb=1"};
  EXPECT_EQ(mine, expected);
  EXPECT_EQ(worker_environment({}, 0, 1).back(), "GLIBC_TUNABLES=glibc.malloc.hugetlb=1");
  EXPECT_EQ(worker_environment({"GLIBC_TUNABLES=glibc.malloc.hugetlb=0"}, 0, 1).back(),
            "GLIBC_TUNABLES=glibc.malloc.hugetlb=0");
}

TEST(Spawn, AProgramThatIsNotThereIsAnErrorAndNoChild) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  SpawnRequest request;
  request.program = "/nonexistent/worker";
  request.channel_fd = request.output_fd = null.get();
  const Result<pid_t> pid = spawn(request);
  EXPECT_EQ(pid.error().message, "cannot start /nonexistent/worker: No such file or directory");
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
}

}  // namespace
}  // namespace paceline
