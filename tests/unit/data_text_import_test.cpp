#include <gtest/gtest.h>

#include "data_damage.hpp"
#include "data_import.hpp"
#include "import/tokenizer.hpp"
#include "paceline/data/preview.hpp"

namespace paceline {
namespace {

namespace fs = std::filesystem;
using namespace data_testing;

ImportOptions text_options(std::vector<std::string> sources, const std::string& out) {
  ImportOptions options = options_for("text", std::move(sources), out);
  options.tokenizer_program = PACELINE_TOKENIZER;
  return options;
}

/// The tokens of a dataset of bytes, windows and what follows the last.
std::string all_bytes(const std::string& path) {
  const WholeDataset read = read_all(path, {.window = 1});
  std::string bytes;
  for (const std::string& sample : read.samples) bytes += sample[0];
  if (!read.samples.empty()) bytes += read.samples.back()[1];
  return bytes;
}

TEST(TextImport, EveryDocumentComesBackWithASeparator) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "books/deep");
  std::vector<std::string> left;
  for (int i = 0; i < 30; ++i) {
    const std::string path = folder / concat("books/", i % 3 == 0 ? "deep/" : "", "book ", i, ".txt");
    left.push_back(sentence(i) + std::string(1, '\0'));
    if (i % 4 == 0)
      write_gzip(path + ".gz", sentence(i));
    else
      write_bytes(path, sentence(i));
  }
  write_bytes(folder / "books/empty.txt", "");
  write_gzip(folder / "books/empty.gz", "");
  ImportOptions options = text_options({folder / "books/"}, folder / "set");
  options.chunk_samples = 1000;
  options.shard_samples = 5000;
  options.test_fraction = 0.2;
  ASSERT_EQ(message_of(options), "imported");
  const WholeDataset info = read_all(folder / "set/train");
  EXPECT_EQ(info.info.kind, SampleKind::tokens);
  EXPECT_EQ(info.info.dtype, "u8");
  EXPECT_EQ(info.info.vocabulary, 256);
  EXPECT_EQ(info.info.tokenizer, "bytes");
  EXPECT_GT(info.info.shards, 2);
  std::string text = all_bytes(folder / "set/train") + all_bytes(folder / "set/test");
  while (!text.empty()) {
    const std::size_t end = text.find('\0') + 1;
    const auto found = std::find(left.begin(), left.end(), text.substr(0, end));
    ASSERT_NE(found, left.end()) << text.substr(0, 50);
    left.erase(found);
    text.erase(0, end);
  }
  EXPECT_TRUE(left.empty());
  EXPECT_GE(read_all(folder / "set/test").info.tokens, 1000);
}

TEST(TextImport, ASingleFileIsSplitAtALineNearItsEnd) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 40; ++i) text += sentence(i);
  write_bytes(folder / "book.txt", text);
  write_gzip(folder / "book.gz", text);
  int number = 0;
  for (const char* name : {"book.txt", "book.gz"}) {
    ImportOptions options = text_options({folder / name}, folder / concat("set", ++number));
    options.test_fraction = 0.25;
    ASSERT_EQ(message_of(options), "imported");
    const std::string train = all_bytes(options.out + "/train");
    const std::string test = all_bytes(options.out + "/test");
    ASSERT_FALSE(train.empty());
    EXPECT_EQ(train.back(), '\0');
    EXPECT_EQ(train[train.size() - 2], '\n');
    EXPECT_TRUE(train.substr(0, train.size() - 1) + test == text + std::string(1, '\0')) << name;
    EXPECT_NEAR(static_cast<double>(test.size()), 0.25 * static_cast<double>(text.size()), 100);
  }
}

