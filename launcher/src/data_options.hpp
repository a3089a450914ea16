#pragma once

#include <CLI/CLI.hpp>

#include "options.hpp"

namespace paceline {

/// What the command line of `paceline data` can fill in.
struct DataCommands {
  DataImportOptions import;
  DataInfoOptions info;
  DataVerifyOptions verify;
  DataPreviewOptions preview;
};

/// Adds `data` and its subcommands, which write to `data`: it outlives the parsing.
void add_data_commands(CLI::App& app, DataCommands& data);
/// The subcommand of `data` that was given.
[[nodiscard]] Command chosen_data_command(const CLI::App& app, DataCommands data);

}  // namespace paceline
