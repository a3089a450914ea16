#include "paceline/bench/bench.hpp"

#include <iostream>

#include "allreduce/run.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr const char* help =
    "Measures parts of Paceline beside their limits and other libraries (docs/benchmarks.md).\n"
    "Usage: paceline bench allreduce [OPTIONS]\n"
    "\n"
    "  allreduce  sums over ranks; `paceline bench allreduce --help` shows its options\n";

int complain(const std::string& text) {
  std::cerr << "paceline: " << text << "\n";
  return 2;
}

}  // namespace

int run(std::span<const std::string> arguments) {
  const std::string what = arguments.empty() ? "" : arguments.front();
  if (what == "--help" || what == "-h") {
    std::cout << help;
    return 0;
  }
  const auto rest = arguments.subspan(arguments.empty() ? 0 : 1);
  if (what == "rank") return run_rank({rest.begin(), rest.end()});  // only for `bench allreduce` itself
  if (what != "allreduce")
    return complain(
        concat(what.empty() ? "say what to measure" : concat("there is nothing to measure called ", what),
               ": `paceline bench --help` shows what there is"));
  const Result<AllreduceOptions> options = parse_allreduce({rest.begin(), rest.end()});
  if (options.ok()) return run_allreduce(*options);
  if (options.error().code != ErrorCode::aborted) return complain(options.error().message);
  std::cout << options.error().message;
  return 0;
}

}  // namespace paceline::bench
