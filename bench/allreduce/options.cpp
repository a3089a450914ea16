#include "allreduce/options.hpp"

#include <CLI/CLI.hpp>
#include <numeric>
#include <set>

#include "allreduce/sizes.hpp"
#include "command_line.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

constexpr int most_ranks = 1024;
constexpr std::uint64_t most_bytes = std::uint64_t{1} << 30;  // MPI counts elements in an int

/// What has to be looked at again after CLI11 has split the arguments.
struct Typed {
  AllreduceOptions options;
  std::string min_bytes = "4";
  std::string max_bytes = "64M";
  std::string layout;
  double timeout_s = 60;
  CLI::Option* ranks = nullptr;
  CLI::Option* nodes = nullptr;
};

void add_place(CLI::App& app, Typed& typed) {
  AllreduceOptions& options = typed.options;
  typed.ranks = app.add_option("--ranks", options.ranks, "number of ranks (default: 2)")
                    ->check(CLI::Range(1, most_ranks));
  typed.nodes = app.add_option("--nodes", options.nodes,
                               "pretend that the ranks are on so many nodes: they then share no memory")
                    ->check(CLI::Range(1, most_ranks));
  app.add_option("--layout", typed.layout, "ranks of each node or host, e.g. 3,1,2,2 (default: even)");
  app.add_option(
         "--hosts", options.hosts_file,
         "file with a line NAME ADDRESS COMMAND... per host, where the command runs another one there")
      ->envname("PACELINE_BENCH_HOSTS");
  app.add_option("--wire-gbits", options.wire_gbits,
                 "what a host's wire carries each way, for the limit between hosts")
      ->envname("PACELINE_BENCH_WIRE_GBITS")
      ->check(CLI::Range(0.001, 10000.0));
  app.add_option("--transport", options.transport,
                 "between nodes: tcp, mpi (under Open MPI, on this machine), or auto, which is tcp")
      ->check(CLI::IsMember({"auto", "tcp", "mpi"}));
}

void add_work(CLI::App& app, Typed& typed) {
  AllreduceOptions& options = typed.options;
  app.add_option("--memory", options.memory, "shared (of the library) or plain (the caller's own)")
      ->check(CLI::IsMember({"shared", "plain"}));
  app.add_option("--dtype", options.dtype, "f32, f64, f16, bf16, i32, i64 or u8")
      ->check(CLI::IsMember({"f32", "f64", "f16", "bf16", "i32", "i64", "u8"}));
  app.add_option("--codec", options.codec,
                 "between nodes: none, f16, bf16, int8 or fixed-point; peers have none")
      ->check(CLI::IsMember({"none", "f16", "bf16", "int8", "fixed-point"}));
  app.add_option("--min-bytes", typed.min_bytes, "the smallest size (default: 4)");
  app.add_option("--max-bytes", typed.max_bytes, "the largest size, e.g. 256K, 64M (default: 64M)");
  app.add_option("--factor", options.factor, "from one size to the next (default: 4)")
      ->check(CLI::Range(2, 1024));
}

void add_run(CLI::App& app, Typed& typed) {
  AllreduceOptions& options = typed.options;
  app.add_option("--rounds", options.rounds,
                 "how often every contender has its turn at each size (default: 5)")
      ->check(CLI::Range(1, 1000));
  app.add_option("--peers", options.peers, "who else: openmpi, mpich, gloo")
      ->delimiter(',')
      ->check(CLI::IsMember({"openmpi", "mpich", "gloo"}));
  app.add_option("--json", options.json, "write the figures to this file too");
  app.add_option("--timeout", typed.timeout_s,
                 "seconds for each thing that a contender is asked (default: 60)")
      ->check(CLI::Range(0.1, 86400.0));
}

Error bad(std::string text) {
  return {ErrorCode::invalid_argument, std::move(text)};
}

Result<std::uint64_t> bytes_of(const char* option, const std::string& text) {
  const auto bytes = parse_bytes(text);
  if (!bytes || *bytes < 1 || *bytes > most_bytes)
    return bad(concat(option, " ", text, ": write a size from 1 to 1G, for example 4, 256K or 64M"));
  return *bytes;
}

