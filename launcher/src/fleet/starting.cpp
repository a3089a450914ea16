#include "fleet/starting.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "paceline/base/text.hpp"
#include "spawn.hpp"

namespace paceline {
namespace {

/// For a shell on the other side.
std::string quoted(const std::string& word) {
  std::string text = "'";
  for (const char letter : word) text += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return text + "'";
}

std::string label_of(const std::string& number) {
  const auto task = parse_integer(number, 0, 99'999'999);
  if (!task) return "";
  const std::string digits = concat(*task);
  return std::string(8 - digits.size(), '0') + digits;
}

/// srun --label begins each line with the task's number: "3: text".
Labelled without_srun_label(const std::string& line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string::npos) return {"", line};
  const std::size_t begin = std::min(line.find_first_not_of(' '), colon);
  const std::string label = label_of(line.substr(begin, colon - begin));
  if (label.empty()) return {"", line};
  return {label, line.substr(std::min(line.size(), colon + 2))};
}

/// mpirun --tag-output begins each with "[JOB,3]<stdout>:", and version 5 a space more.
Labelled without_mpirun_label(const std::string& line) {
  const std::size_t end = line.find("]<std");
  const std::size_t comma = line.rfind(',', end);
  const std::size_t colon = end == std::string::npos ? end : line.find(':', end);
  if (!line.starts_with('[') || colon == std::string::npos || comma == std::string::npos) return {"", line};
  const std::string label = label_of(line.substr(comma + 1, end - comma - 1));
  if (label.empty()) return {"", line};
  const std::size_t begin = line.find_first_not_of(' ', colon + 1);
  return {label, begin == std::string::npos ? "" : line.substr(begin)};
}

/// Settings of people for this job go to all of its nodes; the name of a node doesn't.
std::vector<std::string> settings() {
  std::vector<std::string> ours;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    if (text.starts_with("PACELINE_") && !text.starts_with("PACELINE_NODE=")) ours.push_back(text);
  }
  std::ranges::sort(ours);
  return ours;
}

}  // namespace

Labelled without_label(const std::string& starter, const std::string& line) {
  if (starter == "srun") return without_srun_label(line);
  if (starter == "mpirun") return without_mpirun_label(line);
  return {"", line};
}

std::vector<std::string> srun_command(std::int64_t nodes, const std::vector<std::string>& agent_command) {
  std::vector<std::string> command = {"srun",
                                      concat("--nodes=", nodes),
                                      concat("--ntasks=", nodes),
                                      "--ntasks-per-node=1",
                                      "--cpu-bind=none",  // the agent binds the workers
                                      "--mpi=none",
                                      "--no-kill",  // the others go on when a node is lost
                                      "--kill-on-bad-exit=0",
                                      "--wait=0",
                                      "--input=all",
                                      "--label"};
  command.insert(command.end(), agent_command.begin(), agent_command.end());
  return command;
}

std::vector<std::string> mpirun_command(const std::vector<Host>& hosts,
                                        const std::vector<std::string>& settings,
                                        const std::vector<std::string>& agent_command) {
  std::vector<std::string> command = {"mpirun", "--map-by", "ppr:1:node", "--bind-to",
                                      "none",   "--stdin",  "all",        "--tag-output"};
  if (!hosts.empty()) {
    std::string names;
    for (const Host& host : hosts) names += concat(names.empty() ? "" : ",", host.name, ":1");
    command.insert(command.end(), {"--host", names});
  }
  for (const std::string& setting : settings)
    command.insert(command.end(), {"-x", setting.substr(0, setting.find('='))});
  command.insert(command.end(), agent_command.begin(), agent_command.end());
  return command;
}

std::vector<std::string> ssh_command(const std::string& ssh, const std::string& host,
                                     const std::string& folder, const std::vector<std::string>& environment,
                                     const std::vector<std::string>& agent_command) {
  std::vector<std::string> command = split(ssh, ' ');
  std::erase(command, "");
  command.push_back(host);
  std::vector<std::string> words = {"cd", quoted(folder), "&&", "exec", "env"};
  for (const std::string& setting : environment) words.push_back(quoted(setting));
  for (const std::string& word : agent_command) words.push_back(quoted(word));
  std::string line;
  for (const std::string& word : words) line += concat(line.empty() ? "" : " ", word);
  command.push_back(std::move(line));
  return command;
}

Result<std::vector<NodeProgram>> node_programs(const Allocation& allocation,
                                               const std::vector<std::string>& arguments) {
  PACELINE_ASSIGN(const std::string program, own_program());
  std::vector<std::string> words = {program};
  words.insert(words.end(), arguments.begin(), arguments.end());
  // They hand all variables on, if only to processes on this machine, whose name is no node's.
  if (allocation.in_one_piece()) ::unsetenv("PACELINE_NODE");
  if (allocation.by == "srun")
    return std::vector<NodeProgram>{{"srun", srun_command(allocation.nodes, words)}};
  if (allocation.by == "mpirun")
    return std::vector<NodeProgram>{{"mpirun", mpirun_command(allocation.hosts, settings(), words)}};
  // Without a terminal nobody could answer what it asks.
  const std::string ssh = environment("PACELINE_SSH").value_or("ssh -o BatchMode=yes");
  std::error_code error;
  const std::string folder = std::filesystem::current_path(error).string();
  if (error) return Error{ErrorCode::io, concat("cannot find the working directory: ", error.message())};
  std::vector<NodeProgram> programs;
  for (const Host& host : allocation.hosts)
    programs.push_back({host.name, ssh_command(ssh, host.name, folder, settings(), words)});
  return programs;
}

}  // namespace paceline
