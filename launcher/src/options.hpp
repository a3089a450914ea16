#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"

namespace paceline {

struct TrainOptions {
  std::string job_file;
  std::string ranks;  ///< as it was typed; empty: not given
  std::vector<JobOverride> overrides;
  std::string run_dir;
  std::int64_t threads = 0;  ///< 0: the job file's, else one per core
  std::string json;
  bool quiet = false;
};

struct EvalOptions {
  std::string run_dir;
  std::string ranks;
  std::string json;
};

struct ExportOptions {
  std::string run_dir;
  std::string format;
  std::string out;
};

struct DataImportOptions {
  std::string kind;
  std::string source;
  std::string out;
};
struct DataInfoOptions {
  std::string folder;
};
struct DataVerifyOptions {
  std::string folder;
};

/// What follows `bench`, which has a command line of its own.
struct BenchArguments {
  std::vector<std::string> arguments;
};

/// The arguments asked for text, not for work: --help, --version.
struct ShowText {
  std::string text;
};

using Command = std::variant<ShowText, TrainOptions, EvalOptions, ExportOptions, DataImportOptions,
                             DataInfoOptions, DataVerifyOptions, BenchArguments>;

/// The command line. Errors are bad usage: one sentence, with the way to the help.
[[nodiscard]] Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace paceline
