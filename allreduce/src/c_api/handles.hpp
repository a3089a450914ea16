#pragma once

#include <exception>
#include <new>
#include <string>
#include <utility>

#include "paceline/allreduce.h"
#include "paceline/allreduce.hpp"

// What the handles of the C interface point to.
struct paceline_comm {
  paceline::Communicator communicator;
};
struct paceline_work {
  paceline::Work work;
};
struct paceline_buffer {
  paceline::SharedBuffer buffer;
};

namespace paceline::c_api {

/// Keeps `error` for paceline_last_error() of this thread, and gives its code.
[[nodiscard]] int fail(const Error& error) noexcept;
[[nodiscard]] inline int code_of(const Status& status) noexcept {
  return status.ok() ? PACELINE_OK : fail(status.error());
}

/// Runs `body`, which gives a Status; what it throws (no memory) becomes a code.
template <class Body>
[[nodiscard]] int guarded(Body&& body) noexcept {
  try {
    return code_of(std::forward<Body>(body)());
  } catch (const std::bad_alloc&) {
    return fail({ErrorCode::internal, "no memory"});
  } catch (const std::exception& exception) {
    return fail({ErrorCode::internal, exception.what()});
  } catch (...) {
    return fail({ErrorCode::internal, "an exception of an unknown type"});
  }
}

/// Fails with a message that says which argument of `function` is null.
[[nodiscard]] int fail_for_null(const char* function, const char* argument) noexcept;

/// Copies a text for people to the caller, as paceline_describe_plan says.
[[nodiscard]] Status hand_out(const std::string& whole, char* text, size_t capacity, size_t* needed);

/// Options from the C structs; null gives the defaults. Errors: a size or a number that makes no sense.
[[nodiscard]] Result<CommunicatorOptions> options_from(const paceline_options* options);
[[nodiscard]] Result<ReduceOptions> options_from(const paceline_reduce_options* options);

/// Enumerations may be any number here; what does not exist becomes a value that the core refuses by name.
template <class Enumeration>
[[nodiscard]] Enumeration enumeration_from(int value) noexcept {
  return static_cast<Enumeration>(value >= 0 && value < 255 ? value : 255);
}

}  // namespace paceline::c_api

/// Leaves the function with PACELINE_INVALID_ARGUMENT if `argument` is null.
#define PACELINE_C_NOT_NULL(argument)                                                        \
  do {                                                                                       \
    if ((argument) == nullptr) return ::paceline::c_api::fail_for_null(__func__, #argument); \
  } while (false)
