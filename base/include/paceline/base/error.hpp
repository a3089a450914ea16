#pragma once

#include <cerrno>
#include <string>
#include <string_view>

namespace paceline {

/// What kind of failure it was, for code that must react; the message is for people.
enum class ErrorCode {
  invalid_argument,  ///< the caller or the user asked for something that makes no sense
  not_found,         ///< a file, key or peer that should be there is not
  already_exists,    ///< a name, port or run directory is taken
  io,                ///< the operating system refused
  corrupt,           ///< bytes from outside are not what they claim to be
  timeout,           ///< a wait reached its deadline
  peer_lost,         ///< another rank is gone; Error::rank says which
  mismatch,          ///< ranks disagree about what they are doing
  aborted,           ///< someone asked for the work in progress to be given up
  unsupported,       ///< understood, but this build or machine can't do it
  internal,          ///< a library below threw or broke its contract
};

[[nodiscard]] std::string_view to_string(ErrorCode code) noexcept;

/// A failure with its story: what happened, where, and what to do about it.
struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;
  int rank = -1;  ///< the rank that caused it, where one is known

  Error() = default;
  Error(ErrorCode code_, std::string message_, int rank_ = -1)
      : code(code_), message(std::move(message_)), rank(rank_) {}

  /// The same error with "`prefix`: " before its message.
  [[nodiscard]] Error with_context(std::string_view prefix) const;
};

/// An io error "`what`: <strerror of `error_number`>".
[[nodiscard]] Error system_error(std::string_view what, int error_number = errno);

}  // namespace paceline
