// The staged way of the collectives on device memory, with plain memory for the device and threads for its
// copy engines. The host communicators are real.

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>

#include "cuda/plan/pipeline.hpp"
#include "cuda/plan/staged.hpp"
#include "support/ipc_ranks.hpp"
#include "support/ranks.hpp"

namespace paceline::cuda {
namespace {

using paceline::testing::expect_all_well;
using paceline::testing::name_of;
using paceline::testing::Ranks;
using paceline::testing::run_ranks;
using paceline::testing::RunAs;

// ---- the pipeline's decisions ----

/// What the pipeline does with `fragments`, one letter for each step and the fragment's number.
std::string story(int fragments, int slots) {
  Pipeline pipeline(fragments, slots);
  std::string text;
  for (;;) {
    const Pipeline::Action action = pipeline.next();
    if (action.step == Pipeline::Step::finished) return text;
    text += concat("iIsSoO"[static_cast<int>(action.step)], action.fragment, " ");
    pipeline.performed(action);
  }
}

TEST(PipelineSteps, AnythingThatCanBeginBeginsBeforeAWait) {
  // i: a copy in begins, I: it is waited for; s and S: the sum; o and O: the copy out.
  EXPECT_EQ(story(1, 4), "i0 I0 s0 S0 o0 O0 ");
  EXPECT_EQ(story(3, 4), "i0 i1 i2 I0 s0 I1 s1 S0 o0 I2 s2 S1 o1 S2 o2 O0 O1 O2 ");
  EXPECT_EQ(story(0, 4), "");
}

TEST(PipelineSteps, EverythingHappensOnceInOrderAndASlotHasOneFragment) {
  for (const int fragments : {1, 2, 3, 7, 20}) {
    for (const int slots : {1, 2, 3, 4}) {
      Pipeline pipeline(fragments, slots);
      std::array<int, 6> steps{};  // how often each was done
      for (;;) {
        const Pipeline::Action action = pipeline.next();
        if (action.step == Pipeline::Step::finished) break;
        int& done = steps[static_cast<std::size_t>(action.step)];
        ASSERT_EQ(action.fragment, done);
        ASSERT_EQ(action.slot, action.fragment % slots);
        if (action.step == Pipeline::Step::begin_copy_in) {
          ASSERT_LT(action.fragment - steps[5], slots);
        }
        for (std::size_t earlier = 0; earlier < static_cast<std::size_t>(action.step); ++earlier)
          ASSERT_GT(steps[earlier], action.fragment) << "step " << earlier << " comes before";
        ++done;
        pipeline.performed(action);
      }
      for (const int done : steps) EXPECT_EQ(done, fragments);
    }
  }
}

TEST(PipelineSteps, ASecondSumIsReadyWhileTheFirstIsUnderWay) {
  Pipeline pipeline(20, 4);
  int under_way = 0;
  int waits_with_a_successor = 0;
  for (;;) {
    const Pipeline::Action action = pipeline.next();
    if (action.step == Pipeline::Step::finished) break;
    if (action.step == Pipeline::Step::begin_sum) ++under_way;
    if (action.step == Pipeline::Step::wait_sum) {
      if (under_way > 1) ++waits_with_a_successor;
      --under_way;
    }
    pipeline.performed(action);
  }
  EXPECT_EQ(waits_with_a_successor, 19);  // all but the last
}

// ---- fragments and lanes ----

Topology topology_of(const std::string& nodes, int rank) {
  std::vector<std::string> keys;
  for (const char node : nodes) keys.emplace_back(1, node);
  return Layout(rank, keys, keys).topology();
}

TEST(Lanes, AreAsManyAsTheLargestNodeHasRanks) {
  EXPECT_EQ(lanes_of(topology_of("aaaabccc", 0)),
            (std::vector<std::vector<int>>{{0, 4, 5}, {1, 4, 6}, {2, 4, 6}, {3, 4, 7}}));
  EXPECT_EQ(lanes_of(topology_of("abc", 0)), (std::vector<std::vector<int>>{{0, 1, 2}}));
}

TEST(Lanes, WhatRanksOfANodeOwnIsTheWholeWithoutOverlap) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{5}, std::size_t{1000}, std::size_t{1} << 20}) {
    for (int rank = 0; rank < 8; ++rank) {
      std::size_t end = 0;
      for (const ElementRange& range : owned_ranges(topology_of("aaaabccc", rank), rank, count)) {
        if (range.size() == 0) continue;
        EXPECT_EQ(range.begin, end);
        end = range.end;
      }
      EXPECT_EQ(end, count);
    }
  }
}

