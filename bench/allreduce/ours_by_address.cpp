// Ranks that find each other by the driver, and send each other data over TCP.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <utility>

#include "allreduce/contenders.hpp"
#include "allreduce/ours.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

/// Rank 0 listens where the system finds a free port, and tells it to all through the driver.
UniqueFd share_listener(const contender_job& job, Member& place) {
  UniqueFd listener;
  char word[16] = "";
  if (job.rank == 0) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::inet_pton(AF_INET, place.host.c_str(), &address.sin_addr) != 1 ||
        ::bind(listener.get(), generic, length) != 0 || ::listen(listener.get(), job.ranks) != 0 ||
        ::getsockname(listener.get(), generic, &length) != 0)
      contender_fail("%s", system_error(concat("cannot listen at ", place.host)).message.c_str());
    const std::string port = std::to_string(ntohs(address.sin_port));
    port.copy(word, sizeof word - 1);
  }
  contender_share(&job, 0, word, sizeof word);
  const auto port = parse_integer(word, 1, 65535);
  if (!port) contender_fail("rank 0 shared \"%s\", which is no port", word);
  place.port = static_cast<std::uint16_t>(*port);
  return listener;
}

Result<Communicator> connect(const contender_job& job, std::vector<Member> members) {
  CommunicatorOptions options;
  options.listener = share_listener(job, members.front());
  options.secret = contender_option(&job, "--token", "");
  return Communicator::connect(job.rank, members, std::move(options));
}

}  // namespace

int run_paceline_rank(int argc, char** argv) {
  return run_own_rank(argc, argv, connect);
}

}  // namespace paceline::bench
