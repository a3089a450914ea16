#pragma once

#include <vector>

#include "paceline/allreduce.hpp"
#include "peers/contender.h"

namespace paceline::bench {

/// How a rank gets its communicator; `members` has the node and address of each, without ports.
using Connect = Result<Communicator>(const contender_job& job, std::vector<Member> members);

/// Paceline's own communicator as a contender: the whole life of one rank; the exit status.
[[nodiscard]] int run_own_rank(int argc, char** argv, Connect& connect);

}  // namespace paceline::bench
