#ifndef PACELINE_ALLREDUCE_H
#define PACELINE_ALLREDUCE_H

/* The C interface of paceline/allreduce.hpp, for C and for every language that can call C. Link with
 * libpaceline_allreduce (pkg-config paceline-allreduce), which needs nothing else of Paceline's.
 *
 *     paceline_comm* comm = NULL;
 *     if (paceline_from_environment(NULL, &comm) != PACELINE_OK) return fail(paceline_last_error());
 *     paceline_all_reduce(comm, data, data, count, PACELINE_F32, NULL);
 *     paceline_close(comm);
 *
 * Errors: functions that return int give PACELINE_OK or an error code, unless they say otherwise. What went
 * wrong, and the rank to blame, are to be had from paceline_last_error() and paceline_last_error_rank() on
 * the same thread. Null handles and null results are PACELINE_INVALID_ARGUMENT; nothing throws or exits.
 * What can be seen without the other ranks (null, misaligned or overlapping data, a root that does not exist,
 * options that make no sense) is PACELINE_INVALID_ARGUMENT or PACELINE_UNSUPPORTED, and nothing has happened.
 * Any other error of a collective kills the communicator on every rank: from then on every call gives that
 * error. Close it, and make a new one of a higher generation.
 *
 * Threads: collectives and paceline_allocate are called by one thread at a time, in the same order on every
 * rank, since that order is how calls find each other; paceline_abort, paceline_work_wait, paceline_work_done
 * and what only asks (rank, size, topology, health, plan, busy) by any. Nobody may use a handle while or
 * after it is closed or freed.
 *
 * Memory: input and output stay untouched by the caller until the call returned or its work is done. They are
 * the same memory or do not overlap, but for what reduce_scatter and all_gather say. Sizes are in elements,
 * aligned to their type; none at all is allowed and still synchronises.
 *
 * Growing: within a major version symbols, numbers and the meaning of what is there stay. Structs of options
 * begin with their size and may get longer; fill them with their _init function and then change members. */

#include <stddef.h>
#include <stdint.h>

#define PACELINE_ALLREDUCE_VERSION_MAJOR 1
#define PACELINE_ALLREDUCE_VERSION_MINOR 0

#if defined(__GNUC__)
#define PACELINE_API __attribute__((visibility("default")))
#else
#define PACELINE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct paceline_comm paceline_comm;     /* a communicator: a fixed set of ranks */
typedef struct paceline_work paceline_work;     /* a collective in flight */
typedef struct paceline_buffer paceline_buffer; /* memory that the ranks of a node share */

enum {
  PACELINE_OK = 0,
  PACELINE_INVALID_ARGUMENT = 1, /* the call makes no sense */
  PACELINE_NOT_FOUND = 2,        /* something that should be there is not, e.g. the environment's RANK */
  PACELINE_ALREADY_EXISTS = 3,   /* a port is taken */
  PACELINE_IO = 4,               /* the operating system refused */
  PACELINE_CORRUPT = 5,          /* bytes from outside are not what they claim to be */
  PACELINE_TIMEOUT = 6,          /* a wait reached its deadline */
  PACELINE_PEER_LOST = 7,        /* another rank is gone; paceline_last_error_rank says which */
  PACELINE_MISMATCH = 8,         /* ranks disagree about what they are doing */
  PACELINE_ABORTED = 9,          /* someone asked for the work in progress to be given up */
  PACELINE_UNSUPPORTED = 10,     /* understood, but this build or machine can't do it */
  PACELINE_INTERNAL = 11         /* no memory, or a bug */
};

/* Data types. */
enum {
  PACELINE_F32 = 0,
  PACELINE_F64 = 1,
  PACELINE_I32 = 2,
  PACELINE_I64 = 3,
  PACELINE_F16 = 4,
  PACELINE_BF16 = 5,
  PACELINE_U8 = 6
};

