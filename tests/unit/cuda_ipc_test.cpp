// What the kernels within a node do, run by threads: the same code as on the GPU, with a thread for each
// block of each rank, or several that meet at a barrier. Also built with the thread sanitizer, which sees a
// race in the protocol.

#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "cuda/ipc/body.hpp"
#include "support/ipc_ranks.hpp"

namespace paceline::cuda::ipc {
namespace {

/// Every rank does `body` in a thread of its own, as its stream.
void on_ranks(int size, const std::function<void(int)>& body) {
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.emplace_back([&, rank] { body(rank); });
  for (std::thread& rank : ranks) rank.join();
}

struct Shape {
  int ranks;
  int blocks;
  int threads;
};
constexpr Shape shapes[] = {{1, 2, 1}, {2, 1, 1}, {2, 3, 2}, {3, 4, 1}, {5, 2, 1}};

/// What rank `rank` has at `i`, in kernel `kernel`.
double value(int rank, std::size_t i, int kernel) {
  return (rank + 1) * static_cast<double>(i % 7 + 1) + kernel;
}
double sum_of_values(int size, std::size_t i, int kernel) {
  return size * (size + 1) / 2.0 * static_cast<double>(i % 7 + 1) + size * kernel;
}

TEST(IpcKernels, OneShotsFollowEachOtherOnAllRanks) {
  for (const Shape& shape : shapes) {
    Node node(shape.ranks, 0xfffffffdU);  // so that turns wrap around
    const std::vector<std::size_t> counts = {1, 0, 15, 1000, 4096, 33, 2047, 4096};
    std::vector<std::string> wrong(static_cast<std::size_t>(shape.ranks));
    on_ranks(shape.ranks, [&](int rank) {
      for (std::size_t kernel = 0; kernel < counts.size(); ++kernel) {
        const int number = static_cast<int>(kernel);
        std::vector<double> data(counts[kernel] + 1);
        // Every other rank's data does not lie on 16 bytes.
        double* mine = data.data() + rank % 2;
        for (std::size_t i = 0; i < counts[kernel]; ++i) mine[i] = value(rank, i, number);
        OneShot<double> call;
        call.input = mine;
        call.output = mine;
        call.count = counts[kernel];
        call.turn = node.first + static_cast<std::uint32_t>(kernel);
        const Peers peers = node.peers_of(rank, number);
        const int blocks = 1 + (shape.blocks + number) % shape.blocks;  // kernels differ in their blocks
        launch(blocks, shape.threads,
               [&](const HostBlock& block) { one_shot<Plain<double, Sum>>(block, peers, call); });
        for (std::size_t i = 0; i < counts[kernel]; ++i)
          if (mine[i] != sum_of_values(shape.ranks, i, number))
            wrong[static_cast<std::size_t>(rank)] =
                "kernel " + std::to_string(kernel) + " at " + std::to_string(i);
      }
    });
    for (const std::string& each : wrong) EXPECT_EQ(each, "");
    for (const auto& memory : node.memory) EXPECT_EQ(memory->words.outcome, 0U);
  }
}

/// A node's ranks sum rows of lengths that differ, as the owners of lanes do, part after part, and gather
/// them again.
TEST(IpcKernels, RowsAreReducedAndGatheredWhateverTheirLengths) {
  for (const Shape& shape : shapes) {
    for (const bool at_once : {true, false}) {
      Node node(shape.ranks, 1);
      std::vector<std::string> wrong(static_cast<std::size_t>(shape.ranks));
      on_ranks(shape.ranks, [&](int rank) {
        ByRows<double> call;
        std::size_t count = 0;
        for (int row = 0; row < shape.ranks; ++row) {
          call.row_begin[row] = count;
          call.row_count[row] = row == 1 ? 0 : 500 + 300 * static_cast<std::size_t>(row);
          count += call.row_count[row];
        }
        std::vector<double> data(count);
        for (std::size_t i = 0; i < count; ++i) data[i] = value(rank, i, 0);
        std::vector<double> own(call.row_count[rank]);
        std::vector<double> result(count);
        call.step = 256;
        std::uint32_t turn = node.first;
        int kernel = 0;
        const auto run = [&](bool reduces, bool gathers, const double* input, double* output) {
          call.reduces = reduces;
          call.gathers = gathers;
          call.input = input;
          call.output = output;
          for (call.offset = 0; call.offset < 2048; call.offset += call.step) {
            call.turn = turn;
            turn += reduces && gathers ? 2 : 1;
            const Peers peers = node.peers_of(rank, kernel++);
            launch(shape.blocks, shape.threads,
                   [&](const HostBlock& block) { by_rows<Plain<double, Sum>>(block, peers, call); });
          }
        };
        if (at_once) {
          run(true, true, data.data(), result.data());
        } else {
          run(true, false, data.data(), own.data());
          run(false, true, own.data(), result.data());
        }
        for (std::size_t i = 0; i < count; ++i)
          if (result[i] != sum_of_values(shape.ranks, i, 0))
            wrong[static_cast<std::size_t>(rank)] = "at " + std::to_string(i);
      });
      for (const std::string& each : wrong) EXPECT_EQ(each, "");
    }
  }
}

TEST(IpcKernels, ABroadcastIsAGatherOfOneRow) {
  constexpr int size = 3;
  constexpr std::size_t count = 1000;
  Node node(size, 1);
  std::vector<std::vector<std::uint8_t>> data(size);
  on_ranks(size, [&](int rank) {
    auto& mine = data[static_cast<std::size_t>(rank)];
    mine.assign(count, static_cast<std::uint8_t>(rank + 1));
    ByRows<std::uint8_t> call;
    call.row_count[1] = count;
    call.input = mine.data();
    call.output = mine.data();
    call.step = 1024;
    call.gathers = true;
    call.turn = 1;
    const Peers peers = node.peers_of(rank, 0);
    launch(2, 1, [&](const HostBlock& block) { by_rows<Plain<std::uint8_t, Sum>>(block, peers, call); });
  });
  for (const auto& mine : data) EXPECT_EQ(mine, std::vector<std::uint8_t>(count, 2));
}

/// One element per rank, added up; every rank's result.
template <class Adding>
std::vector<typename Adding::Stored> reduce_elements(const std::vector<typename Adding::Stored>& inputs,
                                                     const std::vector<double>& weights, Scaling scaling) {
  const int size = static_cast<int>(inputs.size());
  Node node(size, 1);
  std::vector<typename Adding::Stored> outputs(inputs.size());
  on_ranks(size, [&](int rank) {
    const auto index = static_cast<std::size_t>(rank);
    OneShot<typename Adding::Stored> call;
    call.input = &inputs[index];
    call.output = &outputs[index];
    call.count = 1;
    call.weight = weights.empty() ? 1.0 : weights[index];
    call.scaling = scaling;
    call.turn = 1;
    const Peers peers = node.peers_of(rank, 0);
    launch(1, 1, [&](const HostBlock& block) { one_shot<Adding>(block, peers, call); });
  });
  return outputs;
}

Half half_of(float value) {
  return Element<Half>::store(value);
}
Brain brain_of(float value) {
  return Element<Brain>::store(value);
}

TEST(IpcArithmetic, IsThatOfTheHost) {
  using I32 = std::int32_t;
  const Scaling third{3.0, 1.0};
  EXPECT_EQ((reduce_elements<Plain<I32, Sum>>({-5, 1, 0}, {}, third)),
            (std::vector<I32>{-1, -1, -1}));  // to zero
  EXPECT_EQ((reduce_elements<Plain<I32, Sum>>({INT32_MAX, 1}, {}, {})),
            (std::vector<I32>{INT32_MIN, INT32_MIN}));
  EXPECT_EQ((reduce_elements<Plain<I32, Min>>({4, -3, 7}, {}, {})), (std::vector<I32>{-3, -3, -3}));
  EXPECT_EQ((reduce_elements<Plain<I32, Max>>({4, -3, 7}, {}, {})), (std::vector<I32>{7, 7, 7}));
  EXPECT_EQ((reduce_elements<Plain<std::uint8_t, Sum>>({200, 100}, {}, {})),
            (std::vector<std::uint8_t>{44, 44}));
  EXPECT_EQ((reduce_elements<Plain<float, Sum>>({1, 2}, {0.5, 0.25}, {})), (std::vector<float>{1, 1}));
  // Added up in f32 and rounded once: 2048 + 1 + 1 has no half between in f16.
  const std::vector<Half> halves =
      reduce_elements<Plain<Half, Sum>>({half_of(2048), half_of(1), half_of(1)}, {}, {});
  for (const Half each : halves) EXPECT_EQ(Element<Half>::load(each), 2050.0F);
  const std::vector<Brain> brains =
      reduce_elements<Plain<Brain, Sum>>({brain_of(256), brain_of(1), brain_of(1)}, {}, {});
  for (const Brain each : brains) EXPECT_EQ(Element<Brain>::load(each), 258.0F);
}

TEST(IpcArithmetic, FixedPointIsExactAndPoisonIsSeenByAll) {
  Scaling scaling{1.0, 0x1p20};
  const std::vector<float> sums = reduce_elements<Fixed<float>>({0.1F, 0.2F, -0.3F}, {}, scaling);
  const auto part = [](float x) { return std::nearbyint(static_cast<double>(x) * 0x1p20); };
  for (const float sum : sums)
    EXPECT_EQ(sum, static_cast<float>((part(0.1F) + part(0.2F) + part(-0.3F)) / 0x1p20));
  for (const double bad : {4194304.0, -4194304.0, std::nan(""), HUGE_VAL})  // 2^(42-20)
    for (const double sum : reduce_elements<Fixed<double>>({1, bad, 1}, {}, scaling))
      EXPECT_TRUE(std::isnan(sum));
  for (const double sum : reduce_elements<Fixed<double>>({1, 4194303.0}, {}, scaling))
    EXPECT_EQ(sum, 4194304.0);
}

// ---- ranks that do not come ----

TEST(IpcWaits, ARankThatDoesNotComeEndsTheKernelAndIsNamed) {
  Node node(3, 1);
  node.timeout_ns = 50'000'000;
  std::vector<float> data(100, 1.0F);
  on_ranks(2, [&](int rank) {  // rank 2 never comes
    std::vector<float> output(100, -1.0F);
    OneShot<float> call;
    call.input = data.data();
    call.output = output.data();
    call.count = data.size();
    call.turn = 1;
    const Peers peers = node.peers_of(rank, 0);
    launch(2, 2, [&](const HostBlock& block) { one_shot<Plain<float, Sum>>(block, peers, call); });
    const HostWords& words = node.memory[static_cast<std::size_t>(rank)]->words;
    EXPECT_EQ(words.outcome, static_cast<std::uint32_t>(Outcome::late));
    EXPECT_EQ(words.late, 2U);
    EXPECT_EQ(output, std::vector<float>(100, -1.0F)) << "a sum without rank 2";
  });
}

TEST(IpcWaits, TheHostEndsThem) {
  Node node(2, 1);
  HostWords& words = node.memory[0]->words;
  std::thread host([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    store_release(&words.abort, 1);
  });
  float data = 1.0F;
  OneShot<float> call;
  call.input = &data;
  call.output = &data;
  call.count = 1;
  call.turn = 1;
  const Peers peers = node.peers_of(0, 0);
  launch(1, 1, [&](const HostBlock& block) { one_shot<Plain<float, Sum>>(block, peers, call); });
  host.join();
  EXPECT_EQ(words.outcome, static_cast<std::uint32_t>(Outcome::aborted));
  EXPECT_EQ(data, 1.0F);
}

TEST(IpcWaits, TurnsWrapAround) {
  EXPECT_TRUE(has_reached(5, 5));
  EXPECT_TRUE(has_reached(6, 5));
  EXPECT_FALSE(has_reached(4, 5));
  EXPECT_TRUE(has_reached(2, 0xfffffffeU));
  EXPECT_FALSE(has_reached(0xfffffffeU, 2));
}

}  // namespace
}  // namespace paceline::cuda::ipc