/// The number of ranks, nodes and their layout say the same thing, of which any part may be left out.
Status settle_layout(Typed& typed) {
  AllreduceOptions& options = typed.options;
  if (typed.layout.empty()) {
    if (options.nodes > options.ranks)
      return bad(concat("--nodes ", options.nodes, ": there are only ", options.ranks, " ranks"));
    options.layout = even_layout(options.ranks, options.nodes);
    return {};
  }
  for (const std::string& part : split(typed.layout, ',')) {
    const auto ranks = parse_integer(part, 1, most_ranks);
    if (!ranks)
      return bad(concat("--layout ", typed.layout, ": write the ranks of each node, for example 3,1,2,2"));
    options.layout.push_back(static_cast<int>(*ranks));
  }
  const int ranks = std::accumulate(options.layout.begin(), options.layout.end(), 0);
  const auto nodes = static_cast<int>(options.layout.size());
  if (ranks > most_ranks || (typed.ranks->count() > 0 && options.ranks != ranks))
    return bad(
        concat("--layout ", typed.layout, " has ", ranks, " ranks: leave --ranks out, or make them agree"));
  if (typed.nodes->count() > 0 && options.nodes != nodes)
    return bad(
        concat("--layout ", typed.layout, " has ", nodes, " nodes: leave --nodes out, or make them agree"));
  options.ranks = ranks;
  options.nodes = nodes;
  return {};
}

Result<AllreduceOptions> settle(Typed typed) {
  AllreduceOptions& options = typed.options;
  PACELINE_ASSIGN(options.min_bytes, bytes_of("--min-bytes", typed.min_bytes));
  PACELINE_ASSIGN(options.max_bytes, bytes_of("--max-bytes", typed.max_bytes));
  if (options.min_bytes > options.max_bytes)
    return bad(concat("--min-bytes ", typed.min_bytes, " is more than --max-bytes ", typed.max_bytes));
  const bool fixed_point = options.codec == "fixed-point";
  if (options.codec != "none" && options.dtype != "f32" && !(fixed_point && options.dtype == "f64"))
    return bad(concat("--codec ", options.codec, " is for f32", fixed_point ? " and f64" : "", ", not for ",
                      options.dtype));
  if (sizes_of(options).empty())
    return bad(concat("no ", options.dtype, " fits into --max-bytes ", typed.max_bytes));
  if (options.hosts_file.empty() && options.wire_gbits > 0)
    return bad("--wire-gbits is about the wires between hosts: name them with --hosts");
  if (!options.hosts_file.empty() && typed.nodes->count() > 0)
    return bad("--nodes and --hosts exclude each other: a host is a node");
  PACELINE_TRY(settle_layout(typed));
  if (options.transport == "mpi" && !options.hosts_file.empty())
    return bad("--transport mpi is for one machine here: use --nodes, and no --hosts");
  // MPI's own sum sees through the pretence, and is what the transport has to hold its own against.
  const bool only_mpi = options.transport == "mpi" && options.peers == std::vector<std::string>{"openmpi"};
  if (options.hosts_file.empty() && options.nodes > 1 && !options.peers.empty() && !only_mpi)
    return bad(
        "peers do not know nodes that are only pretended, so compare over hosts: bench/netns.sh makes some");
  const std::set<std::string> once(options.peers.begin(), options.peers.end());
  if (once.size() != options.peers.size()) return bad("--peers names one of them twice");
  options.timeout = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(typed.timeout_s));
  return std::move(typed.options);
}

}  // namespace

Result<AllreduceOptions> parse_allreduce(std::vector<std::string> arguments) {
  CLI::App app("Times sums over ranks beside the memory's limit and other libraries.",
               "paceline bench allreduce");
  Typed typed;
  add_place(app, typed);
  add_work(app, typed);
  add_run(app, typed);
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  return settle(std::move(typed));
}

}  // namespace paceline::bench
