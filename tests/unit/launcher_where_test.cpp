#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "paceline/base/fd.hpp"
#include "where/adapters.hpp"

namespace paceline {
namespace {

using Variables = std::map<std::string, std::string>;

Result<Place> place_in(const Variables& variables) {
  return find_place([variables](const char* name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end() || found->second.empty()) return std::nullopt;
    return found->second;
  });
}

Variables mpirun(int rank, int size, int local_rank, int local_size) {
  return {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_SIZE", std::to_string(size)},
          {"OMPI_COMM_WORLD_LOCAL_RANK", std::to_string(local_rank)},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(local_size)},
          {"PMIX_NAMESPACE", "1922301953"},
          {"OMPI_MCA_orte_precondition_transports", "6e1bae42-8f3b7ff3"}};
}

Variables srun() {
  // Task 4 of 7 on the third of four nodes, which have 2, 2, 2 and 1 tasks.
  return {{"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"},        {"SLURM_PROCID", "4"},
          {"SLURM_NTASKS", "9"},  {"SLURM_STEP_NUM_TASKS", "7"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
          {"SLURM_NODEID", "2"},  {"SLURM_LOCALID", "0"},        {"SLURM_STEP_NUM_NODES", "4"},
          {"SLURM_NNODES", "5"},  {"SLURMD_NODENAME", "n3"},     {"SLURM_CPUS_ON_NODE", "4"}};
}

Variables with(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  return variables;
}

TEST(Where, PlainShell) {
  const Result<Place> place = place_in({});
  ASSERT_TRUE(place.ok());
  EXPECT_TRUE(place->in_shell());
  EXPECT_EQ(place->size, 1);
  EXPECT_NE(place->node, "");
}

TEST(Where, NodeNamesInAShellMayBeOnePerRank) {
  const Place one = place_in({{"PACELINE_NODE", "a"}}).value();
  EXPECT_EQ(node_names(one, 3).value(), (std::vector<std::string>{"a", "a", "a"}));
  const Place list = place_in({{"PACELINE_NODE", "a,b,a"}}).value();
  EXPECT_EQ(node_names(list, 3).value(), (std::vector<std::string>{"a", "b", "a"}));
  EXPECT_EQ(node_names(list, 2).error().code, ErrorCode::invalid_argument);
  EXPECT_FALSE(node_names(place_in({{"PACELINE_NODE", "a,,b"}}).value(), 3).ok());
}

TEST(Where, Mpirun) {
  const Result<Place> place = place_in(with(mpirun(2, 4, 0, 2), "PACELINE_NODE", "h2"));
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->launcher, "mpirun");
  EXPECT_EQ(place->rank, 2);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->local_rank, 0);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->node, "h2");
  EXPECT_FALSE(place->one_host);
  EXPECT_TRUE(place_in(mpirun(0, 2, 0, 2))->one_host);
  EXPECT_EQ(place_in(mpirun(0, 2, 0, 2))->nodes, 1);
}

TEST(Where, MpirunTasksShareALaunchIdThatNextTimeIsAnother) {
  const std::string first = place_in(mpirun(0, 2, 0, 2))->launch_id;
  EXPECT_EQ(place_in(mpirun(1, 2, 1, 2))->launch_id, first);
  EXPECT_NE(place_in(with(mpirun(0, 2, 0, 2), "OMPI_MCA_orte_precondition_transports", "x"))->launch_id,
            first);
}

TEST(Where, MpirunInsideASlurmJobIsMpirun) {
  Variables both = srun();
  both.merge(mpirun(1, 2, 1, 2));
  EXPECT_EQ(place_in(both)->launcher, "mpirun");
}

/// Stands in for a process manager: answers each line that comes with the next of `answers`.
class FakeManager {
 public:
  explicit FakeManager(std::vector<std::string> answers) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    here_ = UniqueFd(ends[0]);
    its_ = std::thread([end = ends[1], answers = std::move(answers)] {
      const UniqueFd fd(end);
      for (const std::string& answer : answers) {
        char letter = 0;
        while (letter != '\n')
          if (::read(fd.get(), &letter, 1) <= 0) return;
        EXPECT_TRUE(write_all(fd.get(), answer, "the test").ok());
      }
    });
  }
  ~FakeManager() {
    here_.reset();
    its_.join();
  }
  FakeManager(const FakeManager&) = delete;
  FakeManager& operator=(const FakeManager&) = delete;
  [[nodiscard]] Result<Place> place(int rank) const {
    return place_in({{"PMI_RANK", std::to_string(rank)},
                     {"PMI_SIZE", "4"},
                     {"PMI_FD", std::to_string(here_.get())},
                     {"MPI_LOCALNRANKS", "2"},
                     {"MPI_LOCALRANKID", std::to_string(rank % 2)}});
  }

 private:
  UniqueFd here_;
  std::thread its_;
};

const std::string init = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n";

