#ifndef PACELINE_CUDA_H
#define PACELINE_CUDA_H

/* The C interface of paceline/cuda.hpp: collectives on device memory, in stream order. Link with
 * libpaceline_cuda (pkg-config paceline-cuda), which has all of libpaceline_allreduce in it and takes its
 * place. No header of CUDA's is needed: a cudaStream_t is passed as it is.
 *
 *     paceline_device_comm* device = NULL;
 *
 *     paceline_device_comm_create(comm, NULL, &device);
 *
 *     paceline_device_all_reduce(device, data, data, count, PACELINE_F32, NULL, stream);
 *
 *     if (paceline_device_wait(device) != PACELINE_OK) puts(paceline_last_error());
 *
 * Errors and threads are as in paceline/allreduce.h: collectives by one thread at a time, in the same order
 * on every rank; wait, health, abort, way and describe by any. A collective returns when it has been put into
 * the stream. What goes wrong later ends it (the stream goes on, output undefined), kills the communicator on
 * every rank, and is told by paceline_device_wait, paceline_device_health and every later call, with the rank
 * in paceline_last_error_rank. */

#include "paceline/allreduce.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct paceline_device_comm
    paceline_device_comm; /* collectives of a fixed set of ranks with a GPU each */
struct CUstream_st;       /* CUDA's: a cudaStream_t points to one */

/* How a collective goes; see paceline/cuda.hpp. Automatic: by what was measured when the communicator was
 * made. */
enum {
  PACELINE_WAY_AUTOMATIC = 0,
  PACELINE_WAY_ONE_SHOT = 1,
  PACELINE_WAY_TWO_SHOT = 2,
  PACELINE_WAY_NCCL = 3,
  PACELINE_WAY_STAGED = 4,
  PACELINE_WAY_HIERARCHICAL = 5
};

typedef struct paceline_device_options {
  size_t size; /* of this struct, as the caller was compiled; set by paceline_device_options_init */
  /* For meeting, and for the wait of a collective for any one rank, which is named then. 5 min */
  int64_t operation_timeout_ms;
  size_t ipc_bytes;      /* device memory per rank for CUDA IPC. 32 MiB */
  size_t fragment_bytes; /* greatest of the staged way; 0: 4 MiB. Rank 0's word counts, as of the next */
  int way;               /* PACELINE_WAY_... */
  int device;            /* as CUDA numbers it; -1: the calling thread's current one */
  int share_device;      /* 1: several ranks may have one GPU; otherwise that is an error. 0 */
  int use_nccl;          /* 1: where it was built in and the versions fit. 1 */
  int use_ipc;           /* 1: where the ranks of every node can map each other's memory. 1 */
  int reserved;          /* 0 */
} paceline_device_options;

/* Fills `*options`, whose size the caller gives as `sizeof *options`, with the defaults. */
PACELINE_API int paceline_device_options_init(paceline_device_options* options, size_t size);

/* Collective over the ranks of `comm`, which is used for meeting only and stays the caller's. Takes a second
 * or two. `options`: null for the defaults. PACELINE_UNSUPPORTED: no driver, or one older than the toolkit,
 * or a way that is not available here; PACELINE_INVALID_ARGUMENT: no such device, or two ranks with one GPU;
 * PACELINE_IO: the GPU failed or has no memory. On failure `*out` is null. */
PACELINE_API int paceline_device_comm_create(paceline_comm* comm, const paceline_device_options* options,
                                             paceline_device_comm** out);
/* Waits for what was begun, and up to 10 s for the other ranks to free theirs. Null: does nothing. */
PACELINE_API int paceline_device_comm_free(paceline_device_comm* comm);

/* As the functions of paceline/allreduce.h, on device memory (a residual, too) and in the order of `stream`;
 * null is the default stream. */
PACELINE_API int paceline_device_all_reduce(paceline_device_comm* comm, const void* input, void* output,
                                            size_t count, int type, const paceline_reduce_options* options,
                                            struct CUstream_st* stream);
PACELINE_API int paceline_device_reduce_scatter(paceline_device_comm* comm, const void* input, void* output,
                                                size_t count, int type,
                                                const paceline_reduce_options* options,
                                                struct CUstream_st* stream);
PACELINE_API int paceline_device_all_gather(paceline_device_comm* comm, const void* input, void* output,
                                            size_t count, int type, struct CUstream_st* stream);
PACELINE_API int paceline_device_broadcast(paceline_device_comm* comm, void* data, size_t count, int type,
                                           int root, struct CUstream_st* stream);
/* What follows in the stream begins when every rank's stream has come to it. */
PACELINE_API int paceline_device_barrier(paceline_device_comm* comm, struct CUstream_st* stream);

/* Until everything that was begun on this rank has ended. The error that killed the communicator, if one did.
 */
PACELINE_API int paceline_device_wait(paceline_device_comm* comm);
/* PACELINE_OK, or the error that killed it. Does not wait. */
PACELINE_API int paceline_device_health(const paceline_device_comm* comm);
/* Gives up: everything in flight ends on every rank with `reason`. */
PACELINE_API int paceline_device_abort(paceline_device_comm* comm, const char* reason);
/* The way that an all_reduce of so many bytes takes, a PACELINE_WAY_..., into `*out`. */
PACELINE_API int paceline_device_way(const paceline_device_comm* comm, size_t bytes, int* out);
/* For people: GPUs, ways and what they are used for. `text`, `capacity` and `needed` as in
 * paceline_describe_plan. */
PACELINE_API int paceline_device_describe(const paceline_device_comm* comm, char* text, size_t capacity,
                                          size_t* needed);

#ifdef __cplusplus
}
#endif

#endif
