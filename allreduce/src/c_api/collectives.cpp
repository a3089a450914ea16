#include <memory>

#include "handles.hpp"

using namespace paceline;
using namespace paceline::c_api;

namespace {

DataType type_from(int type) {
  return enumeration_from<DataType>(type);
}

/// A collective that `begin` starts, behind a handle; if it has failed already, there is no handle.
template <class Begin>
int begin_work(paceline_work** out, Begin&& begin) {
  return guarded([&]() -> Status {
    auto handle = std::make_unique<paceline_work>();
    PACELINE_ASSIGN(handle->work, begin());
    if (handle->work.done()) PACELINE_TRY(handle->work.wait());
    *out = handle.release();
    return {};
  });
}

}  // namespace

int paceline_all_reduce(paceline_comm* comm, const void* input, void* output, size_t count, int type,
                        const paceline_reduce_options* options) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.all_reduce(input, output, count, type_from(type), own);
  });
}

int paceline_reduce_scatter(paceline_comm* comm, const void* input, void* output, size_t count, int type,
                            const paceline_reduce_options* options) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&]() -> Status {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.reduce_scatter(input, output, count, type_from(type), own);
  });
}

int paceline_all_gather(paceline_comm* comm, const void* input, void* output, size_t count, int type) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.all_gather(input, output, count, type_from(type)); });
}

int paceline_broadcast(paceline_comm* comm, void* data, size_t count, int type, int root) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.broadcast(data, count, type_from(type), root); });
}

int paceline_barrier(paceline_comm* comm) {
  PACELINE_C_NOT_NULL(comm);
  return guarded([&] { return comm->communicator.barrier(); });
}

int paceline_all_reduce_async(paceline_comm* comm, const void* input, void* output, size_t count, int type,
                              const paceline_reduce_options* options, paceline_work** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return begin_work(out, [&]() -> Result<Work> {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.all_reduce_async(input, output, count, type_from(type), own);
  });
}

int paceline_reduce_scatter_async(paceline_comm* comm, const void* input, void* output, size_t count,
                                  int type, const paceline_reduce_options* options, paceline_work** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return begin_work(out, [&]() -> Result<Work> {
    PACELINE_ASSIGN(const ReduceOptions own, options_from(options));
    return comm->communicator.reduce_scatter_async(input, output, count, type_from(type), own);
  });
}

int paceline_all_gather_async(paceline_comm* comm, const void* input, void* output, size_t count, int type,
                              int priority, paceline_work** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return begin_work(out, [&]() -> Result<Work> {
    return comm->communicator.all_gather_async(input, output, count, type_from(type), priority);
  });
}

int paceline_broadcast_async(paceline_comm* comm, void* data, size_t count, int type, int root, int priority,
                             paceline_work** out) {
  PACELINE_C_NOT_NULL(out);
  *out = nullptr;
  PACELINE_C_NOT_NULL(comm);
  return begin_work(out, [&]() -> Result<Work> {
    return comm->communicator.broadcast_async(data, count, type_from(type), root, priority);
  });
}

int paceline_work_wait(paceline_work* work) {
  PACELINE_C_NOT_NULL(work);
  return guarded([&] { return work->work.wait(); });
}

int paceline_work_done(const paceline_work* work, int* out) {
  PACELINE_C_NOT_NULL(work);
  PACELINE_C_NOT_NULL(out);
  *out = work->work.done() ? 1 : 0;
  return PACELINE_OK;
}

int paceline_work_free(paceline_work* work) {
  return guarded([&]() -> Status {
    delete work;
    return {};
  });
}
