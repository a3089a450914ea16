#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "handles.hpp"
#include "paceline/base/text.hpp"

using namespace paceline;
using namespace paceline::c_api;

namespace {

Result<std::vector<Member>> members_from(const paceline_member* given, int size) {
  if (size < 1) return Error{ErrorCode::invalid_argument, concat("paceline_connect: size is ", size)};
  std::vector<Member> members;
  for (int rank = 0; rank < size; ++rank) {
    const paceline_member& member = given[rank];
    if (member.port < 0 || member.port > 65535)
      return Error{ErrorCode::invalid_argument,
                   concat("paceline_connect: the port of member ", rank, " is ", member.port)};
    members.push_back({member.node == nullptr ? "" : member.node, member.host == nullptr ? "" : member.host,
                       static_cast<std::uint16_t>(member.port)});
  }
  return members;
}

/// The communicator that `make` gives, behind a handle.
template <class Make>
int hand_over(const paceline_options* given, paceline_comm** out, Make&& make) {
  *out = nullptr;
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(CommunicatorOptions options, options_from(given));
    PACELINE_ASSIGN(Communicator communicator, make(std::move(options)));
    *out = new paceline_comm{std::move(communicator)};
    return {};
  });
}

}  // namespace

int paceline_connect(int rank, const paceline_member* members, int size, const paceline_options* options,
                     paceline_comm** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(members);
  return hand_over(options, out, [&](CommunicatorOptions own) -> Result<Communicator> {
    PACELINE_ASSIGN(const std::vector<Member> list, members_from(members, size));
    return Communicator::connect(rank, list, std::move(own));
  });
}

int paceline_from_environment(const paceline_options* options, paceline_comm** out) {
  PACELINE_C_NOT_NULL(out);
  return hand_over(options, out,
                   [](CommunicatorOptions own) { return Communicator::from_environment(std::move(own)); });
}

int paceline_close(paceline_comm* comm) {
  return guarded([&]() -> Status {
    delete comm;
    return {};
  });
}

int paceline_rank(const paceline_comm* comm, int* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  *out = comm->communicator.rank();
  return PACELINE_OK;
}

int paceline_size(const paceline_comm* comm, int* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  *out = comm->communicator.size();
  return PACELINE_OK;
}

int paceline_node_count(const paceline_comm* comm, int* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  *out = static_cast<int>(comm->communicator.topology().nodes.size());
  return PACELINE_OK;
}

int paceline_node_of_rank(const paceline_comm* comm, int rank, int* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  return guarded([&]() -> Status {
    if (rank < 0 || rank >= comm->communicator.size())
      return Error{ErrorCode::invalid_argument, concat("paceline_node_of_rank: there is no rank ", rank)};
    *out = comm->communicator.topology().node_of_rank[static_cast<std::size_t>(rank)];
    return {};
  });
}

int paceline_describe_topology(const paceline_comm* comm, char* text, size_t capacity, size_t* needed) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return hand_out(comm->communicator.topology().describe(), text, capacity, needed); });
}

int paceline_describe_plan(const paceline_comm* comm, char* text, size_t capacity, size_t* needed) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return hand_out(comm->communicator.describe_plan(), text, capacity, needed); });
}

int paceline_allocate(paceline_comm* comm, size_t bytes, paceline_buffer** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    auto handle = std::make_unique<paceline_buffer>();
    PACELINE_ASSIGN(handle->buffer, comm->communicator.allocate(bytes));
    *out = handle.release();
    return {};
  });
}

void* paceline_buffer_data(const paceline_buffer* buffer) {
  return buffer == nullptr ? nullptr : buffer->buffer.data();
}

size_t paceline_buffer_bytes(const paceline_buffer* buffer) {
  return buffer == nullptr ? 0 : buffer->buffer.bytes();
}

int paceline_buffer_free(paceline_buffer* buffer) {
  return guarded([&]() -> Status {
    delete buffer;
    return {};
  });
}

int paceline_abort(paceline_comm* comm, const char* reason) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    comm->communicator.abort(reason == nullptr ? "no reason given" : reason);
    return {};
  });
}

int paceline_health(const paceline_comm* comm) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.health(); });
}

int paceline_quiesce(paceline_comm* comm, int64_t timeout_ms) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    constexpr std::int64_t most_ms = std::int64_t{365} * 24 * 3600 * 1000;
    if (timeout_ms < 0)
      return Error{ErrorCode::invalid_argument, concat("paceline_quiesce: timeout_ms is ", timeout_ms)};
    return comm->communicator.quiesce(std::chrono::milliseconds(std::min(timeout_ms, most_ms)));
  });
}

int paceline_busy_ns(const paceline_comm* comm, int64_t* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  *out = comm->communicator.busy().count();
  return PACELINE_OK;
}
