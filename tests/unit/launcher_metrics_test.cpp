// What a job's metrics say, by rank and node, and who may read them.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "elastic/metric_families.hpp"
#include "elastic/metrics_endpoint.hpp"
#include "elastic/metrics_reporter.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/text.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

constexpr double no_number = std::numeric_limits<double>::quiet_NaN();
const std::string source_folder = PACELINE_SOURCE_DIR;

WorkerSnapshot worker(std::int64_t number, std::int64_t rank, const std::string& node, std::int64_t steps) {
  WorkerSnapshot made{.worker = number, .rank = rank, .node = node, .share = 8, .phase = "compute"};
  made.telemetry.steps = steps;
  made.telemetry.samples = 32 * steps;
  made.telemetry.backward_s = 0.5 * static_cast<double>(steps);
  return made;
}

/// Everything that can be known is known.
JobSnapshot full_snapshot() {
  JobSnapshot job{.name = "mine", .state = "running", .term = 2, .generation = 3, .ranks = 2};
  job.wish = 4;
  job.room = 5;
  job.step = 41;
  job.steps = 100;
  job.samples = 41 * 64;
  job.epoch = 2;
  job.loss = 0.25;
  job.samples_per_second = 1234.5;
  job.scaling_efficiency = 0.875;
  job.gradient_noise_scale = 412.5;
  job.repairs = 1;
  job.resizes = 2;
  job.rebalances = 3;
  job.checkpoints = 4;
  job.pause_seconds = 0.75;
  job.stragglers = {{1, "n1", "data"}};
  WorkerSnapshot one = worker(7, 0, "n0", 41);
  one.phase_seconds = 0.125;
  one.telemetry.memory_bytes = 1 << 20;
  one.telemetry.slowest_wire_rank = 1;
  one.telemetry.slowest_wire_bytes_per_s = 1e9;
  one.telemetry.node_energy_j = 5000;
  one.telemetry.gpu_busy = 0.5;
  one.telemetry.gpu_memory_bytes = 2e9;
  one.telemetry.gpu_power_w = 250;
  one.telemetry.gpu_temperature_c = 60;
  one.telemetry.gpu_energy_j = 9000;
  job.workers = {one, worker(8, 1, "n1", 40)};
  return job;
}

std::string text_of(const MetricTotals& totals, const JobSnapshot& job, double age_s = 0) {
  return prometheus::TextSerializer().Serialize(
      metric_families({job, totals.ranks(), totals.nodes()}, age_s));
}

/// As a scrape has it, of a coordinator that has seen nothing before.
std::string text_of(const JobSnapshot& job, double age_s = 0) {
  MetricTotals totals(false);
  totals.add(job);
  return text_of(totals, job, age_s);
}

std::set<std::string> names_in(const std::string& text) {
  std::set<std::string> names;
  for (const std::string& line : split(text, '\n'))
    if (!line.empty() && line[0] != '#') names.insert(line.substr(0, line.find_first_of("{ ")));
  return names;
}

bool has_line(const std::string& text, const std::string& line) {
  const std::vector<std::string> lines = split(text, '\n');
  return std::ranges::find(lines, line) != lines.end();
}

double sum(const MetricTotals& totals, std::int64_t rank, const std::string& node, RankSum which) {
  return totals.ranks().at({rank, node}).sums[static_cast<std::size_t>(which)];
}

// ---- names and values -------------------------------------------------------------------------------

TEST(MetricNames, AreThoseOfTheDocument) {
  std::set<std::string> defined;
  for (const MetricDefinition& each : metric_definitions()) defined.insert(std::string(each.name));
  EXPECT_EQ(defined.size(), metric_definitions().size());
  EXPECT_EQ(names_in(text_of(full_snapshot())), defined);
  const Result<std::string> page = read_file(source_folder + "/docs/metrics.md");
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_NE(page->find(metrics_table()), std::string::npos)
      << "docs/metrics.md must hold exactly this table:\n"
      << metrics_table();
}

