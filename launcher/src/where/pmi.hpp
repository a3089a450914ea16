#pragma once

#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// The name of the job that the process manager at the other end of `fd` knows this process by, the same for
/// all of its processes and for no other job: its key-value space, asked for in PMI-1's wire protocol (Balaji
/// et al., "PMI: A Scalable Parallel Process-Management Interface for Extreme-Scale Systems", 2010). To be
/// called once: it says goodbye afterwards, so that this process may end as it likes. Errors: corrupt, io,
/// timeout.
[[nodiscard]] Result<std::string> pmi_job_name(int fd, Duration limit);

}  // namespace paceline
