#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "paceline/base/hash.hpp"
#include "paceline/base/text.hpp"

namespace paceline {

inline constexpr int rounds = 100'000;

/// A few random changes: bytes replaced, removed, inserted from `alphabet`, or a part said twice.
inline std::string mutate(std::string text, const std::string& alphabet, SplitMix64& random) {
  const std::uint64_t changes = 1 + random.below(4);
  for (std::uint64_t i = 0; i < changes; ++i) {
    const std::size_t at = random.below(text.size() + 1);
    const char byte =
        random.below(8) == 0 ? static_cast<char>(random.below(256)) : alphabet[random.below(alphabet.size())];
    const std::size_t length = random.below(12);
    switch (random.below(4)) {
      case 0: text.insert(at, 1, byte); break;
      case 1: text.erase(at, length); break;
      case 2:
        if (at < text.size()) text[at] = byte;
        break;
      default: text.insert(at, text.substr(std::min(text.size(), at / 2), length)); break;
    }
  }
  return text;
}

inline std::string noise(const std::string& alphabet, SplitMix64& random) {
  std::string text(random.below(60), ' ');
  for (char& c : text)
    c = random.below(4) == 0 ? static_cast<char>(random.below(256)) : alphabet[random.below(alphabet.size())];
  return text;
}

struct Tally {
  int good = 0;
  int bad = 0;
};

/// Feeds one input in ten as noise, the others as damaged examples. `parse` says whether it was accepted, and
/// checks the error if not.
template <class Parse>
Tally feed(const std::vector<std::string>& examples, const std::string& alphabet, std::uint64_t seed,
           Parse parse) {
  SplitMix64 random(seed);
  Tally outcome;
  for (int round = 0; round < rounds; ++round) {
    const std::string& example = examples[random.below(examples.size())];
    const std::string input =
        random.below(10) == 0 ? noise(alphabet, random) : mutate(example, alphabet, random);
    SCOPED_TRACE(concat("seed ", seed, ", round ", round));
    ++(parse(input) ? outcome.good : outcome.bad);
    if (::testing::Test::HasFailure()) break;
  }
  return outcome;
}

}  // namespace paceline