TEST(Fragments, CoverEachPieceOnceAndTakeTurns) {
  const std::vector<Fragment> fragments =
      fragments_of({{0, {0, 1000}}, {1, {1000, 1700}}, {2, {1700, 1700}}}, 600);
  ASSERT_EQ(fragments.size(), 5U);
  std::vector<std::size_t> ends = {0, 1000, 1700};
  for (const Fragment& fragment : fragments) {
    EXPECT_EQ(fragment.first, ends[static_cast<std::size_t>(fragment.lane)]);
    EXPECT_LE(fragment.count, 512U);  // the multiple of 256 below
    ends[static_cast<std::size_t>(fragment.lane)] += fragment.count;
  }
  EXPECT_EQ(ends, (std::vector<std::size_t>{1000, 1700, 1700}));
  EXPECT_EQ(fragments[0].lane, 0);
  EXPECT_EQ(fragments[1].lane, 1);
  EXPECT_EQ(fragments[2].lane, 2);  // nothing, and it synchronises
}

// ---- the whole way ----

/// A copy engine: a thread that copies one after the other, each after a while.
class Engine {
 public:
  explicit Engine(Duration delay) : delay_(delay), thread_([this] { run(); }) {}
  ~Engine() {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  void begin(int slot, std::function<void()> copy) {
    const std::lock_guard lock(mutex_);
    queue_.emplace_back(slot, std::move(copy));
    changed_.notify_all();
  }
  void wait(int slot) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return std::none_of(queue_.begin(), queue_.end(), [&](const auto& each) { return each.first == slot; });
    });
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return ended_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const std::function<void()> copy = queue_.front().second;
      lock.unlock();
      std::this_thread::sleep_for(delay_);
      copy();
      lock.lock();
      queue_.pop_front();
      changed_.notify_all();
    }
  }

  Duration delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::pair<int, std::function<void()>>> queue_;  // the first is under way
  bool ended_ = false;
  std::thread thread_;
};

/// Plain memory as the device, with two copy engines. The copy with number `fails_at` (from 0) is refused.
struct StandIn {
  explicit StandIn(Duration delay = Duration::zero(), int fails_at = -1)
      : to_host(delay), to_device(delay), copies_left(fails_at) {}

  Engine to_host;
  Engine to_device;
  int copies_left;

  Status begin(Engine& engine, int slot, const Rows& rows, bool in) {
    if (copies_left-- == 0) return Error{ErrorCode::io, "the stand-in's copy engine is broken"};
    engine.begin(slot, [rows, in] {
      for (std::size_t row = 0; row < rows.count; ++row) {
        std::byte* host = rows.host + row * rows.host_pitch;
        std::byte* device = rows.device + row * rows.device_pitch;
        std::memcpy(in ? host : device, in ? device : host, rows.bytes);
      }
    });
    return {};
  }
  CopyOperations operations() {
    return {[this](int slot, const Rows& rows) { return begin(to_host, slot, rows, true); },
            [this](int slot) { return to_host.wait(slot), Status(); },
            [this](int slot, const Rows& rows) { return begin(to_device, slot, rows, false); },
            [this](int slot) { return to_device.wait(slot), Status(); }};
  }
};

constexpr StagedTuning small_slots{3, 4096};

/// Lanes of `outer`: all ranks as the first, then those between nodes.
struct Lanes {
  std::vector<StagedLane> flat;
  std::vector<StagedLane> between;
};

Result<Lanes> make_lanes(Communicator& outer) {
  std::vector<std::vector<int>> groups = lanes_of(outer.topology());
  std::vector<int> all;
  for (int rank = 0; rank < outer.size(); ++rank) all.push_back(rank);
  groups.insert(groups.begin(), all);
  PACELINE_ASSIGN(std::vector<Communicator> parts, outer.split(groups));
  Lanes lanes;
  lanes.between.resize(groups.size() - 1);
  std::size_t part = 0;
  for (std::size_t group = 0; group < groups.size(); ++group) {
    if (std::find(groups[group].begin(), groups[group].end(), outer.rank()) == groups[group].end()) continue;
    auto own = std::make_shared<Communicator>(std::move(parts[part++]));
    PACELINE_ASSIGN(StagedLane lane, make_lane(own, groups[group], small_slots));
    if (group == 0)
      lanes.flat.push_back(std::move(lane));
    else
      lanes.between[group - 1] = std::move(lane);
  }
  return lanes;
}

