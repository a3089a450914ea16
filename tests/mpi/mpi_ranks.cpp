// A rank of the tests in mpi_test.py: does what its scenario says and prints one line, "ok" or what happened.
//   mpi_ranks SCENARIO NODES [multiple]
// NODES has one letter per rank: ranks with the same letter share a node.

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/mpi.h"

namespace {

using namespace paceline;
using Scenario = std::function<std::string(int rank, int size)>;

std::string said(const Status& status) {
  return status.ok() ? "success" : concat(to_string(status.error().code), ": ", status.error().message);
}

/// Small whole numbers, which sums of all ranks hold exactly.
template <class T>
T term(std::size_t i) {
  return static_cast<T>(static_cast<int>(i % 100) - 50);
}

template <class T>
std::string check_all_reduce(Communicator& communicator, DataType type, std::size_t count) {
  const int n = communicator.size();
  std::vector<T> data(count);
  for (std::size_t i = 0; i < count; ++i) data[i] = static_cast<T>(communicator.rank() + 1) * term<T>(i);
  const Status status = communicator.all_reduce(data.data(), count, type);
  if (!status.ok()) return status.error().message;
  for (std::size_t i = 0; i < count; ++i)
    if (data[i] != static_cast<T>(n * (n + 1) / 2) * term<T>(i))
      return concat("element ", i, " of a sum of ", count, " ", to_string(type), " is ", data[i]);
  return {};
}

// From nothing over one header's worth, the edges of a message and a segment to more than two segments.
constexpr std::size_t counts[] = {0, 1, 15, 16, 511, 4099, 32752, 32753, 65536, 1048577, 2200001};

std::string check_broadcast(Communicator& communicator, std::size_t count, int root) {
  std::vector<std::int64_t> data(count);
  for (std::size_t i = 0; i < count; ++i)
    data[i] = communicator.rank() == root ? term<int>(i) * (root + 1) : -1;
  const Status status = communicator.broadcast(data.data(), count, DataType::i64, root);
  if (!status.ok()) return status.error().message;
  for (std::size_t i = 0; i < count; ++i)
    if (data[i] != term<int>(i) * (root + 1))
      return concat("element ", i, " of root ", root, "'s is ", data[i]);
  return {};
}

std::string check_gather_and_scatter(Communicator& communicator, std::size_t count) {
  const auto n = static_cast<std::size_t>(communicator.size());
  const int rank = communicator.rank();
  std::vector<float> mine(count);
  std::vector<float> all(n * count);
  for (std::size_t i = 0; i < count; ++i) mine[i] = static_cast<float>(rank + 1) * term<float>(i);
  Status status = communicator.all_gather(mine.data(), all.data(), count, DataType::f32);
  if (!status.ok()) return status.error().message;
  for (std::size_t i = 0; i < n * count; ++i)
    if (all[i] != static_cast<float>(i / count + 1) * term<float>(i % count))
      return concat("element ", i, " of all_gather is ", all[i]);
  status = communicator.reduce_scatter(all.data(), mine.data(), count, DataType::f32);
  if (!status.ok()) return status.error().message;
  for (std::size_t i = 0; i < count; ++i)
    if (mine[i] != static_cast<float>(n) * static_cast<float>(rank + 1) * term<float>(i))
      return concat("element ", i, " of reduce_scatter is ", mine[i]);
  return {};
}

std::string check_async(Communicator& communicator) {
  constexpr std::size_t count = 100000;
  std::vector<std::vector<float>> data(
      6, std::vector<float>(count, static_cast<float>(communicator.rank() + 1)));
  std::vector<Work> works;
  for (auto& each : data) works.push_back(communicator.all_reduce_async(each.data(), count, DataType::f32));
  const float sum = static_cast<float>(communicator.size() * (communicator.size() + 1) / 2);
  for (std::size_t i = data.size(); i-- > 0;) {
    if (const Status status = works[i].wait(); !status.ok()) return status.error().message;
    if (data[i].front() != sum || data[i].back() != sum) return concat("asynchronous sum ", i, " is wrong");
  }
  return {};
}

std::string check_everything(Communicator& communicator) {
  for (const std::size_t count : counts) {
    if (auto failure = check_all_reduce<float>(communicator, DataType::f32, count); !failure.empty())
      return failure;
    if (auto failure = check_all_reduce<std::int64_t>(communicator, DataType::i64, count); !failure.empty())
      return failure;
    if (auto failure = check_gather_and_scatter(communicator, count); !failure.empty()) return failure;
    for (int root = 0; root < communicator.size(); ++root)
      if (auto failure = check_broadcast(communicator, count, root); !failure.empty()) return failure;
  }
  return check_async(communicator);
}

bool uses_mpi(const Communicator& communicator) {
  return communicator.describe_plan().find("transport mpi") != std::string::npos;
}

/// Twice over the same MPI communicator, and once over a part of it.
std::string everything(int rank, int size) {
  for (int round = 0; round < 2; ++round) {
    auto communicator = communicator_from_mpi(MPI_COMM_WORLD);
    if (!communicator.ok()) return communicator.error().message;
    if (communicator->rank() != rank || communicator->size() != size) return "other numbers than MPI's";
    const bool wants_mpi = environment("PACELINE_TRANSPORT").value_or("mpi") == "mpi";
    if (communicator->topology().nodes.size() > 1 && uses_mpi(*communicator) != wants_mpi)
      return concat("it uses another transport:\n", communicator->describe_plan());
    if (auto failure = check_everything(*communicator); !failure.empty()) return failure;
  }
  MPI_Comm part = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, rank, &part);
  std::string failure;
  {
    auto communicator = communicator_from_mpi(part);
    failure = communicator.ok() ? check_all_reduce<double>(*communicator, DataType::f64, 70001)
                                : communicator.error().message;
  }
  MPI_Comm_free(&part);
  return failure;
}

