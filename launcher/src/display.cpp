#include "display.hpp"

#include <unistd.h>

#include <algorithm>
#include <tuple>

#include "format.hpp"
#include "paceline/base/text.hpp"
#include "terminal.hpp"

namespace paceline {
namespace {

constexpr Duration redraw_period = std::chrono::milliseconds(100);
constexpr Duration line_period = std::chrono::seconds(5);

}  // namespace

Display::Display(const Options& options)
    : options_(options), terminal_(!options.plain && ::isatty(options.news_fd) == 1) {
}

Display::~Display() {
  clear_bar();
}

void Display::write(int fd, std::string_view text) {
  reader_pauses_ = !put(fd, text, reader_pauses_ ? 0 : line_patience_ms);
}

void Display::line(std::string_view text) {
  if (options_.quiet || options_.silent) return;
  clear_bar();
  write(options_.news_fd, concat(text, "\n"));
  draw_bar();
}

void Display::warning(std::string_view text) {
  if (options_.silent) return;
  clear_bar();
  write(options_.trouble_fd, concat("paceline: ", text, "\n"));
  draw_bar();
}

void Display::end_progress() {
  clear_bar();
  last_.reset();
}

void Display::error(std::string_view text) {
  end_progress();
  std::ignore = put(options_.trouble_fd, concat("paceline: ", text, "\n"), line_patience_ms);
}

void Display::draw_bar() {
  if (!terminal_ || !last_) return;
  // One column stays free: in the last one some terminals wrap.
  const std::string bar = progress_bar(*last_, terminal_width(options_.news_fd) - 1);
  std::ignore = put(options_.news_fd, concat("\r\x1b[K", bar), 0);
  bar_is_drawn_ = true;
}

void Display::clear_bar() {
  if (!bar_is_drawn_) return;
  write(options_.news_fd, "\r\x1b[K");
  bar_is_drawn_ = false;
}

void Display::progress(const ProgressMessage& message, Instant now) {
  if (options_.quiet || options_.silent || !options_.epochs) return;
  // An epoch ends with its evaluation's line; where there is none, with its last progress.
  if (last_ && message.epoch > last_->epoch) finish_epoch(last_->epoch);
  last_ = message;
  const Duration period = terminal_ ? redraw_period : line_period;
  if (last_shown_ && now < *last_shown_ + period) return;
  const bool first = !last_shown_;
  last_shown_ = now;
  if (terminal_)
    draw_bar();
  else if (!first)
    line(progress_line(message));
}

void Display::finish_epoch(std::int64_t epoch) {
  if (epoch <= finished_epoch_) return;
  finished_epoch_ = epoch;
  const std::string loss = train_loss(epoch);
  line(concat("epoch ", epoch, "/", last_->epochs, loss.empty() ? " is done" : ": " + loss));
}

std::string Display::train_loss(std::int64_t epoch) const {
  if (!last_ || epoch != last_->epoch) return "";
  return concat("train loss ", fixed(last_->epoch_loss, 3));
}

void Display::eval(const EvalMessage& message) {
  if (options_.quiet || options_.silent || !options_.epochs) return;
  const std::string train = train_loss(message.epoch);
  const std::string epochs = last_ ? concat("/", last_->epochs) : "";
  finished_epoch_ = std::max(finished_epoch_, message.epoch);
  line(
      concat("epoch ", message.epoch, epochs, ": ", train, train.empty() ? "" : ", ", eval_figures(message)));
}

}  // namespace paceline
