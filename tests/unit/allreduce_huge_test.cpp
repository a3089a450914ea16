// More elements than 31 bits can count: 2 GiB and a little per rank, so it runs at night.

#include <gtest/gtest.h>

#include <vector>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

constexpr std::size_t count = (std::size_t{1} << 31) + 12345;

Result<std::string> sum_up(Communicator* communicator, bool shared) {
  SharedBuffer buffer;
  std::vector<std::uint8_t> plain;
  if (shared) {
    PACELINE_ASSIGN(buffer, communicator->allocate(count));
  } else {
    plain.resize(count);
  }
  auto* data = shared ? reinterpret_cast<std::uint8_t*>(buffer.data()) : plain.data();
  for (std::size_t i = 0; i < count; ++i)
    data[i] = static_cast<std::uint8_t>(i * 7 + static_cast<std::size_t>(communicator->rank()));
  if (const Status status = communicator->all_reduce(data, count, DataType::u8); !status.ok())
    return status.error();
  for (std::size_t i = 0; i < count; ++i)
    if (data[i] != static_cast<std::uint8_t>(2 * i * 7 + 1))
      return concat("element ", i, " is ", int{data[i]});
  return std::string();
}

TEST(Huge, MoreElementsThan31BitsCount) {
  for (const char* nodes : {"aa", "ab"})
    for (const bool shared : {true, false}) {
      const auto failures =
          run_ranks({nodes, RunAs::processes}, [&](Result<Communicator>& communicator, int) {
            if (!communicator.ok()) return communicator.error().message;
            const Result<std::string> outcome = sum_up(&*communicator, shared);
            return outcome.ok() ? outcome.value() : outcome.error().message;
          });
      expect_all_well(failures);
    }
}

}  // namespace
}  // namespace paceline::testing
