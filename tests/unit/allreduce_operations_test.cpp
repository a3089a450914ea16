// What every layout of ranks and every way between and within nodes must do alike: all types and operations,
// out of place, weights, codecs, priorities, encryption. Expected values are in closed form.

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "support/ranks.hpp"

namespace paceline::testing {
namespace {

struct Case {
  Ranks ranks;
  bool shared = true;
  Algorithm algorithm = Algorithm::automatic;
  std::size_t piece_bytes = 0;
  bool encrypt = false;
};

std::string name_of(const Case& c) {
  std::string name = concat(name_of(c.ranks), c.shared ? "_shared" : "_plain");
  if (c.algorithm != Algorithm::automatic) name += concat("_", to_string(c.algorithm));
  if (c.piece_bytes != 0) name += concat("_pieces", c.piece_bytes);
  if (c.encrypt) name += "_encrypted";
  return name;
}

void PrintTo(const Case& c, std::ostream* out) {
  *out << name_of(c);
}

class Operations : public ::testing::TestWithParam<Case> {
 protected:
  void run(const std::function<std::string(Communicator&)>& body) const {
    const Case& c = GetParam();
    const auto options = [&] {
      CommunicatorOptions o;
      o.tuning.algorithm = c.algorithm;
      o.tuning.piece_bytes = c.piece_bytes;
      o.encrypt = c.encrypt;
      if (c.encrypt) o.secret = "between us";
      return o;
    };
    expect_all_well(run_ranks(
        c.ranks,
        [&](Result<Communicator>& communicator, int) {
          return communicator.ok() ? body(*communicator) : communicator.error().message;
        },
        options));
  }
  [[nodiscard]] bool shared() const { return GetParam().shared; }
};

// ---- Elements of every type, as doubles ----

void put(void* data, DataType type, std::size_t i, double value) {
  const auto as_bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  switch (type) {
    case DataType::f32: static_cast<float*>(data)[i] = static_cast<float>(value); break;
    case DataType::f64: static_cast<double*>(data)[i] = value; break;
    case DataType::i32: static_cast<std::int32_t*>(data)[i] = static_cast<std::int32_t>(value); break;
    case DataType::i64: static_cast<std::int64_t*>(data)[i] = static_cast<std::int64_t>(value); break;
    case DataType::u8: static_cast<std::uint8_t*>(data)[i] = static_cast<std::uint8_t>(value); break;
    case DataType::bf16:
      static_cast<std::uint16_t*>(data)[i] = static_cast<std::uint16_t>(as_bits >> 16);
      break;
    case DataType::f16: {  // small integers only
      const int exponent = value == 0 ? 0 : std::ilogb(value);
      const auto fraction = static_cast<int>(std::ldexp(std::abs(value), 10 - exponent)) - 1024;
      const int bits = value == 0 ? 0 : (exponent + 15) << 10 | fraction;
      static_cast<std::uint16_t*>(data)[i] = static_cast<std::uint16_t>(bits | (value < 0 ? 0x8000 : 0));
    }
  }
}

double get(const void* data, DataType type, std::size_t i) {
  switch (type) {
    case DataType::f32: return static_cast<double>(static_cast<const float*>(data)[i]);
    case DataType::f64: return static_cast<const double*>(data)[i];
    case DataType::i32: return static_cast<const std::int32_t*>(data)[i];
    case DataType::i64: return static_cast<double>(static_cast<const std::int64_t*>(data)[i]);
    case DataType::u8: return static_cast<const std::uint8_t*>(data)[i];
    case DataType::bf16: {
      const std::uint32_t bits = static_cast<std::uint32_t>(static_cast<const std::uint16_t*>(data)[i]) << 16;
      return static_cast<double>(std::bit_cast<float>(bits));
    }
    case DataType::f16: {
      const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[i];
      const int exponent = bits >> 10 & 31;
      const double magnitude =
          std::ldexp((exponent == 0 ? 0 : 1024) + (bits & 1023), std::max(exponent, 1) - 25);
      return (bits & 0x8000) != 0 ? -magnitude : magnitude;
    }
  }
  return 0;
}

constexpr DataType all_types[] = {DataType::f32, DataType::f64,  DataType::i32, DataType::i64,
                                  DataType::f16, DataType::bf16, DataType::u8};

/// Small enough that sums of 8 ranks are exact in every type: 36 * 6 < 256.
double term(std::size_t i, DataType type) {
  const int value = static_cast<int>(i % 7);
  return type == DataType::u8 ? value : value - 3;
}

double expected_of(ReduceOp op, int n, double f, DataType type) {
  const double sum = n * (n + 1) / 2 * f;
  switch (op) {
    case ReduceOp::sum: return sum;
    case ReduceOp::min: return f < 0 ? n * f : f;
    case ReduceOp::max: return f < 0 ? f : n * f;
    case ReduceOp::average: break;
  }
  const bool integer = type == DataType::i32 || type == DataType::i64 || type == DataType::u8;
  return integer ? std::trunc(sum / n) : sum / n;
}

TEST_P(Operations, EveryTypeAndOperationOutOfPlace) {
  run([&](Communicator& communicator) -> std::string {
    constexpr std::size_t most = 70001;
    auto input = make_buffer(communicator, shared(), most * 8);
    auto output = make_buffer(communicator, shared(), most * 8);
    if (!input.ok() || !output.ok()) return "no memory";
    const int n = communicator.size();
    for (const DataType type : all_types)
      for (const ReduceOp op : {ReduceOp::sum, ReduceOp::min, ReduceOp::max, ReduceOp::average})
        for (const std::size_t count : {std::size_t{3}, std::size_t{900}, most}) {
          for (std::size_t i = 0; i < count; ++i)
            put(input->data(), type, i, (communicator.rank() + 1) * term(i, type));
          ReduceOptions options;
          options.op = op;
          const Status status = communicator.all_reduce(input->data(), output->data(), count, type, options);
          if (!status.ok()) return status.error().message;
          for (std::size_t i = 0; i < count; ++i) {
            const double expected = expected_of(op, n, term(i, type), type);
            const double got = get(output->data(), type, i);
            const double allowed = type == DataType::f16 || type == DataType::bf16 ? 1.0 / 64 : 1e-6;
            if (std::abs(got - expected) > (op == ReduceOp::average ? allowed * std::abs(expected) : 0))
              return concat(to_string(op), " of ", count, " ", to_string(type), ": element ", i, " is ", got,
                            " where ", expected, " is due");
            if (get(input->data(), type, i) != (communicator.rank() + 1) * term(i, type))
              return concat("the input changed at ", i);
          }
        }
    return {};
  });
}

TEST_P(Operations, WeightsMayDifferBetweenRanks) {
  run([&](Communicator& communicator) -> std::string {
    for (const DataType type : {DataType::f32, DataType::f64, DataType::bf16})
      for (const std::size_t count : {std::size_t{5}, std::size_t{50021}}) {
        auto buffer = make_buffer(communicator, shared(), count * 8);
        if (!buffer.ok()) return buffer.error().message;
        double factors = 0;
        for (int rank = 0; rank < communicator.size(); ++rank) factors += rank % 3 == 0 ? 1.0 : 0.5;
        for (std::size_t i = 0; i < count; ++i) put(buffer->data(), type, i, 2 * term(i, type));
        ReduceOptions options;
        options.weight = communicator.rank() % 3 == 0 ? 1.0 : 0.5;
        const Status status = communicator.all_reduce(buffer->data(), buffer->data(), count, type, options);
        if (!status.ok()) return status.error().message;
        for (std::size_t i = 0; i < count; ++i)
          if (get(buffer->data(), type, i) != factors * 2 * term(i, type))
            return concat(to_string(type), " element ", i, " is ", get(buffer->data(), type, i));
      }
    return {};
  });
}

TEST_P(Operations, ReduceScatterGivesEveryRankItsBlock) {
  run([&](Communicator& communicator) -> std::string {
    const auto n = static_cast<std::size_t>(communicator.size());
    const int rank = communicator.rank();
    for (const std::size_t count : {std::size_t{0}, std::size_t{2}, std::size_t{1001}, std::size_t{130003}})
      for (const bool in_place : {false, true}) {
        auto input = make_buffer(communicator, shared(), n * count * 4 + 4);
        auto output = make_buffer(communicator, shared(), count * 4 + 4);
        if (!input.ok() || !output.ok()) return "no memory";
        auto* in = static_cast<float*>(input->data());
        for (std::size_t i = 0; i < n * count; ++i)
          in[i] = static_cast<float>((rank + 1) *
                                     (term(i, DataType::f32) + static_cast<double>(i / (count + 1))));
        float* out =
            in_place ? in + static_cast<std::size_t>(rank) * count : static_cast<float*>(output->data());
        ReduceOptions options;
        options.op = in_place ? ReduceOp::average : ReduceOp::sum;
        const Status status = communicator.reduce_scatter(in, out, count, DataType::f32, options);
        if (!status.ok()) return status.error().message;
        for (std::size_t i = 0; i < count; ++i) {
          const std::size_t whole = static_cast<std::size_t>(rank) * count + i;
          const double f = term(whole, DataType::f32) + static_cast<double>(whole / (count + 1));
          const double expected =
              static_cast<double>(n * (n + 1)) / 2 * f / (in_place ? static_cast<double>(n) : 1.0);
          if (std::abs(static_cast<double>(out[i]) - expected) > 1e-5 * std::abs(expected))
            return concat("block ", rank, " of ", count, (in_place ? " in place" : ""), ": element ", i,
                          " is ", out[i], " where ", expected, " is due");
        }
      }
    return {};
  });
}

TEST_P(Operations, AllGatherOutOfPlaceAndOfOddBytes) {
  run([&](Communicator& communicator) -> std::string {
    const auto n = static_cast<std::size_t>(communicator.size());
    for (const std::size_t count : {std::size_t{1}, std::size_t{4097}, std::size_t{333333}}) {
      auto input = make_buffer(communicator, shared(), count);
      auto output = make_buffer(communicator, shared(), n * count);
      if (!input.ok() || !output.ok()) return "no memory";
      auto* in = static_cast<std::uint8_t*>(input->data());
      const auto value = [](std::size_t rank, std::size_t i) {
        return static_cast<std::uint8_t>(rank * 31 + i * 7);
      };
      for (std::size_t i = 0; i < count; ++i) in[i] = value(static_cast<std::size_t>(communicator.rank()), i);
      const Status status = communicator.all_gather(in, output->data(), count, DataType::u8);
      if (!status.ok()) return status.error().message;
      for (std::size_t rank = 0; rank < n; ++rank)
        for (std::size_t i = 0; i < count; ++i)
          if (static_cast<std::uint8_t*>(output->data())[rank * count + i] != value(rank, i))
            return concat("block ", rank, " of ", count, " is wrong at ", i);
    }
    return {};
  });
}

// One rank's memory is shared, the others' is their own: whatever the way, the sum is the sum.
TEST_P(Operations, MemoryOfBothKindsAtOnce) {
  run([&](Communicator& communicator) -> std::string {
    constexpr std::size_t count = 300007;
    auto shared_memory = make_buffer(communicator, true, count * 4);
    auto plain = make_buffer(communicator, false, count * 4);
    if (!shared_memory.ok() || !plain.ok()) return "no memory";
    for (int round = 0; round < 8; ++round) {  // often enough for both ways of plain memory to be tried
      auto* data = static_cast<float*>(
          communicator.rank() == round % communicator.size() ? shared_memory->data() : plain->data());
      for (std::size_t i = 0; i < count; ++i)
        data[i] = static_cast<float>((communicator.rank() + 1) * term(i, DataType::f32));
      const Status status = communicator.all_reduce(data, count, DataType::f32);
      if (!status.ok()) return status.error().message;
      const int n = communicator.size();
      for (std::size_t i = 0; i < count; ++i)
        if (static_cast<double>(data[i]) != n * (n + 1) / 2 * term(i, DataType::f32))
          return concat("round ", round, " element ", i, " is ", data[i]);
    }
    return {};
  });
}

// The same on every rank, and near the sum; how near depends on the codec.
TEST_P(Operations, CodecsLoseLittleAndTheSameForAll) {
  run([&](Communicator& communicator) -> std::string {
    constexpr std::size_t count = 120011;
    const auto n = static_cast<std::size_t>(communicator.size());
    auto buffer = make_buffer(communicator, shared(), count * 4);
    auto all = make_buffer(communicator, shared(), n * count * 4);
    if (!buffer.ok() || !all.ok()) return "no memory";
    auto* data = static_cast<float*>(buffer->data());
    const bool one_node = communicator.topology().nodes.size() == 1;
    for (const auto& [codec, allowed] :
         {std::pair(Codec::f16, 2e-3), {Codec::bf16, 2e-2}, {Codec::int8, 4e-2}}) {
      for (std::size_t i = 0; i < count; ++i)
        data[i] = std::sin(static_cast<float>(i)) * static_cast<float>(communicator.rank() + 1);
      ReduceOptions options;
      options.codec = codec;
      const Status status = communicator.all_reduce(data, data, count, DataType::f32, options);
      if (!status.ok()) return status.error().message;
      const double scale = static_cast<double>(n * (n + 1)) / 2;
      for (std::size_t i = 0; i < count; ++i) {
        const double expected = static_cast<double>(std::sin(static_cast<float>(i))) * scale;
        if (std::abs(static_cast<double>(data[i]) - expected) > (one_node ? 1e-5 : allowed) * scale)
          return concat(to_string(codec), " element ", i, " is ", data[i], " where ", expected, " is due");
      }
      if (!communicator.all_gather(data, all->data(), count, DataType::f32).ok()) return "all_gather failed";
      for (std::size_t rank = 0; rank < n; ++rank)
        if (std::memcmp(static_cast<float*>(all->data()) + rank * count, data, count * 4) != 0)
          return concat(to_string(codec), ": rank ", rank, " has other bits");
    }
    return {};
  });
}

// What is lost in one step is made up for in the next: the mean of many sums comes nearer than any codec's
// step.
TEST_P(Operations, ErrorFeedbackMakesUpForWhatCodecsLose) {
  if (GetParam().ranks.run_as == RunAs::processes) GTEST_SKIP() << "the arithmetic is that of threads";
  run([&](Communicator& communicator) -> std::string {
    constexpr std::size_t count = 4000;
    constexpr int steps = 64;
    const auto n = static_cast<double>(communicator.size());
    for (const Codec codec : {Codec::f16, Codec::bf16, Codec::int8}) {
      std::vector<float> residual(count, 0.0F);
      std::vector<double> total(count, 0.0);
      std::vector<float> data(count);
      double worst_step = 0;
      for (int step = 0; step < steps; ++step) {
        for (std::size_t i = 0; i < count; ++i) data[i] = 0.1F + static_cast<float>(i) / 7777.0F;
        ReduceOptions options;
        options.codec = codec;
        options.residual = residual.data();
        const Status status =
            communicator.all_reduce(data.data(), data.data(), count, DataType::f32, options);
        if (!status.ok()) return status.error().message;
        for (std::size_t i = 0; i < count; ++i) {
          total[i] += static_cast<double>(data[i]);
          worst_step =
              std::max(worst_step, std::abs(static_cast<double>(data[i]) -
                                            n * static_cast<double>(0.1F + static_cast<float>(i) / 7777.0F)));
        }
      }
      double worst_mean = 0;
      for (std::size_t i = 0; i < count; ++i)
        worst_mean = std::max(
            worst_mean,
            std::abs(total[i] / steps - n * static_cast<double>(0.1F + static_cast<float>(i) / 7777.0F)));
      if (communicator.topology().nodes.size() > 1 && worst_mean > worst_step / 8 + 1e-6)
        return concat(to_string(codec), ": the mean is off by ", worst_mean, ", a step by ", worst_step);
    }
    return {};
  });
}

// Many begun at once with all priorities, in another order of waiting on every rank: all end, all are right.
TEST_P(Operations, PrioritiesDoNotConfuseAnyone) {
  run([&](Communicator& communicator) -> std::string {
    constexpr int flights = 24;
    constexpr std::size_t room = 6000;
    auto buffer = make_buffer(communicator, shared(), flights * room * sizeof(std::int64_t));
    if (!buffer.ok()) return buffer.error().message;
    auto* data = static_cast<std::int64_t*>(buffer->data());
    const std::int64_t n = communicator.size();
    for (int round = 0; round < 4; ++round) {
      std::vector<Work> works;
      for (int flight = 0; flight < flights; ++flight) {
        std::int64_t* mine = data + static_cast<std::size_t>(flight) * room;
        const std::size_t count = 1 + static_cast<std::size_t>(flight) * 249;
        std::fill_n(mine, count, flight * (communicator.rank() + 1));
        ReduceOptions options;
        options.priority = flight * 7 % 5 - 2;
        works.push_back(communicator.all_reduce_async(mine, mine, count, DataType::i64, options));
        if ((flight + communicator.rank()) % 9 == 0)
          std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
      if (const Status status = communicator.barrier(); !status.ok()) return status.error().message;
      for (int i = 0; i < flights; ++i) {
        const int flight = (i * 5 + communicator.rank()) % flights;
        const Status ended = works[static_cast<std::size_t>(flight)].wait();
        if (!ended.ok()) return ended.error().message;
        const std::int64_t* mine = data + static_cast<std::size_t>(flight) * room;
        for (std::size_t k = 0; k < 1 + static_cast<std::size_t>(flight) * 249; ++k)
          if (mine[k] != flight * n * (n + 1) / 2)
            return concat("flight ", flight, " element ", k, " is ", mine[k]);
      }
    }
    return {};
  });
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* nodes : {"a", "aa", "aaa", "ab", "aabb", "abac", "aaabccdd"})
    for (const bool shared : {true, false}) all.push_back({{nodes, RunAs::threads}, shared});
  for (const char* nodes : {"aa", "aabbc", "aaabccdd"})
    for (const bool shared : {true, false}) all.push_back({{nodes, RunAs::processes}, shared});
  for (const Algorithm algorithm : {Algorithm::exchange, Algorithm::direct, Algorithm::ring})
    for (const char* nodes : {"ab", "aabcc"})
      all.push_back({{nodes, RunAs::threads}, algorithm != Algorithm::direct, algorithm});
  all.push_back({{"aabc", RunAs::threads}, true, Algorithm::ring, 1000});  // many rounds of tiny pieces
  all.push_back({{"aabc", RunAs::threads}, false, Algorithm::direct, 3000});
  all.push_back({{"aabc", RunAs::threads}, false, Algorithm::automatic, 0, true});
  return all;
}

INSTANTIATE_TEST_SUITE_P(Ways, Operations, ::testing::ValuesIn(cases()),
                         [](const auto& parameter) { return name_of(parameter.param); });

}  // namespace
}  // namespace paceline::testing
