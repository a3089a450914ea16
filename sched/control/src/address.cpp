#include "paceline/control/address.hpp"

#include <dirent.h>
#include <sys/stat.h>

#include <cerrno>
#include <nlohmann/json.hpp>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline::control {
namespace {

using Json = nlohmann::ordered_json;

std::string folder_of(const std::string& run_dir) {
  return run_dir + "/coordinators";
}

/// -1 where it is none from 0 to `greatest`.
std::int64_t number_in(const Json& json, const char* key, std::int64_t greatest) {
  const Json& value = json.at(key);
  const std::int64_t number = value.is_number_integer() ? value.get<std::int64_t>() : -1;
  return number <= greatest ? number : -1;
}

/// The highest term that has a file; 0: none.
Result<std::int64_t> highest_term(const std::string& folder) {
  // Opened anew each time: a network filesystem answers from its memory otherwise.
  DIR* opened = ::opendir(folder.c_str());
  if (opened == nullptr && errno == ENOENT) return std::int64_t{0};
  if (opened == nullptr) return system_error(concat("cannot open ", shown(folder)));
  std::int64_t highest = 0;
  while (const dirent* entry = ::readdir(opened)) {  // NOLINT(concurrency-mt-unsafe): a stream of our own
    const std::string_view name = entry->d_name;
    if (!name.ends_with(".json")) continue;
    const auto term = parse_integer(name.substr(0, name.size() - 5), 1, std::int64_t{1} << 53);
    if (term) highest = std::max(highest, *term);
  }
  ::closedir(opened);
  return highest;
}

}  // namespace

Status take_term(const std::string& run_dir, const CoordinatorAddress& address) {
  const std::string folder = folder_of(run_dir);
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return system_error(concat("cannot make ", shown(folder)));
  const Json json = {{"term", address.term},
                     {"pid", address.pid},
                     {"node", address.node},
                     {"host", address.host},
                     {"port", address.port}};
  return write_file_once(concat(folder, "/", address.term, ".json"),
                         json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<CoordinatorAddress> parse_coordinator(const std::string& text, const std::string& name) {
  constexpr std::int64_t any = std::int64_t{1} << 53;
  const Error damaged{ErrorCode::corrupt, concat(shown(name), " is not what a coordinator writes")};
  const Json json = Json::parse(text, nullptr, false);
  CoordinatorAddress address;
  try {
    address.term = number_in(json, "term", any);
    address.pid = number_in(json, "pid", any);
    address.node = json.at("node").get<std::string>();
    address.host = json.at("host").get<std::string>();
    const std::int64_t port = number_in(json, "port", 65535);
    if (address.term < 1 || address.pid < 0 || port < 0) return damaged;
    address.port = static_cast<std::uint16_t>(port);
  } catch (const Json::exception& problem) {
    return Error{damaged.code, concat(damaged.message, " (", problem.what(), ")")};
  }
  return address;
}

Result<std::optional<CoordinatorAddress>> newest_coordinator(const std::string& run_dir) {
  PACELINE_ASSIGN(const std::int64_t term, highest_term(folder_of(run_dir)));
  if (term == 0) return std::optional<CoordinatorAddress>();
  const std::string path = concat(folder_of(run_dir), "/", term, ".json");
  PACELINE_ASSIGN(const std::string text, read_file(path));
  PACELINE_ASSIGN(CoordinatorAddress address, parse_coordinator(text, path));
  if (address.term != term)
    return Error{ErrorCode::corrupt,
                 concat(shown(path), " is of term ", address.term, ": the file was renamed")};
  return std::optional(std::move(address));
}

}  // namespace paceline::control
