#pragma once

#include <cstdint>

namespace paceline {

// What `paceline` and paceline-tokenizer say to each other over a socket that is the latter's standard input
// and output. SentencePiece lives in that program because Debian's library brings a Protobuf of its own that
// ends a process with another Protobuf in it; and a malformed model can then end no more than that program.
//
//   paceline-tokenizer serve MODEL       answers one frame for each frame, the first (ready) unasked
//   paceline-tokenizer train VOCABULARY THREADS
//                                        reads text frames until an empty one, answers with the model
//
// A frame is this header and `bytes` bytes. Numbers are as this machine has them: both ends are on it.
struct TokenizerFrame {
  std::uint32_t kind = 0;
  std::uint32_t bytes = 0;
};

enum TokenizerFrameKind : std::uint32_t {
  tokenizer_ready = 1,  ///< two i32: vocabulary; separator between texts, or -1
  tokenizer_text,       ///< UTF-8: a text to encode, or some to learn from; or the answer to ids
  tokenizer_ids,        ///< i32 each: tokens to decode; or the answer to a text
  tokenizer_model,      ///< a SentencePiece model
  tokenizer_failed,     ///< a message
};

inline constexpr std::uint32_t tokenizer_frame_limit = std::uint32_t{1} << 30;

}  // namespace paceline
