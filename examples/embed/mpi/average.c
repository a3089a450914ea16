/* An MPI program as there are many: every rank improves its own parameters on its own data, and after each
 * step they are averaged. What was added for Paceline is marked; before, the sum was
 *     MPI_Allreduce(MPI_IN_PLACE, parameters, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
 */

#include <math.h>
#include <mpi.h>
#include <paceline/mpi.h> /* added */
#include <stdio.h>
#include <stdlib.h>

enum { count = 1 << 20, steps = 50 };

static void check(int code) { /* added: MPI ends the program by itself */
  if (code == PACELINE_OK) return;
  fprintf(stderr, "%s (rank %d)\n", paceline_last_error(), paceline_last_error_rank());
  MPI_Abort(MPI_COMM_WORLD, 1);
}

int main(int argc, char** argv) {
  paceline_comm* comm; /* added */
  float* parameters = calloc(count, sizeof *parameters);
  int rank;
  int size;
  int step;
  int i;

  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  check(paceline_from_mpi(MPI_COMM_WORLD, NULL, &comm)); /* line 1 */

  for (step = 0; step < steps; ++step) {
    const float target = (float)(2 * rank); /* what this rank's data says */
    for (i = 0; i < count; ++i) parameters[i] += 0.5f * (target - parameters[i]);
    check(paceline_all_reduce(comm, parameters, parameters, count, PACELINE_F32, NULL)); /* line 2 */
    for (i = 0; i < count; ++i) parameters[i] /= (float)size;
  }

  if (fabsf(parameters[0] - (float)(size - 1)) > 1e-3f) MPI_Abort(MPI_COMM_WORLD, 2);
  if (rank == 0) printf("after %d steps on %d ranks: %.3f\n", steps, size, (double)parameters[count - 1]);
  paceline_close(comm); /* added */
  MPI_Finalize();
  free(parameters);
  return 0;
}
