#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "allreduce/group.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

Result<UniqueFd> listen_at(const std::string& host, int& port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  socklen_t length = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (!listener.valid() || ::bind(listener.get(), generic, length) != 0 ||
      ::listen(listener.get(), 1024) != 0 || ::getsockname(listener.get(), generic, &length) != 0)
    return system_error(concat("cannot listen for ranks at ", host));
  port = ntohs(address.sin_port);
  return listener;
}

Result<std::string> random_token() {
  std::array<std::byte, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return system_error("cannot make a random token");
  return to_hex(bytes);
}

}  // namespace

Result<std::unique_ptr<Driver>> Driver::make(const Placement& placement) {
  PACELINE_TRY(adopt_orphans());
  PACELINE_ASSIGN(ScratchFolder folder, ScratchFolder::make());
  std::unique_ptr<Driver> driver(new Driver(std::move(folder)));
  PACELINE_ASSIGN(driver->signals_, catch_signals());
  PACELINE_ASSIGN(driver->listener_, listen_at(placement.driver_host, driver->meeting_.port));
  PACELINE_ASSIGN(driver->meeting_.token, random_token());
  driver->meeting_.folder = driver->folder_.path();
  return driver;
}

Driver::~Driver() {
  kill_descendants(folder_.keeper());
}

int Driver::take_signal() noexcept {
  signalfd_siginfo info{};
  if (signal_ == 0 && ::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
    signal_ = static_cast<int>(info.ssi_signo);
  return signal_;
}

}  // namespace paceline::bench
