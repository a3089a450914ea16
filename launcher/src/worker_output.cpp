#include "worker_output.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "paceline/base/log.hpp"

namespace paceline {
namespace {

constexpr std::size_t last_lines = 20;
constexpr std::size_t longest_line = 400;

}  // namespace

void LastLines::add(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    const std::string_view part = bytes.substr(0, end);
    if (unfinished_.size() < longest_line) unfinished_ += part.substr(0, longest_line - unfinished_.size());
    if (end == std::string_view::npos) return;
    keep(std::move(unfinished_));
    unfinished_.clear();
    bytes.remove_prefix(end + 1);
  }
}

void LastLines::keep(std::string line) {
  if (!line.empty() && line.back() == '\r') line.pop_back();
  for (char& letter : line) {
    const auto code = static_cast<unsigned char>(letter);
    if ((code < 0x20 && code != '\t') || code == 0x7f) letter = '?';
  }
  lines_.push_back(std::move(line));
  if (lines_.size() > most_lines_) lines_.pop_front();
}

std::deque<std::string> LastLines::lines() const {
  LastLines whole = *this;
  if (!whole.unfinished_.empty()) whole.keep(whole.unfinished_);
  return whole.lines_;
}

WorkerOutput::WorkerOutput(std::string log_path, std::optional<MergedLines> merged, UniqueFd log,
                           UniqueFd reading_end, UniqueFd writing_end)
    : log_path_(std::move(log_path)),
      merged_(std::move(merged)),
      log_(std::move(log)),
      reading_end_(std::move(reading_end)),
      writing_end_(std::move(writing_end)),
      last_(last_lines) {
}

Result<WorkerOutput> WorkerOutput::open(const std::string& log_path, std::optional<MergedLines> merged) {
  UniqueFd log(::open(log_path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!log.valid()) return system_error(concat("cannot create ", log_path));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("cannot make a pipe");
  UniqueFd reading_end(ends[0]);
  UniqueFd writing_end(ends[1]);
  // Only our end: the worker's writes wait for us, as writes to a terminal would.
  if (::fcntl(reading_end.get(), F_SETFL, O_NONBLOCK) != 0) return system_error("cannot set up a pipe");
  return WorkerOutput(log_path, std::move(merged), std::move(log), std::move(reading_end),
                      std::move(writing_end));
}

void WorkerOutput::copy() {
  // A bound, so that a worker that never stops talking cannot keep the agent from everything else.
  constexpr int most_blocks = 16;
  std::array<char, 65536> block{};
  for (int i = 0; i < most_blocks && reading_end_.valid(); ++i) {
    const ssize_t got = ::read(reading_end_.get(), block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) return reading_end_.reset();
    const std::string_view bytes(block.data(), static_cast<std::size_t>(got));
    last_.add(bytes);
    write_log(bytes);
    if (merged_) merged_->add(bytes);
  }
}

void WorkerOutput::end() {
  if (merged_) merged_->end();
}

void WorkerOutput::set_rank(std::int64_t rank) {
  if (merged_) merged_->set_rank(rank);
}

void WorkerOutput::write_log(std::string_view bytes) {
  if (!log_.valid()) return;
  const Status written = write_all(log_.get(), bytes, log_path_);
  if (written.ok()) return;
  log(LogLevel::warning, written.error().message, "; the log ends here, the run goes on");
  log_.reset();
}

}  // namespace paceline
