#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "frames.hpp"

// paceline-tokenizer: see frames.hpp.
namespace paceline {
namespace {

constexpr std::size_t longest_line_bytes = 4000;

bool read_fully(void* into, std::size_t bytes) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = ::read(STDIN_FILENO, at, bytes);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

bool write_fully(const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t put = ::write(STDOUT_FILENO, at, bytes);
    if (put <= 0) return false;
    at += put;
    bytes -= static_cast<std::size_t>(put);
  }
  return true;
}

bool read_frame(TokenizerFrame& frame, std::string& content) {
  if (!read_fully(&frame, sizeof frame) || frame.bytes > tokenizer_frame_limit) return false;
  content.resize(frame.bytes);
  return read_fully(content.data(), content.size());
}

bool write_frame(TokenizerFrameKind kind, const void* content, std::size_t bytes) {
  const TokenizerFrame frame{kind, static_cast<std::uint32_t>(bytes)};
  return write_fully(&frame, sizeof frame) && write_fully(content, bytes);
}

int fail(std::string_view message) {
  write_frame(tokenizer_failed, message.data(), message.size());
  return 1;
}

bool answer(const sentencepiece::SentencePieceProcessor& processor, const TokenizerFrame& frame,
            const std::string& content) {
  if (frame.kind == tokenizer_text) {
    std::vector<int> ids;
    const auto status = processor.Encode(content, &ids);
    if (!status.ok()) return fail(status.ToString()) == 0;
    return write_frame(tokenizer_ids, ids.data(), ids.size() * sizeof(int));
  }
  std::vector<int> ids(content.size() / sizeof(int));
  std::memcpy(ids.data(), content.data(), ids.size() * sizeof(int));
  for (int& id : ids)
    if (id < 0 || id >= processor.GetPieceSize()) id = processor.unk_id();
  std::string text;
  const auto status = processor.Decode(ids, &text);
  if (!status.ok()) return fail(status.ToString()) == 0;
  return write_frame(tokenizer_text, text.data(), text.size());
}

int serve(const char* model) {
  sentencepiece::SentencePieceProcessor processor;
  const auto status = processor.Load(model);
  if (!status.ok() || processor.GetPieceSize() < 1) return fail("it is no SentencePiece model");
  const int end = processor.eos_id() >= 0 ? processor.eos_id() : processor.bos_id();
  const int ready[2] = {processor.GetPieceSize(), end};
  if (!write_frame(tokenizer_ready, ready, sizeof ready)) return 1;
  TokenizerFrame frame;
  std::string content;
  while (read_frame(frame, content))
    if (!answer(processor, frame, content)) return 1;
  return 0;
}

/// The lines of what was sent, long ones cut; blank ones left out.
class Lines : public sentencepiece::SentenceIterator {
 public:
  explicit Lines(std::vector<std::string> lines) : lines_(std::move(lines)) {}
  [[nodiscard]] bool done() const override { return at_ >= lines_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return lines_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  std::vector<std::string> lines_;
  std::size_t at_ = 0;
};

void add_lines(std::string_view text, std::vector<std::string>& lines) {
  while (!text.empty()) {
    std::size_t end = std::min(text.find('\n'), text.size());
    if (end > longest_line_bytes) {
      end = longest_line_bytes;
      while (end > 1 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // between characters
    }
    if (text.substr(0, end).find_first_not_of(" \t\r") != std::string_view::npos)
      lines.emplace_back(text.substr(0, end));
    text.remove_prefix(end < text.size() && text[end] == '\n' ? end + 1 : end);
  }
}

int train(const char* vocabulary, const char* threads) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // nobody would read the model
  std::vector<std::string> lines;
  TokenizerFrame frame;
  std::string content;
  while (read_frame(frame, content) && frame.bytes > 0) add_lines(content, lines);
  if (lines.empty()) return fail("there is no text to learn from");
  // Every text comes back as it was: nothing is normalised, and what is not in the vocabulary is spelled in
  // bytes.
  const std::unordered_map<std::string, std::string> options = {{"vocab_size", vocabulary},
                                                                {"num_threads", threads},
                                                                {"model_type", "unigram"},
                                                                {"normalization_rule_name", "identity"},
                                                                {"remove_extra_whitespaces", "false"},
                                                                {"add_dummy_prefix", "false"},
                                                                {"allow_whitespace_only_pieces", "true"},
                                                                {"split_digits", "true"},
                                                                {"byte_fallback", "true"},
                                                                {"hard_vocab_limit", "false"},
                                                                {"max_sentence_length", "4096"},
                                                                {"unk_id", "0"},
                                                                {"eos_id", "1"},
                                                                {"bos_id", "-1"},
                                                                {"pad_id", "-1"},
                                                                {"minloglevel", "2"}};
  Lines iterator(std::move(lines));
  std::string trained;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &iterator, &trained);
  if (!status.ok()) return fail(status.ToString());
  return write_frame(tokenizer_model, trained.data(), trained.size()) ? 0 : 1;
}

}  // namespace
}  // namespace paceline

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "serve" && argc == 3) return paceline::serve(argv[2]);
  if (what == "train" && argc == 4) return paceline::train(argv[2], argv[3]);
  std::fputs("paceline-tokenizer is started by paceline data import and preview\n", stderr);
  return 2;
}
