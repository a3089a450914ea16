// What a node has: from NVML, the kernel's files, and inventory files.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "paceline/gpu/parts.hpp"
#include "resources/gpus.hpp"
#include "resources/inventory_file.hpp"
#include "resources/limits.hpp"
#include "resources/network_cards.hpp"
#include "resources/node_resources.hpp"
#include "support/mutations.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

/// Variables of this process while it lives.
class Variables {
 public:
  explicit Variables(const std::map<std::string, std::string>& values) : values_(values) {
    for (const auto& [name, value] : values_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : values_) ::unsetenv(name.c_str());
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;

 private:
  std::map<std::string, std::string> values_;
};

void write(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

TEST(Gpus, AreThoseOfTheDriver) {
  const Variables fake({{"PACELINE_NVML", FAKE_NVML}, {"FAKE_NVML_GPUS", "4"}});
  const Result<std::vector<Gpu>> gpus = find_gpus();
  ASSERT_TRUE(gpus.ok()) << gpus.error().message;
  ASSERT_EQ(gpus->size(), 4U);
  const Gpu& last = gpus->back();
  EXPECT_EQ(last.name, "Fake H100");
  EXPECT_EQ(last.uuid, "GPU-00000003");
  EXPECT_EQ(last.memory_bytes, std::int64_t{80} << 30);
  EXPECT_EQ(last.free_bytes, std::int64_t{79} << 30);
  EXPECT_EQ(last.numa_node, -1);
  EXPECT_EQ(last.linked, std::vector<std::int64_t>{2});
}

TEST(Gpus, OnlyThoseThatThisProcessMaySee) {
  const Variables fake(
      {{"PACELINE_NVML", FAKE_NVML}, {"FAKE_NVML_GPUS", "4"}, {"CUDA_VISIBLE_DEVICES", "3,GPU-00000002"}});
  const Result<std::vector<Gpu>> gpus = find_gpus();
  ASSERT_TRUE(gpus.ok());
  ASSERT_EQ(gpus->size(), 2U);
  EXPECT_EQ((*gpus)[0].uuid, "GPU-00000003");
  EXPECT_EQ((*gpus)[0].linked, std::vector<std::int64_t>{1});
}

TEST(Gpus, SlicesStandInPlaceOfTheirGpu) {
  const Variables fake({{"PACELINE_NVML", FAKE_NVML}, {"FAKE_NVML_MIG", "1"}});
  const Result<std::vector<Gpu>> gpus = find_gpus();
  ASSERT_TRUE(gpus.ok());
  ASSERT_EQ(gpus->size(), 3U);
  EXPECT_EQ((*gpus)[0].uuid, "MIG-00000000-1");
  EXPECT_EQ((*gpus)[1].memory_bytes, std::int64_t{40} << 30);
  EXPECT_TRUE((*gpus)[1].linked.empty());
  EXPECT_EQ((*gpus)[2].uuid, "GPU-00000001");
}

TEST(Gpus, ThoseThatNothingCanRunOnAreLeftOut) {
  for (const auto& [variable, value, why] :
       {std::tuple("FAKE_NVML_MIG", "2", "GPU 0 is in MIG mode and has no slice"),
        std::tuple("FAKE_NVML_LOST", "0", "GPU 0 does not answer: Unknown Error")}) {
    const Variables fake({{"PACELINE_NVML", FAKE_NVML}, {variable, value}});
    const Result<std::vector<Gpu>> gpus = find_gpus();
    ASSERT_TRUE(gpus.ok()) << variable;
    ASSERT_EQ(gpus->size(), 1U) << variable;
    EXPECT_EQ((*gpus)[0].uuid, "GPU-00000001");
    const Variables alone(std::map<std::string, std::string>{{"CUDA_VISIBLE_DEVICES", "0"}});
    EXPECT_EQ(find_gpus().error().message, why);
  }
}

TEST(Gpus, ADriverThatDoesNotStartIsAnErrorAndNoneIsNot) {
  {
    const Variables fake({{"PACELINE_NVML", FAKE_NVML}, {"FAKE_NVML_BROKEN", "1"}});
    EXPECT_EQ(find_gpus().error().message, "the GPU driver does not start: Driver Not Loaded");
    const Result<OwnResources> own = take_resources({});
    ASSERT_TRUE(own.ok());
    EXPECT_EQ(own->complaint, "the GPU driver does not start: Driver Not Loaded");
    EXPECT_GT(own->node.usable_cores, 0);
    EXPECT_GT(own->node.free_memory_bytes, 0);
  }
  const Variables missing(std::map<std::string, std::string>{{"PACELINE_NVML", "/nonexistent.so"}});
  EXPECT_EQ(find_gpus().error().code, ErrorCode::not_found);
}

TEST(Gpus, TheVariableIsReadAsCudaReadsIt) {
  const std::vector<std::string> uuids = {"GPU-aa1", "GPU-aa2", "GPU-b"};
  using Places = std::vector<std::size_t>;
  EXPECT_EQ(nvml::visible(uuids, std::nullopt), (Places{0, 1, 2}));
  EXPECT_EQ(nvml::visible(uuids, ""), Places{});
  EXPECT_EQ(nvml::visible(uuids, "2,0"), (Places{2, 0}));
  EXPECT_EQ(nvml::visible(uuids, "1,-1,0"), Places{1});
  EXPECT_EQ(nvml::visible(uuids, "GPU-b,GPU-aa2"), (Places{2, 1}));
  EXPECT_EQ(nvml::visible(uuids, "0,7,1"), Places{0});
  EXPECT_EQ(nvml::visible(uuids, "NoDevFiles"), Places{});
}

TEST(NetworkCards, AreThoseThatAreUp) {
  const TemporaryFolder folder;
  const std::string net = folder.path() + "/class/net/";
  for (const auto& [name, state, speed] :
       {std::tuple{"lo", "unknown", ""}, std::tuple{"eth0", "up", "25000\n"},
        std::tuple{"eth1", "down", "-1\n"}, std::tuple{"br0", "up", "-1\n"}}) {
    write(net + name + "/operstate", std::string(state) + "\n");
    write(net + name + "/type", name == std::string("lo") ? "772\n" : "1\n");
    write(net + name + "/speed", speed);
  }
  EXPECT_EQ(find_network_cards(folder.path()), (std::vector<NetworkCard>{{"br0", -1, 0}, {"eth0", -1, 25}}));
  // Where there is hardware, what is virtual lies on top of it.
  write(net + "eth0/device/numa_node", "1\n");
  const std::string port = folder.path() + "/class/infiniband/mlx5_0/ports/1/";
  write(port + "state", "4: ACTIVE\n");
  write(port + "rate", "400 Gb/sec (4X NDR)\n");
  write(folder.path() + "/class/infiniband/mlx5_0/device/numa_node", "0\n");
  write(folder.path() + "/class/infiniband/mlx5_1/ports/1/state", "1: DOWN\n");
  EXPECT_EQ(find_network_cards(folder.path()),
            (std::vector<NetworkCard>{{"eth0", 1, 25}, {"mlx5_0:1", 0, 400}}));
  EXPECT_TRUE(find_network_cards(folder.path() + "/nothing").empty());
}

Environment slurm(const char* mib) {
  return [mib](const char* name) {
    return std::string(name) == "SLURM_MEM_PER_NODE" && mib != nullptr ? std::optional<std::string>(mib)
                                                                       : std::nullopt;
  };
}

TEST(Limits, MemoryIsTheLeastOfNodeCgroupsAndSlurm) {
  const TemporaryFolder folder;
  const LimitSources sources{folder.path() + "/proc", folder.path() + "/cgroup"};
  EXPECT_EQ(free_memory_bytes(slurm(nullptr), sources), -1);
  write(sources.proc + "/meminfo", "MemTotal:  4096 kB\nMemAvailable:     2048 kB\n");
  EXPECT_EQ(free_memory_bytes(slurm(nullptr), sources), 2048 << 10);
  EXPECT_EQ(free_memory_bytes(slurm("1"), sources), 1 << 20);
  write(sources.proc + "/self/cgroup", "4:memory:/slurm/job_7\n0::/user/me\n");
  write(sources.cgroup + "/user/memory.max", "1000000\n");
  write(sources.cgroup + "/user/memory.current", "400000\n");
  write(sources.cgroup + "/user/me/memory.max", "max\n");
  EXPECT_EQ(free_memory_bytes(slurm(nullptr), sources), 600000);
  write(sources.cgroup + "/user/memory.stat",
        "anon 100000\nfile 300000\ninactive_file 250000\nactive_file 50000\n");
  EXPECT_EQ(free_memory_bytes(slurm(nullptr), sources), 900000);
  write(sources.cgroup + "/memory/slurm/job_7/memory.limit_in_bytes", "5000\n");
  write(sources.cgroup + "/memory/slurm/job_7/memory.usage_in_bytes", "6000\n");
  EXPECT_EQ(free_memory_bytes(slurm(nullptr), sources), 0);
}

TEST(Limits, QuotaIsTheLeastOfAllCgroups) {
  const TemporaryFolder folder;
  const LimitSources sources{folder.path() + "/proc", folder.path() + "/cgroup"};
  EXPECT_FALSE(cpu_quota(sources));
  write(sources.proc + "/self/cgroup", "2:cpu,cpuacct:/box\n0::/a/b\n");
  write(sources.cgroup + "/a/b/cpu.max", "max 100000\n");
  EXPECT_FALSE(cpu_quota(sources));
  write(sources.cgroup + "/a/cpu.max", "350000 100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota(sources).value_or(0), 3.5);
  write(sources.cgroup + "/cpu/box/cpu.cfs_quota_us", "-1\n");
  write(sources.cgroup + "/cpu/box/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota(sources).value_or(0), 3.5);
  write(sources.cgroup + "/cpu/cpu.cfs_quota_us", "200000\n");
  write(sources.cgroup + "/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(cpu_quota(sources).value_or(0), 2);
}

TEST(InventoryFile, ShortFormsStandForMany) {
  const Result<std::vector<NodeResources>> nodes = parse_inventory(
      R"({"nodes": [{"name": "n[08-10]", "cores": 8, "numa_nodes": 2, "free_memory_gib": 1.5,
                     "gpus": {"count": 4, "kind": "H100", "memory_gib": 80, "nvlink": true},
                     "cards": [{"name": "mlx5_0", "numa_node": 1, "gbit_per_s": 400}]},
                    {"name": "old", "refused": "is drained"}]})",
      "cluster.json");
  ASSERT_TRUE(nodes.ok()) << nodes.error().message;
  ASSERT_EQ(nodes->size(), 4U);
  const NodeResources& second = (*nodes)[1];
  EXPECT_EQ(second.name, "n09");
  EXPECT_EQ(second.usable_cores, 8);
  EXPECT_EQ(second.cores.cores[4].numa_node, 1);
  EXPECT_EQ(second.gpus[2].numa_node, 1);
  EXPECT_EQ(second.gpus[2].free_bytes, std::int64_t{80} << 30);
  EXPECT_EQ(second.gpus[2].linked, (std::vector<std::int64_t>{0, 1, 3}));
  EXPECT_EQ(second.free_memory_bytes, 3LL << 29);
  EXPECT_EQ((*nodes)[2].name, "n10");
  EXPECT_EQ((*nodes)[3].refused, "is drained");
  EXPECT_EQ((*nodes)[3].usable_cores, 1);
  const nlohmann::json again = {{"nodes", {to_inventory_json(second)}}};
  EXPECT_EQ(parse_inventory(again.dump(), "again").value().front(), second);
}

TEST(InventoryFile, MistakesAreNamed) {
  const auto refusal = [](const std::string& text) {
    const Result<std::vector<NodeResources>> nodes = parse_inventory(text, "f");
    return nodes.ok() ? "" : nodes.error().message;
  };
  EXPECT_EQ(refusal(R"({"nodes": []})").substr(0, 26), "f: it needs a list of node");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a", "corse": 4}]})"),
            "f, node a: the node has an unknown key corse (did you mean cores?)");
  EXPECT_EQ(refusal(R"({"nodes": [{"cores": 4}]})"), "f, node 1 of the list: it has no name");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a"}, {"name": "a"}]})"), "f, node a: node a is there twice");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a", "cores": -4}]})"),
            "f, node a: cores must be a whole number from 0 to 65536");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a", "cores": [{"cpus": [1]}, {"cpus": [1]}]}]})"),
            "f, node a: cpu 1 is in two cores");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a", "gpus": [{"memory_gib": "80"}]}]})"),
            "f, node a: memory_gib must be a number from 0 to 1e+09");
  EXPECT_EQ(refusal(R"({"nodes": [{"name": "a", "gpus": [{"linked": [0]}]}]})"),
            "f, node a: GPU 0 is linked with itself");
  EXPECT_NE(refusal(R"({"nodes": [{"name": "a[1-999999999]"}]})").find("at most 100000 nodes"),
            std::string::npos);
  EXPECT_EQ(refusal("nodes: 3").substr(0, 3), "f: ");
}

