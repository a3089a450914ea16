#include "fleet/slurm_watch.hpp"

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::int64_t usual_interval_s = 30;
constexpr Duration answer_limit = std::chrono::seconds(20);

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += concat(text.empty() ? "" : ",", name);
  return text;
}

}  // namespace

SlurmWatch::SlurmWatch(std::vector<std::string> nodes)
    : nodes_(std::move(nodes)),
      interval_(
          std::chrono::seconds(parse_integer(environment("PACELINE_SLURM_POLL_S").value_or(""), 1, 86400)
                                   .value_or(usual_interval_s))),
      asked_at_(clock_.now()) {
}

std::vector<std::string> SlurmWatch::attend() {
  std::vector<std::string> news;
  if (question_) {
    question_->read(
        [&](const std::string& line) {
          const std::optional<std::string> node = draining_node(line);
          if (node && !settled_.contains(*node)) news.push_back(*node);
        },
        [](const std::string&) {});
    const bool is_over = question_->output_fd() < 0 && question_->ended();
    if (is_over || clock_.now() - asked_at_ >= answer_limit) question_.reset();
  } else if (clock_.now() - asked_at_ >= interval_) {
    asked_at_ = clock_.now();
    auto question = Connection::start(
        "sinfo", {"sinfo", "--noheader", "--Node", concat("--nodes=", joined(nodes_)), "--format=%N %T"});
    if (question.ok()) question_.emplace(std::move(*question));
  }
  return news;
}

std::optional<std::string> draining_node(const std::string& line) {
  const std::vector<std::string> words = split(line, ' ');
  if (words.size() < 2 || words[0].empty()) return std::nullopt;
  // "draining" while something runs there, "drained" afterwards, with a sign for more.
  if (!words[1].starts_with("drain") && !words[1].starts_with("drng")) return std::nullopt;
  return words[0];
}

}  // namespace paceline
