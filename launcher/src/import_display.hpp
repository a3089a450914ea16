#pragma once

#include <optional>
#include <string>

#include "paceline/base/clock.hpp"
#include "paceline/data/import.hpp"

namespace paceline {

/// What a person sees of an import: a bar on a terminal, a line now and then elsewhere; both on standard
/// error, because standard output is for what was made. For one thread at a time.
class ImportDisplay {
 public:
  explicit ImportDisplay(bool quiet);
  ~ImportDisplay();
  ImportDisplay(const ImportDisplay&) = delete;
  ImportDisplay& operator=(const ImportDisplay&) = delete;

  void progress(const ImportProgress& progress, Instant now);
  void warning(const std::string& sentence);
  /// No bar any more.
  void end();

 private:
  bool quiet_;
  bool terminal_;
  bool bar_is_drawn_ = false;
  std::optional<Instant> line_shown_;
};

/// "train: 1,200 of 60,000 images", "tokenizer: 3.1 MiB of 12 MiB".
[[nodiscard]] std::string import_line(const ImportProgress& progress);
/// The same with a bar, in at most `width` columns.
[[nodiscard]] std::string import_bar(const ImportProgress& progress, std::size_t width);

}  // namespace paceline
