#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/job/job.hpp"

namespace paceline {

struct TreeEntry;

/// What a job file says, whether it came as YAML, from `--set` or as JSON. `where` starts every error about
/// it: "job.yaml:7:3", "--set epochs=0".
struct Tree {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string where;
  std::string shown_key;           ///< not empty: the key in errors, where a shorthand was written out
  std::string text;                ///< scalar
  bool is_quoted = false;          ///< scalar: text, even if it looks like a number
  std::vector<TreeEntry> entries;  ///< map; no key twice
};

struct TreeEntry {
  std::string key;
  std::string where;  ///< of the key
  Tree value;
};

/// Writes out the shorthands of a job's sections: `ranks: 2` becomes `ranks: {min: 2, max: 2}`.
void expand_shorthands(Tree& root);

/// Replaces or adds the value at a dotted path; a shorthand on the way (`ranks: 2`) is written out first.
[[nodiscard]] Status set_in_tree(Tree& root, std::string_view dotted_key, Tree value);

enum class TreeOrigin {
  people,   ///< an option that the chosen kind doesn't have is a mistake
  program,  ///< every field is there, whether it applies or not
};

/// Reads the fields, checks every value, and the values against each other. `source` starts errors about what
/// isn't there.
[[nodiscard]] Result<Job> job_from_tree(Tree root, const std::string& source, TreeOrigin origin);

/// A value as errors show it: in quotes, shortened, control characters replaced.
[[nodiscard]] std::string quote_for_error(std::string_view text);

}  // namespace paceline