TEST(MetricNames, KeepToThePrometheusConventions) {
  for (const MetricDefinition& each : metric_definitions()) {
    const std::string name(each.name);
    EXPECT_TRUE(name.starts_with("paceline_")) << name;
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_"), std::string::npos) << name;
    EXPECT_EQ(name.ends_with("_total"), each.type == prometheus::MetricType::Counter) << name;
    EXPECT_FALSE(each.help.empty()) << name;
  }
}

TEST(MetricValues, AreTheSnapshots) {
  const std::string text = text_of(full_snapshot(), 0.5);
  for (const char* line : {"paceline_job_info{name=\"mine\",version=\"" PACELINE_VERSION "\"} 1",
                           "paceline_job_state{state=\"running\"} 1",
                           "paceline_coordinator_term 2",
                           "paceline_snapshot_age_seconds 0.5",
                           "paceline_steps_total 41",
                           "paceline_job_steps 100",
                           "paceline_samples_total 2624",
                           "paceline_epoch 2",
                           "paceline_loss 0.25",
                           "paceline_samples_per_second 1234.5",
                           "paceline_scaling_efficiency_ratio 0.875",
                           "paceline_gradient_noise_scale_samples 412.5",
                           "paceline_generation 3",
                           "paceline_ranks 2",
                           "paceline_ranks_wish 4",
                           "paceline_ranks_room 5",
                           "paceline_repairs_total 1",
                           "paceline_resizes_total 2",
                           "paceline_rebalances_total 3",
                           "paceline_checkpoints_total 4",
                           "paceline_pause_seconds_total 0.75",
                           "paceline_stragglers 1",
                           "paceline_rank_straggler{rank=\"1\",node=\"n1\",part=\"data\"} 1",
                           "paceline_rank_worker{rank=\"0\",node=\"n0\"} 7",
                           "paceline_rank_phase_seconds{rank=\"0\",node=\"n0\",phase=\"compute\"} 0.125",
                           "paceline_rank_share_grains{rank=\"1\",node=\"n1\"} 8",
                           "paceline_rank_steps_total{rank=\"1\",node=\"n1\"} 40",
                           "paceline_rank_samples_total{rank=\"0\",node=\"n0\"} 1312",
                           "paceline_step_part_seconds_total{rank=\"0\",node=\"n0\",part=\"backward\"} 20.5",
                           "paceline_step_part_seconds_total{rank=\"0\",node=\"n0\",part=\"forward\"} 0",
                           "paceline_rank_memory_bytes{rank=\"0\",node=\"n0\"} 1048576",
                           "paceline_rank_slowest_wire_rank{rank=\"0\",node=\"n0\"} 1",
                           "paceline_gpu_busy_ratio{rank=\"0\",node=\"n0\"} 0.5",
                           "paceline_gpu_power_watts{rank=\"0\",node=\"n0\"} 250"})
    EXPECT_TRUE(has_line(text, line)) << line << "\nis not in\n" << text;
}

TEST(MetricValues, WhatIsNotKnownIsLeftOutAndNotZero) {
  JobSnapshot job = full_snapshot();
  job.loss = no_number;
  job.samples_per_second.reset();
  job.scaling_efficiency = std::numeric_limits<double>::infinity();
  job.workers[0].telemetry = {};
  job.workers[0].telemetry.gpu_power_w = no_number;
  job.workers[0].phase.clear();
  job.workers[1].rank = -1;
  const std::set<std::string> names = names_in(text_of(job));
  for (const char* name :
       {"paceline_loss", "paceline_samples_per_second", "paceline_scaling_efficiency_ratio",
        "paceline_rank_phase_seconds", "paceline_rank_slowest_wire_rank", "paceline_gpu_power_watts",
        "paceline_gpu_energy_joules_total", "paceline_node_energy_joules_total"})
    EXPECT_FALSE(names.contains(name)) << name;
  EXPECT_EQ(text_of(job).find("rank=\"1\""), text_of(job).find("rank=\"1\",node=\"n1\",part=\"data\""))
      << "only the straggler's mark may name it";
}

