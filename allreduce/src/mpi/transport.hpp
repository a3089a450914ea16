#pragma once

#include <memory>

#include "messages.hpp"
#include "paceline/transport.hpp"

namespace paceline::mpi {

/// Blocks as messages of MPI. `tag` belongs to this transport alone, among those on the duplicate.
[[nodiscard]] Result<std::unique_ptr<Transport>> make_transport(std::shared_ptr<Duplicate> duplicate, int tag,
                                                                const TransportContext& context);

}  // namespace paceline::mpi
