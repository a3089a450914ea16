// What a worker measures: of its process, its node, its wires and its GPU; and what becomes of nonsense.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "gpu_sensor.hpp"
#include "paceline/base/fd.hpp"
#include "sensors.hpp"
#include "support/mutations.hpp"
#include "support/temporary_folder.hpp"
#include "wire_meter.hpp"

namespace paceline {
namespace {

using std::chrono::milliseconds;

// ---- the kernel's files -----------------------------------------------------------------------------

/// /proc and /sys of a machine that is ours.
class Machine : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"proc/self", "proc/net", "powercap"})
      std::filesystem::create_directories(folder_ / folder);
  }
  void put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }
  void put_network(const std::string& lines) const {
    put("proc/net/dev",
        "Inter-|   Receive                            |  Transmit\n"
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs\n" +
            lines);
  }
  void put_zone(const std::string& zone, const std::string& name, const std::string& energy) const {
    put("powercap/" + zone + "/name", name + "\n");
    put("powercap/" + zone + "/energy_uj", energy + "\n");
    put("powercap/" + zone + "/max_energy_range_uj", "262143328850\n");
  }
  [[nodiscard]] SensorRoots roots() const { return {folder_ / "proc", folder_ / "powercap"}; }

  TemporaryFolder folder_;
  Telemetry seen_;
};

TEST_F(Machine, IsReadAsTheKernelWritesIt) {
  put("proc/self/statm", "83012 61234 20000 12 0 50000 0\n");
  put("proc/self/io", "rchar: 5000000\nwchar: 7\nsyscr: 1\nread_bytes: 99\n");
  put_network(
      "    lo: 9999 5 0 0 0 0 0 0 9999 5 0\n"
      "  eth0: 274401058 5160 0 0 0 0 0 0 210797 2982 0\n"
      "eth0:1:12 0 0 0 0 0 0 0 3 0 0\n");
  put_zone("intel-rapl:0", "package-0", "1000000");
  put_zone("intel-rapl:0:0", "core", "900000");
  put_zone("intel-rapl:0:1", "dram", "500000");
  put_zone("intel-rapl:1", "package-1", "2000000");
  put_zone("intel-rapl:2", "psys", "7000000");
  put_zone("intel-rapl-mmio:0", "package-0", "1000000");
  Sensors(roots()).read(seen_);
  EXPECT_EQ(seen_.memory_bytes, 61234 * ::sysconf(_SC_PAGESIZE));
  EXPECT_EQ(seen_.network_received_bytes, 274401058 + 12);
  EXPECT_EQ(seen_.network_sent_bytes, 210797 + 3);
  EXPECT_EQ(seen_.node_energy_j, 3.5);
  EXPECT_GT(seen_.cpu_s, 0);
  EXPECT_GT(seen_.read_bytes, 4'990'000) << "but what was read to know it";
  EXPECT_LT(seen_.read_bytes, 5'000'000);
}

TEST_F(Machine, ThatHasNoneOfTheFilesHasNoneOfTheFigures) {
  Sensors sensors({"/nonexistent", "/nonexistent"});
  sensors.read(seen_);
  EXPECT_EQ(seen_.memory_bytes, 0);
  EXPECT_EQ(seen_.network_sent_bytes, 0);
  EXPECT_FALSE(seen_.node_energy_j);
  EXPECT_GT(seen_.cpu_s, 0) << "which is no file";
}

TEST_F(Machine, FilesThatComeLaterAreRead) {
  Sensors sensors(roots());
  sensors.read(seen_);
  put("proc/self/statm", "83012 61234 20000 12 0 50000 0\n");
  sensors.read(seen_);
  EXPECT_GT(seen_.memory_bytes, 0);
}

