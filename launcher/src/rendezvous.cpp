#include "rendezvous.hpp"

#include <dirent.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

Result<Rendezvous> parse(const std::string& text, const std::string& path) {
  const Json json = Json::parse(text, nullptr, false);
  Rendezvous rendezvous;
  try {
    rendezvous.error = json.at("error").get<std::string>();
    rendezvous.exit_code = json.at("exit_code").get<int>();
    rendezvous.action = json.at("action").get<std::string>();
    rendezvous.run_dir = json.at("run_dir").get<std::string>();
    rendezvous.node = json.at("node").get<std::string>();
    rendezvous.host = json.at("host").get<std::string>();
    rendezvous.port = json.at("port").get<std::uint16_t>();
    rendezvous.secret = json.at("secret").get<std::string>();
  } catch (const Json::exception& problem) {
    return Error{ErrorCode::corrupt, concat(path, " is not what task 0 of a launch writes (", problem.what(),
                                            "): remove it and start again")};
  }
  return rendezvous;
}

// NFS answers from its memory that a file is not there, until the folder is opened again.
void look_into_folder_again(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (DIR* opened = ::opendir(folder.empty() ? "." : folder.c_str())) ::closedir(opened);
}

}  // namespace

std::string rendezvous_path(const std::string& folder, const Place& place) {
  std::uint64_t hash = 0;
  for (const char letter : place.launch_id) hash = mix64(hash, static_cast<unsigned char>(letter));
  std::array<std::byte, 8> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(hash >> (56 - 8 * i));
  return concat(folder, "/.launch-", to_hex(bytes), ".json");
}

PublishedRendezvous::PublishedRendezvous(std::string path) : path_(std::move(path)) {
  ::unlink(path_.c_str());  // of a launch that was killed; its id could only repeat by chance
}

PublishedRendezvous::~PublishedRendezvous() {
  ::unlink(path_.c_str());
  // The folder too, if it was made for this file alone: rmdir leaves it if anything else is in it.
  if (made_folder_) ::rmdir(std::filesystem::path(path_).parent_path().c_str());
}

Status PublishedRendezvous::publish(const Rendezvous& rendezvous) {
  std::error_code error;
  made_folder_ =
      std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error) || made_folder_;
  if (error) return Error{ErrorCode::io, concat("cannot make the folder of ", path_, ": ", error.message())};
  const Json json = {{"error", rendezvous.error},   {"exit_code", rendezvous.exit_code},
                     {"action", rendezvous.action}, {"run_dir", rendezvous.run_dir},
                     {"node", rendezvous.node},     {"host", rendezvous.host},
                     {"port", rendezvous.port},     {"secret", rendezvous.secret}};
  return write_file_atomically(path_, json.dump(2, ' ', false, Json::error_handler_t::replace), 0600);
}

Result<Rendezvous> await_rendezvous(const std::string& path, const Clock& clock, Duration limit) {
  const Deadline deadline(clock, limit);
  while (true) {
    look_into_folder_again(path);
    Result<std::string> text = read_file(path);
    if (text.ok()) return parse(*text, path);
    if (text.error().code != ErrorCode::not_found) return std::move(text).error();
    if (deadline.passed())
      return Error{ErrorCode::timeout,
                   concat("waited ", to_seconds(limit), " s for task 0 of this launch to write ", path,
                          ": is it running, and does this machine see the same folder?")};
    std::this_thread::sleep_for(std::min<Duration>(std::chrono::milliseconds(20), deadline.left()));
  }
}

Result<std::string> random_secret() {
  std::array<std::byte, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return system_error("cannot get random bytes for the job's secret");
  return to_hex(bytes);
}

}  // namespace paceline
