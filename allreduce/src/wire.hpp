#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "paceline/base/result.hpp"

namespace paceline::wire {

// All numbers are little-endian, as on every machine we run on. `docs/allreduce.md` has the layouts.
inline constexpr std::uint32_t magic = 0x4e4c4350;  // "PCLN"
inline constexpr std::uint16_t version = 2;
inline constexpr std::uint32_t most_frame_bytes = 16U << 20;

/// Control frames: sent between a rank and rank 0 from the first meeting to the end.
enum class FrameType : std::uint16_t {
  hello = 1,
  roster = 2,
  reject = 3,
  abort = 4,
  goodbye = 5,
  link = 6,
  challenge = 7,
  proof = 8,
  accuse = 9
};

struct FrameHeader {
  std::uint32_t magic = wire::magic;
  std::uint16_t version = wire::version;
  std::uint16_t type = 0;
  std::uint32_t bytes = 0;  ///< of the payload that follows
};
static_assert(sizeof(FrameHeader) == 12);

/// What a rank says of itself when it joins, and what rank 0 tells everyone about all.
struct Hello {
  std::uint64_t generation = 0;
  std::int32_t rank = 0;
  std::int32_t size = 0;
  std::string node_key;   ///< ranks with equal keys share memory
  std::string node_name;  ///< for people
  std::string host;       ///< where other nodes reach it
  std::uint16_t port = 0;
  std::string local_socket;  ///< abstract socket for its own node
  std::uint8_t encrypts = 0;
  std::uint8_t own_transport = 0;  ///< it brings a transport of its own
  std::int32_t streams = 1;        ///< connections per pair; rank 0's word counts
};

/// Why a communicator ends, as it travels.
struct Notice {
  std::int32_t code = 0;
  std::int32_t rank = -1;
  std::string message;
};

/// The first thing on a connection between two ranks of different nodes.
struct LinkHello {
  std::uint64_t generation = 0;
  std::int32_t rank = 0;
};

/// Last word of a rank that closes its communicator in order.
struct Goodbye {
  std::int32_t rank = 0;
  std::uint64_t operations = 0;  ///< collectives that it has completed
};

[[nodiscard]] std::string encode(const Hello& hello);
[[nodiscard]] std::string encode(const std::vector<Hello>& roster);
[[nodiscard]] std::string encode(const Notice& notice);
[[nodiscard]] std::string encode(const LinkHello& hello);
[[nodiscard]] std::string encode(const Goodbye& goodbye);

// Bytes from outside: anything gives a value or nothing, never a crash or an allocation beyond the input.
[[nodiscard]] std::optional<Hello> decode_hello(std::string_view bytes);
[[nodiscard]] std::optional<std::vector<Hello>> decode_roster(std::string_view bytes);
[[nodiscard]] std::optional<Notice> decode_notice(std::string_view bytes);
[[nodiscard]] std::optional<LinkHello> decode_link_hello(std::string_view bytes);
[[nodiscard]] std::optional<Goodbye> decode_goodbye(std::string_view bytes);

/// Equality in a time that does not tell how much of a wrong secret was right.
[[nodiscard]] bool same_secret(std::string_view a, std::string_view b) noexcept;

}  // namespace paceline::wire
