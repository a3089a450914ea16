#include "submit.hpp"

#include <algorithm>
#include <limits>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();

/// Nodes of one kind in one partition.
struct NodeKind {
  std::string partition;
  bool is_default = false;
  std::int64_t nodes = 0;
  std::int64_t cores = 0;
};

/// A number of sinfo, which marks one that is the least of several with a plus.
std::optional<std::int64_t> number(std::string word) {
  if (word.ends_with('+')) word.pop_back();
  return parse_integer(word, 0, most);
}

/// Of "NAME NODES CPUS SOCKETS CORES-PER-SOCKET"; nothing where it is something else.
std::optional<NodeKind> parse_kind(const std::string& line) {
  std::vector<std::string> words = split(line, ' ');
  std::erase(words, "");
  if (words.size() != 5) return std::nullopt;
  const auto nodes = number(words[1]), cpus = number(words[2]), sockets = number(words[3]),
             cores = number(words[4]);
  if (!nodes || !cpus || !sockets || !cores || *nodes == 0) return std::nullopt;
  NodeKind kind{words[0], words[0].ends_with('*'), *nodes, *sockets * *cores};
  if (kind.is_default) kind.partition.pop_back();
  if (kind.cores == 0) kind.cores = *cpus;
  if (kind.cores == 0) return std::nullopt;
  return kind;
}

std::int64_t divided_up(std::int64_t number, std::int64_t by) {
  return (number + by - 1) / by;
}

std::string replaced(std::string text, std::string_view what, const std::string& by) {
  for (std::size_t at; (at = text.find(what)) != std::string::npos;) text.replace(at, what.size(), by);
  return text;
}

}  // namespace

std::vector<std::string> sinfo_command(const std::string& wanted) {
  std::vector<std::string> command = {"sinfo", "--noheader", "--exact", "--format=%P %D %c %X %Y"};
  if (!wanted.empty()) command.push_back(concat("--partition=", wanted));
  return command;
}

Result<Partition> parse_partition(const std::vector<std::string>& lines, const std::string& wanted) {
  Partition result;
  result.name = wanted;
  std::string name;
  std::int64_t nodes = 0;  // of that partition
  for (const std::string& line : lines) {
    const std::optional<NodeKind> kind = parse_kind(line);
    if (!kind || (wanted.empty() && !kind->is_default)) continue;
    if (kind->partition != name) nodes = 0;
    name = kind->partition;
    nodes += kind->nodes;
    result.nodes = std::max(result.nodes, nodes);
    result.cores = result.cores == 0 ? kind->cores : std::min(result.cores, kind->cores);
  }
  if (wanted.empty()) result.name = name;
  if (result.nodes > 0) return result;
  return Error{ErrorCode::not_found,
               wanted.empty() ? "Slurm has no default partition with nodes: name one with --partition"
                              : concat("Slurm has no partition ", shown(wanted),
                                       " with nodes: `sinfo` shows those that it has")};
}

NodeRange nodes_for(std::int64_t least_ranks, std::int64_t most_ranks, const Partition& partition) {
  NodeRange range;
  range.least = std::clamp<std::int64_t>(divided_up(least_ranks, partition.cores), 1, partition.nodes);
  range.most = std::clamp(divided_up(most_ranks, partition.cores), range.least, partition.nodes);
  return range;
}

std::string describe(const NodeRange& nodes) {
  const std::string last = concat(nodes.most, nodes.most == 1 ? " node" : " nodes");
  return nodes.least == nodes.most ? last : concat(nodes.least, " to ", last);
}

std::optional<std::string> sbatch_value(const std::vector<std::string>& words, const SbatchOption& option) {
  std::optional<std::string> value;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    const bool is_short =
        option.letter != 0 && word.size() >= 2 && word[0] == '-' && word[1] == option.letter;
    const std::string_view rest = is_short                        ? word.substr(2)
                                  : word.starts_with(option.name) ? word.substr(option.name.size())
                                                                  : "no";
    if (rest.empty())
      value = i + 1 < words.size() && !words[i + 1].starts_with('-') ? words[i + 1] : "";
    else if (is_short)
      value = rest;
    else if (rest.front() == '=')
      value = rest.substr(1);
  }
  return value;
}

bool says_nodes(const std::vector<std::string>& sbatch_options) {
  constexpr SbatchOption options[] = {{"--nodes", 'N'},
                                      {"--ntasks", 'n'},
                                      {"--ntasks-per-node", 0},
                                      {"--nodelist", 'w'},
                                      {"--nodefile", 'F'}};
  return std::ranges::any_of(
      options, [&](const SbatchOption& option) { return sbatch_value(sbatch_options, option).has_value(); });
}

std::vector<std::string> sbatch_command(const Submission& submission) {
  const std::vector<std::string>& given = submission.sbatch_options;
  std::vector<std::string> command = {"sbatch", "--parsable"};
  if (!sbatch_value(given, {"--export", 0}))
    command.push_back(concat("--export=ALL,PACELINE=", submission.program));
  if (const auto& nodes = submission.nodes)
    command.push_back(nodes->least == nodes->most ? concat("--nodes=", nodes->most)
                                                  : concat("--nodes=", nodes->least, "-", nodes->most));
  if (!sbatch_value(given, {"--exclusive", 0}) && !sbatch_value(given, {"--oversubscribe", 's'}))
    command.emplace_back("--exclusive");
  command.insert(command.end(), given.begin(), given.end());
  command.push_back(submission.script);
  command.push_back(submission.job_file);
  command.insert(command.end(), submission.train_options.begin(), submission.train_options.end());
  return command;
}

std::string shell_quoted(const std::vector<std::string>& words) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%^";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool is_plain = !word.empty() && word.find_first_not_of(plain) == std::string::npos;
    if (!is_plain) line += '\'';
    for (const char letter : word) line += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
    if (!is_plain) line += '\'';
  }
  return line;
}

std::string submitted_job(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    const std::string job = line.substr(0, line.find(';'));  // after it the cluster's name
    if (parse_integer(job, 1, std::numeric_limits<std::int64_t>::max())) return job;
  }
  return "";
}

std::string describe_submitted(const std::string& job, const std::vector<std::string>& sbatch_options,
                               const std::string& where) {
  const std::optional<std::string> folder = sbatch_value(sbatch_options, {"--chdir", 'D'});
  const std::string before = folder ? concat(*folder, folder->ends_with('/') ? "" : "/") : "";
  const std::string run = concat(before, "runs/slurm-", job);
  const std::optional<std::string> output = sbatch_value(sbatch_options, {"--output", 'o'});
  std::string log = output ? replaced(*output, "%j", job) : concat("paceline-", job, ".log");
  if (!log.starts_with('/')) log = before + log;
  return concat("job ", job, where.empty() ? "" : ": ", where, "\n", "output ", log, ", run directory ", run,
                "\n", "look at it with\n", "  ", shell_quoted({"paceline", "status", run}), "\n  ",
                shell_quoted({"paceline", "logs", run, "--follow"}), "\nend it with\n  scancel ", job, "\n");
}

}  // namespace paceline
