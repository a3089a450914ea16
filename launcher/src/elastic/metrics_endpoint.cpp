#include "elastic/metrics_endpoint.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/exposer.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <system_error>
#include <thread>
#include <tuple>
#include <vector>

#include "elastic/metric_families.hpp"
#include "paceline/base/clock.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"

namespace paceline {
namespace {

// A scrape takes milliseconds, and there are one or two Prometheus servers that ask.
constexpr const char* server_threads = "2";
// Of a client that sends or reads nothing.
constexpr const char* request_timeout_ms = "5000";
constexpr auto knock_interval = std::chrono::milliseconds(10);
constexpr std::size_t password_bytes = 24;
// A shorter one somebody has put there by mistake.
constexpr std::size_t least_password_length = 16;

Result<std::string> new_password() {
  std::array<std::byte, password_bytes> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return system_error("cannot get random bytes for the password of the metrics");
  return to_hex(bytes);
}

Result<std::string> read_password(const std::string& path) {
  PACELINE_ASSIGN(std::string password, read_file(path, 4096));
  while (!password.empty() && (password.back() == '\n' || password.back() == '\r')) password.pop_back();
  if (password.size() < least_password_length)
    return Error{ErrorCode::corrupt, concat(shown(path), " has fewer than ", least_password_length,
                                            " characters: remove it, and a new password is made")};
  return password;
}

/// The run's own: whoever asks first makes it, and successors and later launches find it.
Result<std::string> run_password(const std::string& run_dir) {
  const std::string path = metrics_password_path(run_dir);
  Result<std::string> there = read_password(path);
  if (there.ok() || there.error().code != ErrorCode::not_found) return there;
  const std::string folder = run_dir + "/credentials";
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return system_error(concat("cannot make ", shown(folder)));
  PACELINE_ASSIGN(const std::string password, new_password());
  const Status made = write_file_once(path, password, 0600);
  if (!made.ok() && made.error().code != ErrorCode::already_exists) return made.error();
  return read_password(path);
}

/// Takes as long wherever the two begin to differ.
bool is_same(const std::string& given, const std::string& expected) noexcept {
  unsigned difference = given.size() == expected.size() ? 0 : 1;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const char one = i < given.size() ? given[i] : '\0';
    difference |= static_cast<unsigned>(static_cast<unsigned char>(one ^ expected[i]));
  }
  return difference == 0;
}

/// What Prometheus reads to find the endpoint. `instance` is the run, so that its series go on when a
/// successor listens elsewhere.
std::string targets_text(const MetricsEndpoint::Options& options, std::uint16_t port) {
  using Json = nlohmann::ordered_json;
  const Json target = {
      {"targets", {concat(options.host, ":", port)}},
      {"labels", {{"job", options.job}, {"run", options.run_dir}, {"instance", options.run_dir}}}};
  return Json::array({target}).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Between the coordinator, which writes, and the threads that serve.
class Source final : public prometheus::Collectable {
 public:
  void show(std::shared_ptr<const MetricsView> view) {
    const std::lock_guard lock(mutex_);
    view_ = std::move(view);
    shown_at_ = clock_.now();
  }
  std::vector<prometheus::MetricFamily> Collect() const override {
    std::shared_ptr<const MetricsView> view;
    Instant shown_at;
    {
      const std::lock_guard lock(mutex_);
      view = view_;
      shown_at = shown_at_;
    }
    if (view == nullptr) return {};
    return metric_families(*view, std::chrono::duration<double>(clock_.now() - shown_at).count());
  }

 private:
  SteadyClock clock_;
  mutable std::mutex mutex_;
  std::shared_ptr<const MetricsView> view_;
  Instant shown_at_{};
};

/// The library throws where it cannot listen.
Result<std::unique_ptr<prometheus::Exposer>> listen(const std::string& host, std::uint16_t port) {
  try {
    return std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", concat(host, ":", port), "num_threads", server_threads,
                                 "request_timeout_ms", request_timeout_ms, "tcp_nodelay", "1"});
  } catch (const std::exception& error) {
    return Error{ErrorCode::already_exists,
                 concat("cannot listen on ", host, ":", port, " for metrics: ", error.what())};
  }
}

