#pragma once

#include <string>
#include <utility>
#include <variant>

#include "paceline/base/assert.hpp"
#include "paceline/base/error.hpp"

namespace paceline {

/// Either a value or the Error that prevented it. Never throws; reading the wrong side is a bug and asserts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return ok(); }

  [[nodiscard]] T& value() & {
    PACELINE_ASSERT(ok(), "Result holds an error where a value was taken");
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] const T& value() const& {
    PACELINE_ASSERT(ok(), "Result holds an error where a value was taken");
    return *std::get_if<0>(&state_);
  }
  [[nodiscard]] T&& value() && {
    PACELINE_ASSERT(ok(), "Result holds an error where a value was taken");
    return std::move(*std::get_if<0>(&state_));
  }
  [[nodiscard]] const Error& error() const& {
    PACELINE_ASSERT(!ok(), "Result holds a value where an error was taken");
    return *std::get_if<1>(&state_);
  }
  [[nodiscard]] Error&& error() && {
    PACELINE_ASSERT(!ok(), "Result holds a value where an error was taken");
    return std::move(*std::get_if<1>(&state_));
  }

  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::variant<T, Error> state_;
};

/// Success, or the Error that prevented it.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : failed_(true), error_(std::move(error)) {}

  [[nodiscard]] bool ok() const noexcept { return !failed_; }
  explicit operator bool() const noexcept { return ok(); }
  [[nodiscard]] const Error& error() const& {
    PACELINE_ASSERT(failed_, "Status is success where an error was taken");
    return error_;
  }
  [[nodiscard]] Error&& error() && {
    PACELINE_ASSERT(failed_, "Status is success where an error was taken");
    return std::move(error_);
  }

 private:
  bool failed_ = false;
  Error error_;
};

using Status = Result<void>;

}  // namespace paceline

#define PACELINE_CONCAT_INNER(a, b) a##b
#define PACELINE_CONCAT(a, b) PACELINE_CONCAT_INNER(a, b)

/// Leaves the enclosing function with the error of `expression` (a Result or Status), if it has one.
#define PACELINE_TRY(expression)                                                                     \
  do {                                                                                               \
    auto paceline_try_status = (expression);                                                         \
    if (!paceline_try_status.ok()) return ::paceline::Error(std::move(paceline_try_status).error()); \
  } while (false)

/// `PACELINE_ASSIGN(auto x, f())`: declares x from a Result's value, or leaves the function with its error.
#define PACELINE_ASSIGN(declaration, expression) \
  PACELINE_ASSIGN_INNER(declaration, expression, PACELINE_CONCAT(paceline_result_, __LINE__))
#define PACELINE_ASSIGN_INNER(declaration, expression, name)         \
  auto name = (expression);                                          \
  if (!name.ok()) return ::paceline::Error(std::move(name).error()); \
  declaration = std::move(name).value()