/* Operations. Average: the sum over the number of ranks (integers: towards zero). f16 and bf16 are added up
 * in f32 within a node and rounded once. Integers wrap around. Which of two NaNs comes out is not defined. */
enum { PACELINE_SUM = 0, PACELINE_MIN = 1, PACELINE_MAX = 2, PACELINE_AVERAGE = 3 };

/* How the elements of an all_reduce travel between nodes. */
enum {
  PACELINE_CODEC_NONE = 0,
  PACELINE_CODEC_F16 = 1,  /* f32 data as f16 on the wire: half the bytes, range +-65504 */
  PACELINE_CODEC_BF16 = 2, /* f32 data as bf16: half the bytes, 8 bits of precision */
  PACELINE_CODEC_INT8 = 3, /* f32 data as blocks of 256 int8 with a f32 scale each: a quarter of the bytes */
  /* Sums of f32 or f64 as 64-bit fixed point: the same bits for every number of ranks, topology and order. */
  PACELINE_CODEC_FIXED_POINT = 4
};

/* How sums go between nodes. Automatic: by latency and bandwidth measured when the communicator was made. */
enum {
  PACELINE_ALGORITHM_AUTOMATIC = 0,
  PACELINE_ALGORITHM_EXCHANGE = 1,
  PACELINE_ALGORITHM_DIRECT = 2,
  PACELINE_ALGORITHM_RING = 3
};

/* Where one rank lives. Zero-initialise it; it does not grow. */
typedef struct paceline_member {
  /* Identity of its node: ranks of one node share memory. Null: found out by the rank itself, from
   * PACELINE_NODE or the host. */
  const char* node;
  const char* host; /* address or name at which the others reach it; used of rank 0 */
  int port;         /* port at which rank 0 listens until all ranks have met; ignored of the others */
  int reserved;     /* 0 */
} paceline_member;

/* Options of a communicator. Texts are copied. */
typedef struct paceline_options {
  size_t size; /* of this struct, as the caller was compiled; set by paceline_options_init */
  /* Messages of another generation are refused: raise it for every communicator of the same job. 1 */
  uint64_t generation;
  int64_t connect_timeout_ms; /* until all ranks have met and mapped each other's memory. 60 s */
  /* For each collective, from its start: a rank that has not come by then is named in the error. 5 min */
  int64_t operation_timeout_ms;
  int64_t spin_us; /* how long a blocking call spins before it sleeps. 50 */
  /* Known to the ranks of the job alone: both ends of every connection prove that they know it, without
   * sending it. At most 256 bytes. Null: none (from_environment: PACELINE_SECRET). */
  const char* secret;
  /* Network interface whose address other nodes are told, e.g. "ib0"; null: PACELINE_INTERFACE, else the one
   * by which rank 0 is reached. */
  const char* network_interface;
  /* Ports to listen on, e.g. "20000-20100"; null: PACELINE_PORTS, else any. */
  const char* ports;
  size_t piece_bytes; /* unit of pipelining between nodes; 0: chosen. Rank 0's word counts, as of the next two */
  int algorithm;      /* PACELINE_ALGORITHM_... */
  int streams;        /* TCP connections per pair of ranks; 0: chosen */
  /* 1: encrypts what goes over TCP between nodes (AES-256-GCM, keys from the secret). Equal on all ranks.
   * PACELINE_UNSUPPORTED where the library was built without OpenSSL. */
  int encrypt;
  /* Rank 0: a socket that already listens at its host and port, or -1. Stays the caller's: the library works
   * on a duplicate. */
  int listener;
} paceline_options;

