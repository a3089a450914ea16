#include "data/run.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "allreduce/process.hpp"
#include "allreduce/report.hpp"
#include "allreduce/statistics.hpp"
#include "allreduce/table.hpp"
#include "data/passes.hpp"
#include "data/programs.hpp"
#include "data/quality.hpp"
#include "paceline/base/text.hpp"

namespace paceline::bench {
namespace {

using nlohmann::json;

/// One way through a dataset.
struct Contender {
  std::string name;
  int threads = 1;
  bool cold = false;
  std::string limit;  ///< the contender that it is measured against, with the same threads and cache
  std::function<Result<Pass>()> pass;
  std::vector<double> rates;  ///< samples per second, one for each round

  [[nodiscard]] double rate() const { return median(rates); }
};

std::vector<Contender> contenders_of(const Dataset& dataset, const DataOptions& options) {
  std::vector<Contender> all;
  const DatasetInfo& info = dataset.info();
  const bool coded = info.storage == "lz4" || info.storage == "zstd";
  const std::int64_t kept = 2 * info.chunks * info.chunk_bytes;
  const std::int64_t streamed = options.budget_mib << 20;
  for (const bool cold : {false, true}) {
    if (cold && !options.cold) continue;
    for (const int threads : options.threads) {
      const auto loader = [&, threads](std::int64_t budget, bool copy) {
        return [&dataset, how = LoaderPass{threads, options.batch, budget, copy}] {
          return our_loader(dataset, how);
        };
      };
      all.push_back({"pread", threads, cold, "", [&, threads] { return plain_reads(dataset, threads); }, {}});
      if (coded && !cold)
        all.push_back(
            {"codec", threads, cold, "", [&, threads] { return codec_alone(dataset, threads); }, {}});
      all.push_back({"loader", threads, cold, coded ? "codec" : "pread", loader(streamed, false), {}});
      if (cold) continue;
      all.push_back({"loader, copied", threads, cold, coded ? "codec" : "pread", loader(streamed, true), {}});
      all.push_back({"loader, kept", threads, cold, coded ? "codec" : "pread", loader(kept, false), {}});
    }
  }
  for (const std::string& peer : options.peers) {  // they know raw images and nothing else
    if (peer == "h5dread" && info.kind == SampleKind::image && info.storage == "raw")
      all.push_back({peer, 1, false, "", [&] { return hdf5_reads(dataset); }, {}});
    if (peer == "torch" && info.kind == SampleKind::image && info.storage == "raw")
      all.push_back({peer, 2, false, "", [&] { return torch_loader(info.path, options.batch); }, {}});
  }
  return all;
}

const Contender* find(const std::vector<Contender>& all, const std::string& name, int threads, bool cold) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const Contender& each) {
    return each.name == name && each.threads == threads && each.cold == cold;
  });
  return found == all.end() ? nullptr : &*found;
}

/// Of the limit that belongs to it; 0: it has none.
double fraction_of_limit(const Contender& contender, const std::vector<Contender>& all) {
  // Codec rows are measured without the files, so they hold for a cold cache as well.
  const Contender* limit =
      find(all, contender.limit, contender.threads, contender.limit == "pread" && contender.cold);
  return limit == nullptr ? 0 : contender.rate() / limit->rate();
}

Status measure(const Dataset& dataset, int rounds, std::vector<Contender>& contenders) {
  for (int round = 0; round < rounds; ++round)
    for (Contender& contender : contenders) {
      if (contender.cold) PACELINE_TRY(forget_files(dataset));
      PACELINE_ASSIGN(const Pass pass, contender.pass());
      contender.rates.push_back(static_cast<double>(pass.samples) / std::max(pass.seconds, 1e-9));
    }
  return {};
}

void print(const DatasetInfo& info, const std::vector<Contender>& contenders) {
  std::printf("%-16s%8s%7s%16s%10s%12s\n", "", "threads", "cache", "samples/s", "GB/s", "of limit");
  for (const Contender& contender : contenders) {
    const double fraction = fraction_of_limit(contender, contenders);
    std::printf("%-16s%8d%7s%16s%10s%12s\n", contender.name.c_str(), contender.threads,
                contender.cold ? "cold" : "warm", concat(static_cast<std::int64_t>(contender.rate())).c_str(),
                short_number(contender.rate() * static_cast<double>(info.sample_bytes) / 1e9).c_str(),
                fraction > 0 ? concat(short_number(fraction), " ", contender.limit).c_str() : "");
  }
}

