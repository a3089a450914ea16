#include <algorithm>
#include <array>

#include "doctor/orders.hpp"
#include "json_messages.hpp"
#include "paceline/base/text.hpp"

namespace paceline::doctor {
namespace {

using Json = nlohmann::json;

struct TaskName {
  Task task;
  const char* name;
};
constexpr std::array<TaskName, 8> tasks = {{{Task::tell_time, "tell time"},
                                            {Task::connect, "connect"},
                                            {Task::look, "look"},
                                            {Task::await, "await"},
                                            {Task::link, "link"},
                                            {Task::create, "create"},
                                            {Task::replace, "replace"},
                                            {Task::lock, "lock"}}};

std::string name_of(Task task) {
  return std::ranges::find(tasks, task, &TaskName::task)->name;
}

Task task_of(const std::string& name) {
  const auto* const found =
      std::ranges::find_if(tasks, [&](const TaskName& one) { return name == one.name; });
  if (found == tasks.end()) throw std::invalid_argument(concat("there is no task ", name));
  return found->task;
}

std::uint16_t port_of(const Json& json) {
  const auto number = json.get<std::int64_t>();
  if (number < 0 || number > 65535) throw std::invalid_argument(concat("there is no port ", number));
  return static_cast<std::uint16_t>(number);
}

}  // namespace

std::string to_json(const Order& order) {
  Json endpoints = Json::array();
  for (const Endpoint& one : order.endpoints)
    endpoints.push_back({{"node", one.node}, {"host", one.host}, {"port", one.port}});
  return dumped({{"number", order.number},
                 {"task", name_of(order.task)},
                 {"path", order.path},
                 {"content", order.content},
                 {"endpoints", std::move(endpoints)},
                 {"by", order.by}});
}

std::string to_json(const Answer& answer) {
  return dumped({{"number", answer.number},
                 {"who", answer.who},
                 {"error", answer.error},
                 {"made", answer.made},
                 {"seconds", answer.seconds},
                 {"time", answer.time},
                 {"missed", answer.missed}});
}

std::string to_json(const Hello& hello) {
  return dumped({{"version", hello.version},
                 {"node", hello.node},
                 {"who", hello.who},
                 {"host", hello.host},
                 {"port", hello.port}});
}

Result<Order> parse_order(const std::string& text) {
  return parsed(text, "order", [](const Json& json) {
    Order order;
    order.number = json.at("number").get<std::int64_t>();
    order.task = task_of(json.at("task").get<std::string>());
    order.path = json.at("path").get<std::string>();
    order.content = json.at("content").get<std::string>();
    order.by = json.at("by").get<std::string>();
    for (const Json& one : json.at("endpoints"))
      order.endpoints.push_back(
          {one.at("node").get<std::string>(), one.at("host").get<std::string>(), port_of(one.at("port"))});
    return order;
  });
}

Result<Answer> parse_answer(const std::string& text) {
  return parsed(text, "answer", [](const Json& json) {
    Answer answer;
    answer.number = json.at("number").get<std::int64_t>();
    answer.who = json.at("who").get<std::string>();
    answer.error = json.at("error").get<std::string>();
    answer.made = json.at("made").get<bool>();
    answer.seconds = json.at("seconds").get<double>();
    answer.time = json.at("time").get<double>();
    answer.missed = json.at("missed").get<std::vector<std::string>>();
    return answer;
  });
}

Result<Hello> parse_hello(const std::string& text) {
  return parsed(text, "greeting", [](const Json& json) {
    Hello hello;
    hello.version = json.at("version").get<std::string>();
    hello.node = json.at("node").get<std::string>();
    hello.who = json.at("who").get<std::string>();
    hello.host = json.at("host").get<std::string>();
    hello.port = port_of(json.at("port"));
    return hello;
  });
}

}  // namespace paceline::doctor