/* Options of all_reduce and reduce_scatter. */
typedef struct paceline_reduce_options {
  size_t size; /* of this struct, as the caller was compiled; set by paceline_reduce_options_init */
  /* What this rank's data is multiplied by before it is added: ranks may differ. Floating types, sum and
   * average only. 1 */
  double weight;
  /* Error feedback for the lossy codecs, or null: `count` floats of the caller's, zero before the first call,
   * kept between calls on the same data. After the topology changed, start from zero. */
  float* residual;
  int op;    /* PACELINE_SUM... */
  int codec; /* PACELINE_CODEC_... */
  /* PACELINE_CODEC_FIXED_POINT: an element x is added as round(x * 2^exponent). Elements of 2^(42 - exponent)
   * and more, and NaN, make the sum NaN on every rank. 24 */
  int fixed_point_exponent;
  /* Among asynchronous collectives that all ranks have begun, the highest goes first. Equal on all ranks. */
  int priority;
} paceline_reduce_options;

/* Version of the library that was loaded, major * 65536 + minor. Any thread. */
PACELINE_API int paceline_version(void);
/* What went wrong in the last call of this thread that failed; "" if none has. Valid until the next call of
 * this thread that fails. */
PACELINE_API const char* paceline_last_error(void);
/* The rank that caused it, -1 where none is known. */
PACELINE_API int paceline_last_error_rank(void);
/* "timed out", "peer lost"...: a code for people. Never null. */
PACELINE_API const char* paceline_error_name(int code);

/* Fill `*options`, whose size the caller gives as `sizeof *options`, with the defaults. */
PACELINE_API int paceline_options_init(paceline_options* options, size_t size);
PACELINE_API int paceline_reduce_options_init(paceline_reduce_options* options, size_t size);

/* Meets the other ranks of an explicit member list of `size` members. Collective: all ranks give the same
 * list. `options`: null for the defaults. Errors: PACELINE_ALREADY_EXISTS (port taken), PACELINE_TIMEOUT
 * (names the ranks that did not come), PACELINE_MISMATCH. On failure `*out` is null. */
PACELINE_API int paceline_connect(int rank, const paceline_member* members, int size,
                                  const paceline_options* options, paceline_comm** out);
/* Rank and size from RANK and WORLD_SIZE, Open MPI's or Slurm's variables; rank 0's place from MASTER_ADDR
 * and PACELINE_PORT, with defaults where all ranks are on one node. PACELINE_NODE names this rank's node,
 * PACELINE_SECRET is the secret. PACELINE_NOT_FOUND: nothing says which rank this is. */
PACELINE_API int paceline_from_environment(const paceline_options* options, paceline_comm** out);
/* Says goodbye and frees the handle; collectives that have not ended are aborted on every rank. Null: does
 * nothing. Buffers and works may be freed later. */
PACELINE_API int paceline_close(paceline_comm* comm);

/* This rank and the number of ranks, into `*out`. */
PACELINE_API int paceline_rank(const paceline_comm* comm, int* out);
PACELINE_API int paceline_size(const paceline_comm* comm, int* out);
/* Nodes, and the index of the node that a rank lives on. */
PACELINE_API int paceline_node_count(const paceline_comm* comm, int* out);
PACELINE_API int paceline_node_of_rank(const paceline_comm* comm, int rank, int* out);
/* Texts for people: who lives where, a line per node; and what was measured between nodes and which algorithm
 * is used up to which size. At most `capacity` bytes go to `text`, which then ends in a zero; `*needed`
 * (unless null) is what the whole text takes, zero included. `text` may be null if `capacity` is 0. */
PACELINE_API int paceline_describe_topology(const paceline_comm* comm, char* text, size_t capacity,
                                            size_t* needed);
PACELINE_API int paceline_describe_plan(const paceline_comm* comm, char* text, size_t capacity,
                                        size_t* needed);

/* Memory for collectives without copies. Collective over the ranks of a node, which ask for equal sizes.
 * Zeroed, page-aligned, present (a machine short of memory fails here, not later). After a collective on it
 * failed its contents are undefined, and peers may still be writing to it until paceline_quiesce says that
 * they have stopped. */
