#include "format.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t shortest_bar = 10;
constexpr std::size_t longest_bar = 40;

std::string bar(const EpochSteps& steps, std::size_t columns) {
  const auto inner = static_cast<std::int64_t>(columns);
  const std::int64_t filled = inner * steps.done / steps.all;
  std::string text(static_cast<std::size_t>(filled), '=');
  if (filled > 0 && filled < inner) text.back() = '>';
  text.resize(columns, ' ');
  return concat("[", text, "]");
}

}  // namespace

std::string with_commas(double number) {
  if (!std::isfinite(number)) return "-";
  const std::string digits = fixed(std::fabs(number), 0);
  std::string text(number <= -0.5 ? 1 : 0, '-');
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string clock_time(double seconds) {
  constexpr double longest = 1e7;  // beyond that it is no estimate
  if (!std::isfinite(seconds) || seconds < 0 || seconds > longest) return "-";
  const auto whole = static_cast<std::int64_t>(std::lround(seconds));
  std::array<char, 32> text{};
  const auto hours = static_cast<long long>(whole / 3600);
  const auto minutes = static_cast<int>(whole / 60 % 60);
  const auto rest = static_cast<int>(whole % 60);
  if (hours > 0)
    std::snprintf(text.data(), text.size(), "%lld:%02d:%02d", hours, minutes, rest);
  else
    std::snprintf(text.data(), text.size(), "%d:%02d", minutes, rest);
  return text.data();
}

std::string fixed(double number, int decimals) {
  std::array<char, 400> text{};
  std::snprintf(text.data(), text.size(), "%.*f", decimals, number);
  return text.data();
}

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i == widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += row[i];
      if (i + 1 < row.size()) text.append(widths[i] - row[i].size() + 2, ' ');
    }
    text += '\n';
  }
  return text;
}

std::string eval_figures(const EvalMessage& eval, int more_decimals) {
  std::string text = concat("test loss ", fixed(eval.loss, 3 + more_decimals));
  if (eval.accuracy) text += concat(", test accuracy ", fixed(100 * *eval.accuracy, 1 + more_decimals), "%");
  if (eval.perplexity) text += concat(", test perplexity ", fixed(*eval.perplexity, 2 + more_decimals));
  return text;
}

EpochSteps epoch_steps(const ProgressMessage& progress) {
  EpochSteps steps;
  steps.all = std::max<std::int64_t>(1, progress.epoch_steps);
  steps.done = std::clamp<std::int64_t>(progress.epoch_step, 0, steps.all);
  return steps;
}

std::string progress_bar(const ProgressMessage& progress, std::size_t width) {
  const EpochSteps steps = epoch_steps(progress);
  const std::string epoch = concat("epoch ", progress.epoch, "/", progress.epochs);
  const std::int64_t hundredths = 100 * steps.done / steps.all;
  const std::string percent = concat(hundredths < 10 ? "  " : hundredths < 100 ? " " : "", hundredths, "%");
  const std::string rate = concat(with_commas(progress.samples_per_second), " samples/s");
  const std::string loss = concat("loss ", fixed(progress.loss, 3));
  const std::string left = concat(clock_time(progress.seconds_left), " left");
  const std::string tail = concat(percent, "  ", rate, "  ", loss, "  ", left);
  const std::size_t around_bar = epoch.size() + tail.size() + 4;  // a space, two brackets, a space
  if (around_bar + shortest_bar <= width)
    return concat(epoch, " ", bar(steps, std::min(width - around_bar, longest_bar)), " ", tail);
  for (std::string line : {concat(epoch, " ", tail), concat(epoch, " ", percent, "  ", loss, "  ", left),
                           concat(epoch, " ", percent, "  ", left)})
    if (line.size() <= width) return line;
  return concat(epoch, " ", percent).substr(0, width);
}

std::string progress_line(const ProgressMessage& progress) {
  const EpochSteps steps = epoch_steps(progress);
  return concat("epoch ", progress.epoch, "/", progress.epochs, ", step ",
                with_commas(static_cast<double>(progress.step)), " of ",
                with_commas(static_cast<double>(progress.steps)), " (", 100 * steps.done / steps.all,
                "% of the epoch): loss ", fixed(progress.loss, 3), ", ",
                with_commas(progress.samples_per_second), " samples/s, ", clock_time(progress.seconds_left),
                " left");
}

}  // namespace paceline