TEST(MetricValues, OddLabelsAreEscapedAndAlwaysUtf8) {
  JobSnapshot job = full_snapshot();
  job.workers[0].node = "a\"b\\c\nd";
  job.workers[1].node = std::string("\xff\xc3\x28 \xc3\xa4") + '\0' + "z";
  const std::string text = text_of(job);
  EXPECT_TRUE(has_line(text, R"(paceline_rank_steps_total{rank="0",node="a\"b\\c\nd"} 41)")) << text;
  EXPECT_TRUE(has_line(text,
                       "paceline_rank_steps_total{rank=\"1\",node=\"\xEF\xBF\xBD\xEF\xBF\xBD( "
                       "\xc3\xa4\xEF\xBF\xBDz\"} 40"))
      << text;
  EXPECT_TRUE(is_utf8(text));
}

TEST(MetricValues, TwoWorkersThatBothSayTheyAreARankMakeOneSeries) {
  JobSnapshot job = full_snapshot();
  job.workers[1].rank = 0;
  job.workers[1].node = "n0";
  const std::string text = text_of(job);
  std::multiset<std::string> series;
  for (const std::string& line : split(text, '\n')) series.insert(line.substr(0, line.rfind(' ')));
  for (const std::string& one : series)
    EXPECT_TRUE(one.empty() || one[0] == '#' || series.count(one) == 1) << one;
  EXPECT_TRUE(has_line(text, "paceline_rank_steps_total{rank=\"0\",node=\"n0\"} 81"));
}

// ---- sums -------------------------------------------------------------------------------------------

TEST(MetricTotals, GoOnWhereAWorkerIsReplaced) {
  MetricTotals totals(false);
  JobSnapshot job;
  job.workers = {worker(0, 0, "n", 10), worker(1, 1, "n", 9)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 1, "n", RankSum::steps), 9);
  // It is lost: for a while there is no rank 1.
  job.workers = {worker(0, 0, "n", 11), worker(2, -1, "n", 0)};
  totals.add(job);
  EXPECT_FALSE(totals.ranks().contains({1, "n"}));
  job.workers = {worker(0, 0, "n", 12), worker(2, 1, "n", 2)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 1, "n", RankSum::steps), 11);
  EXPECT_EQ(sum(totals, 1, "n", RankSum::backward), 5.5);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::samples), 12 * 32);
}

TEST(MetricTotals, WhatAWorkerDidAsOneRankStaysThere) {
  MetricTotals totals(false);
  JobSnapshot job;
  job.workers = {worker(0, 0, "n", 100), worker(1, 1, "n", 100)};
  totals.add(job);
  job.workers = {worker(1, 0, "n", 103)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 103);
  job.workers = {worker(1, 0, "n", 104), worker(5, 1, "m", 1)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 104);
  EXPECT_EQ(sum(totals, 1, "m", RankSum::steps), 1);
}

TEST(MetricTotals, NeverGoDownWhateverTheSensorsSay) {
  MetricTotals totals(false);
  JobSnapshot job;
  job.workers = {worker(0, 0, "n", 10)};
  job.workers[0].telemetry.cpu_s = 4;
  totals.add(job);
  job.workers[0].telemetry.cpu_s = no_number;
  job.workers[0].telemetry.steps = 3;  // it began anew
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::cpu), 4);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 10);
  job.workers[0].telemetry.cpu_s = 6;
  job.workers[0].telemetry.steps = 5;
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::cpu), 6);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 12);
}

TEST(MetricTotals, ASuccessorCountsFromWhereItBegins) {
  MetricTotals totals(true);
  JobSnapshot job;
  job.workers = {worker(0, 0, "n", 1000)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 0);
  job.workers = {worker(0, 0, "n", 1010)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 0, "n", RankSum::steps), 10);
}

