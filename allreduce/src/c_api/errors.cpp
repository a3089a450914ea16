#include <algorithm>
#include <cstring>
#include <string>

#include "handles.hpp"
#include "paceline/base/text.hpp"

namespace paceline::c_api {
namespace {

struct LastError {
  std::string message;
  const char* fallback = "";  // where there was no memory for the message
  int rank = -1;
};

LastError& last_error() noexcept {
  thread_local LastError error;
  return error;
}

// The numbers of the C interface are fixed; those of ErrorCode must not drift away from them.
constexpr int number_of(ErrorCode code) noexcept {
  return static_cast<int>(code) + 1;
}
static_assert(number_of(ErrorCode::invalid_argument) == PACELINE_INVALID_ARGUMENT);
static_assert(number_of(ErrorCode::not_found) == PACELINE_NOT_FOUND);
static_assert(number_of(ErrorCode::already_exists) == PACELINE_ALREADY_EXISTS);
static_assert(number_of(ErrorCode::io) == PACELINE_IO);
static_assert(number_of(ErrorCode::corrupt) == PACELINE_CORRUPT);
static_assert(number_of(ErrorCode::timeout) == PACELINE_TIMEOUT);
static_assert(number_of(ErrorCode::peer_lost) == PACELINE_PEER_LOST);
static_assert(number_of(ErrorCode::mismatch) == PACELINE_MISMATCH);
static_assert(number_of(ErrorCode::aborted) == PACELINE_ABORTED);
static_assert(number_of(ErrorCode::unsupported) == PACELINE_UNSUPPORTED);
static_assert(number_of(ErrorCode::internal) == PACELINE_INTERNAL);

}  // namespace

int fail(const Error& error) noexcept {
  LastError& last = last_error();
  last.rank = error.rank;
  last.fallback = "";
  try {
    last.message = error.message;
  } catch (...) {
    last.message.clear();
    last.fallback = "no memory for the message";
  }
  return number_of(error.code);
}

int fail_for_null(const char* function, const char* argument) noexcept {
  return guarded([&]() -> Status {
    return Error{ErrorCode::invalid_argument, concat(function, ": ", argument, " is null")};
  });
}

Status hand_out(const std::string& whole, char* text, size_t capacity, size_t* needed) {
  if (needed != nullptr) *needed = whole.size() + 1;
  if (capacity == 0) return {};
  if (text == nullptr)
    return Error{ErrorCode::invalid_argument, concat("text is null, and capacity ", capacity)};
  const std::size_t bytes = std::min(whole.size(), capacity - 1);
  std::memcpy(text, whole.data(), bytes);
  text[bytes] = '\0';
  return {};
}

}  // namespace paceline::c_api

int paceline_version(void) {
  return PACELINE_ALLREDUCE_VERSION_MAJOR * 65536 + PACELINE_ALLREDUCE_VERSION_MINOR;
}

const char* paceline_last_error(void) {
  const auto& last = paceline::c_api::last_error();
  return last.message.empty() ? last.fallback : last.message.c_str();
}

int paceline_last_error_rank(void) {
  return paceline::c_api::last_error().rank;
}

const char* paceline_error_name(int code) {
  if (code == PACELINE_OK) return "success";
  if (code < PACELINE_OK || code > PACELINE_INTERNAL) return "unknown";
  return paceline::to_string(static_cast<paceline::ErrorCode>(code - 1)).data();  // a literal
}
