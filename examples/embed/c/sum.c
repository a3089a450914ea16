/* A C program that is told by its environment which rank it is: adds up a million numbers over all ranks, in
 * memory that the ranks of a node share, and meanwhile does something else. */

#include <paceline/allreduce.h>
#include <stdio.h>

static int failed(const char* what) {
  fprintf(stderr, "%s: %s\n", what, paceline_last_error());
  return 1;
}

int main(void) {
  enum { count = 1000000 };
  paceline_comm* comm = NULL;
  paceline_buffer* buffer = NULL;
  paceline_work* work = NULL;
  float* data;
  int rank;
  int size;
  int i;

  if (paceline_from_environment(NULL, &comm) != PACELINE_OK) return failed("beginning");
  if (paceline_rank(comm, &rank) != PACELINE_OK || paceline_size(comm, &size) != PACELINE_OK)
    return failed("asking");
  if (paceline_allocate(comm, count * sizeof *data, &buffer) != PACELINE_OK) return failed("allocating");
  data = paceline_buffer_data(buffer);
  for (i = 0; i < count; ++i) data[i] = (float)(rank + 1);

  if (paceline_all_reduce_async(comm, data, data, count, PACELINE_F32, NULL, &work) != PACELINE_OK)
    return failed("beginning the sum");
  /* Time to compute something: the sum goes on in the background. */
  if (paceline_work_wait(work) != PACELINE_OK) return failed("the sum");

  printf("rank %d of %d: every element is %g\n", rank, size, (double)data[count - 1]);
  paceline_work_free(work);
  paceline_buffer_free(buffer);
  paceline_close(comm);
  return 0;
}
