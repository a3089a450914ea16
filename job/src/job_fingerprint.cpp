// What a job's result depends on. Keys that are not named here do, also those that are yet to come.

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "job_fields.hpp"
#include "paceline/base/text.hpp"
#include "paceline/job/journal.hpp"

namespace paceline {
namespace {

constexpr std::array<std::string_view, 16> indifferent = {"name",
                                                          "data.eval",
                                                          "data.import",
                                                          "data.source",
                                                          "data.storage",
                                                          "data.size",
                                                          "data.tokenizer",
                                                          "data.threads",
                                                          "data.read_timeout_s",
                                                          "ranks.min",
                                                          "ranks.max",
                                                          "ranks.grow",
                                                          "eval_every",
                                                          "checkpoint.every_steps",
                                                          "metrics.port",
                                                          "rebalance"};

bool decides(const Field& field, const Job& job) {
  if (field.key == "checkpoint.keep" || field.key.starts_with("resize.")) return false;
  // Else they only decide how sums are rounded, as the number of ranks does.
  if (field.key == "threads" || field.key == "device") return job.reproducible;
  return std::ranges::find(indifferent, field.key) == indifferent.end();
}

/// The same for the same value, and for no other.
std::string text_of(double value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.17g", value);
  return text.data();
}

}  // namespace

std::map<std::string, JobValue> deciding_values(const Job& job) {
  std::map<std::string, JobValue> values;
  for (const Field& field : job_fields()) {
    if (!decides(field, job)) continue;
    JobValue& place = values[std::string(field.key)];
    const auto value = field_value(field, job);
    if (const auto* flag = std::get_if<bool>(&value)) place = *flag ? "true" : "false";
    if (const auto* whole = std::get_if<std::int64_t>(&value)) place = *whole;
    if (const auto* number = std::get_if<double>(&value)) place = *number;
    if (const auto* text = std::get_if<std::string>(&value)) place = *text;
  }
  for (const auto& [option, value] : job.model.options) values[concat("model.", option)] = value;
  return values;
}

std::string job_fingerprint(const Job& job) {
  std::string text;
  for (const auto& [key, value] : deciding_values(job)) {
    text += concat(key, "=");
    if (const auto* whole = std::get_if<std::int64_t>(&value)) text += concat(*whole);
    if (const auto* number = std::get_if<double>(&value)) text += text_of(*number);
    if (const auto* word = std::get_if<std::string>(&value)) text += concat(word->size(), ":", *word);
    text += "\n";
  }
  return hex_word(::XXH3_64bits(text.data(), text.size()));
}

}  // namespace paceline
