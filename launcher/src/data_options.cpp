#include "data_options.hpp"

#include "paceline/base/text.hpp"
#include "paceline/data/import.hpp"

namespace paceline {
namespace {

void add_import(CLI::App& data, DataImportOptions& options) {
  CLI::App* command = data.add_subcommand("import", "Make a dataset from files of another format");
  std::string kinds;
  for (const std::string& kind : import_kinds()) kinds += concat(kinds.empty() ? "" : ", ", kind);
  command->add_option("KIND", options.kind, concat("what to import: ", kinds))->required();
  command->add_option("SOURCE", options.sources,
                      "its folder or files (default: where its package puts them)");
  command
      ->add_option("--out", options.out,
                   "the folder to make, with train/ and test/ in it (hdf5: the dataset)")
      ->required();
  command->add_option("--storage", options.storage, "raw, lz4, zstd or jpeg (default: what suits the kind)");
  command->add_option("--size", options.size,
                      "ROWSxCOLUMNS: image-folder: scale each image to this and crop what is over");
  command->add_option("--channels", options.channels,
                      "image-folder: 1 (grey) or 3 (default: 3 if there is any colour)");
  command->add_option("--test-fraction", options.test_fraction,
                      "how much of what has no test set becomes one (default: 0.1 of images, 0.05 of text)");
  command->add_option("--tokenizer", options.tokenizer,
                      "text: FILE.model of SentencePiece, or train:VOCABULARY (default: bytes)");
  command->add_option("--threads", options.threads, "threads (default: the cores)")
      ->check(CLI::Range(1, 4096));
  command->add_option("--values", options.values, "hdf5: the dataset of the samples (default: /values)");
  command->add_option("--labels", options.labels, "hdf5: the dataset of the labels (default: /labels)");
  command->add_option("--layout", options.layout, "hdf5: chw or hwc, where the shape doesn't tell");
  command->add_flag("--strict", options.strict,
                    "image-folder, text: a bad file is an error and not left out");
  command->add_flag("--quiet", options.quiet, "show nothing but errors");
}

}  // namespace

void add_data_commands(CLI::App& app, DataCommands& data) {
  CLI::App* group = app.add_subcommand("data", "Make and check datasets");
  group->require_subcommand(1);
  add_import(*group, data.import);
  const char* const folder = "the dataset's folder, or a folder of datasets";
  CLI::App* info = group->add_subcommand("info", "Show what a dataset holds");
  info->add_option("DIR", data.info.folder, folder)->required();
  CLI::App* verify = group->add_subcommand("verify", "Read all of a dataset and check it");
  verify->add_option("DIR", data.verify.folder, folder)->required();
  CLI::App* preview = group->add_subcommand("preview", "Make a picture of some images, or show some text");
  preview->add_option("DIR", data.preview.folder, "the dataset's folder")->required();
  preview->add_option("--out", data.preview.out, "the picture (default: preview.png)");
  preview->add_option("--count", data.preview.count, "how many (default: 64 images, or 4 pieces of text)")
      ->check(CLI::Range(1, 4096));
}

Command chosen_data_command(const CLI::App& app, DataCommands data) {
  if (app.got_subcommand("import")) return std::move(data.import);
  if (app.got_subcommand("info")) return std::move(data.info);
  if (app.got_subcommand("preview")) return std::move(data.preview);
  return std::move(data.verify);
}

}  // namespace paceline
