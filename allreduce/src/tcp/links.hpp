#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../abort_signal.hpp"
#include "../between_nodes.hpp"
#include "../topology.hpp"
#include "../wire.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::tcp {

/// One TCP connection to every rank in layout.linked_ranks(). Collective over all ranks: each connects to
/// those below it and accepts those above. `layout` and `abort` must outlive the result.
[[nodiscard]] Result<std::unique_ptr<BetweenNodes>> make_links(
    const Layout& layout, const std::vector<wire::Hello>& roster, const UniqueFd& data_listener,
    const std::string& secret, std::uint64_t generation, const Deadline& deadline, const AbortSignal& abort);

}  // namespace paceline::tcp
