#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {

/// A run directory as a run would have left it, in which everything is known. Steps take 10 ms, of which each
/// rank's parts are those of `parts()`, and begin `begins` + 10 ms times the steps before, of the true clock.
class SeenRun {
 public:
  static constexpr double begins = 1'800'000'000;
  static constexpr std::int64_t batch = 64;

  SeenRun() {
    std::filesystem::create_directories(folder_ / "telemetry");
    std::filesystem::create_directories(folder_ / "journal");
    append("job.json", "{}\n");
  }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }
  [[nodiscard]] std::string operator/(const std::string& name) const { return folder_ / name; }

  void append(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::app) << text;
  }
  void line(const std::string& name, const std::string& text) const { append(name, text + "\n"); }

  /// Of a node whose clock is ahead by `offset_s`.
  struct Worker {
    std::int64_t worker = 0;
    std::string node = "n0";
    double offset_s = 0;
    double drift = 0;  ///< seconds that the clock gains in a second
    [[nodiscard]] double clock(double time) const { return time + offset_s + drift * (time - begins); }
    [[nodiscard]] std::string file(const std::string& suffix = "") const {
      return concat("telemetry/worker-", worker, suffix, ".jsonl");
    }
  };

  static double begin_of(std::int64_t step) { return begins + 0.01 * static_cast<double>(step - 1); }
  /// Microseconds of data, forward, backward, reduce, commit, optimizer: 9000 together.
  static std::vector<std::int64_t> parts(std::int64_t rank) {
    return {100, 2000, 4000 + 500 * rank, 1400 - 500 * rank, 500, 1000};
  }

  void write_header(const Worker& worker, const std::string& suffix = "") const {
    std::string begun = R"({"type":"worker","version":1,"worker":)";
    line(worker.file(suffix),
         concat(begun, worker.worker, R"(,"node":")", worker.node, R"(","pid":)", 4000 + worker.worker,
                R"(,"time":)", exact(worker.clock(begins - 1)), "}"));
  }
  void write_rank(const Worker& worker, std::int64_t generation, std::int64_t rank, std::int64_t ranks,
                  std::int64_t step, const std::string& suffix = "") const {
    line(worker.file(suffix),
         concat(R"({"type":"rank","time":)", exact(worker.clock(begin_of(step + 1) - 0.0005)),
                R"(,"generation":)", generation, R"(,"rank":)", rank, R"(,"ranks":)", ranks, R"(,"step":)",
                step, "}"));
  }
  void write_steps(const Worker& worker, std::int64_t rank, std::int64_t first, std::int64_t last,
                   const std::string& suffix = "") const {
    std::string text;
    for (std::int64_t step = first; step <= last; ++step) {
      const std::vector<std::int64_t> us = parts(rank);
      text += concat(R"({"type":"step","time":)", exact(worker.clock(begin_of(step))), R"(,"step":)", step,
                     R"(,"grains":16,"data":)", us[0], R"(,"forward":)", us[1], R"(,"backward":)", us[2],
                     R"(,"reduce":)", us[3], R"(,"commit":)", us[4], R"(,"optimizer":)", us[5], "}\n");
    }
    append(worker.file(suffix), text);
  }
  /// The whole file of a worker that was this rank all the time.
  void write_worker(const Worker& worker, std::int64_t generation, std::int64_t rank, std::int64_t ranks,
                    std::int64_t first, std::int64_t last) const {
    write_header(worker);
    write_rank(worker, generation, rank, ranks, first - 1);
    write_steps(worker, rank, first, last);
  }

  /// The steps' lines of metrics.jsonl, of rank 0 on a right clock.
  void write_metrics(std::int64_t first, std::int64_t last, double samples_per_second = 6400) const {
    std::string text;
    for (std::int64_t step = first; step <= last; ++step)
      text += concat(R"({"step":)", step, R"(,"epoch":1,"time":)", exact(begin_of(step) + 0.008),
                     R"(,"loss":)", 1.0 / static_cast<double>(step),
                     R"(,"learning_rate":0.1,"gradient_norm":1.5,"samples_per_second":)", samples_per_second,
                     "}\n");
    append("metrics.jsonl", text);
  }

  /// Lines of the journal of a term.
  void journal(std::int64_t term, const std::vector<std::string>& lines) const {
    for (const std::string& text : lines) append(concat("journal/", term, ".jsonl"), text);
  }
  static std::string journal_begins(std::int64_t term = 1, std::optional<JournalSeal> follows = {}) {
    JournalHeader header;
    header.run = "small/one";
    header.term = term;
    header.order["batch_global"] = batch;
    header.follows = follows;
    return journal_line(header);
  }
  static std::string journal_steps(std::int64_t first, std::int64_t last) {
    std::string text;
    for (std::int64_t step = first; step <= last; ++step)
      text += journal_line(JournalStep{step, 1, (step - 1) * batch, batch, 1});
    return text;
  }

  static std::string exact(double time) {
    char text[64];
    std::snprintf(text, sizeof text, "%.6f", time);
    return text;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace paceline
