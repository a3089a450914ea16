#pragma once

#include "paceline/base/fd.hpp"
#include "paceline/base/result.hpp"

namespace paceline::control {

/// A descriptor that is readable from a ring until it is answered: how gRPC's threads wake a poll loop.
class Doorbell {
 public:
  [[nodiscard]] static Result<Doorbell> make();
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  void ring() const noexcept;
  void answer() const noexcept;

 private:
  explicit Doorbell(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

/// gRPC's own log, and that of its messages, would go to standard error, between what the program says to
/// people. What matters comes back as the status of a call.
void silence_grpc();

}  // namespace paceline::control
