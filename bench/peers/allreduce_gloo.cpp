// Gloo over TCP as a contender of `paceline bench allreduce`.

#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/types.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>

#include "contender.h"

namespace {

// The driver's own limit is what ends a wait.
constexpr std::chrono::minutes gloo_timeout(10);

struct State {
  std::shared_ptr<gloo::rendezvous::Context> context;
  /// Typed once in init; gives Gloo its buffer and its function.
  std::function<void(gloo::AllreduceOptions&, void*, std::size_t)> prepare;
  std::size_t element_bytes = 4;
};

State& state_of(void* state) {
  return *static_cast<State*>(state);
}

/// Gloo throws; a contender tells the driver and ends.
template <class Function>
void must(const Function& function) {
  try {
    function();
  } catch (const std::exception& problem) {
    contender_fail("Gloo: %s", problem.what());
  }
}

template <class T>
void prepare_as(gloo::AllreduceOptions& options, void* data, std::size_t count) {
  options.setOutput(static_cast<T*>(data), count);
  options.setReduceFunction(
      static_cast<void (*)(void*, const void*, const void*, std::size_t)>(&gloo::sum<T>));
}

void choose_type(State& state, contender_type type) {
  switch (type) {
    case contender_f32: state.prepare = prepare_as<float>; break;
    case contender_f64: state.prepare = prepare_as<double>; break;
    case contender_f16: state.prepare = prepare_as<gloo::float16>; break;
    case contender_i32: state.prepare = prepare_as<std::int32_t>; break;
    case contender_i64: state.prepare = prepare_as<std::int64_t>; break;
    case contender_u8: state.prepare = prepare_as<std::uint8_t>; break;
    case contender_bf16: contender_fail("Gloo has no such type: leave this peer out");
  }
}

/// The faster one of what Gloo has, as measured on a machine of two cores: bcube has fewer steps, and
/// took 1.0 ms for 1 MiB where the ring took 1.5; above 8 MiB neither was always ahead, and the ring is
/// Gloo's own choice.
gloo::AllreduceOptions::Algorithm algorithm_for(std::size_t bytes) {
  constexpr std::size_t largest_for_bcube = std::size_t{4} << 20;
  return bytes <= largest_for_bcube ? gloo::AllreduceOptions::Algorithm::BCUBE
                                    : gloo::AllreduceOptions::Algorithm::RING;
}

void init(void* raw, const contender_job* job) {
  State& state = state_of(raw);
  choose_type(state, job->type);
  state.element_bytes = contender_element_bytes(job->type);
  must([&] {
    gloo::transport::tcp::attr attributes;
    attributes.hostname = contender_option(job, "--address", "127.0.0.1");
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    gloo::rendezvous::FileStore store(job->folder);
    state.context = std::make_shared<gloo::rendezvous::Context>(job->rank, job->ranks);
    state.context->setTimeout(gloo_timeout);
    state.context->connectFullMesh(store, device);
  });
}

void barrier(void* raw) {
  must([&] {
    gloo::BarrierOptions options(state_of(raw).context);
    gloo::barrier(options);
  });
}

void sum(void* raw, void* data, std::size_t count) {
  State& state = state_of(raw);
  must([&] {
    gloo::AllreduceOptions options(state.context);
    state.prepare(options, data, count);
    options.setAlgorithm(algorithm_for(count * state.element_bytes));
    gloo::allreduce(options);
  });
}

void fini(void* raw) {
  state_of(raw).context.reset();
}

}  // namespace

int main(int argc, char** argv) {
  State state;
  const contender self = {&state, init, nullptr, barrier, sum, fini};
  return contender_main(argc, argv, &self);
}
