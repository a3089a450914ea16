#include "text_encoder.hpp"

#include <algorithm>
#include <cstring>

#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "shard_writer.hpp"

namespace paceline {
namespace {

constexpr std::string_view train_prefix = "train:";
constexpr std::int64_t least_vocabulary = 300;  // 256 bytes, and the marks
constexpr std::int64_t most_vocabulary = 1'000'000;
// What a vocabulary is learned from: more takes longer and hardly changes it.
constexpr std::int64_t sample_bytes_wanted = std::int64_t{8} << 20;

Result<Tokenizer> open_tokenizer(ImportRun& run, const std::string& model) {
  TokenizerPatience patience;
  patience.cancelled = [&run] { return run.check_cancelled(); };
  return Tokenizer::open(run.options().tokenizer_program, model, patience);
}

Result<std::string> train_model(ImportRun& run, std::int64_t vocabulary,
                                const std::vector<TextDocument>& documents) {
  std::vector<TextPiece> pieces = cut_texts(documents);
  shuffle_always_alike(pieces);
  run.begin("tokenizer", sample_bytes_wanted, true);
  std::size_t at = 0;
  std::int64_t read = 0;
  const auto next = [&]() -> Result<std::string> {
    while (at < pieces.size() && read < sample_bytes_wanted) {
      Result<std::string> text = read_piece(pieces[at++]);
      if (!text.ok() || text->empty()) continue;  // met again when it is imported
      const std::int64_t left = sample_bytes_wanted - read;
      if (static_cast<std::int64_t>(text->size()) > left) text->resize(static_cast<std::size_t>(left));
      read += static_cast<std::int64_t>(text->size());
      run.advance(static_cast<std::int64_t>(text->size()));
      return std::move(*text);
    }
    run.begin("learning a vocabulary", 0, true);
    return std::string();
  };
  TokenizerPatience patience;
  patience.cancelled = [&run] {
    run.advance(0);  // shows that it is still at it
    return run.check_cancelled();
  };
  return train_tokenizer(run.options().tokenizer_program, vocabulary, run.threads(), next, patience);
}

Result<std::string> model_bytes(ImportRun& run, const std::vector<TextDocument>& documents) {
  const std::string& given = run.options().tokenizer;
  if (!given.starts_with(train_prefix)) return read_file(given);
  const std::string number = given.substr(train_prefix.size());
  const auto vocabulary = parse_integer(number, least_vocabulary, most_vocabulary);
  if (!vocabulary)
    return Error{ErrorCode::invalid_argument,
                 concat("a tokenizer can't be trained with ", shown(number), " tokens: write train:", 8000,
                        " or another number from ", least_vocabulary, " to ", most_vocabulary)};
  return train_model(run, *vocabulary, documents);
}

}  // namespace

Result<TextCoding> prepare_coding(ImportRun& run, const std::string& folder,
                                  const std::vector<TextDocument>& documents) {
  TextCoding coding;
  const std::string& given = run.options().tokenizer;
  if (given.empty() || given == "bytes") return coding;
  // A wrong model is told by its own name, before anything is copied.
  if (!given.starts_with(train_prefix)) PACELINE_TRY(open_tokenizer(run, given));
  PACELINE_ASSIGN(const std::string model, model_bytes(run, documents));
  coding.model = concat(folder, "/tokenizer.model");
  PACELINE_TRY(write_new_file(run.report(), coding.model, model));
  PACELINE_ASSIGN(const Tokenizer tokenizer, open_tokenizer(run, coding.model));
  coding.vocabulary = tokenizer.vocabulary();
  coding.type = coding.vocabulary <= 65536 ? ElementType::u16 : ElementType::i32;
  return coding;
}

Result<TextEncoder> TextEncoder::make(ImportRun& run, const TextCoding& coding) {
  TextEncoder encoder;
  encoder.type_ = coding.type;
  if (coding.model.empty()) return encoder;
  PACELINE_ASSIGN(Tokenizer tokenizer, open_tokenizer(run, coding.model));
  encoder.tokenizer_.emplace(std::move(tokenizer));
  return encoder;
}

Result<std::vector<std::byte>> TextEncoder::encode(std::string_view text, bool ends) {
  if (!tokenizer_) {
    std::vector<std::byte> bytes(text.size() + (ends ? 1 : 0));
    std::memcpy(bytes.data(), text.data(), text.size());
    return bytes;  // the separator is byte 0
  }
  PACELINE_ASSIGN(std::vector<std::int32_t> tokens, tokenizer_->encode(text));
  if (ends && tokenizer_->separator() >= 0) tokens.push_back(tokenizer_->separator());
  if (type_ == ElementType::i32) {
    const std::span<const std::byte> bytes = std::as_bytes(std::span(tokens));
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  }
  std::vector<std::uint16_t> narrow(tokens.begin(), tokens.end());
  const std::span<const std::byte> bytes = std::as_bytes(std::span(narrow));
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

}  // namespace paceline
