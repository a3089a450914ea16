#include <cstdio>
#include <filesystem>
#include <iostream>

#include "agent.hpp"
#include "commands.hpp"
#include "format.hpp"
#include "import_display.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "paceline/data/dataset.hpp"
#include "paceline/data/import.hpp"
#include "paceline/data/preview.hpp"

namespace paceline {
namespace {

std::string count(std::int64_t number, const char* what = "") {
  const bool plural = number != 1 && *what != '\0';
  return concat(with_commas(static_cast<double>(number)), what, plural ? "s" : "");
}

/// The folder itself, or the datasets in it where it is a folder of datasets.
std::vector<std::string> datasets_in(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code error;
  const auto is_dataset = [&error](const fs::path& path) {
    return fs::exists(path / "manifest.json", error);
  };
  std::vector<std::string> found;
  if (!is_dataset(folder))
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error))
      if (is_dataset(entry.path())) found.push_back(entry.path().string());
  if (found.empty()) return {folder};
  std::sort(found.begin(), found.end());
  return found;
}

std::string shape_text(const DatasetInfo& info) {
  std::string shape;
  for (const std::int64_t size : info.sample_shape) shape += concat(shape.empty() ? "" : "x", size);
  return concat(shape, info.sample_shape.size() == 3 ? concat(" (", info.layout, ")") : "");
}

/// A class's name without the quotes that only its spaces need.
std::string class_text(const std::string& name) {
  const std::string text = shown(name);
  const bool needed = text.front() != '"' || text.find('\\') != std::string::npos || text.size() == 2;
  return needed ? text : name;
}

/// The first names, as far as a line goes.
std::string names_text(const std::vector<std::string>& names) {
  constexpr std::size_t most = 100;
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text.size() + names[i].size() > most) return concat(text, ", and ", names.size() - i, " more");
    text += concat(i == 0 ? "" : ", ", class_text(names[i]));
  }
  return text;
}

std::string numbers_text(const std::vector<double>& numbers) {
  std::string text;
  for (const double number : numbers) text += concat(text.empty() ? "" : " ", fixed(number, 4));
  return text;
}

std::string describe_images(const DatasetInfo& info) {
  std::string text = concat("  task     ", info.task, ", ", count(info.classes),
                            info.classes == 1 ? " class" : " classes", "\n");
  if (!info.class_names.empty()) text += concat("  classes  ", names_text(info.class_names), "\n");
  text += concat("  samples  ", count(info.samples), " of ", shape_text(info), " bytes\n");
  return text + concat("  values   mean ", numbers_text(info.mean), ", standard deviation ",
                       numbers_text(info.standard_deviation), "\n");
}

std::string describe_tokens(const DatasetInfo& info) {
  return concat("  task     ", info.task, "\n  tokens   ", count(info.tokens), " of ", info.dtype,
                ", vocabulary ", count(info.vocabulary), "\n  made by  ",
                info.tokenizer == "bytes" ? "bytes" : concat("SentencePiece, ", shown(info.tokenizer)), "\n");
}

std::string describe(const DatasetInfo& info) {
  const bool is_text = info.kind == SampleKind::tokens;
  const std::int64_t token_bytes = info.dtype == "u8" ? 1 : info.dtype == "u16" ? 2 : 4;
  const double raw_bytes = is_text ? static_cast<double>(info.tokens * token_bytes)
                                   : static_cast<double>(info.samples * (info.sample_bytes + 4));
  const auto stored = static_cast<double>(info.stored_bytes);
  std::string text = concat(shown(info.path), "\n  name     ", shown(info.name), "\n");
  text += is_text ? describe_tokens(info) : describe_images(info);
  text +=
      concat("  storage  ", info.storage, ", ", human_bytes(static_cast<std::uint64_t>(info.stored_bytes)),
             " in files, ", fixed(100 * stored / raw_bytes, 1), "% of the decoded size\n");
  return text +
         concat("  files    ", count(info.shards, " shard"), ", ", count(info.chunks, " chunk"), " of up to ",
                is_text ? count(info.sample_shape[0], " token") : count(info.chunk_samples, " sample"), "\n");
}

