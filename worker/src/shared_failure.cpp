#include "shared_failure.hpp"

#include <chrono>
#include <thread>

#include "paceline/base/clock.hpp"

namespace paceline {
namespace {

const SteadyClock steady_clock;
/// For which the rank whose error it is, or the end of its connections, is waited for.
constexpr Duration hearing_time = std::chrono::milliseconds(200);

}  // namespace

Error shared_failure(Communicator& ranks, const Error& error) {
  const bool own = (error.rank < 0 || error.rank == ranks.rank()) && error.code != ErrorCode::aborted;
  const Deadline hearing(steady_clock, own ? Duration::zero() : hearing_time);
  while (ranks.health().ok() && !hearing.passed()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const Status known = ranks.health();
  if (known.ok()) ranks.abort(error.message);
  if (own) return error;
  return known.ok() ? Error{ErrorCode::aborted, error.message, error.rank} : known.error();
}

}  // namespace paceline
