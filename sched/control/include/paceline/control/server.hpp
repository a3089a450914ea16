#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "paceline/base/result.hpp"
#include "paceline/control/control.pb.h"
#include "paceline/control/credentials.hpp"

namespace paceline::control {

/// A stream of an agent. Never used again for another.
using StreamId = std::uint64_t;
using QuestionId = std::uint64_t;

struct Heard {
  StreamId stream = 0;
  FromAgent message;
};
struct Closed {
  StreamId stream = 0;
};
struct Asked {
  QuestionId question = 0;
  Request request;
};
using ServerEvent = std::variant<Heard, Closed, Asked>;

/// The coordinator's end of the control plane: streams and questions from whoever shows the job's
/// credentials. gRPC's threads stay inside: one thread takes what came and sends what is to go.
class Server {
 public:
  struct Address {
    std::string host;
    std::uint16_t first_port = 0;  ///< the first free port from here ...
    std::uint16_t last_port = 0;   ///< ... to here; both 0: any
  };
  /// already_exists where all ports are taken.
  [[nodiscard]] static Result<std::unique_ptr<Server>> start(const Address& address,
                                                             const Credentials& credentials);
  virtual ~Server() = default;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] virtual std::uint16_t port() const = 0;
  /// Readable when there is something to take.
  [[nodiscard]] virtual int fd() const = 0;
  /// What came since the last time, in the order of each stream. Never waits.
  [[nodiscard]] virtual std::vector<ServerEvent> take() = 0;
  /// Never waits. Nothing happens where the stream is closed; one whose agent doesn't read is closed.
  virtual void send(StreamId stream, const ToAgent& message) = 0;
  /// Closes it, after what was sent has gone out.
  virtual void close(StreamId stream) = 0;
  virtual void answer(QuestionId question, const Answer& answer) = 0;

 protected:
  Server() = default;
};

}  // namespace paceline::control