TEST(Where, MpiexecOfMpichIsAskedForTheNameOfItsJob) {
  const FakeManager manager({init, "cmd=my_kvsname kvsname=kvs_12_0_vm\n", "cmd=finalize_ack\n"});
  const Result<Place> place = manager.place(3);
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(place->launcher, "mpiexec");
  EXPECT_EQ(place->launch_id, "hydra/kvs_12_0_vm");
  EXPECT_EQ(place->rank, 3);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->local_rank, 1);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_FALSE(place->one_host);
}

TEST(Where, ManagersThatTalkNonsenseAreErrors) {
  const std::vector<std::vector<std::string>> answers = {{},
                                                         {"\n"},
                                                         {init, "cmd=my_kvsname\n", "cmd=finalize_ack\n"},
                                                         {init, "cmd=gone rc=-1\n"},
                                                         {std::string(5000, 'x')},
                                                         {init, "cmd=my_kvsname kvsname=k\n"}};
  for (const std::vector<std::string>& each : answers) {
    const FakeManager manager(each);
    const Result<Place> place = manager.place(0);
    ASSERT_FALSE(place.ok());
    EXPECT_EQ(place.error().message.find("cannot ask mpiexec (PMI_FD is "), 0U) << place.error().message;
  }
  EXPECT_NE(
      place_in({{"PMI_RANK", "0"}, {"PMI_SIZE", "1"}, {"MPI_LOCALNRANKS", "1"}, {"MPI_LOCALRANKID", "0"}})
          .error()
          .message.find("PMI_FD"),
      std::string::npos);
}

TEST(Where, SlurmsPmi2IsSrun) {
  EXPECT_EQ(place_in(with(with(srun(), "PMI_RANK", "4"), "PMI_FD", "9"))->launcher, "srun");
}

TEST(Where, OpenMpi5HasFewerVariables) {
  Variables five = mpirun(1, 2, 1, 2);
  five.erase("OMPI_MCA_orte_precondition_transports");
  five["PMIX_NAMESPACE"] = "prterun-h1-4711@1";
  EXPECT_EQ(place_in(five)->launcher, "mpirun");
  EXPECT_NE(place_in(five)->launch_id,
            place_in(with(five, "PMIX_NAMESPACE", "prterun-h1-4712@1"))->launch_id);
}

TEST(Where, Srun) {
  const Result<Place> place = place_in(srun());
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(place->launcher, "srun");
  EXPECT_EQ(place->rank, 4);
  EXPECT_EQ(place->size, 7);
  EXPECT_EQ(place->local_rank, 0);
  EXPECT_EQ(place->local_size, 2);
  EXPECT_EQ(place->node, "n3");
  EXPECT_EQ(place->nodes, 4);
  EXPECT_EQ(place->node_cpus, 4);
  EXPECT_FALSE(place->one_host);
  EXPECT_EQ(place_in(with(with(srun(), "SLURM_NODEID", "3"), "SLURM_PROCID", "6"))->local_size, 1);
}

TEST(Where, SrunOnOneNode) {
  Variables variables = with(with(srun(), "SLURM_STEP_NUM_NODES", "1"), "SLURM_STEP_TASKS_PER_NODE", "7");
  variables["SLURM_NODEID"] = "0";
  variables["SLURM_LOCALID"] = "4";
  EXPECT_TRUE(place_in(variables)->one_host);
  EXPECT_EQ(place_in(variables)->local_size, 7);
}

TEST(Where, RequeuedJobsAreOtherLaunches) {
  EXPECT_NE(place_in(srun())->launch_id, place_in(with(srun(), "SLURM_RESTART_COUNT", "1"))->launch_id);
  EXPECT_NE(place_in(srun())->launch_id, place_in(with(srun(), "SLURM_STEP_ID", "1"))->launch_id);
}

TEST(Where, BatchScriptsAndInteractiveShellsAreShells) {
  for (const char* step : {"4294967291", "4294967290", "4294967292"})
    EXPECT_TRUE(place_in(with(srun(), "SLURM_STEP_ID", step))->in_shell()) << step;
}

