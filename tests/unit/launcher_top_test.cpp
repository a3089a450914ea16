// What `paceline top` shows of what a coordinator says.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "seeing/run_events.hpp"
#include "seeing/top_status.hpp"
#include "seeing/top_view.hpp"
#include "support/mutations.hpp"
#include "support/seen_run.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

/// A rank that has trained `steps` steps of 10 ms: 1 ms of data, 3 forward, 4 backward, 1 reduce, 0.5 commit,
/// 0.5 optimizer. It uses three quarters of a core, and reads 1 MB a step.
Json telemetry(std::int64_t steps) {
  const auto s = static_cast<double>(steps);
  return {{"steps", steps},
          {"data_s", 0.001 * s},
          {"forward_s", 0.003 * s},
          {"backward_s", 0.004 * s},
          {"reduce_s", 0.001 * s},
          {"commit_s", 0.0005 * s},
          {"optimizer_s", 0.0005 * s},
          {"cpu_s", 0.0075 * s},
          {"read_bytes", 1'000'000 * steps},
          {"network_sent_bytes", 200'000 * steps},
          {"network_received_bytes", 100'000 * steps},
          {"memory_bytes", 300 << 20},
          {"gpu_busy", nullptr}};
}

Json rank(std::int64_t number, std::int64_t steps) {
  return {{"rank", number},
          {"worker", number},
          {"node", concat("n", number % 2)},
          {"pid", 1},
          {"device", "cpu"},
          {"state", "member"},
          {"step", steps + 1},
          {"doing", "compute"},
          {"share", 16 + number},
          {"step_ms", 9.5 - 0.1 * static_cast<double>(number)},
          {"telemetry", telemetry(steps)}};
}

Json status(std::int64_t ranks, std::int64_t steps) {
  Json all = Json::array();
  for (std::int64_t i = 0; i < ranks; ++i) all.push_back(rank(i, steps));
  return {{"state", "training"},
          {"run_dir", "/runs/small/one"},
          {"step", steps},
          {"steps", 1000},
          {"generation", 2},
          {"wish", ranks},
          {"room", 8},
          {"repairs", 0},
          {"resizes", 1},
          {"ranks", all},
          {"coordinator", {{"term", 1}, {"pid", 1}}}};
}

TopLook look_at(const Json& status, double time_s) {
  TopLook look;
  look.status = parse_top_status(status.dump()).value();
  look.time_s = time_s;
  return look;
}

/// Of two looks a second apart, between which 100 steps were committed.
TopView view_of(std::int64_t ranks) {
  TopView view;
  view.take(look_at(status(ranks, 100), 10));
  view.take(look_at(status(ranks, 200), 11));
  return view;
}

std::string text_of(const Screen& screen) {
  std::string text;
  for (const ScreenLine& line : screen) text += line.text + "\n";
  return text;
}

std::vector<std::string> words_of(const ScreenLine& line) {
  std::vector<std::string> words;
  for (const std::string& word : split(line.text, ' '))
    if (!word.empty()) words.push_back(word);
  return words;
}

std::size_t line_with(const Screen& screen, const std::string& text) {
  for (std::size_t i = 0; i < screen.size(); ++i)
    if (screen[i].text.find(text) != std::string::npos) return i;
  ADD_FAILURE() << "nothing has " << text << " in\n" << text_of(screen);
  return 0;
}

TEST(TopStatus, TakesWhatIsThereAndRefusesWhatIsNoObject) {
  const TopStatus parsed = parse_top_status(status(2, 100).dump()).value();
  ASSERT_EQ(parsed.ranks.size(), 2u);
  EXPECT_EQ(parsed.ranks[1].telemetry->steps, 100);
  EXPECT_FALSE(parsed.ranks[1].telemetry->gpu_busy.has_value());
  EXPECT_FALSE(parse_top_status("").ok());
  EXPECT_FALSE(parse_top_status("[]").ok());
  Json without = status(1, 5);
  without["ranks"][0]["telemetry"] = nullptr;
  without["ranks"][0]["rank"] = nullptr;
  without["ranks"][0]["node"] = "a\x1b[2Jb";
  const TopStatus bare = parse_top_status(without.dump()).value();
  EXPECT_FALSE(bare.ranks[0].telemetry.has_value());
  EXPECT_FALSE(bare.ranks[0].rank.has_value());
  EXPECT_EQ(bare.ranks[0].node, "a?[2Jb");
}

TEST(TopRates, AreOfTheTimeBetweenTwoLooks) {
  TopRates rates;
  auto rows = rates.rows(*look_at(status(1, 100), 0).status, 10);
  EXPECT_FALSE(rows[0].cpu_cores.has_value());
  ASSERT_TRUE(rows[0].parts.has_value());
  rows = rates.rows(*look_at(status(1, 200), 0).status, 12);
  EXPECT_NEAR(*rows[0].cpu_cores, 0.375, 1e-9);
  EXPECT_NEAR(*rows[0].read_bytes_per_s, 50e6, 1);
  EXPECT_NEAR(*rows[0].network_bytes_per_s, 15e6, 1);
  EXPECT_NEAR(rows[0].parts->at(static_cast<std::size_t>(TimedPart::backward)), 0.4, 1e-9);
  // Without a step since, what was known of them stays; the process's sums may have begun anew.
  rows = rates.rows(*look_at(status(1, 200), 0).status, 13);
  EXPECT_NEAR(rows[0].parts->at(static_cast<std::size_t>(TimedPart::backward)), 0.4, 1e-9);
  EXPECT_EQ(*rows[0].cpu_cores, 0);
  rows = rates.rows(*look_at(status(1, 5), 0).status, 14);
  EXPECT_FALSE(rows[0].cpu_cores.has_value());
}

TEST(TopView, ShowsTheRunAndItsRanks) {
  TopView view = view_of(2);
  TopLook look = look_at(status(2, 300), 12);
  look.metrics =
      MetricsLine{.step = 300, .epoch = 3, .time = 1, .loss = 0.4321, .samples_per_second = 9024.4};
  look.step_s = 0.05;
  RunEvent event;
  event.kind = EventKind::checkpoint;
  event.after_step = 250;
  event.text = "checkpoint of step 250";
  look.events = {event};
  view.take(look);
  const Screen screen = view.screen(0, 0);
  EXPECT_EQ(screen[0].text, "small/one: training, step 300 of 1,000 (30.0%), epoch 3, 0:35 left");
  EXPECT_EQ(screen[1].text,
            "loss 0.432, 9,024 samples/s, generation 2, wish 2 ranks, room for 8, 0 repairs, 1 resize");
  const std::size_t first = line_with(screen, "rank  worker") + 1;
  EXPECT_EQ(
      words_of(screen[first]),
      (std::vector<std::string>{"0", "0", "n0", "member", "compute", "16", "9.5", "ddffffffbbbbbbbbrrco",
                                "10", "30", "40", "10", "5", "5", "75", "300", "100.0", "30.0"}));
  EXPECT_EQ(text_of(screen).find("GPU"), std::string::npos);
  line_with(screen, "after step 250: checkpoint of step 250");
}

TEST(TopView, WhatIsNotKnownIsADash) {
  Json bare = status(1, 100);
  bare["ranks"][0]["telemetry"] = nullptr;
  bare["ranks"][0]["step_ms"] = nullptr;
  bare["ranks"][0]["doing"] = nullptr;
  TopView view;
  view.take(look_at(bare, 1));
  const Screen screen = view.screen(0, 0);
  const std::vector<std::string> words = words_of(screen[line_with(screen, "rank  worker") + 1]);
  EXPECT_EQ(words.at(4), "-");
  EXPECT_EQ(words.at(6), "-");
  EXPECT_EQ(words.at(7), std::string(20, '-'));
}

TEST(TopView, GpusAreShownWhereThereAreAny) {
  Json with = status(2, 100);
  with["ranks"][1]["telemetry"]["gpu_busy"] = 0.87;
  with["ranks"][1]["telemetry"]["gpu_power_w"] = 512.4;
  TopView view;
  view.take(look_at(with, 1));
  const std::string text = text_of(view.screen(0, 0));
  EXPECT_NE(text.find("GPU%"), std::string::npos);
  EXPECT_NE(text.find("87"), std::string::npos);
  EXPECT_NE(text.find("512"), std::string::npos);
  EXPECT_EQ(text.find("GPU MiB"), std::string::npos);
}

TEST(TopView, FitsAnyTerminal) {
  TopView view = view_of(50);
  for (const std::size_t width : {1u, 10u, 40u, 80u, 120u, 300u})
    for (const std::size_t height : {1u, 2u, 5u, 24u, 100u}) {
      const Screen screen = view.screen(width, height);
      EXPECT_EQ(screen.size(), height);
      for (const ScreenLine& line : screen) {
        EXPECT_LE(columns_of(line.text), width) << line.text;
        for (const auto& span : line.spans) EXPECT_LE(span.begin + span.length, line.text.size());
      }
    }
  // What matters most stays longest.
  const Screen narrow = view.screen(40, 24);
  const ScreenLine& titles = narrow[line_with(narrow, "step ms")];
  EXPECT_NE(titles.text.find("rank"), std::string::npos);
  EXPECT_NE(titles.text.find("doing"), std::string::npos);
  EXPECT_EQ(titles.text.find("worker"), std::string::npos);
}

TEST(TopView, ScrollsAndSorts) {
  TopView view = view_of(50);
  const auto first_rank = [&view] {
    const Screen screen = view.screen(120, 24);
    return words_of(screen[line_with(screen, "step ms") + 1]).at(0);
  };
  EXPECT_EQ(first_rank(), "0");
  view.press(Key::down);
  EXPECT_EQ(first_rank(), "1");
  view.press(Key::home);
  view.press(Key::page_down);
  EXPECT_NE(first_rank(), "0");
  view.press(Key::end);
  const std::string last_page = first_rank();
  view.press(Key::page_down);
  EXPECT_EQ(first_rank(), last_page);  // which is full
  line_with(view.screen(120, 24), "  49 ");
  view.press(Key::home);
  view.press(Key::up);
  EXPECT_EQ(first_rank(), "0");
  view.press(Key::reverse);
  EXPECT_EQ(first_rank(), "49");
  for (int i = 0; i < 6; ++i) view.press(Key::right);  // step ms: the highest rank is the quickest
  EXPECT_EQ(first_rank(), "0");
  view.press(Key::reverse);
  EXPECT_EQ(first_rank(), "49");
  view.take(look_at(status(3, 300), 12));  // fewer than before
  EXPECT_EQ(first_rank(), "2");
}

TEST(TopView, StragglersStandOutUntilTheyEnd) {
  TopView view = view_of(4);
  RunEvent event;
  event.kind = EventKind::straggler;
  event.worker = event.rank = 2;
  event.part = "data";
  event.text = "rank 2 on n0 waits for its samples";
  TopLook look = look_at(status(4, 300), 12);
  look.events = {event};
  view.take(look);
  Screen screen = view.screen(120, 24);
  const std::size_t line = line_with(screen, event.text);
  EXPECT_LT(line, 4u);
  EXPECT_EQ(screen[line].spans.at(0).style, Style::alarm);
  event.ended = true;
  event.text = "over";
  look = look_at(status(4, 400), 13);
  look.events = {event};
  view.take(look);
  screen = view.screen(120, 24);
  EXPECT_EQ(screen[2].text, "");
}

TEST(TopView, SaysThatTheCoordinatorIsGoneAndKeepsWhatItKnows) {
  TopView view;
  TopLook gone;
  gone.problem = "the coordinator of term 1 doesn't answer";
  view.take(gone);
  EXPECT_EQ(view.screen(80, 5)[0].text, gone.problem);
  view.take(look_at(status(2, 100), 1));
  view.take(gone);
  const Screen screen = view.screen(120, 24);
  EXPECT_EQ(screen[2].text, "what follows is old: the coordinator of term 1 doesn't answer; trying again");
  line_with(screen, "ddffff");
  view.take(look_at(status(2, 200), 3));
  EXPECT_EQ(view.screen(120, 24)[2].text, "");
}

TEST(KeyReader, KnowsSequencesInPiecesAndPassesOverOthers) {
  KeyReader keys;
  using Keys = std::vector<Key>;
  EXPECT_EQ(keys.take("q"), (Keys{Key::quit}));
  EXPECT_EQ(keys.take("\x1b[A\x1b[Br"), (Keys{Key::up, Key::down, Key::reverse}));
  EXPECT_EQ(keys.take("\x1b"), Keys());
  EXPECT_EQ(keys.take("[5"), Keys());
  EXPECT_EQ(keys.take("~"), (Keys{Key::page_up}));
  EXPECT_EQ(keys.take("xyz\x1b[Z\x1b\x1b[C"), (Keys{Key::right}));
}

TEST(Columns, CountCharacters) {
  EXPECT_EQ(columns_of("abc"), 3u);
  EXPECT_EQ(columns_of("\xc3\xbc"
                       "b"),
            2u);
  EXPECT_EQ(cut_to("\xc3\xbc"
                   "bc",
                   2),
            "\xc3\xbc"
            "b");
  EXPECT_EQ(cut_to("abc", 9), "abc");
}

TEST(Fuzz, AnswersOfCoordinators) {
  TopView view;
  double time_s = 0;
  const Tally outcome =
      feed({status(2, 100).dump()}, R"({}[]",:0123456789-.eE\tuflsn )", 31, [&](const std::string& text) {
        const auto parsed = parse_top_status(text);
        if (!parsed.ok()) return false;
        TopLook look;
        look.status = *parsed;
        look.time_s = ++time_s;
        view.take(look);
        const bool is_drawn = static_cast<int>(time_s) % 100 == 0;
        for (const ScreenLine& line : is_drawn ? view.screen(100, 20) : Screen())
          EXPECT_LE(columns_of(line.text), 100u);
        return true;
      });
  EXPECT_GT(outcome.good, 1000);
  EXPECT_GT(outcome.bad, 1000);
}

}  // namespace
}  // namespace paceline
