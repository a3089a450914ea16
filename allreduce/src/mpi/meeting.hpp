#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "messages.hpp"

namespace paceline::mpi {

/// A duplicate of `mpi` on which nobody else sends, whose errors are values; the same one for every
/// communicator that is made from `mpi`. Collective the first time.
[[nodiscard]] Result<std::shared_ptr<Duplicate>> duplicate_of(MPI_Comm mpi, const Deadline& deadline);

/// What all ranks must know of each other before they can connect.
struct Proposal {
  std::uint64_t host = 0;  ///< equal for ranks on one host
  int transport = 0;       ///< must be equal on all ranks
  bool ready = true;       ///< this rank can take part
};
struct Agreement {
  bool one_host = false;
  bool one_transport = false;
  bool all_ready = false;
};
[[nodiscard]] Result<Agreement> agree(MPI_Comm comm, const Proposal& proposal, const Deadline& deadline);

/// Where rank 0 listens; or, with an empty host, why it does not.
struct Invitation {
  std::string host;
  std::uint16_t port = 0;
  std::string secret;
  std::string refusal;
};
/// Rank 0's invitation, on all ranks.
[[nodiscard]] Status spread(MPI_Comm comm, Invitation& invitation, const Deadline& deadline);

}  // namespace paceline::mpi
