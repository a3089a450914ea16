#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline {

/// A corrupt error: "`where`: `what`", and what to do about it.
[[nodiscard]] Error bad_manifest(const std::string& where, std::string_view what);

/// Typed, bounded access to the members of one JSON object. Errors name the member and what it should be.
class Members {
 public:
  /// `object` must outlive this; `where` is for messages.
  Members(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {}

  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  [[nodiscard]] bool has(const char* key) const;
  [[nodiscard]] Result<const nlohmann::json*> get(const char* key) const;
  [[nodiscard]] Result<std::int64_t> integer(const char* key, std::int64_t least,
                                             std::int64_t greatest) const;
  [[nodiscard]] Result<bool> truth(const char* key) const;
  /// 1 to `most_bytes` bytes.
  [[nodiscard]] Result<std::string> text(const char* key, std::size_t most_bytes = 255) const;
  /// One of `known`; unsupported for anything else. The result is its place in `known`.
  [[nodiscard]] Result<std::size_t> one_of(const char* key, const std::vector<std::string_view>& known) const;
  [[nodiscard]] Result<std::uint64_t> checksum(const char* key) const;
  /// A list of exactly `count` numbers.
  [[nodiscard]] Result<std::vector<double>> numbers(const char* key, std::size_t count, double least,
                                                    double greatest) const;
  /// A list of exactly `count` texts of 1 to 255 bytes.
  [[nodiscard]] Result<std::vector<std::string>> texts(const char* key, std::size_t count) const;

 private:
  const nlohmann::json& object_;
  std::string where_;
};

}  // namespace paceline
