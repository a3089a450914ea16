#include "doctor/shared_trial.hpp"

#include <filesystem>

#include "doctor/file_checks.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

constexpr Duration start_limit = std::chrono::seconds(20);
constexpr Duration removal_limit = std::chrono::seconds(20);
// What the keeper says first, before the folder's name.
constexpr std::string_view locked = "locked ", unlocked = "unlocked ", failed = "failed ";

void keep(const std::string& folder, const Child::Side& side) {
  const Result<std::string> path = make_trial_folder(folder);
  if (!path.ok()) return side.say(concat(failed, path.error().message));
  const Status marked = write_file_atomically(*path + "/marker", *path);
  {
    const Result<UniqueFd> lock = lock_file(*path + "/lock");
    side.say(marked.ok() ? concat(lock.ok() ? locked : unlocked, *path)
                         : concat(failed, marked.error().message));
    side.await_parent();
  }
  std::error_code ignored;  // nobody hears it any more
  std::filesystem::remove_all(*path, ignored);
}

}  // namespace

Result<SharedTrial> SharedTrial::start(const std::string& folder, StopSignals& signals) {
  PACELINE_ASSIGN(Child keeper, Child::start([&folder](const Child::Side& side) { keep(folder, side); }));
  const SteadyClock clock;
  const Deadline deadline(clock, start_limit);
  const Result<std::optional<std::string>> line = keeper.next_line(deadline, signals);
  for (const std::string_view word : {locked, unlocked})
    if (line.ok() && *line && (*line)->starts_with(word))
      return SharedTrial(std::move(keeper), (*line)->substr(word.size()), word == locked);
  keeper.finish(Duration::zero());
  if (!line.ok()) return line.error();
  if (!*line) return Error{ErrorCode::io, "the folder's keeper said nothing"};
  return Error{ErrorCode::io, (*line)->substr(std::min((*line)->size(), failed.size()))};
}

SharedTrial::~SharedTrial() {
  keeper_.finish(removal_limit);
}

}  // namespace paceline::doctor
