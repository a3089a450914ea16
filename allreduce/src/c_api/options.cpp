#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "growing.hpp"
#include "handles.hpp"
#include "paceline/base/text.hpp"

namespace paceline::c_api {
namespace {

// Members of the first version: a struct that is shorter was not made by paceline_*_init.
constexpr std::size_t first_options_bytes = 88;
constexpr std::size_t first_reduce_options_bytes = 40;
static_assert(sizeof(paceline_options) == first_options_bytes && sizeof(void*) == 8,
              "members are added at the end, and leave no padding");
static_assert(sizeof(paceline_reduce_options) == first_reduce_options_bytes);
static_assert(sizeof(paceline_member) == 24);

constexpr std::int64_t longest_ms = std::int64_t{10} * 365 * 24 * 3600 * 1000;
constexpr int most_exponent = 1000;  // the core refuses less already

template <class Options>
Options default_options();

template <>
paceline_options default_options() {
  const CommunicatorOptions defaults;
  paceline_options options{};
  options.size = sizeof options;
  options.generation = defaults.generation;
  options.connect_timeout_ms = defaults.connect_timeout / std::chrono::milliseconds(1);
  options.operation_timeout_ms = defaults.operation_timeout / std::chrono::milliseconds(1);
  options.spin_us = defaults.spin / std::chrono::microseconds(1);
  options.listener = -1;
  return options;
}

template <>
paceline_reduce_options default_options() {
  const ReduceOptions defaults;
  paceline_reduce_options options{};
  options.size = sizeof options;
  options.weight = defaults.weight;
  options.fixed_point_exponent = defaults.fixed_point_exponent;
  return options;
}

template <class Options>
Result<Options> whole_of(const Options* given, std::size_t first_bytes, const char* name) {
  return whole(given, default_options<Options>(), first_bytes, name);
}

template <class Options>
int init_with_defaults(Options* options, std::size_t size, std::size_t first_bytes, const char* name) {
  return init(options, size, default_options<Options>(), first_bytes, name);
}

Result<Duration> duration_from(std::int64_t milliseconds, const char* name) {
  if (milliseconds <= 0)
    return Error{ErrorCode::invalid_argument,
                 concat("paceline_options.", name, " is ", milliseconds, ": it must be more than 0")};
  return Duration(std::chrono::milliseconds(std::min(milliseconds, longest_ms)));
}

std::string text_from(const char* text) {
  return text == nullptr ? std::string() : std::string(text);
}

Result<UniqueFd> listener_from(int fd) {
  if (fd < 0) return UniqueFd();
  UniqueFd duplicate(::dup(fd));
  if (!duplicate.valid())
    return Error{ErrorCode::invalid_argument,
                 concat("paceline_options.listener is ", fd, ": ", std::strerror(errno))};
  return duplicate;
}

}  // namespace

Result<CommunicatorOptions> options_from(const paceline_options* given) {
  PACELINE_ASSIGN(const paceline_options c, whole_of(given, first_options_bytes, "paceline_options"));
  if (c.algorithm < PACELINE_ALGORITHM_AUTOMATIC || c.algorithm > PACELINE_ALGORITHM_RING)
    return Error{ErrorCode::invalid_argument,
                 concat("paceline_options.algorithm is ", c.algorithm, ": there is no such algorithm")};
  if (c.streams < 0 || c.spin_us < 0 || (c.encrypt != 0 && c.encrypt != 1))
    return Error{ErrorCode::invalid_argument,
                 "paceline_options: streams and spin_us are not negative, and encrypt is 0 or 1"};
  CommunicatorOptions options;
  options.generation = c.generation;
  options.secret = text_from(c.secret);
  PACELINE_ASSIGN(options.connect_timeout, duration_from(c.connect_timeout_ms, "connect_timeout_ms"));
  PACELINE_ASSIGN(options.operation_timeout, duration_from(c.operation_timeout_ms, "operation_timeout_ms"));
  options.spin = std::chrono::microseconds(std::min(c.spin_us, longest_ms));
  options.encrypt = c.encrypt == 1;
  options.interface = text_from(c.network_interface);
  options.ports = text_from(c.ports);
  options.tuning = {static_cast<Algorithm>(c.algorithm), c.piece_bytes, c.streams};
  PACELINE_ASSIGN(options.listener, listener_from(c.listener));
  return options;
}

Result<ReduceOptions> options_from(const paceline_reduce_options* given) {
  PACELINE_ASSIGN(const paceline_reduce_options c,
                  whole_of(given, first_reduce_options_bytes, "paceline_reduce_options"));
  ReduceOptions options;
  options.op = enumeration_from<ReduceOp>(c.op);
  options.weight = c.weight;
  options.codec = enumeration_from<Codec>(c.codec);
  options.residual = c.residual;
  options.fixed_point_exponent = std::clamp(c.fixed_point_exponent, -most_exponent, most_exponent);
  options.priority = c.priority;
  return options;
}

}  // namespace paceline::c_api

using namespace paceline::c_api;

int paceline_options_init(paceline_options* options, size_t size) {
  return init_with_defaults(options, size, first_options_bytes, "paceline_options");
}

int paceline_reduce_options_init(paceline_reduce_options* options, size_t size) {
  return init_with_defaults(options, size, first_reduce_options_bytes, "paceline_reduce_options");
}
