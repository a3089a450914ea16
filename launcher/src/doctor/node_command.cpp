// `paceline doctor --node`: one of the machines that another one examines, through ssh or srun.
#include "doctor/node_command.hpp"

#include <poll.h>
#include <unistd.h>

#include <chrono>

#include "commands.hpp"
#include "conduct.hpp"
#include "doctor/examine.hpp"
#include "doctor/orders.hpp"
#include "listener.hpp"
#include "paceline/base/text.hpp"
#include "run_directory.hpp"

namespace paceline::doctor {
namespace {

// Some orders of a minute each.
constexpr Duration order_limit = std::chrono::minutes(5);
constexpr std::size_t longest_order = std::size_t{1} << 20;

Status say(std::string_view kind, const std::string& text) {
  return write_all(STDOUT_FILENO, concat(line_mark, kind, text, "\n"), "the machine that asked");
}

/// The next order; empty where there is none any more.
Result<std::string> read_line(StopSignals& signals) {
  const SteadyClock clock;
  const Deadline deadline(clock, order_limit);
  std::string text;
  while (!deadline.passed() && text.size() < longest_order) {
    pollfd entries[2] = {{STDIN_FILENO, POLLIN, 0}, {signals.fd(), POLLIN, 0}};
    if (::poll(entries, 2, deadline.left_ms()) <= 0) continue;
    if (entries[1].revents != 0 && signals.take() != 0) return std::string();
    char letter = 0;
    const ssize_t got = ::read(STDIN_FILENO, &letter, 1);
    if (got == 0) return std::string();
    if (got < 0 && errno != EINTR) return system_error("cannot hear the machine that asked");
    if (got > 0 && letter == '\n') return text;
    if (got > 0) text.push_back(letter);
  }
  return Error{ErrorCode::timeout, concat("waited ", to_seconds(order_limit), " s to be told what to check")};
}

Result<Listener> open_listener() {
  PACELINE_ASSIGN(const PortRange ports, parse_ports(environment("PACELINE_PORTS")));
  PACELINE_ASSIGN(const std::string host, outside_address(environment("PACELINE_INTERFACE")));
  return listen_on(host, ports);
}

Status follow_orders(const std::string& who, StopSignals& signals) {
  while (true) {
    PACELINE_ASSIGN(const std::string line, read_line(signals));
    if (line.empty()) return {};
    PACELINE_ASSIGN(const Order order, parse_order(line));
    PACELINE_TRY(say(answer_mark, to_json(carry_out(order, who, signals))));
  }
}

Status serve(const DoctorOptions& options) {
  PACELINE_ASSIGN(const Place place, settle());
  PACELINE_ASSIGN(const auto signals, StopSignals::catch_all());
  Hello hello{.version = PACELINE_VERSION, .node = place.node, .who = new_participant(place.node)};
  PACELINE_TRY(say(hello_mark, to_json(hello)));
  Status said;
  const NodeExamination what{
      .folder = absolute_path(options.folder), .starts_jobs = false, .of_several = true};
  examine_node(what, place, *signals, [&](const Check& check) {
    if (said.ok()) said = say(check_mark, to_json(check));
  });
  PACELINE_TRY(std::move(said));
  // After the check of the network, which says what is wrong where there is no address.
  const Result<Listener> listener = open_listener();
  if (listener.ok()) {
    hello.host = listener->host;
    hello.port = listener->port;
  }
  PACELINE_TRY(say(end_mark, to_json(hello)));
  return follow_orders(hello.who, *signals);
}

}  // namespace

std::string new_participant(const std::string& node) {
  return concat(node, "/", ::getpid(), "/", std::chrono::steady_clock::now().time_since_epoch().count());
}

int serve_as_node(const DoctorOptions& options) {
  const Status served = serve(options);
  return served.ok() ? exit_done : complain(served.error());
}

}  // namespace paceline::doctor
