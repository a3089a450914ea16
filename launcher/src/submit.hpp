#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A part of a Slurm cluster, or several, as sinfo tells of them.
struct Partition {
  std::string name;        ///< several: with commas
  std::int64_t nodes = 0;  ///< of the largest
  std::int64_t cores = 0;  ///< of the smallest node
  friend bool operator==(const Partition&, const Partition&) = default;
};

/// What sinfo is asked for; `wanted`: names with commas; empty: all.
[[nodiscard]] std::vector<std::string> sinfo_command(const std::string& wanted);
/// Of its lines; of those of all partitions the default one's count. not_found where there is none.
[[nodiscard]] Result<Partition> parse_partition(const std::vector<std::string>& lines,
                                                const std::string& wanted);

/// Nodes that Slurm is asked for: as many as there are, up to the most.
struct NodeRange {
  std::int64_t least = 1;
  std::int64_t most = 1;
  friend bool operator==(const NodeRange&, const NodeRange&) = default;
};

/// So many that each rank has a core, or else all of the partition's.
[[nodiscard]] NodeRange nodes_for(std::int64_t least_ranks, std::int64_t most_ranks,
                                  const Partition& partition);
/// "2 to 4 nodes".
[[nodiscard]] std::string describe(const NodeRange& nodes);

/// An option of sbatch, long and short; no letter: there is no short one.
struct SbatchOption {
  std::string_view name;  ///< "--nodes"
  char letter = 0;
};
/// Its value among the words of a command line, the last one; "" where it has none. Nothing: it isn't there.
[[nodiscard]] std::optional<std::string> sbatch_value(const std::vector<std::string>& words,
                                                      const SbatchOption& option);
/// Whether people have said themselves how many nodes or tasks there are to be.
[[nodiscard]] bool says_nodes(const std::vector<std::string>& sbatch_options);

/// What is to be submitted.
struct Submission {
  std::string program;  ///< this one, absolute
  std::string script;   ///< train.sbatch
  std::string job_file;
  std::optional<NodeRange> nodes;  ///< nothing: sbatch's options say it
  std::vector<std::string> sbatch_options;
  std::vector<std::string> train_options;
};

/// People's options come after ours, so that they win.
[[nodiscard]] std::vector<std::string> sbatch_command(const Submission& submission);

/// A command line for a POSIX shell.
[[nodiscard]] std::string shell_quoted(const std::vector<std::string>& words);

/// The job's number in what `sbatch --parsable` prints; empty where there is none.
[[nodiscard]] std::string submitted_job(const std::vector<std::string>& lines);

/// What people read of a job that was submitted: where it goes, and how to look.
[[nodiscard]] std::string describe_submitted(const std::string& job,
                                             const std::vector<std::string>& sbatch_options,
                                             const std::string& where);

}  // namespace paceline
