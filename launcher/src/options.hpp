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
  std::string interface;  ///< network; empty: not given
  std::string run_dir;
  std::string resume;        ///< a run directory, instead of a job file
  std::string hosts;         ///< a file of hosts, or their names; empty: not given
  std::string starter;       ///< of agents on other machines: ssh, srun, mpirun; empty: what fits
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

struct LogsOptions {
  std::string run_dir;
  std::optional<std::int64_t> rank;  ///< what was written as this one, by whichever worker; none: all
  std::int64_t lines = 0;            ///< the last so many of each rank; 0: all
  bool follow = false;
};

struct TopOptions {
  std::string run_dir;
  double interval_s = 1;  ///< between two looks
  bool once = false;      ///< one look, as plain text
};

struct TimelineOptions {
  std::string run_dir;
  std::string out;  ///< the file; empty: RUN/timeline.json
  std::optional<std::int64_t> from;
  std::optional<std::int64_t> to;
};

struct ReportOptions {
  std::string run_dir;
  std::string html;  ///< the file
};

struct ExplainOptions {
  std::string run_dir;
  std::int64_t last = 0;  ///< only the newest so many; 0: all
  bool json = false;
  bool replay = false;  ///< decide again, and compare
};

struct PlanOptions {
  std::string job_file;
  std::vector<JobOverride> overrides;
  std::string ranks;      ///< as it was typed; empty: not given
  std::string inventory;  ///< a file of nodes, instead of the real ones
  std::string hosts;      ///< as for `train`
  std::string starter;    ///< as for `train`
  std::string device;     ///< cpu, gpu; empty: not given
  std::string gpu_kind;
  double gpu_memory_gib = 0;  ///< that every GPU needs
  double memory_gib = 0;      ///< of the host, for every rank
  bool json = false;
};

struct SubmitOptions {
  std::string job_file;
  bool slurm = false;
  bool dry_run = false;                     ///< show, and submit nothing
  std::vector<std::string> sbatch_options;  ///< as they were typed
  std::vector<std::string> train_options;   ///< what followed "--"
};

struct DoctorOptions {
  std::string folder = ".";  ///< where runs are to be made, on the shared filesystem
  std::string hosts;         ///< as for `train`: checked too
  bool json = false;
  bool as_node = false;  ///< given by another doctor, not by people
};

/// Given by agents, not by people.
struct CoordinatorCommand {
  std::string run_dir;
  std::int64_t after = 0;    ///< the term that it is to follow
  std::int64_t starter = 0;  ///< the process that starts it; 0: nobody who is to be looked after
};

/// Given by launchers, not by people.
struct AgentCommand {
  std::vector<std::string> must_see;  ///< absolute paths
  bool with_resources = false;        ///< the report has all of what the node has
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
                 ResizeOptions, DrainOptions, StopOptions, JoinOptions, LogsOptions, ExplainOptions,
                 TopOptions, TimelineOptions, ReportOptions, PlanOptions, SubmitOptions, DoctorOptions,
                 CoordinatorCommand, AgentCommand, DataImportOptions, DataInfoOptions, DataVerifyOptions,
                 DataPreviewOptions, BenchArguments>;

/// The command line. Errors are bad usage: one sentence, with the way to the help.
[[nodiscard]] Result<Command> parse_command_line(int argc, const char* const* argv);

}  // namespace paceline
