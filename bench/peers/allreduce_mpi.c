/* MPI_Allreduce as a contender of `paceline bench allreduce`; built once for each MPI. */
#include <mpi.h>

#include "contender.h"

struct mpi {
  MPI_Datatype type;
};

static void init(void* state, const struct contender_job* job) {
  struct mpi* mpi = state;
  mpi->type = MPI_DATATYPE_NULL;
  switch (job->type) {
    case contender_f32: mpi->type = MPI_FLOAT; break;
    case contender_f64: mpi->type = MPI_DOUBLE; break;
    case contender_i32: mpi->type = MPI_INT32_T; break;
    case contender_i64: mpi->type = MPI_INT64_T; break;
    case contender_u8: mpi->type = MPI_UINT8_T; break;
    case contender_f16:
    case contender_bf16: break;
  }
  if (mpi->type == MPI_DATATYPE_NULL) contender_fail("MPI has no such type: leave this peer out");
  MPI_Init(NULL, NULL); /* errors end the process, which is what a contender does */
  int rank = -1, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (rank != job->rank || ranks != job->ranks)
    contender_fail("MPI made this rank %d of %d, the driver wants %d of %d: is it the MPI it was built with?",
                   rank, ranks, job->rank, job->ranks);
}

static void barrier(void* state) {
  (void)state;
  MPI_Barrier(MPI_COMM_WORLD);
}

static void sum(void* state, void* data, size_t count) {
  const struct mpi* mpi = state;
  MPI_Allreduce(MPI_IN_PLACE, data, (int)count, mpi->type, MPI_SUM, MPI_COMM_WORLD);
}

static void fini(void* state) {
  (void)state;
  MPI_Finalize();
}

int main(int argc, char** argv) {
  struct mpi mpi;
  const struct contender contender = {
      .state = &mpi, .init = init, .barrier = barrier, .sum = sum, .fini = fini};
  return contender_main(argc, argv, &contender);
}