json to_json(const DatasetInfo& info, const std::vector<Contender>& contenders) {
  json rows = json::array();
  for (const Contender& contender : contenders) {
    json row = {{"name", contender.name},
                {"threads", contender.threads},
                {"cache", contender.cold ? "cold" : "warm"},
                {"samples_per_second", contender.rate()},
                {"least", *std::min_element(contender.rates.begin(), contender.rates.end())},
                {"greatest", *std::max_element(contender.rates.begin(), contender.rates.end())},
                {"gbytes_per_s", contender.rate() * static_cast<double>(info.sample_bytes) / 1e9},
                {"limit", nullptr},
                {"fraction_of_limit", nullptr}};
    if (const double fraction = fraction_of_limit(contender, contenders); fraction > 0) {
      row["limit"] = contender.limit;
      row["fraction_of_limit"] = fraction;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

json quality_of(const Dataset& dataset, const DataOptions& options) {
  const DatasetInfo& info = dataset.info();
  if (info.kind != SampleKind::image || info.classes < 2) return nullptr;
  const OrderSpec spec = shuffled_order(info, 1, options.batch, std::int64_t{256} << 20);
  const Quality quality = shuffle_quality(dataset.chunk_samples(), spec, info.classes);
  std::printf(
      "if the shards were sorted by label, chi-squared per degree of freedom and batch: %s (all shuffled: "
      "%s, as "
      "stored: %s)\n",
      short_number(quality.ours).c_str(), short_number(quality.everything_shuffled).c_str(),
      short_number(quality.stored_order).c_str());
  return {{"ours", quality.ours},
          {"all_shuffled", quality.everything_shuffled},
          {"stored_order", quality.stored_order}};
}

Result<json> measure_dataset(const std::string& folder, const DataOptions& options) {
  PACELINE_ASSIGN(const Dataset dataset, Dataset::open(folder, {.window = options.window}));
  const DatasetInfo& info = dataset.info();
  std::printf("\n%s: %lld samples of %lld bytes, %s, %lld chunks, %s MB stored\n", folder.c_str(),
              static_cast<long long>(info.samples), static_cast<long long>(info.sample_bytes),
              info.storage.c_str(), static_cast<long long>(info.chunks),
              short_number(static_cast<double>(info.stored_bytes) / 1e6).c_str());
  std::vector<Contender> contenders = contenders_of(dataset, options);
  PACELINE_TRY(measure(dataset, options.rounds, contenders));
  print(info, contenders);
  json result = {{"folder", folder}, {"storage", info.storage}, {"samples", info.samples}};
  result["rows"] = to_json(info, contenders);
  result["chi_squared"] = quality_of(dataset, options);
  return result;
}

/// Trains, and gives how much of its time rank 0 waited for data.
Result<json> measure_training(const std::string& job) {
  PACELINE_ASSIGN(const ScratchFolder folder, ScratchFolder::make());
  const std::string summary = concat(folder.path(), "/summary.json");
  PACELINE_ASSIGN(const std::string output, output_of({own_program(), "train", job, "--quiet", "--json",
                                                       summary, "--run-dir", concat(folder.path(), "/run")}));
  PACELINE_ASSIGN(const std::string text, read_file(summary, std::size_t{1} << 20));
  const json result = json::parse(text, nullptr, false);
  if (!result.is_object() || !result.contains("data_wait_share"))
    return Error{ErrorCode::corrupt, concat("the summary of ", job, " has no data_wait_share")};
  std::printf("\n%s: %.3f%% of training was waiting for data, %.0f samples/s\n", job.c_str(),
              100 * result["data_wait_share"].get<double>(), result["samples_per_second"].get<double>());
  return json{{"job", job},
              {"data_wait_share", result["data_wait_share"]},
              {"samples_per_second", result["samples_per_second"]}};
}

Status measure_all(const DataOptions& options, json& report) {
  for (const std::string& folder : options.folders) {
    PACELINE_ASSIGN(json measured, measure_dataset(folder, options));
    report["datasets"].push_back(std::move(measured));
  }
  if (options.train.empty()) return {};
  PACELINE_ASSIGN(report["training"], measure_training(options.train));
  return {};
}

}  // namespace

Result<Pass> torch_loader(const std::string& folder, std::int64_t batch) {
  // Where Debian's packages are, before another Python that comes first in PATH.
  const std::string debian = "/usr/bin/python3";
  const std::string python = ::access(debian.c_str(), X_OK) == 0 ? debian : "python3";
  PACELINE_ASSIGN(
      const std::string output,
      output_of({"/usr/bin/env", python, peer_file("torch_dataloader.py"), folder, concat(batch), "2"}));
  std::istringstream words(output);
  Pass pass;
  if (!(words >> pass.samples >> pass.seconds))
    return Error{ErrorCode::corrupt, concat("torch_dataloader.py printed \"", output, "\"")};
  return pass;
}

int run_data(const DataOptions& options) {
  const Machine machine = this_machine();
  std::cout << describe(machine) << "\nmedians of " << options.rounds << " rounds in turn\n" << std::flush;
  json report = {{"machine", to_json(machine)},
                 {"settings",
                  {{"batch", options.batch}, {"budget_mib", options.budget_mib}, {"rounds", options.rounds}}},
                 {"datasets", json::array()}};
  Status status = measure_all(options, report);
  if (status.ok() && !options.json.empty())
    status = write_file_atomically(options.json, report.dump(2) + "\n");
  if (status.ok()) return 0;
  std::cout.flush();
  std::cerr << "paceline: " << status.error().message << "\n";
  return status.error().code == ErrorCode::invalid_argument ? 2 : 1;
}

}  // namespace paceline::bench