Request request_of(CollectiveKind kind, const void* input, void* output, std::size_t count, DataType type) {
  Request request;
  request.descriptor.kind = kind;
  request.descriptor.count = count;
  request.descriptor.type = type;
  request.input = static_cast<const std::byte*>(input);
  request.output = static_cast<std::byte*>(output);
  return request;
}

std::vector<Piece> whole(std::size_t count) {
  return {{0, {0, count}}};
}

constexpr std::size_t counts[] = {0, 1, 255, 1024, 5000, 40'000};

class StagedWay : public ::testing::TestWithParam<Ranks> {
 protected:
  /// Runs `body` on every rank with its lanes.
  void on_every_rank(const std::function<std::string(Communicator&, Lanes&)>& body) {
    expect_all_well(run_ranks(GetParam(), [&](Result<Communicator>& outer, int) -> std::string {
      if (!outer.ok()) return outer.error().message;
      auto lanes = make_lanes(*outer);
      if (!lanes.ok()) return lanes.error().message;
      return body(*outer, *lanes);
    }));
  }
};

TEST_P(StagedWay, AllReduceAddsUpEveryElement) {
  on_every_rank([](Communicator& outer, Lanes& lanes) -> std::string {
    StandIn device(std::chrono::microseconds(100));
    const double sum = outer.size() * (outer.size() + 1) / 2.0;
    for (const std::size_t count : counts) {
      std::vector<double> data(count);
      for (std::size_t i = 0; i < count; ++i)
        data[i] = (outer.rank() + 1) * static_cast<double>(i % 1000 + 1);
      Request request =
          request_of(CollectiveKind::all_reduce, data.data(), data.data(), count, DataType::f64);
      const Status status = run_staged(request, whole(count), lanes.flat, device.operations(), small_slots);
      if (!status.ok()) return status.error().message;
      for (std::size_t i = 0; i < count; ++i)
        if (data[i] != sum * static_cast<double>(i % 1000 + 1))
          return concat(count, ": ", i, " is ", data[i]);
    }
    return {};
  });
}

TEST_P(StagedWay, LanesBetweenNodesAddUpTheirPieces) {
  on_every_rank([](Communicator& outer, Lanes& lanes) -> std::string {
    // As after a reduce_scatter in the node: every owner of a piece holds 1 more than its node's number.
    const Topology& topology = outer.topology();
    const auto nodes = static_cast<double>(topology.nodes.size());
    const double own = topology.node_of_rank[static_cast<std::size_t>(outer.rank())] + 1.0;
    StandIn device;
    for (const std::size_t count : counts) {
      std::vector<double> data(count, own);
      Request request =
          request_of(CollectiveKind::all_reduce, data.data(), data.data(), count, DataType::f64);
      const std::vector<Piece> pieces = pieces_of(count, static_cast<int>(lanes.between.size()));
      const Status status = run_staged(request, pieces, lanes.between, device.operations(), small_slots);
      if (!status.ok()) return status.error().message;
      for (const Piece& piece : pieces) {
        const bool mine = lanes.between[static_cast<std::size_t>(piece.lane)].communicator != nullptr;
        const double expected = mine ? nodes * (nodes + 1) / 2 : own;
        for (std::size_t i = piece.range.begin; i < piece.range.end; ++i)
          if (data[i] != expected) return concat(count, ": ", i, " is ", data[i], ", not ", expected);
      }
    }
    return {};
  });
}

TEST_P(StagedWay, ReduceScatterGatherAndBroadcast) {
  on_every_rank([](Communicator& outer, Lanes& lanes) -> std::string {
    StandIn device;
    const auto size = static_cast<std::size_t>(outer.size());
    const auto rank = static_cast<std::size_t>(outer.rank());
    for (const std::size_t count : counts) {
      std::vector<std::int32_t> all(count * size);
      std::vector<std::int32_t> one(count);
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int32_t>(i * (rank + 1));
      const auto run = [&](Request request) {
        return run_staged(request, whole(count), lanes.flat, device.operations(), small_slots);
      };
      Status status =
          run(request_of(CollectiveKind::reduce_scatter, all.data(), one.data(), count, DataType::i32));
      if (!status.ok()) return status.error().message;
      for (std::size_t i = 0; i < count; ++i)
        if (one[i] != static_cast<std::int32_t>((rank * count + i) * size * (size + 1) / 2))
          return concat("reduce_scatter of ", count, ": ", i, " is ", one[i]);
      std::fill(all.begin(), all.end(), -1);
      status = run(request_of(CollectiveKind::all_gather, one.data(), all.data(), count, DataType::i32));
      if (!status.ok()) return status.error().message;
      for (std::size_t i = 0; i < all.size(); ++i)
        if (all[i] != static_cast<std::int32_t>(i * size * (size + 1) / 2))
          return concat("all_gather of ", count, ": ", i, " is ", all[i]);
      std::fill(one.begin(), one.end(), static_cast<std::int32_t>(rank));
      Request broadcast = request_of(CollectiveKind::broadcast, one.data(), one.data(), count, DataType::i32);
      broadcast.descriptor.root = outer.size() - 1;
      status = run(broadcast);
      if (!status.ok()) return status.error().message;
      for (std::size_t i = 0; i < count; ++i)
        if (one[i] != outer.size() - 1) return concat("broadcast of ", count, ": ", i, " is ", one[i]);
    }
    Status status = run_staged(request_of(CollectiveKind::barrier, nullptr, nullptr, 0, DataType::i32),
                               whole(0), lanes.flat, device.operations(), small_slots);
    return status.ok() ? "" : status.error().message;
  });
}

TEST_P(StagedWay, WeightsCodecsAndResidualsAreThoseOfTheHost) {
  on_every_rank([](Communicator& outer, Lanes& lanes) -> std::string {
    constexpr std::size_t count = 5000;
    StandIn device;
    for (const Codec codec : {Codec::none, Codec::f16, Codec::bf16, Codec::int8, Codec::fixed_point}) {
      std::vector<float> data(count);
      for (std::size_t i = 0; i < count; ++i)
        data[i] = static_cast<float>(i % 97) / 7 + static_cast<float>(outer.rank());
      std::vector<float> host = data;
      std::vector<float> residual(count);
      std::vector<float> host_residual(count);
      const bool lossy = codec == Codec::f16 || codec == Codec::bf16 || codec == Codec::int8;
      Request request =
          request_of(CollectiveKind::all_reduce, data.data(), data.data(), count, DataType::f32);
      request.weight = 1.0 / (outer.rank() + 1);
      request.descriptor.codec = codec;
      request.descriptor.exponent = 20;
      if (lossy) request.residual = residual.data();
      for (int step = 0; step < 2; ++step) {
        const Status status = run_staged(request, whole(count), lanes.flat, device.operations(), small_slots);
        if (!status.ok()) return status.error().message;
        // The host's own, cut as the slots cut it: what a rank keeps errors for depends on the cut.
        for (std::size_t first = 0; first < count; first += 1024) {
          ReduceOptions options;
          options.weight = request.weight;
          options.codec = codec;
          options.fixed_point_exponent = 20;
          if (lossy) options.residual = host_residual.data() + first;
          const Status same =
              outer.all_reduce(host.data() + first, host.data() + first,
                               std::min<std::size_t>(1024, count - first), DataType::f32, options);
          if (!same.ok()) return same.error().message;
        }
        if (std::memcmp(data.data(), host.data(), count * sizeof(float)) != 0)
          return concat(to_string(codec), ": not what the host gives");
        if (residual != host_residual) return concat(to_string(codec), ": another residual");
      }
    }
    return {};
  });
}

TEST_P(StagedWay, ABrokenCopyEndsItOnEveryRankAndNamesTheRank) {
  on_every_rank([](Communicator& outer, Lanes& lanes) -> std::string {
    if (outer.size() == 1) return {};
    StandIn device(std::chrono::microseconds(200), outer.rank() == 1 ? 5 : -1);
    std::vector<double> data(40'000, 1.0);
    const Status status = run_staged(
        request_of(CollectiveKind::all_reduce, data.data(), data.data(), data.size(), DataType::f64),
        whole(data.size()), lanes.flat, device.operations(), small_slots);
    if (status.ok()) return "a sum with a broken copy ended well";
    if (outer.rank() == 1) return status.error().code == ErrorCode::io ? "" : status.error().message;
    return status.error().rank == 1 ? "" : concat("another rank is blamed: ", status.error().message);
  });
}

INSTANTIATE_TEST_SUITE_P(Layouts, StagedWay,
                         ::testing::Values(Ranks{"a", RunAs::threads}, Ranks{"aab", RunAs::threads},
                                           Ranks{"ab", RunAs::processes}, Ranks{"aaaabccc", RunAs::threads}),
                         [](const auto& instance) { return name_of(instance.param); });

/// One kernel after the other, until the longest row is through.
void run_rows(ipc::Node& node, ipc::ByRows<double> call, int index, int& kernel) {
  std::size_t longest = 0;
  for (const std::size_t count : call.row_count) longest = std::max(longest, count);
  call.step = 1024;
  do {
    call.turn = static_cast<std::uint32_t>(++kernel);
    const ipc::Peers peers = node.peers_of(index, kernel);
    ipc::launch(2, 1, [&](const ipc::HostBlock& block) {
      ipc::by_rows<ipc::Plain<double, ipc::Sum>>(block, peers, call);
    });
    call.offset += call.step;
  } while (call.offset < longest);
}

/// The kernels' code in the node, lanes between nodes, and the kernels' code again.
TEST(Hierarchical, NodesOfDifferentSizesAddUpEverything) {
  const std::string nodes = "aaaabccc";
  std::vector<std::unique_ptr<ipc::Node>> memory;
  for (const int size : {4, 1, 3}) memory.push_back(std::make_unique<ipc::Node>(size, 1));
  expect_all_well(run_ranks({nodes}, [&](Result<Communicator>& outer, int rank) -> std::string {
    if (!outer.ok()) return outer.error().message;
    auto lanes = make_lanes(*outer);
    if (!lanes.ok()) return lanes.error().message;
    const Topology& topology = outer->topology();
    const auto& local = topology.local_ranks;
    const auto index = static_cast<std::size_t>(std::find(local.begin(), local.end(), rank) - local.begin());
    ipc::Node& node =
        *memory[static_cast<std::size_t>(topology.node_of_rank[static_cast<std::size_t>(rank)])];
    StandIn device;
    int kernel = 0;
    for (const std::size_t count : {std::size_t{0}, std::size_t{7}, std::size_t{5000}, std::size_t{20'001}}) {
      std::vector<double> data(count);
      for (std::size_t i = 0; i < count; ++i) data[i] = (rank + 1) * static_cast<double>(i % 100 + 1);
      const std::vector<ElementRange> ranges = owned_ranges(topology, rank, count);
      ipc::ByRows<double> rows;
      for (std::size_t row = 0; row < ranges.size(); ++row) {
        rows.row_begin[row] = ranges[row].begin;
        rows.row_count[row] = ranges[row].size();
      }
      ipc::ByRows<double> reduce = rows;
      reduce.reduces = true;
      reduce.input = data.data();
      reduce.output = data.data() + ranges[index].begin;
      run_rows(node, reduce, static_cast<int>(index), kernel);
      const Status status =
          run_staged(request_of(CollectiveKind::all_reduce, data.data(), data.data(), count, DataType::f64),
                     pieces_of(count, static_cast<int>(lanes->between.size())), lanes->between,
                     device.operations(), small_slots);
      if (!status.ok()) return status.error().message;
      ipc::ByRows<double> gather = rows;
      gather.gathers = true;
      gather.input = data.data() + ranges[index].begin;
      gather.output = data.data();
      run_rows(node, gather, static_cast<int>(index), kernel);
      for (std::size_t i = 0; i < count; ++i)
        if (data[i] != 36.0 * static_cast<double>(i % 100 + 1))
          return concat(count, ": ", i, " is ", data[i]);
    }
    return {};
  }));
}

TEST(StagedFailure, AKilledRankIsNamedByAllOthers) {
  const auto failures =
      run_ranks({"aab", RunAs::processes}, [](Result<Communicator>& outer, int rank) -> std::string {
        if (!outer.ok()) return outer.error().message;
        auto lanes = make_lanes(*outer);
        if (!lanes.ok()) return lanes.error().message;
        StandIn device(std::chrono::milliseconds(1));
        std::vector<double> data(1'000'000, 1.0);
        std::thread killer;
        if (rank == 2)
          killer = std::thread([] {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            ::kill(::getpid(), SIGKILL);
          });
        const Status status = run_staged(
            request_of(CollectiveKind::all_reduce, data.data(), data.data(), data.size(), DataType::f64),
            whole(data.size()), lanes->flat, device.operations(), small_slots);
        if (killer.joinable()) killer.join();
        if (status.ok()) return "the sum ended well";
        return status.error().rank == 2 ? "" : status.error().message;
      });
  EXPECT_EQ(failures[0], "");
  EXPECT_EQ(failures[1], "");
  EXPECT_EQ(failures[2], "signal 9");
}

}  // namespace
}  // namespace paceline::cuda
