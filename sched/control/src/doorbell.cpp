#include "doorbell.hpp"

#include <google/protobuf/stubs/logging.h>
#include <grpc/support/log.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace paceline::control {

Result<Doorbell> Doorbell::make() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return system_error("cannot make an event descriptor");
  return Doorbell(std::move(fd));
}

void Doorbell::ring() const noexcept {
  const std::uint64_t one = 1;
  // It can only fail when it is readable already.
  [[maybe_unused]] const ssize_t put = ::write(fd_.get(), &one, sizeof one);
}

void Doorbell::answer() const noexcept {
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t got = ::read(fd_.get(), &rings, sizeof rings);
}

void silence_grpc() {
  gpr_set_log_function([](gpr_log_func_args*) {});
  google::protobuf::SetLogHandler(nullptr);
}

}  // namespace paceline::control
