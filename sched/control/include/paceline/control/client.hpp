#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "paceline/base/clock.hpp"
#include "paceline/base/result.hpp"
#include "paceline/control/address.hpp"
#include "paceline/control/control.pb.h"
#include "paceline/control/credentials.hpp"

namespace paceline::control {

/// An agent's stream to a coordinator, from its opening to its end. gRPC's threads stay inside: one thread
/// takes what came and sends what is to go. Its destructor breaks the stream off, and waits for nobody else.
class Client {
 public:
  /// Begins to connect. Whether that came to something shows in take() and lost().
  [[nodiscard]] static Result<std::unique_ptr<Client>> open(const CoordinatorAddress& address,
                                                            const Credentials& credentials);
  virtual ~Client() = default;
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// Readable when there is something to take, or the stream was lost.
  [[nodiscard]] virtual int fd() const = 0;
  [[nodiscard]] virtual std::vector<ToAgent> take() = 0;
  /// Why the stream is no more; nothing as long as it may be.
  [[nodiscard]] virtual std::optional<Error> lost() const = 0;
  /// Never waits.
  virtual void send(const FromAgent& message) = 0;

 protected:
  Client() = default;
};

/// Asks a coordinator something, and waits for its answer. peer_lost where there is none to be reached,
/// timeout where it doesn't answer in time.
[[nodiscard]] Result<Answer> ask(const CoordinatorAddress& address, const Credentials& credentials,
                                 Request request, Duration limit = std::chrono::seconds(10));

}  // namespace paceline::control
