// The manifest of a checkpoint as text: what it keeps, and what neither its writer nor its reader accepts.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "../../job/src/checkpoint_files.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/base/hash.hpp"
#include "support/checkpoints.hpp"

namespace paceline {
namespace {

using namespace checkpoint_testing;

TEST(CheckpointManifestText, ReadsTheExampleOfItsPage) {
  const std::string page = read_file(PACELINE_DOCS "/checkpoints.md").value();
  const std::size_t begin = page.find("```json\n") + 8;
  const std::string example = page.substr(begin, page.find("```", begin) - begin);
  const auto manifest = parse_checkpoint_manifest(example, "docs/checkpoints.md");
  ASSERT_TRUE(manifest.ok()) << manifest.error().message;
  EXPECT_EQ(manifest->parts.size(), 2U);
  EXPECT_EQ(render_checkpoint_manifest(*manifest).value(), example);
}

CheckpointManifest some_manifest() {
  CheckpointManifest manifest{{5, 1, 2}, "f", {}, {{"a", 5000}, {"b", 1}}, {}};
  manifest.parts = {{0, 2, {0, 4096}, {1}}, {1, 2, {4096, 905}, {0xfedcba9876543210U}}};
  return manifest;
}

TEST(CheckpointManifestText, KeepsFiguresExactly) {
  CheckpointManifest manifest = some_manifest();
  for (const double number : {0.1, -0.0, 1.0, 1e300, 5e-324, -123456789.125})
    manifest.scalars[concat("d", manifest.scalars.size())] = number;
  manifest.scalars["most"] = std::numeric_limits<std::int64_t>::max();
  manifest.scalars["least"] = std::numeric_limits<std::int64_t>::min();
  manifest.scalars["n\xc3\xa4me \"quoted\" \\"] = "\xe2\x82\xac \"\\/";
  const std::string text = render_checkpoint_manifest(manifest).value();
  const auto read = parse_checkpoint_manifest(text, "m");
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->scalars, manifest.scalars);
  EXPECT_TRUE(std::signbit(std::get<double>(read->scalars.at("d1"))));
  EXPECT_EQ(read->parts, manifest.parts);
}

TEST(CheckpointManifestText, RulesHoldForTheWriter) {
  const auto complaint = [](auto change) {
    CheckpointManifest manifest = some_manifest();
    change(manifest);
    const auto text = render_checkpoint_manifest(manifest);
    if (text.ok()) return std::string();
    EXPECT_EQ(text.error().code, ErrorCode::invalid_argument);
    return text.error().message;
  };
  EXPECT_EQ(complaint([](auto&) {}), "");
  expect_part(complaint([](auto& m) { m.id.step = -1; }), "not whole numbers from 0 to 2^53");
  expect_part(complaint([](auto& m) { m.layout[1].name = "a"; }),
              "two entries of its layout have the name a");
  expect_part(complaint([](auto& m) { m.layout[1].name = ""; }), "name that is not a plain text");
  expect_part(complaint([](auto& m) { m.layout[1].name = "\xff"; }), "name that is not a plain text");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = -1; }), "its entry b makes the state larger");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = std::int64_t{1} << 53; }), "larger than 2^53");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = 2; }), "leave out the last 1 bytes");
  expect_part(complaint([](auto& m) { m.layout[1].bytes = 0; }), "only 904 of the state are left");
  expect_part(complaint([](auto& m) { m.parts.clear(); }), "it has 0 parts");
  expect_part(complaint([](auto& m) { m.parts.pop_back(); }), "its part 0 is that of rank 0 of 2");
  expect_part(complaint([](auto& m) { std::swap(m.parts[0], m.parts[1]); }),
              "its part 0 is that of rank 1 of 2");
  expect_part(complaint([](auto& m) { m.parts[1].slice.offset = 0; }), "its part 1 begins at byte 0");
  expect_part(complaint([](auto& m) { m.parts[0].slice.bytes = -1; }), "its part 0 has -1 bytes");
  expect_part(complaint([](auto& m) { m.parts[1].checksums.clear(); }), "has 0 checksums for 1 blocks");
  expect_part(complaint([](auto& m) { m.scalars["x"] = std::nan(""); }), "its scalar x is neither a finite");
  expect_part(complaint([](auto& m) { m.scalars["x"] = "\n"; }), "its scalar x is neither a finite");
  expect_part(complaint([](auto& m) { m.job_fingerprint = "\x1b[2J"; }),
              "job_fingerprint is not a plain text");
}

// The checksum is right, as whoever writes a wrong manifest can make it.
TEST(CheckpointManifestText, RulesHoldForTheReader) {
  const std::string whole = render_checkpoint_manifest(some_manifest()).value();
  const std::string json = whole.substr(0, whole.rfind(",\n  \"checksum\"")) + "\n}";
  const auto complaint = [&](const std::string& what, const std::string& by) {
    std::string changed = json;
    const std::size_t at = changed.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    changed.replace(at, what.size(), by);
    const auto manifest = parse_checkpoint_manifest(seal_manifest(changed), "m");
    if (manifest.ok()) return std::string();
    EXPECT_EQ(manifest.error().code, ErrorCode::corrupt);
    return manifest.error().message;
  };
  EXPECT_EQ(complaint("\"f\"", "\"g\""), "");
  EXPECT_EQ(complaint("\"term\"", "\"later\": [[1]], \"term\""), "") << "unknown members are passed over";
  expect_part(complaint("\"format\"", "\"f\""), "m: it has no \"format\"");
  expect_part(complaint("paceline-checkpoint", "other"), "m: it is no checkpoint's manifest");
  for (const char* number : {"-1", "0.5", "1e3", "\"3\"", "9007199254740993", "99999999999999999999"})
    expect_part(complaint("\"step\": 5", concat("\"step\": ", number)),
                "m: its \"step\" is not a whole number from 0 to 2^53");
  expect_part(complaint("\"bytes\": 5000", "\"bytes\": 9007199254740992"), "larger than 2^53 bytes");
  expect_part(complaint("\"bytes\": 5000", "\"bytes\": 9007199254740991"),
              "leave out the last 9007199254735991");
  expect_part(complaint("\"bytes\": 4096", "\"bytes\": 8192"), "m: its part 0 has 8192 bytes, and only 5001");
  expect_part(complaint("\"offset\": 4096", "\"offset\": 4095"), "m: its part 1 begins at byte 4095");
  expect_part(complaint("\"ranks\": 2", "\"ranks\": 3"), "m: its part 0 is that of rank 0 of 3");
  expect_part(complaint("0xfedcba9876543210", "0xFEDCBA9876543210"),
              "m: part 1: its checksum 0 is not 0x and 16 hexadecimal digits");
  expect_part(complaint("\"0xfedcba9876543210\"", ""), "has 0 checksums for 1 blocks");
  expect_part(complaint("{}", "[]"), "m: its \"scalars\" is no JSON object");
  expect_part(complaint("{}", "{\"a\": null}"), "m: its scalar a is neither a number nor a string");
  expect_part(complaint("{}", "{\"a\": 18446744073709551615}"), "m: its scalar a is neither");
  expect_part(complaint("\"name\": \"b\"", "\"name\": \"\\u0007\""), "name that is not a plain text");
  expect_part(complaint("{}", std::string(100'000, '[')), "m: it is not JSON");
  for (const std::string& text : {std::string(), std::string("{}"), json, whole + " ", whole.substr(1)})
    EXPECT_FALSE(parse_checkpoint_manifest(text, "m").ok());
}

}  // namespace
}  // namespace paceline