TEST(TextImport, LargeFilesAreReadInPiecesThatFitTogether) {
  const TemporaryFolder folder;
  std::string text;
  SplitMix64 random(7);
  while (text.size() <
         9'500'000) {  // three pieces; lines of up to 200 KB, so that some borders have none near
    text.append(static_cast<std::size_t>(random.below(200'000)), static_cast<char>('a' + random.below(26)));
    text += "\xe2\x82\xac\n";
  }
  write_bytes(folder / "large.txt", text);
  ImportOptions options = text_options({folder / "large.txt"}, folder / "set");
  options.test_fraction = 0;
  options.threads = 3;
  ASSERT_EQ(message_of(options), "imported");
  const Result<Dataset> dataset = Dataset::open(folder / "set/train", {.window = 0});
  ASSERT_TRUE(dataset.ok());
  EXPECT_EQ(dataset->info().tokens, static_cast<std::int64_t>(text.size()) + 1);
  std::string read;
  for (std::int64_t number = 0; number < dataset->info().chunks; ++number) {
    const Result<Chunk> chunk = dataset->read_chunk(number);
    ASSERT_TRUE(chunk.ok());
    for (std::int64_t i = 0; i < chunk->samples(); ++i)
      read.append(reinterpret_cast<const char*>(chunk->sample(i).data()), chunk->sample(i).size() - 1);
  }
  EXPECT_TRUE(text.starts_with(read));
  EXPECT_GT(read.size(), 9'000'000U);
}

TEST(TextImport, ATrainedTokenizerGivesTheTextBack) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "books");
  for (int i = 0; i < 40; ++i)
    write_bytes(folder / concat("books/", i), sentence(i) + "  h\xc3\xa9llo \xf0\x9f\x98\x80\tx\n");
  ImportOptions options = text_options({folder / "books"}, folder / "set");
  options.tokenizer = "train:400";
  options.test_fraction = 0;
  options.chunk_samples = 500;
  ASSERT_EQ(message_of(options), "imported");
  EXPECT_EQ(entries_of(folder / "set"), (std::vector<std::string>{"tokenizer.model", "train"}));
  const WholeDataset train = read_all(folder / "set/train");
  EXPECT_EQ(train.info.dtype, "u16");
  EXPECT_GT(train.info.vocabulary, 256);
  EXPECT_LE(train.info.vocabulary, 400);
  PreviewOptions preview_options;
  preview_options.tokenizer_program = options.tokenizer_program;
  const Result<Preview> preview = preview_dataset(folder / "set/train", preview_options);
  ASSERT_TRUE(preview.ok()) << preview.error().message;
  ASSERT_EQ(preview->texts.size(), 4U);
  std::string all;
  for (int i = 0; i < 40; ++i) all += read_bytes(folder / concat("books/", i));
  // A window of 256 tokens is a part of some documents one after the other; at least its first 60 bytes are
  // of one.
  EXPECT_NE(all.find(preview->texts[0].substr(0, 60)), std::string::npos) << preview->texts[0];
  expect_part(preview->texts[0] + preview->texts[1] + preview->texts[2] + preview->texts[3], "\n  line ");
  EXPECT_NE(read_bytes(folder / "set/tokenizer.model").size(), 0U);

  // The model can be given to another import, on any number of threads.
  for (const int threads : {1, 3}) {
    ImportOptions again = options;
    again.tokenizer = folder / "set/tokenizer.model";
    again.out = folder / concat("again", threads);
    again.threads = threads;
    ASSERT_EQ(message_of(again), "imported");
    EXPECT_TRUE(files_below(again.out) == files_below(folder / "set"));
  }
}

TEST(TextImport, WhatIsWrongIsSaid) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.txt", sentence(1));
  const auto message = [&](const std::function<void(ImportOptions&)>& change) {
    ImportOptions options = text_options({folder / "a.txt"}, folder / "set");
    change(options);
    return message_of(options);
  };
  fs::create_directory(folder / "empty");
  write_bytes(folder / "nothing.txt", "");
  write_bytes(folder / "no model", "this is no model");
  expect_part(message([&](auto& o) { o.sources = {folder / "empty"}; }), "there are no files in ");
  expect_part(message([&](auto& o) { o.sources = {folder / "nothing.txt"}; }), "there is no text for train");
  expect_part(message([&](auto& o) { o.sources = {folder / "no\nwhere"}; }), "no\\nwhere\": No such file");
  expect_part(message([&](auto& o) { o.sources.clear(); }), "needs files or folders as SOURCE");
  expect_part(message([&](auto& o) { o.storage = "jpeg"; }), "--storage jpeg is for images");
  expect_part(message([&](auto& o) { o.test_fraction = 1.5; }), "--test-fraction 1.5: use 0 to less than 1");
  expect_part(message([&](auto& o) { o.tokenizer = folder / "no model"; }),
              "no model\": it is no SentencePiece model");
  expect_part(message([&](auto& o) { o.tokenizer = folder / "missing"; }), "cannot open the tokenizer ");
  expect_part(message([&](auto& o) { o.tokenizer = "train:7"; }),
              "can't be trained with 7 tokens: write train:8000");
  expect_part(message([&](auto& o) { o.tokenizer = "train:500", o.tokenizer_program = "/nowhere/tok"; }),
              "there is no program /nowhere/tok");
  EXPECT_FALSE(fs::exists(folder / "set"));
}

