#pragma once

namespace paceline {

/// Does what the agent at descriptor 3 asks for; gives the exit status.
[[nodiscard]] int run_worker();

}  // namespace paceline
