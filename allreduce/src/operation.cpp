#include "operation.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "paceline/base/text.hpp"

namespace paceline {
namespace {

template <class Enumeration, std::size_t count>
std::string_view name_in(const char* const (&names)[count], Enumeration value) {
  const auto index = static_cast<std::size_t>(value);
  return index < count ? names[index] : "unknown";
}

constexpr const char* type_names[] = {"f32", "f64", "i32", "i64", "f16", "bf16", "u8"};
constexpr std::size_t type_bytes[] = {4, 8, 4, 8, 2, 2, 1};
constexpr const char* op_names[] = {"sum", "min", "max", "average"};
constexpr const char* codec_names[] = {"none", "f16", "bf16", "int8", "fixed_point"};
constexpr const char* algorithm_names[] = {"automatic", "exchange", "direct", "ring"};
constexpr const char* plain_memory_names[] = {"automatic", "staged", "pulled"};
constexpr const char* kind_names[] = {"all_reduce", "reduce_scatter", "all_gather",
                                      "broadcast",  "barrier",        "probe"};
constexpr int most_exponent = 60;

bool is_floating(DataType type) {
  return type == DataType::f32 || type == DataType::f64 || type == DataType::f16 || type == DataType::bf16;
}

Error wrong(const Descriptor& d, std::string_view what) {
  return {ErrorCode::invalid_argument, concat(describe(d), ": ", what)};
}

Status check_enumerations(const Descriptor& d) {
  if (static_cast<std::size_t>(d.type) >= std::size(type_names))
    return wrong(d, "there is no such data type");
  if (static_cast<std::size_t>(d.op) >= std::size(op_names)) return wrong(d, "there is no such operation");
  if (static_cast<std::size_t>(d.codec) >= std::size(codec_names)) return wrong(d, "there is no such codec");
  return {};
}

Status check_options(const Request& request) {
  const Descriptor& d = request.descriptor;
  const bool adds = d.op == ReduceOp::sum || d.op == ReduceOp::average;
  if (!std::isfinite(request.weight)) return wrong(d, "the weight must be finite");
  if (request.weight != 1.0 && (!adds || !is_floating(d.type)))
    return wrong(d, "weights need a floating type, and sum or average");
  if (request.residual != nullptr &&
      (d.codec == Codec::none || d.codec == Codec::fixed_point || d.kind != CollectiveKind::all_reduce))
    return wrong(d, "a residual needs an all_reduce with a codec that rounds");
  if (d.codec == Codec::none) return {};
  if (d.kind != CollectiveKind::all_reduce) return wrong(d, "codecs are for all_reduce");
  if (!adds) return wrong(d, "codecs are for sum and average");
  const bool fits = d.type == DataType::f32 || (d.type == DataType::f64 && d.codec == Codec::fixed_point);
  if (!fits) return wrong(d, concat("the codec ", to_string(d.codec), " is for f32 data"));
  if (d.codec == Codec::fixed_point && std::abs(d.exponent) > most_exponent)
    return wrong(d, concat("the fixed-point exponent must be from -", most_exponent, " to ", most_exponent));
  return {};
}

/// Blocks in `input` and `output`.
std::pair<std::size_t, std::size_t> blocks_of(CollectiveKind kind, int size) {
  const auto all = static_cast<std::size_t>(size);
  if (kind == CollectiveKind::reduce_scatter) return {all, 1};
  if (kind == CollectiveKind::all_gather) return {1, all};
  return {1, 1};
}

/// `input` and `output` are apart, or the one is where it may be in the other.
Status check_overlap(const Request& request, int rank, std::size_t bytes, std::size_t input_blocks,
                     std::size_t output_blocks) {
  const auto input = reinterpret_cast<std::uintptr_t>(request.input);
  const auto output = reinterpret_cast<std::uintptr_t>(request.output);
  const auto own = static_cast<std::size_t>(rank) * bytes;
  const bool apart = input + input_blocks * bytes <= output || output + output_blocks * bytes <= input;
  const bool in_place = input_blocks == output_blocks ? input == output
                        : input_blocks > 1            ? input + own == output
                                                      : output + own == input;
  if (apart || in_place) return {};
  return wrong(request.descriptor, "input and output overlap; they must be the same memory or apart");
}

}  // namespace

std::size_t element_bytes(DataType type) noexcept {
  const auto index = static_cast<std::size_t>(type);
  return index < std::size(type_bytes) ? type_bytes[index] : 1;
}

std::string_view to_string(DataType type) noexcept {
  return name_in(type_names, type);
}
std::string_view to_string(ReduceOp op) noexcept {
  return name_in(op_names, op);
}
std::string_view to_string(Codec codec) noexcept {
  return name_in(codec_names, codec);
}
std::string_view to_string(PlainMemory plain_memory) noexcept {
  return name_in(plain_memory_names, plain_memory);
}
std::string_view to_string(Algorithm algorithm) noexcept {
  return name_in(algorithm_names, algorithm);
}

Status check_request(const Request& request, int rank, int size) {
  const Descriptor& d = request.descriptor;
  PACELINE_TRY(check_enumerations(d));
  if (d.root < 0 || d.root >= size) return wrong(d, "there is no such rank");
  const auto [input_blocks, output_blocks] = blocks_of(d.kind, size);
  const std::size_t unit = element_bytes(d.type);
  std::size_t most = 0;  // bytes of the larger of input and output
  if (__builtin_mul_overflow(d.count, unit * std::max(input_blocks, output_blocks), &most) ||
      most > PTRDIFF_MAX)
    return wrong(d, "this does not fit into memory");
  if (d.count > 0) {
    if (request.input == nullptr || request.output == nullptr) return wrong(d, "the data is null");
    const auto addresses =
        reinterpret_cast<std::uintptr_t>(request.input) | reinterpret_cast<std::uintptr_t>(request.output);
    if ((addresses & (unit - 1)) != 0)  // sizes of elements are powers of two
      return wrong(d, concat("the data is not aligned to ", unit, " bytes"));
    PACELINE_TRY(check_overlap(request, rank, d.count * unit, input_blocks, output_blocks));
  }
  return check_options(request);
}

std::string describe(const Descriptor& d) {
  std::string text(name_in(kind_names, d.kind));
  if (d.kind == CollectiveKind::all_reduce || d.kind == CollectiveKind::reduce_scatter)
    text += concat("(", to_string(d.op), ")");
  if (d.kind != CollectiveKind::barrier) text += concat(" of ", d.count, " ", to_string(d.type));
  if (d.kind == CollectiveKind::all_gather || d.kind == CollectiveKind::reduce_scatter) text += " per rank";
  if (d.kind == CollectiveKind::broadcast) text += concat(" from rank ", d.root);
  if (d.codec != Codec::none) text += concat(" as ", to_string(d.codec));
  if (d.codec == Codec::fixed_point) text += concat(" of 2^-", d.exponent);
  if (d.priority != 0) text += concat(" at priority ", d.priority);
  return text + concat(" (operation ", d.operation, ")");
}

Error mismatch_error(int rank, const Descriptor& mine, int other, const Descriptor& theirs) {
  return {ErrorCode::mismatch,
          concat("ranks do not call the same collective: rank ", other, " called ", describe(theirs),
                 " where rank ", rank, " called ", describe(mine)),
          other};
}

Status check_block(int rank, const Transfer& transfer) {
  const BlockHeader& got = transfer.received;
  const BlockHeader& expected = transfer.header;
  const int peer = transfer.peer;
  if (got.magic != expected.magic)
    return Error{ErrorCode::corrupt, concat("rank ", peer, " sent bytes that are not Paceline's protocol"),
                 peer};
  if (got.generation != expected.generation)
    return Error{ErrorCode::mismatch,
                 concat("rank ", peer, " sent a message of generation ", got.generation, ", this is ",
                        expected.generation),
                 peer};
  Descriptor mine;
  Descriptor theirs;
  std::memcpy(&mine, expected.descriptor, sizeof mine);
  std::memcpy(&theirs, got.descriptor, sizeof theirs);
  if (!(mine == theirs)) return mismatch_error(rank, mine, peer, theirs);
  if (got.part != expected.part || got.bytes != expected.bytes)
    return Error{ErrorCode::mismatch,
                 concat("rank ", peer, " sent block ", got.part, " of ", got.bytes, " bytes where block ",
                        expected.part, " of ", expected.bytes, " was due in ", describe(mine)),
                 peer};
  return {};
}

}  // namespace paceline