// What stands for a tokenizer that hangs. The second one gets as far as saying that it is ready.
constexpr const char* never_answers = "#!/bin/sh\nexec sleep 600\n";
constexpr const char* answers_no_text =
    "#!/bin/sh\nprintf '\\001\\000\\000\\000\\010\\000\\000\\000\\054\\001\\000\\000\\377\\377\\377\\377'\n"
    "exec sleep 600\n";

std::string write_program(const std::string& path, const char* program) {
  write_bytes(path, program);
  fs::permissions(path, fs::perms::owner_all);
  return path;
}

TEST(HungTokenizer, IsGivenUpAndNamed) {
  const TemporaryFolder folder;
  const std::string program = write_program(folder / "hung", never_answers);
  TokenizerPatience patience;
  patience.silence = std::chrono::milliseconds(50);
  const Result<Tokenizer> opened = Tokenizer::open(program, program, patience);
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, ErrorCode::timeout);
  expect_part(opened.error().message, program + " has not answered for 0.05 s: see that it is");
  const auto text = []() -> Result<std::string> {
    return std::string(1 << 20, 'x');
  };  // more than a socket holds
  const Result<std::string> trained = train_tokenizer(program, 300, 1, text, patience);
  ASSERT_FALSE(trained.ok());
  EXPECT_EQ(trained.error().code, ErrorCode::timeout);
  expect_part(trained.error().message, program);
}

TEST(HungTokenizer, EveryWaitForItCanBeCancelled) {
  const TemporaryFolder folder;
  const std::string program = write_program(folder / "hung", answers_no_text);
  bool cancelled = false;
  TokenizerPatience patience;
  patience.cancelled = [&]() -> Status {
    if (cancelled) return Error{ErrorCode::aborted, "cancelled"};
    return {};
  };
  Result<Tokenizer> tokenizer = Tokenizer::open(program, program, patience);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->vocabulary(), 300);
  cancelled = true;
  EXPECT_EQ(tokenizer->encode("short").error().code, ErrorCode::aborted);
  EXPECT_EQ(tokenizer->encode(std::string(8 << 20, 'x')).error().code, ErrorCode::aborted);
}

TEST(HungTokenizer, DoesNotHoldUpTheEndOfACancelledImport) {
  const TemporaryFolder folder;
  write_bytes(folder / "a.txt", sentence(1));
  write_bytes(folder / "model", "any");
  const auto code_with = [&](const char* program, const std::string& tokenizer) {
    ImportOptions options = text_options({folder / "a.txt"}, folder / "set");
    options.tokenizer_program = write_program(folder / "hung", program);
    options.tokenizer = tokenizer;
    options.cancelled = [asked = 0]() mutable { return ++asked > 10; };
    return import_dataset(options).error().code;
  };
  EXPECT_EQ(code_with(never_answers, folder / "model"), ErrorCode::aborted) << "opening the model";
  EXPECT_EQ(code_with(never_answers, "train:400"), ErrorCode::aborted) << "learning a vocabulary";
  EXPECT_EQ(code_with(answers_no_text, folder / "model"), ErrorCode::aborted) << "encoding";
  EXPECT_EQ(entries_of(folder.path()), (std::vector<std::string>{"a.txt", "hung", "model"}));
}

TEST(TextImport, ADamagedGzipFileIsLeftOutAndNamed) {
  const TemporaryFolder folder;
  fs::create_directory(folder / "books");
  for (int i = 0; i < 30; ++i) write_bytes(folder / concat("books/", i), sentence(i));
  write_gzip(folder / "books/cut.gz", sentence(99));
  const std::string whole = read_bytes(folder / "books/cut.gz");
  write_bytes(folder / "books/cut.gz", whole.substr(0, whole.size() - 6));
  ImportOptions options = text_options({folder / "books"}, folder / "set");
  std::string warnings;
  options.warning = [&](const std::string& sentence) { warnings += sentence + "\n"; };
  ASSERT_EQ(message_of(options), "imported");
  expect_part(warnings, "cut.gz: its gzip stream is truncated\n");
  options.out = folder / "strict";
  options.strict = true;
  expect_part(message_of(options), "cut.gz: its gzip stream is truncated");
}

}  // namespace
}  // namespace paceline
