#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline {

/// How long paceline-tokenizer is waited for.
struct TokenizerPatience {
  /// Once it says and takes nothing for so long, beside the time that its task may take, it counts as hung.
  Duration silence = std::chrono::seconds(60);
  /// Asked ten times a second while waiting; an error ends the wait. Empty: nobody cancels.
  std::function<Status()> cancelled;
};

/// A running paceline-tokenizer, killed with its owner. Used by one thread at a time. No call waits without
/// end: timeout names the program.
class TokenizerProcess {
 public:
  [[nodiscard]] static Result<TokenizerProcess> start(const std::string& program,
                                                      const std::vector<std::string>& arguments,
                                                      TokenizerPatience patience);
  TokenizerProcess(TokenizerProcess&& other) noexcept;
  TokenizerProcess& operator=(TokenizerProcess&&) = delete;
  ~TokenizerProcess();

  struct Answer {
    std::uint32_t kind = 0;
    std::string content;
  };
  [[nodiscard]] Status send(std::uint32_t kind, std::span<const std::byte> content);
  /// Waits for a frame, which `work` may precede: the time that the program is granted for what it was asked.
  [[nodiscard]] Result<Answer> receive(Duration work = {});

 private:
  TokenizerProcess() = default;
  [[nodiscard]] Status wait_until_ready(short events, Duration at_most) const;
  [[nodiscard]] Status send_all(const void* from, std::size_t bytes);
  [[nodiscard]] Status receive_all(void* into, std::size_t bytes, Duration work);

  std::string program_;
  TokenizerPatience patience_;
  UniqueFd socket_;
  pid_t pid_ = -1;
};

/// A SentencePiece model at work.
class Tokenizer {
 public:
  /// `program` as in ImportOptions. The errors name the model; that of a program which does not answer, the
  /// program.
  [[nodiscard]] static Result<Tokenizer> open(const std::string& program, const std::string& model,
                                              TokenizerPatience patience = {});

  /// How many different tokens there are.
  [[nodiscard]] std::int32_t vocabulary() const noexcept { return vocabulary_; }
  /// What stands between two texts: the end of a text, or else its beginning; -1 where the model has neither.
  [[nodiscard]] std::int32_t separator() const noexcept { return separator_; }
  [[nodiscard]] Result<std::vector<std::int32_t>> encode(std::string_view text);
  [[nodiscard]] Result<std::string> decode(std::span<const std::int32_t> tokens);

 private:
  Tokenizer(TokenizerProcess process, std::string model)
      : process_(std::move(process)), model_(std::move(model)) {}
  [[nodiscard]] Result<std::string> ask(std::uint32_t kind, std::span<const std::byte> content,
                                        std::uint32_t wanted);

  TokenizerProcess process_;
  std::string model_;
  std::int32_t vocabulary_ = 0;
  std::int32_t separator_ = -1;
};

/// Trains a model with up to `vocabulary` tokens on texts, which `next` gives until it gives an empty one;
/// the model's bytes.
[[nodiscard]] Result<std::string> train_tokenizer(const std::string& program, std::int64_t vocabulary,
                                                  int threads,
                                                  const std::function<Result<std::string>()>& next,
                                                  const TokenizerPatience& patience);

}  // namespace paceline
