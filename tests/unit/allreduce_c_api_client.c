/* Compiled as C99 with every warning an error: what a C program may rely on. */

#include <stdio.h>
#include <string.h>

#include "paceline/allreduce.h"

/* What this rank of `size` does; 0, or the number of the step that went wrong. `port`: rank 0's. */
int c_client(int rank, int size, int port, char* why, size_t why_bytes);

#define STEP(number, condition)                                                 \
  do {                                                                          \
    if (!(condition)) {                                                         \
      snprintf(why, why_bytes, "step %d: %s", (number), paceline_last_error()); \
      paceline_buffer_free(buffer);                                             \
      paceline_close(comm);                                                     \
      return (number);                                                          \
    }                                                                           \
  } while (0)

int c_client(int rank, int size, int port, char* why, size_t why_bytes) {
  paceline_member members[8];
  paceline_options options;
  paceline_reduce_options reduce;
  paceline_comm* comm = NULL;
  paceline_buffer* buffer = NULL;
  paceline_work* work = NULL;
  float* data;
  float mine;
  float all[8];
  const float sum = (float)(size * (size + 1) / 2);
  int i;
  int number = -1;
  int64_t busy = -1;

  memset(members, 0, sizeof members);
  members[0].host = "127.0.0.1";
  members[0].port = port;
  STEP(1, paceline_options_init(&options, sizeof options) == PACELINE_OK);
  options.secret = "of this test";
  options.generation = 7;
  STEP(2, paceline_connect(rank, members, size, &options, &comm) == PACELINE_OK);
  STEP(3, paceline_rank(comm, &number) == PACELINE_OK && number == rank);
  STEP(4, paceline_size(comm, &number) == PACELINE_OK && number == size);
  STEP(5, paceline_node_count(comm, &number) == PACELINE_OK && number == 1);
  STEP(6, paceline_node_of_rank(comm, size - 1, &number) == PACELINE_OK && number == 0);

  STEP(10, paceline_allocate(comm, 100000 * sizeof(float), &buffer) == PACELINE_OK);
  STEP(11, paceline_buffer_bytes(buffer) == 100000 * sizeof(float));
  data = (float*)paceline_buffer_data(buffer);
  for (i = 0; i < 100000; ++i) data[i] = (float)((rank + 1) * (i % 1000));
  STEP(12, paceline_all_reduce(comm, data, data, 100000, PACELINE_F32, NULL) == PACELINE_OK);
  for (i = 0; i < 100000; ++i) STEP(13, data[i] == sum * (float)(i % 1000));

  STEP(20, paceline_reduce_options_init(&reduce, sizeof reduce) == PACELINE_OK);
  reduce.op = PACELINE_AVERAGE;
  reduce.weight = 2.0;
  mine = (float)(rank + 1);
  STEP(21, paceline_all_reduce_async(comm, &mine, data, 1, PACELINE_F32, &reduce, &work) == PACELINE_OK);
  STEP(22, paceline_work_wait(work) == PACELINE_OK);
  STEP(23, paceline_work_done(work, &number) == PACELINE_OK && number == 1);
  STEP(24, paceline_work_free(work) == PACELINE_OK);
  STEP(25, data[0] == 2 * sum / (float)size);
  reduce.weight = 1.0;
  reduce.codec = PACELINE_CODEC_FIXED_POINT;
  STEP(26, paceline_all_reduce(comm, &mine, data, 1, PACELINE_F32, &reduce) == PACELINE_OK);
  STEP(27, data[0] == sum / (float)size);

  STEP(30, paceline_all_gather(comm, &mine, all, 1, PACELINE_F32) == PACELINE_OK);
  for (i = 0; i < size; ++i) STEP(31, all[i] == (float)(i + 1));
  STEP(32, paceline_reduce_scatter(comm, all, &mine, 1, PACELINE_F32, NULL) == PACELINE_OK);
  STEP(33, mine == (float)(size * (rank + 1)));
  STEP(34, paceline_broadcast(comm, &mine, 1, PACELINE_F32, size - 1) == PACELINE_OK);
  STEP(35, mine == (float)(size * size));
  STEP(36, paceline_all_gather_async(comm, &mine, all, 1, PACELINE_F32, 1, &work) == PACELINE_OK);
  STEP(37, paceline_work_wait(work) == PACELINE_OK && paceline_work_free(work) == PACELINE_OK);
  STEP(38, paceline_broadcast_async(comm, &mine, 1, PACELINE_F32, 0, 0, &work) == PACELINE_OK);
  STEP(39, paceline_work_wait(work) == PACELINE_OK && paceline_work_free(work) == PACELINE_OK);
  STEP(40, paceline_reduce_scatter_async(comm, all, &mine, 1, PACELINE_F32, NULL, &work) == PACELINE_OK);
  STEP(41, paceline_work_wait(work) == PACELINE_OK && paceline_work_free(work) == PACELINE_OK);
  STEP(42, mine == (float)(size * size * size));

  STEP(50, paceline_barrier(comm) == PACELINE_OK);
  STEP(51, paceline_health(comm) == PACELINE_OK);
  STEP(52, paceline_busy_ns(comm, &busy) == PACELINE_OK && busy > 0);
  STEP(53, paceline_close(comm) == PACELINE_OK);
  comm = NULL;
  STEP(54, paceline_buffer_free(buffer) == PACELINE_OK); /* it may outlive its communicator */
  return 0;
}