TEST(InventoryFile, AnyBytesAreNodesOrOneSentence) {
  const std::string good =
      R"({"nodes":[{"name":"n[1-3]","cores":[{"numa_node":0,"cpus":[0,1]}],"usable_cores":1,"slots":2,)"
      R"("gpus":[{"uuid":"u","kind":"k","memory_gib":1.5,"free_gib":1,"numa_node":0,"linked":[]}],)"
      R"("cards":[{"name":"c","numa_node":-1,"gbit_per_s":10}],"free_memory_gib":2,"refused":""}]})";
  ASSERT_TRUE(parse_inventory(good, "f").ok());
  const Tally tally = feed({good}, R"({}[]",:0123456789-.eE\truefalsn )", 3, [](const std::string& text) {
    const Result<std::vector<NodeResources>> nodes = parse_inventory(text, "f");
    if (!nodes.ok()) {
      EXPECT_EQ(nodes.error().code, ErrorCode::invalid_argument);
      return false;
    }
    EXPECT_FALSE(nodes->empty());
    for (const NodeResources& node : *nodes) EXPECT_LE(node.usable_cores, std::ssize(node.cores.cores));
    return true;
  });
  EXPECT_GT(tally.good, 100);
  EXPECT_GT(tally.bad, 1000);
}

}  // namespace
}  // namespace paceline
