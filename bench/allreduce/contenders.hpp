#pragma once

namespace paceline::bench {

// The contenders of this program itself. Each is the whole life of one rank; the exit status.
[[nodiscard]] int run_paceline_rank(int argc, char** argv);
[[nodiscard]] int run_probe_rank(int argc, char** argv);

}  // namespace paceline::bench
