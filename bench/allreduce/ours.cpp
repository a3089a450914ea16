#include "allreduce/ours.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "paceline/base/text.hpp"
#include "peers/contender.h"

namespace paceline::bench {
namespace {

struct State {
  Connect* connect = nullptr;
  std::optional<Communicator> communicator;
  SharedBuffer buffer;
  DataType type = DataType::f32;
  ReduceOptions reduce;
};

State& state_of(void* state) {
  return *static_cast<State*>(state);
}

/// What did not work ends the rank.
void must(const Status& status) {
  if (!status.ok()) contender_fail("%s", status.error().message.c_str());
}

DataType type_of(contender_type type) {
  switch (type) {
    case contender_f32: return DataType::f32;
    case contender_f64: return DataType::f64;
    case contender_f16: return DataType::f16;
    case contender_bf16: return DataType::bf16;
    case contender_i32: return DataType::i32;
    case contender_i64: return DataType::i64;
    case contender_u8: return DataType::u8;
  }
  contender_fail("the library has no such type");
}

Codec codec_of(std::string_view name) {
  constexpr std::pair<std::string_view, Codec> codecs[] = {{"none", Codec::none},
                                                           {"f16", Codec::f16},
                                                           {"bf16", Codec::bf16},
                                                           {"int8", Codec::int8},
                                                           {"fixed-point", Codec::fixed_point}};
  for (const auto& [known, codec] : codecs)
    if (known == name) return codec;
  contender_fail("--codec %s is not known", std::string(name).c_str());
}

/// --members NODE/ADDRESS,... by rank; an empty node is this machine.
std::vector<Member> members_of(const contender_job& job) {
  std::vector<Member> members;
  for (const std::string& text : split(contender_option(&job, "--members", ""), ',')) {
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos) contender_fail("--members: %s is not NODE/ADDRESS", text.c_str());
    members.push_back({text.substr(0, slash), text.substr(slash + 1), 0});
  }
  if (members.size() != static_cast<std::size_t>(job.ranks))
    contender_fail("--members does not have every rank");
  return members;
}

void init(void* raw, const contender_job* job) {
  State& state = state_of(raw);
  state.type = type_of(job->type);
  state.reduce.codec = codec_of(contender_option(job, "--codec", "none"));
  Result<Communicator> communicator = state.connect(*job, members_of(*job));
  if (!communicator.ok()) contender_fail("%s", communicator.error().message.c_str());
  state.communicator.emplace(std::move(*communicator));
}

void* allocate_shared(void* raw, std::size_t bytes) {
  State& state = state_of(raw);
  Result<SharedBuffer> buffer = state.communicator->allocate(bytes);
  if (!buffer.ok()) contender_fail("%s", buffer.error().message.c_str());
  state.buffer = std::move(*buffer);
  return state.buffer.data();
}

void barrier(void* state) {
  must(state_of(state).communicator->barrier());
}

void sum(void* raw, void* data, std::size_t count) {
  State& state = state_of(raw);
  must(state.communicator->all_reduce(data, data, count, state.type, state.reduce));
}

void fini(void* state) {
  state_of(state).communicator.reset();
}

bool wants_shared_memory(int argc, char** argv) {
  contender_job job{};
  job.argc = argc;
  job.argv = argv;
  return std::string_view(contender_option(&job, "--memory", "shared")) == "shared";
}

}  // namespace

int run_own_rank(int argc, char** argv, Connect& connect) {
  State state;
  state.connect = &connect;
  const contender self = {&state,  init, wants_shared_memory(argc, argv) ? allocate_shared : nullptr,
                          barrier, sum,  fini};
  return contender_main(argc, argv, &self);
}

}  // namespace paceline::bench