TEST_F(Machine, EnergyGoesOnWhereItsCounterWraps) {
  put_zone("intel-rapl:0", "package-0", "262143000000");
  Sensors sensors(roots());
  sensors.read(seen_);
  EXPECT_EQ(seen_.node_energy_j, 262143);
  put_zone("intel-rapl:0", "package-0", "671150");
  sensors.read(seen_);
  EXPECT_NEAR(*seen_.node_energy_j, 262143 + 1, 1e-6);
  put_zone("intel-rapl:0", "package-0", "nan");
  sensors.read(seen_);
  EXPECT_NEAR(*seen_.node_energy_j, 262143 + 1, 1e-6);
}

TEST_F(Machine, AnEnergyCounterWithoutAKnownRangeThatBeginsAnewLosesNothingThatWasCounted) {
  put_zone("intel-rapl:0", "package-0", "5000000");
  put("powercap/intel-rapl:0/max_energy_range_uj", "?\n");
  Sensors sensors(roots());
  sensors.read(seen_);
  for (const char* energy : {"1000000", "3000000"}) {
    put("powercap/intel-rapl:0/energy_uj", energy);
    sensors.read(seen_);
  }
  EXPECT_EQ(seen_.node_energy_j, 7);
}

TEST_F(Machine, SumsOfInterfacesThatGoAndComeBackNeverShrink) {
  put_network("eth0: 1000 0 0 0 0 0 0 0 100 0 0\nib0: 500 0 0 0 0 0 0 0 50 0 0\n");
  Sensors sensors(roots());
  sensors.read(seen_);
  put_network("ib0: 600 0 0 0 0 0 0 0 60 0 0\n");
  sensors.read(seen_);
  EXPECT_EQ(seen_.network_received_bytes, 1600);
  put_network("eth0: 10 0 0 0 0 0 0 0 1 0 0\nib0: 600 0 0 0 0 0 0 0 60 0 0\n");
  sensors.read(seen_);
  EXPECT_EQ(seen_.network_received_bytes, 1600);
  put_network("eth0: 30 0 0 0 0 0 0 0 1 0 0\nib0: 600 0 0 0 0 0 0 0 60 0 0\n");
  sensors.read(seen_);
  EXPECT_EQ(seen_.network_received_bytes, 1620);
  EXPECT_EQ(seen_.network_sent_bytes, 160);
}

TEST_F(Machine, NonsenseLeavesEverythingAsItWas) {
  put("proc/self/statm", "83012 61234 20000 12 0 50000 0\n");
  put("proc/self/io", "rchar: 50000000\n");
  put_network("eth0: 1000 0 0 0 0 0 0 0 100 0 0\n");
  put_zone("intel-rapl:0", "package-0", "1000000");
  Sensors sensors(roots());
  sensors.read(seen_);
  const Telemetry before = seen_;
  for (const std::string nonsense :
       {"", "\n", "-1 -1 -1", "nan nan nan", "1e9 1e9", "99999999999999999999 99999999999999999999",
        "\xff\xfe", "rchar: -5", "rchar:\n", "eth0: -5 0 0 0 0 0 0 0 nan 0",
        "eth0:", ":::", "1 18446744073709551615"}) {
    for (const char* file : {"proc/self/statm", "proc/self/io", "proc/net/dev"}) put(file, nonsense);
    put("powercap/intel-rapl:0/energy_uj", nonsense);
    sensors.read(seen_);
    seen_.cpu_s = before.cpu_s;
    EXPECT_EQ(seen_, before) << nonsense;
  }
}

TEST_F(Machine, WhateverItsFilesHoldSumsOnlyGrowAndStayFinite) {
  SplitMix64 random(17);
  Sensors sensors(roots());
  for (int round = 0; round < 500; ++round) {
    const std::string text =
        mutate("rchar: 5000000\neth0: 1000 0 0 0 0 0 0 0 100 0 0\n77 88 99\n", "0123456789: \n-en", random);
    for (const char* file : {"proc/self/statm", "proc/self/io", "proc/net/dev"}) put(file, text);
    const Telemetry before = seen_;
    sensors.read(seen_);
    ASSERT_GE(seen_.read_bytes, before.read_bytes) << round;
    ASSERT_GE(seen_.network_sent_bytes, before.network_sent_bytes) << round;
    ASSERT_GE(seen_.network_received_bytes, before.network_received_bytes) << round;
    ASSERT_GE(seen_.memory_bytes, 0) << round;
    ASSERT_LE(seen_.network_received_bytes, std::int64_t{1} << 53) << round;
  }
}