PACELINE_API int paceline_allocate(paceline_comm* comm, size_t bytes, paceline_buffer** out);
/* Where it is, until it is freed; null for a null handle. */
PACELINE_API void* paceline_buffer_data(const paceline_buffer* buffer);
/* Its size in bytes; 0 for a null handle. */
PACELINE_API size_t paceline_buffer_bytes(const paceline_buffer* buffer);
/* May be called after the communicator was closed. Null: does nothing. */
PACELINE_API int paceline_buffer_free(paceline_buffer* buffer);

/* Collectives. `type`: PACELINE_F32...; `options`: null for a plain sum. They return when this rank's part is
 * done. */

/* output[i] = op over all ranks of input[i], for `count` elements; the same bits on every rank. */
PACELINE_API int paceline_all_reduce(paceline_comm* comm, const void* input, void* output, size_t count,
                                     int type, const paceline_reduce_options* options);
/* `input` holds size blocks of `count` elements; `output` is block rank of their sum, and may be block rank
 * of `input` itself. PACELINE_CODEC_NONE only. */
PACELINE_API int paceline_reduce_scatter(paceline_comm* comm, const void* input, void* output, size_t count,
                                         int type, const paceline_reduce_options* options);
/* Block r of `output` becomes rank r's `input` of `count` elements; `output` has room for size blocks.
 * `input` may be block rank of `output` itself. */
PACELINE_API int paceline_all_gather(paceline_comm* comm, const void* input, void* output, size_t count,
                                     int type);
/* Every rank's `data` becomes root's. */
PACELINE_API int paceline_broadcast(paceline_comm* comm, void* data, size_t count, int type, int root);
/* Returns when every rank has called it. */
PACELINE_API int paceline_barrier(paceline_comm* comm);

/* The same, begun here and carried out in the background by the communicator's own thread, or by whoever
 * waits first; one after the other, by priority and then in the order of the calls. (Over MPI that is not
 * MPI_THREAD_MULTIPLE nothing is carried out until someone waits.) An error that can be seen at once is given
 * here, and then `*out` is null; any other by paceline_work_wait. `*out` is freed by paceline_work_free. */
PACELINE_API int paceline_all_reduce_async(paceline_comm* comm, const void* input, void* output, size_t count,
                                           int type, const paceline_reduce_options* options,
                                           paceline_work** out);
PACELINE_API int paceline_reduce_scatter_async(paceline_comm* comm, const void* input, void* output,
                                               size_t count, int type, const paceline_reduce_options* options,
                                               paceline_work** out);
PACELINE_API int paceline_all_gather_async(paceline_comm* comm, const void* input, void* output, size_t count,
                                           int type, int priority, paceline_work** out);
PACELINE_API int paceline_broadcast_async(paceline_comm* comm, void* data, size_t count, int type, int root,
                                          int priority, paceline_work** out);
/* Blocks until the collective has ended on this rank, and helps to carry it out. Any thread, any number of
 * times. */
PACELINE_API int paceline_work_wait(paceline_work* work);
/* `*out` becomes 1 if it has ended, 0 if not. */
PACELINE_API int paceline_work_done(const paceline_work* work, int* out);
/* Does not cancel anything: the memory must stay until it is done. Null: does nothing. */
PACELINE_API int paceline_work_free(paceline_work* work);

/* Gives up: every waiter on every rank returns with `reason`, and PACELINE_ABORTED. */
PACELINE_API int paceline_abort(paceline_comm* comm, const char* reason);
/* PACELINE_OK, or the error that killed the communicator. */
PACELINE_API int paceline_health(const paceline_comm* comm);
/* After an error: waits until no other rank can write to this rank's buffers any more, because it has stopped
 * or its process has ended. PACELINE_TIMEOUT (names the rank): it may still write, so give the buffers up and
 * allocate others. */
PACELINE_API int paceline_quiesce(paceline_comm* comm, int64_t timeout_ms);
/* Nanoseconds spent inside collectives so far, waiting for peers included. */
PACELINE_API int paceline_busy_ns(const paceline_comm* comm, int64_t* out);

#ifdef __cplusplus
}
#endif

#endif
