#pragma once

#include <cstdint>
#include <deque>
#include <utility>

namespace paceline::control {

/// One side's memory of a conversation that outlives its streams: numbers what it says, keeps it until the
/// other side has it, and recognises what it has heard before. `Out` and `In` are FromAgent and ToAgent, or
/// the reverse. One thread.
template <class Out, class In>
class Session {
 public:
  explicit Session(std::int64_t term) : term_(term) {}

  /// The message, ready to be sent, and kept until it is acknowledged.
  [[nodiscard]] Out keep(Out message) {
    message.set_number(++said_);
    kept_.push_back(message);
    return seal(std::move(message));
  }
  /// The same of a message that may be lost.
  [[nodiscard]] Out seal(Out message) const {
    message.set_term(term_);
    message.set_received(heard_);
    return message;
  }

  enum class Verdict { news, known, gap };
  /// What to make of a message: `known` was heard before; after `gap` the stream is of no use, as something
  /// before this message has not come.
  [[nodiscard]] Verdict hear(const In& message) {
    while (!kept_.empty() && kept_.front().number() <= message.received()) kept_.pop_front();
    if (message.number() == 0) return Verdict::news;
    if (message.number() <= heard_) return Verdict::known;
    if (message.number() > heard_ + 1) return Verdict::gap;
    heard_ = message.number();
    return Verdict::news;
  }

  /// To be sent again on a new stream.
  [[nodiscard]] const std::deque<Out>& kept() const noexcept { return kept_; }
  [[nodiscard]] std::int64_t term() const noexcept { return term_; }

 private:
  std::int64_t term_;
  std::uint64_t said_ = 0, heard_ = 0;
  std::deque<Out> kept_;
};

}  // namespace paceline::control
