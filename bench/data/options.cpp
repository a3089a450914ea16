#include "data/options.hpp"

#include <CLI/CLI.hpp>

#include "command_line.hpp"

namespace paceline::bench {

Result<DataOptions> parse_data(std::vector<std::string> arguments) {
  CLI::App app("Times the loader beside plain reads of the same files, HDF5's own and PyTorch's DataLoader.",
               "paceline bench data");
  DataOptions options;
  app.add_option("DIR", options.folders, "dataset folders");
  app.add_option("--threads", options.threads, "of the loader and of its limits, e.g. 1,2 (default)")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  app.add_option("--batch", options.batch, "samples per batch (default: 256)")->check(CLI::Range(1, 1 << 20));
  app.add_option("--window", options.window, "tokens per sample, for datasets of tokens (default: 256)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--budget-mib", options.budget_mib,
                 "memory of the loader that may not keep the dataset (default: 32)")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("--rounds", options.rounds, "how often every contender has its turn (default: 5)")
      ->check(CLI::Range(1, 1000));
  app.add_flag("--cold", options.cold, "measure without the page cache as well");
  app.add_option("--peers", options.peers, "who else: h5dread, torch")
      ->delimiter(',')
      ->check(CLI::IsMember({"h5dread", "torch"}));
  app.add_option("--train", options.train, "a job file: train it, and say how long it waited for data");
  app.add_option("--json", options.json, "write the figures to this file too");
  PACELINE_TRY(parse_arguments(app, std::move(arguments)));
  if (options.folders.empty() && options.train.empty())
    return Error{ErrorCode::invalid_argument,
                 "name a dataset folder, e.g. datasets/fashion-mnist/train, or a job file with --train"};
  return options;
}

}  // namespace paceline::bench