TEST(Process, CountsWhatItReadsAndNotWhatItsSensorsDo) {
  TemporaryFolder folder;
  std::ofstream(folder / "big") << std::string(1 << 20, 'x');
  Sensors sensors;
  Telemetry seen;
  sensors.read(seen);
  const Telemetry before = seen;
  for (int i = 0; i < 100; ++i) sensors.read(seen);
  EXPECT_EQ(seen.read_bytes, before.read_bytes);
  ASSERT_TRUE(read_file(folder / "big").ok());
  sensors.read(seen);
  EXPECT_EQ(seen.read_bytes, before.read_bytes + (1 << 20));
  EXPECT_GT(seen.cpu_s, before.cpu_s);
  EXPECT_GT(seen.memory_bytes, 1 << 20);
}

// ---- wires ------------------------------------------------------------------------------------------

class Wires : public ::testing::Test {
 protected:
  /// Ten looks a second, while each rank's wire carries so much in a second, and is busy for so long with it.
  void run(std::vector<WireStatistics> per_second, int seconds) {
    sums_.resize(per_second.size());
    for (int i = 0; i < 10 * seconds; ++i) {
      for (std::size_t peer = 0; peer < sums_.size(); ++peer) {
        sums_[peer].rank = per_second[peer].rank;
        sums_[peer].bytes += per_second[peer].bytes / 10;
        sums_[peer].busy += per_second[peer].busy / 10;
      }
      clock_.advance(milliseconds(100));
      meter_.observe(clock_.now(), sums_);
    }
  }
  WireMeter meter_;
  ManualClock clock_;
  std::vector<WireStatistics> sums_;
};

TEST_F(Wires, AddUpAndTheSlowestIsThatOfTheFewestBytesWhileBusy) {
  run({{1, 100'000'000, milliseconds(100)}, {2, 100'000'000, milliseconds(400)}}, 3);
  EXPECT_EQ(meter_.bytes(), 600'000'000);
  EXPECT_EQ(meter_.busy(), milliseconds(1500));
  ASSERT_TRUE(meter_.slowest());
  EXPECT_EQ(meter_.slowest()->rank, 2);
  EXPECT_NEAR(meter_.slowest()->bytes_per_s, 250e6, 1);
}

TEST_F(Wires, ThoseOfTheLastSecondCount) {
  run({{1, 100'000'000, milliseconds(100)}, {2, 100'000'000, milliseconds(400)}}, 5);
  run({{1, 100'000'000, milliseconds(500)}, {2, 100'000'000, milliseconds(100)}}, 2);
  EXPECT_EQ(meter_.slowest()->rank, 1);
  EXPECT_NEAR(meter_.slowest()->bytes_per_s, 200e6, 1);
}