TEST(MetricTotals, ANodesSumsCountOnceForAllItsWorkersAndFromWhenTheJobCame) {
  const auto on_node = [](std::int64_t number, double energy_j, std::int64_t sent_bytes) {
    WorkerSnapshot made = worker(number, number, "n", 1);
    made.telemetry.node_energy_j = energy_j;
    made.telemetry.network_sent_bytes = sent_bytes;
    return made;
  };
  MetricTotals totals(false);
  JobSnapshot job;
  job.workers = {on_node(0, 7000, 100), on_node(1, 7000, 100)};
  totals.add(job);
  EXPECT_EQ(totals.nodes().at("n").energy_j, 0);
  job.workers = {on_node(0, 7010, 130), on_node(1, 7010, 130)};
  totals.add(job);
  EXPECT_EQ(totals.nodes().at("n").energy_j, 10);
  // The one that had spoken for the node is gone, and a new one speaks of sums of its own.
  job.workers = {on_node(1, 7030, 150), on_node(2, 3, 2)};
  totals.add(job);
  EXPECT_EQ(totals.nodes().at("n").energy_j, 30);
  EXPECT_EQ(totals.nodes().at("n").sent_bytes, 50);
  job.workers = {on_node(2, 8, 4)};
  totals.add(job);
  EXPECT_EQ(totals.nodes().at("n").energy_j, 35);
  EXPECT_EQ(totals.nodes().at("n").sent_bytes, 52);
}

TEST(MetricTotals, AGpusEnergyBeginsWhenItsWorkerDoes) {
  MetricTotals totals(false);
  JobSnapshot job = full_snapshot();
  totals.add(job);
  EXPECT_EQ(totals.ranks().at({0, "n0"}).gpu_energy_j, 0);
  EXPECT_FALSE(totals.ranks().at({1, "n1"}).gpu_energy_j.has_value());
  job.workers[0].telemetry.gpu_energy_j = 9100;
  totals.add(job);
  EXPECT_EQ(totals.ranks().at({0, "n0"}).gpu_energy_j, 100);
}

TEST(MetricTotals, ThousandsOfWorkersThatComeAndGoLeaveNoSeries) {
  MetricTotals totals(false);
  JobSnapshot job;
  std::set<std::size_t> lines;
  constexpr std::size_t workers = 2 * MetricTotals::most_kept;
  for (std::size_t i = 0; i < workers; ++i) {
    job.workers = {worker(0, 0, "stays", 1),
                   worker(static_cast<std::int64_t>(i) + 1, 1, concat("node-", i), 1)};
    totals.add(job);
    if (i % 100 == 0) lines.insert(split(text_of(totals, job), '\n').size());
  }
  EXPECT_EQ(lines.size(), 1U);
  // One of the last goes on when it comes back; the first are forgotten.
  job.workers = {worker(-1, 1, concat("node-", workers - 2), 1)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 1, job.workers[0].node, RankSum::steps), 2);
  job.workers = {worker(-2, 1, "node-1", 1)};
  totals.add(job);
  EXPECT_EQ(sum(totals, 1, "node-1", RankSum::steps), 1);
}

// ---- over HTTP --------------------------------------------------------------------------------------

struct Answer {
  int status = 0;
  std::string head, body;
};

/// Sends `bytes` and reads until the server closes; as a client that knows nothing of the library.
Answer exchange(std::uint16_t port, const std::string& bytes) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval patience{10, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  // The socket interface passes every address family through sockaddr.
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  if (::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0) return {};
  std::string got;
  char block[4096];
  for (ssize_t n = 0; (n = ::recv(fd.get(), block, sizeof block, 0)) > 0;)
    got.append(block, static_cast<std::size_t>(n));
  Answer answer;
  const std::size_t end = got.find("\r\n\r\n");
  answer.head = got.substr(0, end);
  if (end != std::string::npos) answer.body = got.substr(end + 4);
  // "HTTP/1.1 200 OK"
  const std::string line = answer.head.substr(0, answer.head.find("\r\n"));
  if (line.starts_with("HTTP/1.") && line.size() >= 12)
    answer.status = static_cast<int>(parse_integer(line.substr(9, 3), 100, 999).value_or(0));
  return answer;
}

std::string base64(const std::string& text) {
  constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string encoded;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    std::uint32_t bits = 0;
    for (std::size_t j = 0; j < 3; ++j)
      bits = bits << 8 | (i + j < text.size() ? static_cast<unsigned char>(text[i + j]) : 0U);
    for (std::size_t j = 0; j < 4; ++j)
      encoded += i + j <= text.size() ? digits[bits >> (18 - 6 * j) & 63] : '=';
  }
  return encoded;
}

