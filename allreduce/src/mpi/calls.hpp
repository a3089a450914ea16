#pragma once

#include <string_view>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/mpi.h"

namespace paceline::mpi {

/// Success, or what MPI says about `code`; `rank` is the one it was about, or -1.
[[nodiscard]] Status check(int code, std::string_view what, int rank = -1);

/// MPI may be called: it was initialised and has not been finalized.
[[nodiscard]] bool is_running() noexcept;

/// Until `request` is complete. After a timeout it still is under way, and so must its memory stay.
[[nodiscard]] Status finish(MPI_Request& request, const Deadline& deadline, std::string_view what);

}  // namespace paceline::mpi
