#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data_damage.hpp"
#include "paceline/base/hash.hpp"

// manifest.json: what it may say, and that nothing else gets through.

namespace paceline {
namespace {

using namespace data_testing;

TEST(Manifest, EveryFlippedBitIsFound) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 120);
  const std::string good = read_bytes(train + "/manifest.json");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      ASSERT_FALSE(parse_manifest(bad, "m").ok()) << "byte " << at << " bit " << bit << ": " << bad;
    }
  EXPECT_TRUE(parse_manifest(good, "m").ok());
  for (std::size_t left = 0; left < good.size(); ++left)
    ASSERT_FALSE(parse_manifest(good.substr(0, left), "m").ok());
}

TEST(Manifest, RoundTrips) {
  const TemporaryFolder folder;
  const std::string train = make_dataset(folder, 250);
  const std::string text = read_bytes(train + "/manifest.json");
  EXPECT_EQ(render_manifest(manifest_of(train)), text);
}

struct Change {
  const char* where;  // JSON pointer
  const char* value;  // JSON; empty removes
  const char* message;
};

void expect_each_named(const std::string& good, const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    auto document = nlohmann::ordered_json::parse(good);
    const nlohmann::ordered_json::json_pointer where(change.where);
    if (*change.value == '\0')
      document.at(where.parent_pointer()).erase(where.back());
    else
      document[where] = nlohmann::ordered_json::parse(change.value);
    const Result<Manifest> parsed = parse_manifest(sign(document.dump(2)), "folder/manifest.json");
    ASSERT_FALSE(parsed.ok()) << change.where << " " << change.value;
    expect_part(parsed.error().message, change.message);
    expect_part(parsed.error().message, "folder/manifest.json");
  }
  EXPECT_TRUE(parse_manifest(sign(nlohmann::ordered_json::parse(good).dump(1)), "m").ok());
}

TEST(Manifest, EachWrongValueIsNamed) {
  const TemporaryFolder folder;
  expect_each_named(
      read_bytes(make_dataset(folder, 250) + "/manifest.json"),
      {
          {"/format/version", "3",
           "format version 3 and this Paceline reads 2: use the Paceline that wrote it"},
          {"/format/version", "1", "made by an older version; remove it and import it again"},
          {"/format/name", "\"other\\u001b\"", "`name` is \"other\\u001b\", and this Paceline reads only"},
          {"/format", "3", "`format`: it is not a JSON object"},
          {"/name", "\"\"", "`name` is not a text"},
          {"/task", "\"regression\"",
           "`task` is \"regression\", and this Paceline reads only \"image-classification\" and \"language-"},
          {"/task", "\"language-modelling\"", "`vocabulary` is missing"},
          {"/dtype", "\"f32\"",
           "`dtype` is \"f32\", and this Paceline reads only \"u8\", \"u16\" and \"i32\""},
          {"/dtype", "\"u16\"", "`dtype` is u16, and images have u8"},
          {"/storage", "\"bzip2\"", "reads only \"raw\", \"zstd\", \"lz4\", \"jpeg\" and \"deflate\""},
          {"/storage", "\"jpeg\"", "`largest_record_bytes` is missing"},
          {"/storage", "\"deflate\"",
           "shard 0: `values` is missing: only files of others are stored as deflate"},
          {"/layout", "\"nchw\"", "reads only \"chw\" and \"hwc\""},
          {"/samples", "", "`samples` is missing"},
          {"/samples", "251", "its shards have 250 together"},
          {"/samples", "0", "`samples` is not a whole number from 1 to 2147483647"},
          {"/samples", "-1", "`samples` is not a whole number"},
          {"/samples", "1.5", "`samples` is not a whole number"},
          {"/samples", "18446744073709551615", "`samples` is not a whole number"},
          {"/samples", "1e300", "`samples` is not a whole number"},
          {"/chunk_samples", "67108864", "which makes chunks larger than 1.0 GiB"},
          {"/chunk_samples", "17", "`chunks` is not a whole number from 6 to 6"},
          {"/classes", "null", "`classes` is not a whole number"},
          {"/class_names", "[\"a\", \"b\"]", "`class_names` is not a list of 10 texts"},
          {"/mean", "\"x\"", "`mean` is not a list of 1 number from 0 to 1"},
          {"/mean", "[0.5, 0.5]", "`mean` is not a list of 1 number"},
          {"/mean", "[1.5]", "`mean` is not a list of 1 number"},
          {"/standard_deviation", "[0]", "`standard_deviation` is not a list of 1 number"},
          {"/sample_shape", "[]", "`sample_shape` is not a list of 1 to 8 sizes"},
          {"/sample_shape", "[0]", "`sample_shape` has a size that is not"},
          {"/sample_shape", "[3, 2, 2]", "`mean` is not a list of 3 numbers"},
          {"/sample_shape", "[1073741824,1073741824,1073741824]", "makes samples of more than 1.0 GiB"},
          {"/shards", "[]", "`shards` is not a list of at least one"},
          {"/shards/1/file", "\"../../etc/passwd\"", "shard 1: `file` is not a plain file name"},
          {"/shards/1/file", "\".hidden\"", "`file` is not a plain file name"},
          {"/shards/1/file", "\"shard-00000.h5\"", "two shards have the file shard-00000.h5"},
          {"/shards/1/samples", "9223372036854775807", "shard 1: `samples` is not a whole number"},
          {"/shards/1/bytes", "-5", "`bytes` is not a whole number"},
          {"/shards/1/bytes", "200", "`bytes` is 200, which is too small for the index of 7 chunks"},
          {"/shards/1/index_offset", "99999999", "`index_offset` is not a whole number"},
          {"/shards/1/metadata_checksum", "\"0xABCDEF0123456789\"", "is not 0x and 16 hexadecimal digits"},
      });
}

