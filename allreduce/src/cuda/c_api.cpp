#include "paceline/cuda.h"

#include <memory>

#include "../c_api/growing.hpp"
#include "paceline/cuda.hpp"

using namespace paceline;
using namespace paceline::c_api;

struct paceline_device_comm {
  cuda::DeviceCommunicator communicator;
};

namespace {

// Members of the first version.
constexpr std::size_t first_options_bytes = 56;
static_assert(sizeof(paceline_device_options) == first_options_bytes && sizeof(void*) == 8,
              "members are added at the end, and leave no padding");
constexpr const char* options_name = "paceline_device_options";
constexpr std::int64_t longest_ms = std::int64_t{10} * 365 * 24 * 3600 * 1000;

paceline_device_options default_options() {
  const cuda::DeviceOptions defaults;
  paceline_device_options options{};
  options.size = sizeof options;
  options.operation_timeout_ms = defaults.operation_timeout / std::chrono::milliseconds(1);
  options.ipc_bytes = defaults.ipc_bytes;
  options.device = defaults.device;
  options.use_nccl = defaults.use_nccl ? 1 : 0;
  options.use_ipc = defaults.use_ipc ? 1 : 0;
  return options;
}

Result<cuda::DeviceOptions> device_options_from(const paceline_device_options* given) {
  PACELINE_ASSIGN(const paceline_device_options c,
                  whole(given, default_options(), first_options_bytes, options_name));
  if (c.way < PACELINE_WAY_AUTOMATIC || c.way > PACELINE_WAY_HIERARCHICAL)
    return Error{ErrorCode::invalid_argument,
                 concat(options_name, ".way is ", c.way, ": there is no such way")};
  if (c.operation_timeout_ms <= 0)
    return Error{ErrorCode::invalid_argument, concat(options_name, ".operation_timeout_ms is ",
                                                     c.operation_timeout_ms, ": it must be more than 0")};
  for (const int flag : {c.share_device, c.use_nccl, c.use_ipc})
    if (flag != 0 && flag != 1)
      return Error{ErrorCode::invalid_argument,
                   concat(options_name, ": share_device, use_nccl and use_ipc are 0 or 1")};
  cuda::DeviceOptions options;
  options.device = c.device;
  options.share_device = c.share_device == 1;
  options.use_nccl = c.use_nccl == 1;
  options.use_ipc = c.use_ipc == 1;
  options.ipc_bytes = c.ipc_bytes;
  options.operation_timeout = std::chrono::milliseconds(std::min(c.operation_timeout_ms, longest_ms));
  options.tuning = {static_cast<cuda::Way>(c.way), c.fragment_bytes};
  return options;
}

DataType type_from(int type) {
  return enumeration_from<DataType>(type);
}

}  // namespace

int paceline_device_options_init(paceline_device_options* options, size_t size) {
  return init(options, size, default_options(), first_options_bytes, options_name);
}

int paceline_device_comm_create(paceline_comm* comm, const paceline_device_options* options,
                                paceline_device_comm** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(const cuda::DeviceOptions own, device_options_from(options));
    PACELINE_ASSIGN(auto communicator, cuda::DeviceCommunicator::make(comm->communicator, own));
    *out = new paceline_device_comm{std::move(communicator)};
    return {};
  });
}

int paceline_device_comm_free(paceline_device_comm* comm) {
  return guarded([&]() -> Status {
    delete comm;
    return {};
  });
}

int paceline_device_all_reduce(paceline_device_comm* comm, const void* input, void* output, size_t count,
                               int type, const paceline_reduce_options* options, CUstream_st* stream) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.all_reduce(input, output, count, type_from(type), own, stream);
  });
}

int paceline_device_reduce_scatter(paceline_device_comm* comm, const void* input, void* output, size_t count,
                                   int type, const paceline_reduce_options* options, CUstream_st* stream) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.reduce_scatter(input, output, count, type_from(type), own, stream);
  });
}

int paceline_device_all_gather(paceline_device_comm* comm, const void* input, void* output, size_t count,
                               int type, CUstream_st* stream) {
  PACELINE_C_NOT_NULL(comm);
  return guarded(
      [&] { return comm->communicator.all_gather(input, output, count, type_from(type), stream); });
}

int paceline_device_broadcast(paceline_device_comm* comm, void* data, size_t count, int type, int root,
                              CUstream_st* stream) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.broadcast(data, count, type_from(type), root, stream); });
}

int paceline_device_barrier(paceline_device_comm* comm, CUstream_st* stream) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.barrier(stream); });
}

int paceline_device_wait(paceline_device_comm* comm) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.wait(); });
}

int paceline_device_health(const paceline_device_comm* comm) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.health(); });
}

int paceline_device_abort(paceline_device_comm* comm, const char* reason) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(reason);
  return guarded([&]() -> Status {
    comm->communicator.abort(reason);
    return {};
  });
}

int paceline_device_way(const paceline_device_comm* comm, size_t bytes, int* out) {
  PACELINE_C_NOT_NULL(comm);
  PACELINE_C_NOT_NULL(out);
  return guarded([&]() -> Status {
    *out = static_cast<int>(comm->communicator.way_of(bytes));
    return {};
  });
}

int paceline_device_describe(const paceline_device_comm* comm, char* text, size_t capacity, size_t* needed) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return hand_out(comm->communicator.describe(), text, capacity, needed); });
}
