#pragma once

#include <cstddef>
#include <memory>

#include "../sha256.hpp"
#include "paceline/base/result.hpp"

namespace paceline::tcp {

/// Encrypts one connection, record by record: AES-256-GCM, with the record's number as nonce. Used by one
/// thread at a time.
class Cipher {
 public:
  static constexpr std::size_t tag_bytes = 16;

  /// unsupported where the library was built without OpenSSL.
  [[nodiscard]] static Result<std::unique_ptr<Cipher>> make(const Digest& sending_key,
                                                            const Digest& receiving_key);
  virtual ~Cipher() = default;

  /// `sealed` has room for `bytes` + tag_bytes.
  [[nodiscard]] virtual bool seal(std::byte* sealed, const std::byte* plain, std::size_t bytes) = 0;
  /// False if the record is not what the peer sealed. `plain` has room for `bytes`.
  [[nodiscard]] virtual bool open(std::byte* plain, const std::byte* sealed, std::size_t bytes) = 0;
};

}  // namespace paceline::tcp
