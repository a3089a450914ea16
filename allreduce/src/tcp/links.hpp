#pragma once

#include <memory>
#include <string>
#include <vector>

#include "../abort_signal.hpp"
#include "../topology.hpp"
#include "../wire.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/transport.hpp"

namespace paceline::tcp {

struct LinkOptions {
  std::string secret;
  std::uint64_t generation = 0;
  int streams = 1;  ///< connections to each peer
  bool encrypt = false;
};

/// TCP connections to every rank in layout.linked_ranks(). Collective over all ranks: each connects to those
/// below it and accepts those above. `abort` must outlive the result.
[[nodiscard]] Result<std::unique_ptr<Transport>> make_links(
    const Layout& layout, const std::vector<wire::Hello>& roster, const UniqueFd& data_listener,
    const LinkOptions& options, const Deadline& deadline, const AbortSignal& abort);

}  // namespace paceline::tcp
