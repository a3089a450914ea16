#ifndef PACELINE_MPI_H
#define PACELINE_MPI_H

/* Paceline in a program that has MPI: a communicator over the ranks of an MPI communicator, which find each
 * other through it and need no environment or addresses. From C:
 *
 *     paceline_comm* comm = NULL;
 *     paceline_from_mpi(MPI_COMM_WORLD, NULL, &comm);
 *     paceline_all_reduce(comm, data, data, count, PACELINE_F32, NULL);
 *
 * Ranks of one node share memory, as always. Between nodes data goes over MPI's point-to-point messages or
 * over TCP: see MpiTransport below. Link with paceline::mpi (CMake; static) or with libpaceline_mpi
 * (pkg-config paceline-mpi), which has all of libpaceline_allreduce in it and takes its place. */

/* The C++ bindings that some MPIs still include are not wanted here. */
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include "paceline/allreduce.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A communicator over the ranks of `mpi`, with the same numbers. Collective over them, between MPI_Init and
 * MPI_Finalize; `mpi` stays the caller's, and nothing is ever sent on it but on a duplicate of it. `options`:
 * null for the defaults. options.secret: null for a random one; options.listener: not needed. Which transport
 * is used is said by PACELINE_TRANSPORT (mpi or tcp; the same on all ranks), and is mpi without it.
 *
 * Threads: unless MPI was initialised with MPI_THREAD_MULTIPLE, what is called on the communicator calls MPI
 * on the same thread, and asynchronous collectives go on only while someone waits; with
 * MPI_THREAD_FUNNELED all of it belongs to MPI's main thread. Close it before MPI_Finalize.
 *
 * Errors: those of paceline_connect; PACELINE_TIMEOUT also if not all ranks have called it before
 * connect_timeout_ms; PACELINE_INVALID_ARGUMENT if MPI is not initialised, `mpi` is null or an
 * inter-communicator. A lost rank is noticed as elsewhere, though most MPIs end the whole job first. */
PACELINE_API int paceline_from_mpi(MPI_Comm mpi, const paceline_options* options, paceline_comm** out);

#ifdef __cplusplus
}

#include "paceline/allreduce.hpp"

namespace paceline {

/// What carries blocks between nodes. Equal on all ranks.
enum class MpiTransport {
  /// By PACELINE_TRANSPORT (mpi or tcp), else over MPI, which knows the machine's network; over TCP where
  /// options.encrypt is set.
  automatic,
  none,            ///< TCP: MPI only helps the ranks to find each other
  point_to_point,  ///< messages of MPI
};

/// A communicator over the ranks of `mpi`, as paceline_from_mpi does.
[[nodiscard]] Result<Communicator> communicator_from_mpi(MPI_Comm mpi, CommunicatorOptions options = {},
                                                         MpiTransport use = MpiTransport::automatic);

}  // namespace paceline
#endif

#endif
