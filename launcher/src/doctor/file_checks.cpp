#include "doctor/file_checks.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "doctor/rules.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr std::size_t trial_bytes = std::size_t{1} << 20;
constexpr int replacements = 50;

const char* const other_filesystem = "name a folder on another filesystem with --folder";

/// An error where the folder can't be used at all.
Status look_at(const std::string& folder) {
  struct stat found {};
  if (::stat(folder.c_str(), &found) != 0) return system_error(concat(shown(folder), " cannot be looked at"));
  if (!S_ISDIR(found.st_mode))
    return Error{ErrorCode::invalid_argument, concat(shown(folder), " is no folder")};
  return {};
}

Check describe(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(folder, error);
  const Result<std::string> mounts = read_file("/proc/self/mountinfo");
  return judge_filesystem(find_filesystem(mounts.ok() ? *mounts : "", error ? folder : real.string()),
                          folder);
}

Check check_space(const std::string& folder) {
  struct statvfs figures {};
  if (::statvfs(folder.c_str(), &figures) != 0)
    return problem("free space", system_error("the filesystem does not say").message, other_filesystem);
  if (figures.f_blocks == 0) return fine("free space", "the filesystem does not count it");
  const std::uint64_t block = figures.f_frsize;
  // Some (btrfs) count no inodes.
  const auto names = figures.f_files > 0 ? std::optional<std::uint64_t>(figures.f_favail) : std::nullopt;
  return judge_free_space({figures.f_blocks * block, figures.f_bavail * block}, names);
}

Check check_sync(const std::string& trial) {
  const std::string path = trial + "/synced";
  const SteadyClock clock;
  const Instant begin = clock.now();
  Status written = write_file_atomically(path, std::string(trial_bytes, 'x'));
  if (written.ok()) written = sync_folder(trial);
  if (!written.ok())
    return problem("fsync", written.error().message, "make room there, or name another folder with --folder");
  return judge_sync(to_seconds(clock.now() - begin));
}

Status write_plainly(const std::string& path, const std::string& content) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) return system_error(concat("cannot create ", shown(path)));
  return write_all(file.get(), content, shown(path));
}

/// Replaces a file again and again while a thread reads it: it must be there at any time, and whole.
Status replace_while_reading(const std::string& trial) {
  const std::string path = trial + "/replaced", beside = trial + "/beside";
  const auto content = [](int number) { return std::string(1000, static_cast<char>('a' + number % 26)); };
  PACELINE_TRY(write_plainly(path, content(0)));
  std::atomic<bool> done = false;
  Status seen;
  std::thread reader([&] {
    while (!done && seen.ok()) {
      const Result<std::string> text = read_file(path);
      if (!text.ok())
        seen = Error{ErrorCode::io, concat("a reader found no file: ", text.error().message)};
      else if (*text != content(text->empty() ? 0 : text->front() - 'a'))
        seen = Error{ErrorCode::corrupt, "a reader found a file that was not whole"};
    }
  });
  Status replaced;
  for (int number = 1; number <= replacements && replaced.ok(); ++number) {
    replaced = write_plainly(beside, content(number));
    if (replaced.ok() && ::rename(beside.c_str(), path.c_str()) != 0)
      replaced = system_error("rename over an existing file");
  }
  done = true;
  reader.join();
  if (!replaced.ok()) return replaced;
  PACELINE_TRY(std::move(seen));
  PACELINE_ASSIGN(const std::string last, read_file(path));
  if (last == content(replacements)) return {};
  return Error{ErrorCode::io, "after a rename the old file was still there"};
}

/// Checkpoints are folders that get their name when they are complete.
Status rename_folder(const std::string& trial) {
  const std::string from = trial + "/unfinished", to = trial + "/finished";
  if (::mkdir(from.c_str(), 0777) != 0) return system_error("mkdir");
  PACELINE_TRY(write_plainly(from + "/file", "x"));
  if (::rename(from.c_str(), to.c_str()) != 0) return system_error("rename of a folder");
  return read_file(to + "/file").ok() ? Status() : Error{ErrorCode::io, "a renamed folder lost its file"};
}

Check check_rename(const std::string& trial) {
  Status renamed = replace_while_reading(trial);
  if (renamed.ok()) renamed = rename_folder(trial);
  if (renamed.ok())
    return fine("rename", concat("atomic, ", replacements, " times under a reader, and of a folder"));
  return problem("rename", renamed.error().message, other_filesystem);
}

/// That the second one who makes a file is refused.
Check check_once(const std::string& name, const Status& first, const Status& second) {
  if (!first.ok()) return problem(name, first.error().message, other_filesystem);
  if (second.ok()) return problem(name, "a file that is there could be made again", other_filesystem);
  if (second.error().code != ErrorCode::already_exists)
    return problem(name, second.error().message, other_filesystem);
  return fine(name, "the second who makes a file is refused");
}

Check check_exclusive(const std::string& trial) {
  const std::string path = trial + "/exclusive";
  const Status first = create_exclusively(path, "1");
  return check_once("O_EXCL", first, create_exclusively(path, "2"));
}

Check check_link(const std::string& trial) {
  const std::string path = trial + "/linked";
  const Status first = write_file_once(path, "1");
  return check_once("link", first, write_file_once(path, "2"));
}

Check check_lock(const std::string& trial) {
  const char* const mend =
      "nothing keeps a second run out of a run's folder; mount with locks (Lustre: -o flock)";
  const Result<UniqueFd> first = lock_file(trial + "/lock");
  if (!first.ok()) return warning("flock", first.error().message, mend);
  const Result<UniqueFd> second = lock_file(trial + "/lock");
  if (second.ok()) return warning("flock", "two could have the same lock", mend);
  if (second.error().code != ErrorCode::already_exists) return warning("flock", second.error().message, mend);
  return fine("flock", "the second who wants a lock is refused");
}

}  // namespace

Result<std::string> make_trial_folder(const std::string& folder) {
  std::string path = folder + "/.paceline-doctor-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr)
    return system_error(concat("cannot make a folder in ", shown(folder)));
  return path;
}

Status create_exclusively(const std::string& path, std::string_view content) {
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (file.valid()) return write_all(file.get(), content, shown(path));
  const int why = errno;
  Error error = system_error(concat("cannot create ", shown(path)), why);
  if (why == EEXIST) error.code = ErrorCode::already_exists;
  return error;
}

Result<UniqueFd> lock_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!file.valid()) return system_error(concat("cannot open ", shown(path)));
  if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0) return file;
  const int why = errno;
  Error error = system_error(concat("cannot lock ", shown(path)), why);
  if (why == EWOULDBLOCK) error.code = ErrorCode::already_exists;
  return error;
}

void check_files(const std::string& folder, const Sink& sink) {
  const Status there = look_at(folder);
  if (!there.ok())
    return sink(problem("folder", there.error().message, "make it, or name another with --folder"));
  sink(describe(folder));
  sink(check_space(folder));
  const Result<std::string> trial = make_trial_folder(folder);
  if (!trial.ok())
    return sink(problem("writing", trial.error().message,
                        "make room or get leave to write there, or name another with --folder"));
  for (const auto& check : {check_sync, check_rename, check_exclusive, check_link, check_lock})
    sink(check(*trial));
  std::error_code error;
  std::filesystem::remove_all(*trial, error);
  if (error) sink(warning("removing", concat(shown(*trial), " stays: ", error.message()), "remove it"));
}

}  // namespace paceline::doctor
