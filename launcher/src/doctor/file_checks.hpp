#pragma once

#include <string>

#include "doctor/check.hpp"
#include "paceline/base/fd.hpp"

namespace paceline::doctor {

/// What runs ask of the filesystem of `folder`, an absolute path; tried in a folder of its own there, which
/// is removed. A filesystem can hang: call it in a child.
void check_files(const std::string& folder, const Sink& sink);

/// A new empty folder `folder`/.paceline-doctor-XXXXXX.
[[nodiscard]] Result<std::string> make_trial_folder(const std::string& folder);

/// Makes `path` and nothing else, for the first who asks; already_exists for the others.
[[nodiscard]] Status create_exclusively(const std::string& path, std::string_view content);

/// Takes flock(2) on a file, making it; closing gives it back. already_exists where another has it.
[[nodiscard]] Result<UniqueFd> lock_file(const std::string& path);

}  // namespace paceline::doctor
