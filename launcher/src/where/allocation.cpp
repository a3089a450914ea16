#include "where/allocation.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <limits>

#include "job_size.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "where/adapters.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_hosts = 100000;

/// What ssh takes for a host and never for an option or a command.
bool is_host_name(const std::string& name) {
  return !name.empty() && name.front() != '-' && std::ranges::all_of(name, [](unsigned char letter) {
    return std::isalnum(letter) != 0 ||
           std::string_view("-._@[]").find(static_cast<char>(letter)) != std::string_view::npos;
  });
}

Status add(std::vector<Host>& hosts, const std::string& name, const std::string& slots,
           const std::string& where) {
  if (!is_host_name(name))
    return Error{ErrorCode::invalid_argument, concat(where, ": '", name, "' is no name of a host")};
  if (std::ranges::any_of(hosts, [&](const Host& host) { return host.name == name; }))
    return Error{ErrorCode::invalid_argument,
                 concat(where, ": ", name, " is there twice; name a host once, with its slots")};
  if (hosts.size() == most_hosts)
    return Error{ErrorCode::invalid_argument, concat(where, ": more than ", most_hosts, " hosts")};
  Host& host = hosts.emplace_back();
  host.name = name;
  if (slots.empty()) return {};
  const auto number = parse_integer(slots, 1, most_ranks);
  if (!number)
    return Error{ErrorCode::invalid_argument,
                 concat(where, ": '", slots, "' slots; write a number from 1 to ", most_ranks)};
  host.slots = *number;
  return {};
}

std::vector<std::string> words_of(const std::string& line) {
  std::string text = line.substr(0, line.find('#'));
  std::ranges::replace_if(
      text, [](unsigned char letter) { return std::isspace(letter) != 0; }, ' ');
  std::vector<std::string> words = split(text, ' ');
  std::erase(words, "");
  return words;
}

Result<std::vector<Host>> read_hosts(const std::string& hosts) {
  struct stat found {};
  const bool is_file = ::stat(hosts.c_str(), &found) == 0;
  if (!is_file && hosts.find('/') == std::string::npos) return parse_host_list(hosts);
  Result<std::string> text = read_file(hosts, std::size_t{16} << 20);
  if (!text.ok()) return Error{ErrorCode::invalid_argument, concat("--hosts: ", text.error().message)};
  return parse_host_file(*text, hosts);
}

}  // namespace

Result<std::vector<Host>> parse_host_file(const std::string& text, const std::string& source) {
  std::vector<Host> hosts;
  std::int64_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    const std::string where = concat(source, ", line ", ++number);
    const std::vector<std::string> words = words_of(line);
    if (words.empty()) continue;
    constexpr std::string_view slots = "slots=";
    if (words.size() > 2 || (words.size() == 2 && !words[1].starts_with(slots)))
      return Error{ErrorCode::invalid_argument, concat(where, ": write NAME or NAME slots=N")};
    PACELINE_TRY(add(hosts, words[0], words.size() == 2 ? words[1].substr(slots.size()) : "", where));
  }
  if (hosts.empty()) return Error{ErrorCode::invalid_argument, concat(source, " names no host")};
  return hosts;
}

Result<std::vector<Host>> parse_host_list(const std::string& text) {
  std::vector<Host> hosts;
  for (const std::string& entry : split(text, ',')) {
    const std::size_t colon = entry.rfind(':');
    const bool has_slots = colon != std::string::npos;
    if (has_slots && colon + 1 == entry.size())
      return Error{ErrorCode::invalid_argument,
                   concat("--hosts: '", entry, "' has no number after its colon")};
    PACELINE_TRY(add(hosts, entry.substr(0, colon), has_slots ? entry.substr(colon + 1) : "", "--hosts"));
  }
  return hosts;
}

Result<std::optional<Allocation>> find_allocation(const Environment& environment, const std::string& hosts,
                                                  const std::string& starter) {
  const auto refuse = [](const char* why) { return Error{ErrorCode::invalid_argument, why}; };
  if (hosts.empty() && (starter.empty() || starter == "srun")) {
    PACELINE_ASSIGN(std::optional<Allocation> allocation, slurm_allocation(environment));
    if (!allocation && !starter.empty())
      return refuse(
          "--starter srun: this is no job of Slurm (SLURM_JOB_ID is not set): use salloc or sbatch");
    return {std::move(allocation)};
  }
  if (starter == "srun") return refuse("--starter srun knows the nodes of its job: leave --hosts out");
  if (starter == "ssh" && hosts.empty()) return refuse("--starter ssh: say to which machines, with --hosts");
  Allocation allocation;
  allocation.by = starter.empty() ? "ssh" : starter;
  allocation.why = starter.empty() ? "--hosts is given" : concat("--starter is ", starter);
  if (!hosts.empty()) {
    PACELINE_ASSIGN(allocation.hosts, read_hosts(hosts));
  }
  allocation.nodes = std::ssize(allocation.hosts);
  const auto has_slots = [](const Host& host) { return host.slots > 0; };
  if (starter == "mpirun" && std::ranges::any_of(allocation.hosts, has_slots))
    return refuse(
        "--starter mpirun: mpirun numbers the hosts in an order of its own, so give them without slots");
  return {std::move(allocation)};
}

}  // namespace paceline
