#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "import_run.hpp"
#include "manifest.hpp"
#include "paceline/base/result.hpp"
#include "text_pieces.hpp"
#include "tokenizer.hpp"

namespace paceline {

/// How a dataset's text becomes tokens.
struct TextCoding {
  std::string model;  ///< path of the SentencePiece model while importing; empty: bytes
  std::int64_t vocabulary = 256;
  ElementType type = ElementType::u8;
};

/// Bytes, the model that the user gave, or one that is trained on a sample of `documents`; a model is copied
/// to `folder`/tokenizer.model.
[[nodiscard]] Result<TextCoding> prepare_coding(ImportRun& run, const std::string& folder,
                                                const std::vector<TextDocument>& documents);

/// Makes texts into tokens as they lie in a dataset; one for each thread. `run` must outlive it.
class TextEncoder {
 public:
  [[nodiscard]] static Result<TextEncoder> make(ImportRun& run, const TextCoding& coding);
  /// The tokens of a text, with the separator after it if `ends`.
  [[nodiscard]] Result<std::vector<std::byte>> encode(std::string_view text, bool ends);

 private:
  ElementType type_ = ElementType::u8;
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace paceline