TEST(Where, ContradictionsAreErrorsThatNameTheVariable) {
  const std::vector<std::pair<Variables, std::string>> cases = {
      {with(mpirun(0, 2, 0, 2), "OMPI_COMM_WORLD_RANK", "2"), "OMPI_COMM_WORLD_RANK"},
      {with(mpirun(0, 2, 0, 2), "OMPI_COMM_WORLD_SIZE", "two"), "OMPI_COMM_WORLD_SIZE"},
      {with(mpirun(0, 2, 0, 2), "OMPI_COMM_WORLD_LOCAL_SIZE", ""), "OMPI_COMM_WORLD_LOCAL_SIZE"},
      {with(srun(), "SLURM_PROCID", "7"), "SLURM_PROCID"},
      {with(srun(), "SLURM_STEP_TASKS_PER_NODE", "2(x"), "SLURM_STEP_TASKS_PER_NODE"},
      {with(srun(), "SLURM_STEP_TASKS_PER_NODE", "2(x2)"), "SLURM_STEP_TASKS_PER_NODE"},
      {with(srun(), "SLURM_LOCALID", "2"), "SLURM_STEP_TASKS_PER_NODE"}};
  for (const auto& [variables, name] : cases) {
    const Result<Place> place = place_in(variables);
    ASSERT_FALSE(place.ok()) << name;
    EXPECT_EQ(place.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(place.error().message.find(name), std::string::npos) << place.error().message;
  }
}

// ---- nodes on which agents are still to be started ---------------------------------------------------

Result<std::optional<Allocation>> allocation_in(const Variables& variables, const std::string& hosts = "") {
  return find_allocation(
      [variables](const char* name) -> std::optional<std::string> {
        const auto found = variables.find(name);
        if (found == variables.end() || found->second.empty()) return std::nullopt;
        return found->second;
      },
      hosts);
}

TEST(Allocations, NoneInAPlainShellAndInATaskOfSrun) {
  EXPECT_FALSE(allocation_in({}).value());
  EXPECT_FALSE(allocation_in(with(srun(), "SLURM_JOB_NODELIST", "n[1-4]")).value());
}

TEST(Allocations, TheScriptOfABatchJobHasItsNodes) {
  Variables batch = {{"SLURM_JOB_ID", "77"},
                     {"SLURM_JOB_NODELIST", "n[1-3]"},
                     {"SLURM_JOB_NUM_NODES", "3"},
                     {"SLURM_PROCID", "0"}};
  for (const char* step : {"", "4294967291", "4294967290"}) {
    const auto allocation = allocation_in(with(batch, "SLURM_STEP_ID", step)).value();
    ASSERT_TRUE(allocation);
    EXPECT_EQ(allocation->by, "srun");
    EXPECT_EQ(allocation->nodes, 3);
    EXPECT_FALSE(allocation->ranks);
  }
  EXPECT_EQ(allocation_in(with(batch, "SLURM_NTASKS", "6")).value()->ranks, 6);
  EXPECT_EQ(allocation_in(with(batch, "SLURM_JOB_NUM_NODES", "three")).error().code,
            ErrorCode::invalid_argument);
  EXPECT_FALSE(allocation_in(with(batch, "SLURM_JOB_NUM_NODES", "")).ok());
}

TEST(Allocations, HostsByName) {
  const auto allocation = allocation_in({}, "a,b.example.org:2,user@c").value();
  ASSERT_TRUE(allocation);
  EXPECT_EQ(allocation->by, "ssh");
  EXPECT_EQ(allocation->nodes, 3);
  EXPECT_EQ(allocation->hosts, (std::vector<Host>{{"a", 0}, {"b.example.org", 2}, {"user@c", 0}}));
}

TEST(Allocations, AStarterThatWasAskedFor) {
  const auto found = [](const Variables& variables, const std::string& hosts, const std::string& starter) {
    return find_allocation(
        [variables](const char* name) -> std::optional<std::string> {
          const auto it = variables.find(name);
          return it == variables.end() ? std::nullopt : std::optional(it->second);
        },
        hosts, starter);
  };
  EXPECT_EQ(found({}, "a,b", "mpirun").value()->by, "mpirun");
  EXPECT_EQ(found({}, "a,b", "mpirun").value()->nodes, 2);
  EXPECT_EQ(found({}, "", "mpirun").value()->nodes, 0);
  EXPECT_EQ(found({}, "a", "ssh").value()->by, "ssh");
  for (const auto& [hosts, starter] :
       {std::pair("", "srun"), std::pair("a", "srun"), std::pair("", "ssh"), std::pair("a:2,b", "mpirun")}) {
    const auto refused = found({}, hosts, starter);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(refused.error().message.find("--starter "), 0U);
  }
}

TEST(Allocations, AFileOfHosts) {
  const auto hosts = parse_host_file("# the cluster\n\n a slots=4 # old\nb\t\n", "the file");
  ASSERT_TRUE(hosts.ok());
  EXPECT_EQ(*hosts, (std::vector<Host>{{"a", 4}, {"b", 0}}));
}

TEST(Allocations, WhatIsNoHostIsRefusedAndNamed) {
  const std::pair<const char*, const char*> files[] = {
      {"a slots=4\na", "line 2: a is there twice"},
      {"a slots=0", "line 1: '0' slots"},
      {"a 4", "line 1: write NAME"},
      {"a slots=4 b", "line 1: write NAME"},
      {"-oProxyCommand=x", "no name"},
      {"a;b", "no name"},
      {"# nobody", "names no host"},
  };
  for (const auto& [text, sentence] : files) {
    const auto hosts = parse_host_file(text, "the file");
    ASSERT_FALSE(hosts.ok()) << text;
    EXPECT_EQ(hosts.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(hosts.error().message.find(sentence), std::string::npos) << hosts.error().message;
  }
  for (const char* list : {"a,,b", "a:", "a:x", "a,a", ",", "a b"})
    EXPECT_FALSE(parse_host_list(list).ok()) << list;
  EXPECT_NE(allocation_in({}, "/nonexistent/hosts").error().message.find("/nonexistent/hosts"),
            std::string::npos);
}

}  // namespace
}  // namespace paceline