Result<std::uint16_t> free_port(const std::string& host, const PortRange& ports) {
  if (ports == PortRange{}) return std::uint16_t{0};
  PACELINE_ASSIGN(const Listener listener, listen_on(host, ports));
  return listener.port;
}

/// Connects again and again, until it is stopped. Whether anybody answers does not matter.
void knock(const std::stop_token& enough, const std::string& host, std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  while (!enough.stop_requested()) {
    std::this_thread::sleep_for(knock_interval);
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // The socket interface passes every address family through sockaddr.
    std::ignore = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
}

/// The server's thread that accepts looks for its end when somebody connects, else every two seconds.
void stop(std::unique_ptr<prometheus::Exposer> exposer, const std::string& host, std::uint16_t port) {
  std::jthread knocking;
  try {
    knocking = std::jthread([&](const std::stop_token& enough) { knock(enough, host, port); });
  } catch (const std::system_error&) {
    // Without a thread to spare it takes the two seconds.
  }
  exposer.reset();
}

}  // namespace

std::string metrics_password_path(const std::string& run_dir) {
  return run_dir + "/credentials/metrics-password";
}

std::string metrics_targets_path(const std::string& run_dir) {
  return run_dir + "/prometheus-targets.json";
}

struct MetricsEndpoint::Server {
  ~Server() { stop(std::move(exposer), host, port); }

  MetricTotals totals;
  std::shared_ptr<Source> source;
  std::unique_ptr<prometheus::Exposer> exposer;
  std::string host;
  std::uint16_t port = 0;
  std::string targets_path, targets;
};

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::start(const Options& options) {
  PACELINE_ASSIGN(const std::string password, run_password(options.run_dir));
  PACELINE_ASSIGN(const std::uint16_t wanted, free_port(options.host, options.ports));
  PACELINE_ASSIGN(auto exposer, listen(options.host, wanted));
  auto source = std::make_shared<Source>();
  try {
    // First the lock, then what is behind it.
    exposer->RegisterAuth(
        [password](const std::string& user, const std::string& given) {
          return is_same(given, password) && user == metrics_user;
        },
        "Paceline");
    exposer->RegisterCollectable(source);
  } catch (const std::exception& error) {
    return Error{ErrorCode::internal, concat("cannot serve metrics: ", error.what())};
  }
  const std::vector<int> ports = exposer->GetListeningPorts();
  if (ports.size() != 1 || ports.front() <= 0)
    return Error{ErrorCode::internal, "cannot serve metrics: it is not known on which port"};
  const auto port = static_cast<std::uint16_t>(ports.front());
  std::unique_ptr<Server> server(
      new Server{MetricTotals(options.succeeds), std::move(source), std::move(exposer), options.host, port,
                 metrics_targets_path(options.run_dir), targets_text(options, port)});
  PACELINE_TRY(write_file_atomically(server->targets_path, server->targets));
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(server)));
}

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<Server> server) : server_(std::move(server)) {
}

MetricsEndpoint::~MetricsEndpoint() {
  const Result<std::string> targets = read_file(server_->targets_path, std::size_t{1} << 20);
  if (targets.ok() && *targets == server_->targets) ::unlink(server_->targets_path.c_str());
}

void MetricsEndpoint::update(const JobSnapshot& snapshot) {
  server_->totals.add(snapshot);
  server_->source->show(std::make_shared<const MetricsView>(
      MetricsView{snapshot, server_->totals.ranks(), server_->totals.nodes()}));
}

std::uint16_t MetricsEndpoint::port() const noexcept {
  return server_->port;
}

}  // namespace paceline
