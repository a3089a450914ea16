#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent.hpp"
#include "doctor/check.hpp"

/// What `paceline doctor` has its nodes do together, each order a line to all of them, each answer a line.
namespace paceline::doctor {

struct Endpoint {
  std::string node;
  std::string host;  ///< a numeric address
  std::uint16_t port = 0;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

enum class Task {
  tell_time,  ///< the clock, as Answer::time
  connect,    ///< to all endpoints; Answer::missed: those that it did not get through to
  look,       ///< whether `path` is there, so that the kernel may remember that it is not; Answer::made
  await,      ///< until `path` has `content`; Answer::seconds
  link,       ///< make `path` with its own name in it; Answer::made
  create,     ///< the same with O_EXCL
  replace,    ///< `path` by `content`, with rename
  lock,       ///< take the lock on `path`, and give it back; Answer::made
};

struct Order {
  std::int64_t number = 0;  ///< which its answers have too
  Task task = Task::tell_time;
  std::string path{};
  std::string content{};
  std::vector<Endpoint> endpoints{};
  std::string by{};  ///< Answer::who of the only one who is to do it; empty: all do it
  friend bool operator==(const Order&, const Order&) = default;
};

struct Answer {
  std::int64_t number = 0;
  std::string who;      ///< a name that no other participant has
  std::string error{};  ///< empty: none
  bool made = false;
  double seconds = 0;
  double time = 0;  ///< since 1970
  std::vector<std::string> missed{};
  friend bool operator==(const Answer&, const Answer&) = default;
};

/// The first line of a node, before its checks, which take their time.
struct Hello {
  std::string version;
  std::string node;
  std::string who;
  std::string host{};      ///< where it listens for the others; empty: nowhere
  std::uint16_t port = 0;  ///< and there
  friend bool operator==(const Hello&, const Hello&) = default;
};

/// Without a line break.
[[nodiscard]] std::string to_json(const Order& order);
[[nodiscard]] std::string to_json(const Answer& answer);
[[nodiscard]] std::string to_json(const Hello& hello);
/// Any bytes. corrupt.
[[nodiscard]] Result<Order> parse_order(const std::string& text);
[[nodiscard]] Result<Answer> parse_answer(const std::string& text);
[[nodiscard]] Result<Hello> parse_hello(const std::string& text);

/// Does what is asked, in a child, so that it ends in some seconds. `who`: this participant.
[[nodiscard]] Answer carry_out(const Order& order, const std::string& who, StopSignals& signals);
/// How long to wait for the answers to an order.
inline constexpr Duration answer_limit = std::chrono::seconds(30);

}  // namespace paceline::doctor