TEST_F(Wires, AFewBytesSayNothingOfAWireUnlessTheyKeepItBusy) {
  // Each waits for the one before to have gone all the way.
  run({{1, 100'000'000, milliseconds(100)}, {2, 20'000, milliseconds(90)}, {3, 0, {}}}, 2);
  EXPECT_EQ(meter_.slowest()->rank, 1);
  run({{1, 100'000'000, milliseconds(100)}, {2, 20'000, milliseconds(900)}, {3, 0, {}}}, 2);
  EXPECT_EQ(meter_.slowest()->rank, 2);
  EXPECT_NEAR(meter_.slowest()->bytes_per_s, 20'000 / 0.9, 1);
  run({{1, 0, {}}, {2, 0, {}}, {3, 0, {}}}, 2);
  EXPECT_FALSE(meter_.slowest());
}

TEST_F(Wires, WhereTheKernelDoesNotSayHowBusyTheyAreNoneIsSlow) {
  run({{1, 100'000'000, {}}, {2, 0, {}}}, 2);
  EXPECT_FALSE(meter_.slowest());
  EXPECT_EQ(meter_.bytes(), 200'000'000);
}

TEST_F(Wires, SumsGoOnThroughGenerationsAndNeverShrink) {
  run({{1, 100'000'000, milliseconds(100)}}, 1);
  meter_.begin_generation();
  EXPECT_FALSE(meter_.slowest()) << "that rank is another now";
  sums_.clear();
  run({{1, 50'000'000, milliseconds(100)}}, 1);
  EXPECT_EQ(meter_.bytes(), 150'000'000);
  sums_[0] = {1, 3, {}};
  meter_.observe(clock_.now(), sums_);
  EXPECT_EQ(meter_.bytes(), 150'000'000);
  EXPECT_EQ(meter_.busy(), milliseconds(200));
}

// ---- the GPU ----------------------------------------------------------------------------------------

class Graphics : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const char* name :
         {"FAKE_NVML_SENSORS", "FAKE_NVML_MIG", "FAKE_NVML_GPUS", "FAKE_NVML_BROKEN", "CUDA_VISIBLE_DEVICES"})
      ::unsetenv(name);
  }
  static Telemetry seen() {
    auto sensor = GpuSensor::open(FAKE_NVML);
    EXPECT_TRUE(sensor.ok());
    Telemetry seen;
    if (sensor.ok()) sensor->read(seen);
    return seen;
  }
};

TEST_F(Graphics, TheFirstThatIsVisibleIsRead) {
  const Telemetry first = seen();
  EXPECT_EQ(first.gpu_busy, 0.4);
  EXPECT_EQ(first.gpu_memory_bytes, 1 << 30);
  EXPECT_EQ(first.gpu_power_w, 310.5);
  EXPECT_EQ(first.gpu_temperature_c, 61);
  EXPECT_GT(*first.gpu_energy_j, 9000);
  ::setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  EXPECT_EQ(seen().gpu_busy, 0.41);
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_EQ(seen(), Telemetry{});
}

TEST_F(Graphics, OfASliceTheRestIsThatOfTheWhole) {
  ::setenv("FAKE_NVML_MIG", "1", 1);
  EXPECT_EQ(seen().gpu_busy, 0.4);
  EXPECT_EQ(seen().gpu_memory_bytes, 1 << 30);
}

TEST_F(Graphics, WhatSensorsDoNotSayOrCannotMeanIsAbsent) {
  for (const char* sensors : {"lost", "absurd"}) {
    ::setenv("FAKE_NVML_SENSORS", sensors, 1);
    const Telemetry nothing = seen();
    EXPECT_FALSE(nothing.gpu_busy || nothing.gpu_power_w || nothing.gpu_temperature_c || nothing.gpu_energy_j)
        << sensors;
    EXPECT_TRUE(nothing.gpu_memory_bytes) << "which is no sensor";
  }
}

TEST_F(Graphics, EnergyThatIsLostOnTheWayStaysWhatItWas) {
  auto sensor = GpuSensor::open(FAKE_NVML);
  ASSERT_TRUE(sensor.ok());
  Telemetry seen;
  sensor->read(seen);
  const double before = *seen.gpu_energy_j;
  ::setenv("FAKE_NVML_SENSORS", "lost", 1);
  sensor->read(seen);
  EXPECT_EQ(seen.gpu_energy_j, before);
  EXPECT_FALSE(seen.gpu_power_w) << "which is of now";
}

TEST_F(Graphics, NoDriverIsNoErrorAndABrokenOneIs) {
  ::setenv("FAKE_NVML_GPUS", "0", 1);
  EXPECT_EQ(seen(), Telemetry{});
  ::setenv("FAKE_NVML_BROKEN", "1", 1);
  const auto broken = GpuSensor::open(FAKE_NVML);
  ASSERT_FALSE(broken.ok());
  EXPECT_EQ(broken.error().message, "the GPU driver does not start: Driver Not Loaded");
  EXPECT_FALSE(GpuSensor::open("/nonexistent.so").ok());
}

}  // namespace
}  // namespace paceline