std::string request(const std::string& path, const std::string& authorization,
                    const std::string& method = "GET") {
  return concat(method, " ", path, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n",
                authorization.empty() ? "" : concat("Authorization: ", authorization, "\r\n"), "\r\n");
}

class MetricsEndpointTest : public testing::Test {
 protected:
  MetricsEndpoint::Options options() const { return {run_.path(), "mine", "127.0.0.1"}; }
  std::unique_ptr<MetricsEndpoint> start(const MetricsEndpoint::Options& options) {
    Result<std::unique_ptr<MetricsEndpoint>> started = MetricsEndpoint::start(options);
    EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message);
    return started.ok() ? std::move(started).value() : nullptr;
  }
  std::string password() const {
    const Result<std::string> text = read_file(metrics_password_path(run_.path()));
    return text.ok() ? *text : "";
  }
  std::string right() const { return "Basic " + base64("paceline:" + password()); }
  Answer scrape(const MetricsEndpoint& endpoint) const {
    return exchange(endpoint.port(), request("/metrics", right()));
  }
  std::string targets() const {
    const Result<std::string> text = read_file(metrics_targets_path(run_.path()));
    return text.ok() ? *text : "";
  }

  TemporaryFolder run_;
};

TEST_F(MetricsEndpointTest, ServesTheNewestSnapshotToWhoKnowsThePassword) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  EXPECT_EQ(scrape(*endpoint).status, 200);
  EXPECT_EQ(scrape(*endpoint).body.find("paceline_"), std::string::npos);
  JobSnapshot job = full_snapshot();
  endpoint->update(job);
  job.step = 42;
  endpoint->update(job);
  const Answer answer = scrape(*endpoint);
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("text/plain"), std::string::npos) << answer.head;
  EXPECT_TRUE(has_line(answer.body, "paceline_steps_total 42")) << answer.body;
}

TEST_F(MetricsEndpointTest, RefusesEverybodyElseAndTellsThemNothing) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  endpoint->update(full_snapshot());
  const std::string secret = password();
  std::string almost = secret;
  almost.back() = almost.back() == '0' ? '1' : '0';
  for (const std::string& authorization :
       {std::string(), std::string("Basic"), std::string("Basic "), std::string("Basic ="),
        std::string("Basic ===="), std::string("Basic !!!!"), std::string("Basic A"),
        "Basic " + base64("paceline:"), "Basic " + base64("paceline"),
        "Basic " + base64("paceline:" + almost), "Basic " + base64("paceline:" + secret + "x"),
        "Basic " + base64("paceline:" + secret.substr(1)), "Basic " + base64("other:" + secret),
        "Basic " + base64(":" + secret), "Bearer " + secret, "basic " + base64("paceline:" + secret),
        "Basic " + std::string(8000, 'A')}) {
    for (const char* method : {"GET", "HEAD", "POST", "OPTIONS"}) {
      const Answer answer = exchange(endpoint->port(), request("/metrics", authorization, method));
      EXPECT_EQ(answer.status, 401) << method << " " << authorization.substr(0, 80) << "\n" << answer.head;
      EXPECT_EQ(answer.body.find("paceline_"), std::string::npos) << answer.body;
    }
  }
  EXPECT_EQ(scrape(*endpoint).status, 200);
}

TEST_F(MetricsEndpointTest, HasNothingElseToRead) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  endpoint->update(full_snapshot());
  for (const char* path :
       {"/", "/job.json", "/credentials/metrics-password", "/../etc/passwd", "/etc/passwd"}) {
    const Answer answer = exchange(endpoint->port(), request(path, right()));
    EXPECT_GE(answer.status, 400) << path;
    EXPECT_EQ(answer.body.find(password()), std::string::npos);
    EXPECT_EQ(answer.body.find("paceline_"), std::string::npos);
  }
  for (const char* path : {"/metrics/", "/metrics/x", "//metrics", "/metrics?x=1", "/%6detrics", "/METRICS"})
    EXPECT_EQ(exchange(endpoint->port(), request(path, "")).body.find("paceline_"), std::string::npos)
        << path;
}

