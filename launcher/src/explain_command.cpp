#include <cstdio>

#include "commands.hpp"
#include "explain/explanation.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"

namespace paceline {
namespace {

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

/// Whether all decisions are the same again.
bool print_replay(const ReplayedDecisions& replayed) {
  const auto decisions = replayed.same + std::ssize(replayed.different);
  print(concat(decisions, decisions == 1 ? " decision" : " decisions", " decided again: ",
               replayed.different.empty() ? std::string("the same each time")
                                          : concat(replayed.different.size(), " not the same"),
               "\n"));
  for (const std::string& difference : replayed.different) complain({ErrorCode::mismatch, difference});
  return replayed.different.empty();
}

Result<bool> show(const ExplainOptions& options) {
  const std::string run_dir = absolute_path(options.run_dir);
  PACELINE_TRY(check_is_run(run_dir));
  PACELINE_ASSIGN(const Explanation explanation, read_explanation(run_dir));
  const ReplayedDecisions replayed = options.replay ? replay(explanation) : ReplayedDecisions{};
  if (options.json) {
    print(explanation_json(explanation, options.last, options.replay ? &replayed : nullptr));
    return replayed.different.empty();
  }
  print(explanation_text(explanation, options.last));
  return !options.replay || print_replay(replayed);
}

}  // namespace

int explain(const ExplainOptions& options) {
  const Result<bool> shown = show(options);
  if (!shown.ok()) return complain(shown.error());
  return *shown ? exit_done : exit_failed;
}

}  // namespace paceline
