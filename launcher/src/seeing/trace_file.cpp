#include "seeing/trace_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "format.hpp"
#include "json_messages.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

constexpr std::size_t most_pending = std::size_t{1} << 20;

}  // namespace

Result<FileInTheMaking> FileInTheMaking::begin(const std::string& path) {
  std::string partial = concat(path, ".partial-", ::getpid());
  UniqueFd fd(::open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return system_error(concat("cannot create ", shown(path)));
  return FileInTheMaking(path, std::move(partial), std::move(fd));
}

FileInTheMaking::~FileInTheMaking() {
  if (fd_.valid()) ::unlink(partial_.c_str());
}

Status FileInTheMaking::write(std::string_view bytes) {
  pending_ += bytes;
  bytes_ += std::ssize(bytes);
  return pending_.size() < most_pending ? Status() : flush();
}

Status FileInTheMaking::flush() {
  Status written = write_all(fd_.get(), pending_, shown(path_));
  pending_.clear();
  return written;
}

Status FileInTheMaking::finish() {
  PACELINE_TRY(flush());
  if (::rename(partial_.c_str(), path_.c_str()) != 0)
    return system_error(concat("cannot rename ", shown(partial_), " to ", shown(path_)));
  fd_.reset();
  return {};
}

std::string json_text(std::string_view text) {
  const bool is_plain =
      std::ranges::all_of(text, [](char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\'; });
  if (is_plain) return concat("\"", text, "\"");
  return dumped(nlohmann::json(std::string(text)));
}

TraceFile::TraceFile(FileInTheMaking file) : file_(std::move(file)) {
  written_ = file_.write("{\"traceEvents\":[\n");
}

void TraceFile::begin_event(char kind, std::int64_t process, std::int64_t thread) {
  event_ = is_first_ ? "" : ",\n";
  is_first_ = false;
  event_ += R"({"ph":")";
  event_ += kind;
  event_ += R"(","pid":)";
  event_ += std::to_string(process);
  event_ += R"(,"tid":)";
  event_ += std::to_string(thread);
}

void TraceFile::end_event(std::string_view name, std::string_view arguments) {
  event_ += R"(,"name":)";
  event_ += json_text(name);
  if (!arguments.empty()) {
    event_ += R"(,"args":)";
    event_ += arguments;
  }
  event_ += '}';
  if (written_.ok()) written_ = file_.write(event_);
}

void TraceFile::name_process(std::int64_t process, std::string_view name, std::int64_t place) {
  begin_event('M', process, 0);
  end_event("process_name", concat(R"({"name":)", json_text(name), "}"));
  begin_event('M', process, 0);
  end_event("process_sort_index", concat(R"({"sort_index":)", place, "}"));
}

void TraceFile::name_thread(TraceTrack track, std::string_view name, std::int64_t place) {
  begin_event('M', track.process, track.thread);
  end_event("thread_name", concat(R"({"name":)", json_text(name), "}"));
  begin_event('M', track.process, track.thread);
  end_event("thread_sort_index", concat(R"({"sort_index":)", place, "}"));
}

void TraceFile::slice(TraceTrack track, std::string_view name, std::int64_t begin_us, std::int64_t took_us,
                      std::string_view arguments) {
  begin_event('X', track.process, track.thread);
  event_ += R"(,"ts":)";
  event_ += std::to_string(begin_us);
  event_ += R"(,"dur":)";
  event_ += std::to_string(took_us);
  end_event(name, arguments);
}

void TraceFile::mark(TraceTrack track, std::string_view name, std::int64_t at_us,
                     std::string_view arguments) {
  begin_event('i', track.process, track.thread);
  event_ += R"(,"s":"t","ts":)";
  event_ += std::to_string(at_us);
  end_event(name, arguments);
}

void TraceFile::counter(std::int64_t process, std::string_view name, std::int64_t at_us,
                        std::string_view unit, double value) {
  begin_event('C', process, 0);
  event_ += R"(,"ts":)";
  event_ += std::to_string(at_us);
  end_event(name, concat("{", json_text(unit), ":", fixed(value, 3), "}"));
}

Result<std::int64_t> TraceFile::finish(std::string_view facts) {
  PACELINE_TRY(std::move(written_));
  PACELINE_TRY(file_.write(concat("\n],\n\"displayTimeUnit\":\"ms\",\n\"otherData\":", facts, "}\n")));
  PACELINE_TRY(file_.finish());
  return file_.bytes();
}

}  // namespace paceline
