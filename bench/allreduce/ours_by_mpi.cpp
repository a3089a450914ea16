// Ranks that mpirun has started, and that send each other data over MPI. A program of its own, so that
// `paceline` does not need MPI.

#include <cstdlib>

#include "allreduce/ours.hpp"
#include "paceline/mpi.h"

namespace {

paceline::Result<paceline::Communicator> connect(const contender_job& job,
                                                 std::vector<paceline::Member> members) {
  const std::string& node = members[static_cast<std::size_t>(job.rank)].node;
  if (!node.empty()) ::setenv("PACELINE_NODE", node.c_str(), 1);
  return paceline::communicator_from_mpi(MPI_COMM_WORLD, {}, paceline::MpiTransport::point_to_point);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int status = paceline::bench::run_own_rank(argc, argv, connect);
  MPI_Finalize();
  return status;
}