/// Rank 0 sums another number of elements than the others.
std::string mismatch(int rank, int) {
  auto communicator = communicator_from_mpi(MPI_COMM_WORLD);
  if (!communicator.ok()) return said(communicator.error());  // a slow rank may hear of it here
  std::vector<float> data(5001);
  return said(communicator->all_reduce(data.data(), rank == 0 ? 5001U : 5000U, DataType::f32));
}

/// The last rank aborts while the others wait for it; then all begin anew over the same MPI communicator.
std::string abort_and_begin_anew(int rank, int size) {
  std::string heard;
  {
    auto communicator = communicator_from_mpi(MPI_COMM_WORLD);
    if (!communicator.ok()) return communicator.error().message;
    std::vector<float> data(1000000);
    if (rank == size - 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      communicator->abort("of the test");
    } else {
      const auto begin = std::chrono::steady_clock::now();
      heard = said(communicator->all_reduce(data.data(), data.size(), DataType::f32));
      if (std::chrono::steady_clock::now() - begin > std::chrono::seconds(10)) return "it took for ever";
      if (heard.find("of the test") == std::string::npos) return concat("heard ", heard);
    }
  }
  CommunicatorOptions options;
  options.generation = 2;
  auto communicator = communicator_from_mpi(MPI_COMM_WORLD, std::move(options));
  if (!communicator.ok()) return communicator.error().message;
  return check_all_reduce<float>(*communicator, DataType::f32, 300001);
}

/// The last rank does not come; the others say so.
std::string absent(int rank, int size) {
  if (rank == size - 1) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2500));
    return "absent";
  }
  CommunicatorOptions options;
  options.connect_timeout = std::chrono::milliseconds(500);
  auto communicator = communicator_from_mpi(MPI_COMM_WORLD, std::move(options));
  return communicator.ok() ? "success" : said(communicator.error());
}