Result<ImportOptions> import_options(const DataImportOptions& given) {
  ImportOptions options;
  options.kind = given.kind;
  options.sources = given.sources;
  options.out = given.out;
  options.storage = given.storage;
  if (!given.size.empty()) {
    PACELINE_ASSIGN(options.size, parse_image_extent(given.size));
  }
  options.channels = given.channels;
  options.test_fraction = given.test_fraction;
  options.tokenizer = given.tokenizer;
  options.threads = given.threads;
  options.values = given.values;
  options.labels = given.labels;
  options.layout = given.layout;
  options.strict = given.strict;
  return options;
}

/// The names of the classes, as they lie on the sheet.
std::string label_grid(const Preview& preview) {
  std::size_t width = 0;
  for (const auto& row : preview.labels)
    for (const std::string& name : row) width = std::max(width, class_text(name).size());
  std::string text;
  for (const auto& row : preview.labels) {
    std::string line;
    for (const std::string& name : row) {
      const std::string cell = class_text(name);
      line += concat(cell, std::string(width + 2 - cell.size(), ' '));
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += concat(line, "\n");
  }
  return text;
}

/// Text from outside for a terminal: line breaks and tabs stay, everything else that is no character is shown
/// as its code.
std::string harmless(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t length = std::max<std::size_t>(1, utf8_length(text));
    const std::string_view character = text.substr(0, length);
    const bool kept = character == "\n" || character == "\t" || character == " " || character == "\"" ||
                      character == "\\" || shown(character) == character;
    const std::string escaped = shown(character);
    result += kept ? std::string(character) : escaped.substr(1, escaped.size() - 2);
    text.remove_prefix(length);
  }
  return result;
}

}  // namespace

int data_import(const DataImportOptions& options) {
  Result<ImportOptions> request = import_options(options);
  if (!request.ok()) return complain(request.error());
  const auto signals = StopSignals::catch_all();
  if (!signals.ok()) return complain(signals.error());
  request->cancelled = [&signals] { return signals.value()->take() != 0; };
  ImportDisplay display(options.quiet);
  request->progress = [&display](const ImportProgress& progress) {
    display.progress(progress, SteadyClock().now());
  };
  request->warning = [&display](const std::string& sentence) { display.warning(sentence); };
  const Status imported = import_dataset(*request);
  display.end();
  if (!imported.ok()) {
    const int code = complain(imported.error());
    return signals.value()->first() != 0 ? 128 + signals.value()->first() : code;
  }
  return data_info({options.out});
}

int data_info(const DataInfoOptions& options) {
  for (const std::string& folder : datasets_in(options.folder)) {
    const Result<Dataset> dataset = Dataset::open(folder);
    if (!dataset.ok()) return complain(dataset.error());
    std::cout << describe(dataset->info());
  }
  return exit_done;
}

int data_verify(const DataVerifyOptions& options) {
  int exit_code = exit_done;
  for (const std::string& folder : datasets_in(options.folder)) {
    const Result<std::vector<std::string>> faults = verify_dataset(folder);
    if (!faults.ok()) return complain(faults.error());
    for (const std::string& fault : *faults) complain({ErrorCode::corrupt, fault});
    if (!faults->empty()) exit_code = exit_failed;
    if (faults->empty()) std::cout << folder << ": every chunk is as it was written\n";
  }
  return exit_code;
}

int data_preview(const DataPreviewOptions& options) {
  PreviewOptions preview_options;
  preview_options.count = options.count;
  const Result<Preview> preview = preview_dataset(options.folder, preview_options);
  if (!preview.ok()) return complain(preview.error());
  if (preview->texts.empty()) {
    const std::string out = options.out.empty() ? "preview.png" : options.out;
    const Status written = write_file_atomically(out, preview->png);
    if (!written.ok()) return complain(written.error());
    std::cout << label_grid(*preview) << "the images are in " << shown(out) << "\n";
    return exit_done;
  }
  if (!options.out.empty())
    return complain({ErrorCode::invalid_argument,
                     concat(shown(options.folder), " has text, which is shown here: leave --out out")});
  for (std::size_t i = 0; i < preview->texts.size(); ++i)
    std::cout << "--- " << i + 1 << " of " << preview->texts.size() << "\n"
              << harmless(preview->texts[i]) << "\n";
  return exit_done;
}

}  // namespace paceline
