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
  std::string interface;     ///< network; empty: not given
  std::string run_dir;
  std::string resume;        ///< a run directory, instead of a job file
  std::string hosts;         ///< a file of hosts, or their names; empty: not given
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

struct AuditOptions {
  std::string run_dir;
  std::string json;
};

struct StatusOptions {
  std::string run_dir;
  bool json = false;
};

struct ResizeOptions {
  std::string run_dir;
  std::int64_t ranks = 0;
};

struct DrainOptions {
  std::string run_dir;
  std::string node;
};

struct JoinOptions {
  std::string run_dir;
  std::int64_t places = 0;  ///< 0: the cores
};

struct StopOptions {
  std::string run_dir;
};

/// Given by agents, not by people.
struct CoordinatorCommand {
  std::string run_dir;
  std::int64_t after = 0;  ///< the term that it is to follow
};

/// Given by launchers, not by people.
struct AgentCommand {
  std::vector<std::string> must_see;  ///< absolute paths
};

struct DataImportOptions {
  std::string kind;
  std::vector<std::string> sources;
  std::string out;
  std::string storage;
  std::string size;  ///< as it was typed; empty: not given
  std::int64_t channels = 0;
  std::optional<double> test_fraction;
  std::string tokenizer;
  int threads = 0;
  std::string values;
  std::string labels;
  std::string layout;
  bool strict = false;
  bool quiet = false;
};
struct DataInfoOptions {
  std::string folder;
};
struct DataVerifyOptions {
  std::string folder;
};

struct DataPreviewOptions {
  std::string folder;
  std::string out;  ///< the picture; empty: preview.png
  std::int64_t count = 0;
};

/// What follows `bench`, which has a command line of its own.
struct BenchArguments {
  std::vector<std::string> arguments;
};

/// The arguments asked for text, not for work: --help, --version.
struct ShowText {
  std::string text;
};

using Command =
    std::variant<ShowText, TrainOptions, EvalOptions, ExportOptions, AuditOptions, StatusOptions,
                 ResizeOptions, DrainOptions, StopOptions, JoinOptions, CoordinatorCommand, AgentCommand,
                 DataImportOptions, DataInfoOptions, DataVerifyOptions, DataPreviewOptions, BenchArguments>;

/// The command line. Errors are bad usage: one sentence, with the way to the help.
[[nodiscard]] Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace paceline
