#include "paceline/bench/bench.hpp"

#include <iostream>

#include "allocation/options.hpp"
#include "allocation/run.hpp"
#include "allreduce/run.hpp"
#include "data/options.hpp"
#include "data/run.hpp"
#include "elastic/options.hpp"
#include "elastic/run.hpp"
#include "paceline/base/text.hpp"
#include "rebalance/options.hpp"
#include "rebalance/run.hpp"
#include "scaling/options.hpp"
#include "scaling/run.hpp"

namespace paceline::bench {
namespace {

constexpr const char* help =
    "Measures parts of Paceline beside their limits and other libraries (docs/benchmarks.md).\n"
    "Usage: paceline bench allocation [OPTIONS]\n"
    "       paceline bench allreduce [OPTIONS]\n"
    "       paceline bench data [OPTIONS] DIR...\n"
    "       paceline bench elastic [OPTIONS]\n"
    "       paceline bench rebalance --trace FILE [OPTIONS]\n"
    "       paceline bench scaling JOB [OPTIONS]\n"
    "\n"
    "  allocation static allocation, by policy and with balancing, beside what was published; tasks at once\n"
    "  allreduce  sums over ranks\n"
    "  data       loading samples from datasets\n"
    "  elastic    jobs whose ranks and coordinators are lost, or that change their size\n"
    "  rebalance  shares of ranks that differ, replayed from a trace\n"
    "  scaling    what each further rank is worth to a job, beside what the machine allows\n"
    "\n"
    "`paceline bench allreduce --help` shows its options.\n";

int complain(const std::string& text) {
  std::cerr << "paceline: " << text << "\n";
  return 2;
}

/// A request for help is an error whose message is the help.
int refuse(const Error& error) {
  if (error.code != ErrorCode::aborted) return complain(error.message);
  std::cout << error.message;
  return 0;
}

int run_allocation_arguments(std::vector<std::string> arguments) {
  const Result<AllocationOptions> options = parse_allocation(std::move(arguments));
  return options.ok() ? run_allocation(*options) : refuse(options.error());
}

int run_data_arguments(std::vector<std::string> arguments) {
  const Result<DataOptions> options = parse_data(std::move(arguments));
  return options.ok() ? run_data(*options) : refuse(options.error());
}

int run_elastic_arguments(std::vector<std::string> arguments) {
  const Result<ElasticOptions> options = parse_elastic(std::move(arguments));
  return options.ok() ? run_elastic(*options) : refuse(options.error());
}

int run_rebalance_arguments(std::vector<std::string> arguments) {
  const Result<RebalanceOptions> options = parse_rebalance(std::move(arguments));
  return options.ok() ? run_rebalance(*options) : refuse(options.error());
}

int run_scaling_arguments(std::vector<std::string> arguments) {
  Result<ScalingOptions> options = parse_scaling(std::move(arguments));
  return options.ok() ? run_scaling(std::move(*options)) : refuse(options.error());
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
  if (what == "allocation") return run_allocation_arguments({rest.begin(), rest.end()});
  if (what == "data") return run_data_arguments({rest.begin(), rest.end()});
  if (what == "elastic") return run_elastic_arguments({rest.begin(), rest.end()});
  if (what == "rebalance") return run_rebalance_arguments({rest.begin(), rest.end()});
  if (what == "scaling") return run_scaling_arguments({rest.begin(), rest.end()});
  if (what != "allreduce")
    return complain(
        concat(what.empty() ? "say what to measure" : concat("there is nothing to measure called ", what),
               ": `paceline bench --help` shows what there is"));
  const Result<AllreduceOptions> options = parse_allreduce({rest.begin(), rest.end()});
  return options.ok() ? run_allreduce(*options) : refuse(options.error());
}

}  // namespace paceline::bench
