#include "calls.hpp"

#include <sched.h>

#include <string>
#include <thread>

#include "paceline/base/text.hpp"

namespace paceline::mpi {

Status check(int code, std::string_view what, int rank) {
  if (code == MPI_SUCCESS) return {};
  char text[MPI_MAX_ERROR_STRING] = "";
  int bytes = 0;
  if (MPI_Error_string(code, text, &bytes) != MPI_SUCCESS) bytes = 0;
  const ErrorCode kind = rank >= 0 ? ErrorCode::peer_lost : ErrorCode::internal;
  const std::string with = rank >= 0 ? concat(" with rank ", rank) : std::string();
  return Error{kind, concat(what, with, " failed: ", std::string_view(text, static_cast<std::size_t>(bytes))),
               rank};
}

bool is_running() noexcept {
  int begun = 0;
  int ended = 0;
  return MPI_Initialized(&begun) == MPI_SUCCESS && begun != 0 && MPI_Finalized(&ended) == MPI_SUCCESS &&
         ended == 0;
}

Status finish(MPI_Request& request, const Deadline& deadline, std::string_view what) {
  constexpr int spins = 200;
  for (int round = 0;; ++round) {
    int done = 0;
    PACELINE_TRY(check(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what));
    if (done != 0) return {};
    if (deadline.passed())
      return Error{ErrorCode::timeout,
                   concat(what, " did not end in time: all ranks of the MPI communicator must take part")};
    if (round < spins)
      ::sched_yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

}  // namespace paceline::mpi