TEST_F(MetricsEndpointTest, SurvivesWhatIsNoHttp) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  for (const std::string& bytes :
       {std::string("\r\n\r\n"), std::string(20'000, 'x') + "\r\n\r\n", std::string("GET\r\n\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\r\n\r\n", 10), std::string("GET /metrics HTTP/9.9\r\n\r\n")})
    EXPECT_NE(exchange(endpoint->port(), bytes).status, 200);
  EXPECT_EQ(scrape(*endpoint).status, 200);
}

TEST_F(MetricsEndpointTest, ListensOnTheGivenAddressAlone) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  std::ifstream table("/proc/net/tcp");
  std::string line;
  int found = 0;
  std::array<char, 16> port{};
  std::snprintf(port.data(), port.size(), ":%04X", endpoint->port());
  while (std::getline(table, line)) {
    if (line.find(concat(port.data(), " 00000000:0000 0A")) == std::string::npos) continue;
    ++found;
    EXPECT_NE(line.find(concat("0100007F", port.data())), std::string::npos) << line;
  }
  EXPECT_EQ(found, 1);
}

TEST_F(MetricsEndpointTest, ThePasswordIsTheRunsAndItsOwnersAlone) {
  std::string first;
  {
    const auto endpoint = start(options());
    first = password();
    EXPECT_GE(first.size(), 48U);
    struct stat status {};
    ASSERT_EQ(::stat(metrics_password_path(run_.path()).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    ASSERT_EQ(::stat((run_ / "credentials").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700U);
  }
  {
    const auto successor = start(options());
    EXPECT_EQ(password(), first);
  }
  const TemporaryFolder other;
  const auto elsewhere = start({other.path(), "other", "127.0.0.1"});
  EXPECT_NE(*read_file(metrics_password_path(other.path())), first);
}

TEST_F(MetricsEndpointTest, APasswordThatProtectsNothingIsRefused) {
  ASSERT_EQ(::mkdir((run_ / "credentials").c_str(), 0700), 0);
  ASSERT_TRUE(write_file_atomically(metrics_password_path(run_.path()), "\n", 0600).ok());
  const auto started = MetricsEndpoint::start(options());
  ASSERT_FALSE(started.ok());
  EXPECT_EQ(started.error().message,
            concat(metrics_password_path(run_.path()),
                   " has fewer than 16 characters: remove it, and a new password is made"));
  EXPECT_EQ(targets(), "");
}

TEST_F(MetricsEndpointTest, TellsPrometheusWhereItIsAsLongAsItIs) {
  MetricsEndpoint::Options odd = options();
  odd.job = "odd \"name\" \xff";
  {
    const auto endpoint = start(odd);
    ASSERT_NE(endpoint, nullptr);
    const nlohmann::json json = nlohmann::json::parse(targets());
    EXPECT_EQ(json, nlohmann::json::parse(concat(R"([{"targets": ["127.0.0.1:)", endpoint->port(),
                                                 R"("], "labels": {"job": "odd \"name\" )", "\xEF\xBF\xBD",
                                                 R"(", "run": ")", run_.path(), R"(", "instance": ")",
                                                 run_.path(), R"("}}])")));
  }
  EXPECT_EQ(targets(), "");
}

TEST_F(MetricsEndpointTest, LeavesASuccessorsTargetsAlone) {
  auto first = start(options());
  const auto second = start(options());
  const std::string told = targets();
  ASSERT_NE(told.find(concat(":", second->port(), "\"")), std::string::npos) << told;
  first.reset();
  EXPECT_EQ(targets(), told);
}

TEST_F(MetricsEndpointTest, APortThatIsTakenIsNamed) {
  const auto first = start(options());
  MetricsEndpoint::Options same = options();
  same.ports = {first->port(), first->port()};
  const auto second = MetricsEndpoint::start(same);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::already_exists);
  EXPECT_NE(second.error().message.find(std::to_string(first->port())), std::string::npos)
      << second.error().message;
}

TEST_F(MetricsEndpointTest, AFixedPortCanBeHadAgainAtOnce) {
  std::uint16_t port = 0;
  {
    const auto first = start(options());
    port = first->port();
    first->update(full_snapshot());
    EXPECT_EQ(scrape(*first).status, 200);
  }
  MetricsEndpoint::Options same = options();
  same.ports = {port, port};
  const auto second = start(same);
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(second->port(), port);
}

TEST_F(MetricsEndpointTest, IsReadWhileItIsWritten) {
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  JobSnapshot job = full_snapshot();
  endpoint->update(job);
  std::vector<std::thread> readers;
  std::atomic<int> wrong = 0;
  for (int reader = 0; reader < 3; ++reader)
    readers.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const Answer answer = scrape(*endpoint);
        if (answer.status != 200 || !answer.body.ends_with("\n")) ++wrong;
      }
    });
  for (int i = 0; i < 2000; ++i) {
    ++job.step;
    job.workers[1].worker = 8 + i;
    endpoint->update(job);
  }
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_F(MetricsEndpointTest, EndsSoonWhateverItsClientsDo) {
  auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  const std::uint16_t port = endpoint->port();
  std::thread silent([port] { exchange(port, "GET /metrics HTTP/1.1\r\n"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const auto before = std::chrono::steady_clock::now();
  endpoint.reset();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
  silent.join();
  EXPECT_LT(took.count(), 5);
  std::printf("stopped after %.3f s\n", took.count());
}

// ---- the coordinator's side -------------------------------------------------------------------------

TEST_F(MetricsEndpointTest, AJobGoesOnWithoutAPortWarnsOnceAndTriesAgain) {
  auto other = start(options());
  MetricsEndpoint::Options same = options();
  same.ports = {other->port(), other->port()};
  std::vector<std::string> warnings;
  MetricsReporter reporter(same, [&](const std::string& text) { warnings.push_back(text); });
  ManualClock clock;
  const auto turn = [&](Duration by) {
    clock.advance(by);
    if (reporter.is_due(clock.now())) reporter.report(full_snapshot(), clock.now());
  };
  for (int i = 0; i < 300; ++i) turn(std::chrono::milliseconds(100));
  EXPECT_EQ(reporter.endpoint(), nullptr);
  ASSERT_EQ(warnings.size(), 1U);
  EXPECT_NE(warnings[0].find("the job goes on without metrics"), std::string::npos) << warnings[0];
  other.reset();
  for (int i = 0; i < 110; ++i) turn(std::chrono::milliseconds(100));
  ASSERT_NE(reporter.endpoint(), nullptr);
  EXPECT_TRUE(has_line(scrape(*reporter.endpoint()).body, "paceline_steps_total 41"));
  EXPECT_EQ(warnings.size(), 1U);
}

TEST(MetricsReporter, ReportsAreDueFourTimesASecond) {
  const TemporaryFolder run;
  MetricsReporter reporter({run.path(), "mine", "127.0.0.1"}, [](const std::string&) {});
  ManualClock clock;
  int reports = 0;
  for (int i = 0; i < 1000; ++i) {
    clock.advance(std::chrono::milliseconds(10));
    if (!reporter.is_due(clock.now())) continue;
    reporter.report(full_snapshot(), clock.now());
    ++reports;
  }
  EXPECT_EQ(reports, 40);
}

// ---- as Prometheus reads it -------------------------------------------------------------------------

TEST_F(MetricsEndpointTest, PromtoolHasNoComplaint) {
  if (std::system("command -v promtool > /dev/null 2>&1") != 0)
    GTEST_SKIP() << "promtool is not installed (Debian's package prometheus has it)";
  const auto endpoint = start(options());
  ASSERT_NE(endpoint, nullptr);
  JobSnapshot job = full_snapshot();
  job.workers[1].node = "a\"b\\c\nd\te\x01 \xff\r \xc3\xa4";
  endpoint->update(job);
  ASSERT_TRUE(write_file_atomically(run_ / "scrape", scrape(*endpoint).body).ok());
  const int status = std::system(
      concat("promtool check metrics < ", run_ / "scrape", " > ", run_ / "says", " 2>&1").c_str());
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(*read_file(run_ / "says"), "");
}

}  // namespace
}  // namespace paceline