std::string other_transports(int rank, int) {
  ::setenv("PACELINE_TRANSPORT", rank == 0 ? "mpi" : "tcp", 1);
  auto communicator = communicator_from_mpi(MPI_COMM_WORLD);
  return communicator.ok() ? "success" : said(communicator.error());
}

/// One rank's options are refused: it says why, and the others do not wait for it.
std::string one_is_wrong(int rank, int) {
  ::setenv("PACELINE_TRANSPORT", rank == 1 ? "pigeon" : "mpi", 1);
  auto communicator = communicator_from_mpi(MPI_COMM_WORLD);
  return communicator.ok() ? "success" : said(communicator.error());
}

std::string arguments(int, int) {
  paceline_comm* comm = nullptr;
  if (paceline_from_mpi(MPI_COMM_WORLD, nullptr, nullptr) != PACELINE_INVALID_ARGUMENT) return "null out";
  if (paceline_from_mpi(MPI_COMM_NULL, nullptr, &comm) != PACELINE_INVALID_ARGUMENT)
    return "null communicator";
  if (std::string(paceline_last_error()).find("null") == std::string::npos) return paceline_last_error();
  CommunicatorOptions options;
  options.encrypt = true;
  options.secret = "x";
  auto encrypted = communicator_from_mpi(MPI_COMM_WORLD, std::move(options), MpiTransport::point_to_point);
  if (encrypted.ok() || encrypted.error().code != ErrorCode::invalid_argument) return "encrypted over MPI";
  if (paceline_from_mpi(MPI_COMM_WORLD, nullptr, &comm) != PACELINE_OK) return paceline_last_error();
  int value = 1;
  int size = 0;
  if (paceline_all_reduce(comm, &value, &value, 1, PACELINE_I32, nullptr) != PACELINE_OK) return "all_reduce";
  if (paceline_size(comm, &size) != PACELINE_OK || value != size) return concat("the sum is ", value);
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Finalize();
  // Wrong, and no crash: MPI is not called any more.
  if (paceline_close(comm) != PACELINE_OK) return paceline_last_error();
  if (paceline_from_mpi(MPI_COMM_WORLD, nullptr, &comm) != PACELINE_INVALID_ARGUMENT)
    return "after MPI_Finalize";
  return std::string(paceline_last_error()).find("MPI_Finalize") == std::string::npos ? "no sentence" : "";
}

const std::map<std::string, Scenario> scenarios = {
    {"everything", everything},
    {"mismatch", mismatch},
    {"abort", abort_and_begin_anew},
    {"absent", absent},
    {"other-transports", other_transports},
    {"one-is-wrong", one_is_wrong},
    {"arguments", arguments},
};

}  // namespace

int main(int argc, char** argv) {
  const auto scenario = argc > 2 ? scenarios.find(argv[1]) : scenarios.end();
  if (scenario == scenarios.end()) return 2;
  paceline_comm* comm = nullptr;
  if (paceline_from_mpi(MPI_COMM_WORLD, nullptr, &comm) != PACELINE_INVALID_ARGUMENT)
    return 3;  // before MPI_Init
  const int wanted = argc > 3 ? MPI_THREAD_MULTIPLE : MPI_THREAD_SINGLE;
  int got = 0;
  MPI_Init_thread(&argc, &argv, wanted, &got);
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const std::string nodes = argv[2];
  ::setenv("PACELINE_NODE", nodes.substr(static_cast<std::size_t>(rank) % nodes.size(), 1).c_str(), 1);
  const std::string failure = scenario->second(rank, size);
  std::printf("rank %d: %s\n", rank, failure.empty() ? "ok" : failure.c_str());
  std::fflush(stdout);
  int ended = 0;
  MPI_Finalized(&ended);
  // Who waited in vain has a collective of MPI under way, which would keep MPI_Finalize waiting.
  if (scenario->first == "absent") MPI_Abort(MPI_COMM_WORLD, 0);
  if (ended == 0) MPI_Finalize();
  return 0;
}