TEST(Manifest, EachWrongValueOfTokensIsNamed) {
  const TemporaryFolder folder;
  write_tokens(folder / "set", {});
  expect_each_named(
      read_bytes(folder / "set/manifest.json"),
      {
          {"/vocabulary", "65537", "`vocabulary` is not a whole number from 1 to 65536"},
          {"/vocabulary", "0", "`vocabulary` is not a whole number"},
          {"/tokenizer", "", "`tokenizer` is missing"},
          {"/tokenizer", "\"/etc/passwd\"", "`tokenizer` is neither \"bytes\" nor a plain file name"},
          {"/tokenizer", "\"../../model\"", "`tokenizer` is neither"},
          {"/tokenizer", "\"../\"", "`tokenizer` is neither"},
          {"/storage", "\"jpeg\"", "`storage` is jpeg, which tokens cannot have"},
          {"/samples", "4398046511105", "`samples` is not a whole number from 1 to 4398046511104"},
      });
}

TEST(Manifest, SaysWhereTheTokenizerLies) {
  const TemporaryFolder folder;
  write_tokens(folder / "set", {});
  Manifest manifest = manifest_of(folder / "set");
  manifest.tokenizer = "../tokenizer.model";
  write_bytes(folder / "set/manifest.json", render_manifest(manifest));
  EXPECT_EQ(Dataset::open(folder / "set")->info().tokenizer, folder / "set/../tokenizer.model");
}

TEST(Manifest, MembersThatItDoesNotKnowAreIgnored) {
  const TemporaryFolder folder;
  write_images(folder / "set", {});
  auto document = nlohmann::ordered_json::parse(read_bytes(folder / "set/manifest.json"));
  document["licence"] = "of the future";
  document["shards"][0]["colour"] = 7;
  write_bytes(folder / "set/manifest.json", sign(document.dump(2)));
  EXPECT_EQ(read_error(folder / "set"), "");
}

TEST(Manifest, RandomBytesNeverCrash) {
  constexpr std::string_view alphabet = "{}[]\",:0123456789.eE-+ntful\\ \"format\"samples";
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    SplitMix64 random(seed);
    std::string text(random.below(200), ' ');
    for (char& c : text)
      c = seed % 2 == 0 ? static_cast<char>(random.next()) : alphabet[random.below(alphabet.size())];
    ASSERT_FALSE(parse_manifest(text, "m").ok()) << "seed " << seed;
  }
  ASSERT_FALSE(parse_manifest(std::string(1 << 20, '['), "m").ok());
}

/// Hostile numbers under a right checksum, so that they reach every check behind it, through to the chunks.
void expect_survived(const std::string& set) {
  const std::vector<std::string> values = {"0",
                                           "1",
                                           "-1",
                                           "2147483647",
                                           "4294967296",
                                           "9223372036854775807",
                                           "18446744073709551615",
                                           "1e308",
                                           "0.5",
                                           "null",
                                           "\"\"",
                                           "\"zstd\"",
                                           "\"jpeg\"",
                                           "\"u16\"",
                                           "true",
                                           "67108864",
                                           "1073741824",
                                           "17592186044416"};
  const auto flat = nlohmann::ordered_json::parse(read_bytes(set + "/manifest.json")).flatten();
  int read = 0;
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    SplitMix64 random(seed);
    auto document = flat;
    for (std::uint64_t i = 0; i <= seed % 3; ++i) {
      auto member = document.begin();
      std::advance(member,
                   static_cast<std::ptrdiff_t>(random.below(document.size() - 1)));  // not the checksum
      member.value() = nlohmann::ordered_json::parse(values[random.below(values.size())]);
    }
    write_bytes(set + "/manifest.json", sign(document.unflatten().dump(2)));
    read += read_error(set).empty() ? 1 : 0;
  }
  EXPECT_GT(read, 0);    // some changes are harmless: another mean, more classes
  EXPECT_LT(read, 300);  // most are not
}

TEST(Manifest, SignedHostileValuesNeverCrash) {
  const TemporaryFolder folder;
  write_images(folder / "raw", {Storage::raw, 120});
  expect_survived(folder / "raw");
  write_images(folder / "jpeg", {Storage::jpeg, 120});
  expect_survived(folder / "jpeg");
  write_tokens(folder / "tokens", {ElementType::u8, Storage::lz4});
  expect_survived(folder / "tokens");
}

}  // namespace
}  // namespace paceline
