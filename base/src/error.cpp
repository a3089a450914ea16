#include "paceline/base/error.hpp"

#include <system_error>

namespace paceline {

std::string_view to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::invalid_argument: return "invalid argument";
    case ErrorCode::not_found: return "not found";
    case ErrorCode::already_exists: return "already exists";
    case ErrorCode::io: return "input/output error";
    case ErrorCode::corrupt: return "corrupt";
    case ErrorCode::timeout: return "timed out";
    case ErrorCode::peer_lost: return "peer lost";
    case ErrorCode::mismatch: return "mismatch";
    case ErrorCode::aborted: return "aborted";
    case ErrorCode::unsupported: return "unsupported";
    case ErrorCode::internal: return "internal error";
  }
  return "unknown";
}

Error Error::with_context(std::string_view prefix) const {
  return {code, std::string(prefix) + ": " + message, rank};
}

Error system_error(std::string_view what, int error_number) {
  // std::error_code rather than strerror, which is not thread-safe.
  return {ErrorCode::io,
          std::string(what) + ": " + std::error_code(error_number, std::generic_category()).message()};
}

}  // namespace paceline
