// Why a run had the ranks that it had: from journals in which everything is known.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "commands.hpp"
#include "elastic/decision_record.hpp"
#include "explain/explanation.hpp"
#include "paceline/base/fd.hpp"
#include "paceline/job/journal.hpp"
#include "support/mutations.hpp"
#include "support/resize_simulation.hpp"
#include "support/temporary_folder.hpp"

namespace paceline {
namespace {

using Json = nlohmann::json;

constexpr double began = 1795353570.5;

/// What a policy decided on in a simulated job, as far as it was news.
std::vector<ResizeDecision> simulated_decisions(ResizeObjective objective = ResizeObjective::throughput) {
  resizing::Setting setting;
  setting.law = [](std::int64_t ranks) {
    const auto n = static_cast<double>(ranks);
    return resizing::StepTime{50 / n, 50 * (1 + 0.02 * (n - 1) + 0.08 * n * (n - 1)) / n};
  };
  setting.rules.objective = objective;
  setting.rules.deadline_s = 600;
  setting.rules.prices = {{"cpu", 0.1}};
  setting.rules.power_w = {{"cpu", 12.5}};
  setting.kinds = {{"cpu", 8, {}}};
  setting.steps = 14'000;
  setting.hours = 0.15;
  return resizing::simulate(setting).news;
}

/// A run directory in which there are journals.
class RunFolder {
 public:
  RunFolder() {
    std::filesystem::create_directory(folder_ / "journal");
    std::ofstream(folder_ / "job.json") << "{}";
  }
  [[nodiscard]] const std::string& path() const { return folder_.path(); }
  void append(std::int64_t term, const std::string& text) const {
    std::ofstream(journal_path(path(), term), std::ios::app) << text;
  }
  [[nodiscard]] std::int64_t bytes(std::int64_t term) const {
    return static_cast<std::int64_t>(std::filesystem::file_size(journal_path(path(), term)));
  }

 private:
  TemporaryFolder folder_;
};

JournalHeader header_of(std::int64_t term) {
  return {.run = "mine/1", .key = 7, .order = {{"kind", "lanes"}}, .term = term};
}

std::string generation_line(std::int64_t number, std::int64_t step, std::int64_t ranks, const char* reason) {
  Json line = Json::parse(journal_line(JournalGeneration{number, 1, step, ranks, number > 1, reason}));
  line["time"] = began + static_cast<double>(step);
  return line.dump() + "\n";
}

Explanation read(const RunFolder& run) {
  Result<Explanation> explanation = read_explanation(run.path());
  EXPECT_TRUE(explanation.ok()) << explanation.error().message;
  return explanation.ok() ? std::move(*explanation) : Explanation{};
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

ExplainOptions whole(const std::string& run_dir) {
  ExplainOptions options;
  options.run_dir = run_dir;
  return options;
}

ExplainOptions with_replay(const std::string& run_dir) {
  ExplainOptions options = whole(run_dir);
  options.replay = true;
  return options;
}

// ---- records

TEST(DecisionRecord, IsReadBackExactly) {
  for (const ResizeObjective objective :
       {ResizeObjective::throughput, ResizeObjective::efficiency, ResizeObjective::deadline,
        ResizeObjective::cost, ResizeObjective::energy})
    for (const ResizeDecision& decision : simulated_decisions(objective)) {
      const std::string line = decision_line(decision, decision.facts.step, began);
      ASSERT_EQ(std::ranges::count(line, '\n'), 1);
      const Result<DecisionRecord> record = parse_decision(line);
      ASSERT_TRUE(record.ok()) << record.error().message;
      EXPECT_EQ(record->time, began);
      EXPECT_EQ(record->step, decision.facts.step);
      EXPECT_EQ(record->decision.facts, decision.facts);
      EXPECT_EQ(record->decision.before, decision.before);
      EXPECT_EQ(record->decision.after, decision.after);
      EXPECT_EQ(record->decision.candidates, decision.candidates);
      EXPECT_EQ(record->decision.reason, decision.reason);
      EXPECT_EQ(decision_line(record->decision, record->step, record->time), line);
    }
}

TEST(DecisionRecord, HasNumbersThatAreNone) {
  ResizeRules rules;
  rules.objective = ResizeObjective::throughput;
  ResizeFacts facts{.ranks = 2, .wish = 2, .max_ranks = 4, .places = 4};
  facts.pause_s = std::nan("");
  facts.rank_lead_s = std::numeric_limits<double>::infinity();
  facts.elapsed_s = -std::numeric_limits<double>::infinity();
  const ResizeDecision decision = decide_resize(rules, {}, 1, facts);
  EXPECT_EQ(decision.cause, ResizeCause::bad_input);
  const Result<DecisionRecord> record = parse_decision(decision_line(decision, 0, began));
  ASSERT_TRUE(record.ok()) << record.error().message;
  EXPECT_TRUE(std::isnan(record->decision.facts.pause_s));
  EXPECT_EQ(record->decision.facts.rank_lead_s, facts.rank_lead_s);
  EXPECT_EQ(record->decision.facts.elapsed_s, facts.elapsed_s);
  EXPECT_EQ(replay(record->decision), "");
}

TEST(DecisionRecord, RefusesWhatIsNone) {
  EXPECT_EQ(parse_decision("{").error().message, "this is no decision: it is not JSON");
  EXPECT_EQ(parse_decision("[]").error().message, "this is no decision: its type is not \"decision\"");
  EXPECT_EQ(parse_decision(R"({"type":"decision"})").error().message,
            "this is no decision: its \"time\" is missing, or not what it must be");
  Json line = Json::parse(decision_line(simulated_decisions().front(), 1, began));
  line["facts"]["ranks"] = 1.5;
  EXPECT_EQ(parse_decision(line.dump()).error().message,
            "this is no decision: a number is not whole, or too large");
  line["facts"]["ranks"] = 1;
  line["cause"] = "whim";
  EXPECT_EQ(parse_decision(line.dump()).error().message, "this is no decision: a name is not known");
  EXPECT_FALSE(parse_decision(std::string(100'000, '[')).ok());
}

TEST(DecisionRecord, SurvivesDamage) {
  ResizeRules rules;
  rules.objective = ResizeObjective::throughput;
  ResizeFacts facts{.ranks = 2, .wish = 2, .max_ranks = 4, .places = 4, .step = 90, .steps_left = 900};
  facts.forecasts = {{2, 50, 49, 51, true}, {4, 30, 25, 35, false}};
  ResizeState state;
  state.now_s = 99;
  state.wish = state.ranks = 2;
  const std::string line = decision_line(decide_resize(rules, state, 100, facts), 90, began);
  ASSERT_TRUE(has(line, "\"verdict\":\"grow\"")) << line;
  const std::string alphabet = R"({}[]",:0123456789-.eE\truefalsn )";
  const Tally outcome = feed({line}, alphabet, 1, [](const std::string& text) {
    const Result<DecisionRecord> record = parse_decision(text);
    if (!record.ok()) {
      EXPECT_EQ(record.error().code, ErrorCode::corrupt);
      return false;
    }
    // What can be read can be decided on again, whatever it says.
    std::ignore = replay(record->decision);
    const std::string again = decision_line(record->decision, record->step, record->time);
    const auto reread = parse_decision(again);
    EXPECT_TRUE(reread.ok() && decision_line(reread->decision, reread->step, reread->time) == again) << text;
    return true;
  });
  EXPECT_GT(outcome.good, 100);
  EXPECT_GT(outcome.bad, 1000);
}

TEST(DecisionRecord, TakesTheRulesOfTheJobFile) {
  const Result<Job> job = parse_job(
      "name: t\ndata: {train: a}\nmodel: cnn\nbatch: {global: 8}\nepochs: 1\n"
      "resize: {objective: cost, prices: {cpu: 0.5}, power_w: {cpu: 9}, most_slowdown: 3, dwell_s: 7}\n",
      "job.yaml", {});
  ASSERT_TRUE(job.ok()) << job.error().message;
  const ResizeRules rules = resize_rules(*job);
  EXPECT_EQ(rules.objective, ResizeObjective::cost);
  EXPECT_EQ(rules.prices.at("cpu"), 0.5);
  EXPECT_EQ(rules.power_w.at("cpu"), 9);
  EXPECT_EQ(rules.most_slowdown, 3);
  EXPECT_EQ(rules.dwell_s, 7);
  EXPECT_EQ(fault_of(rules), "");
  for (const std::string_view objective : resize_objectives)
    EXPECT_TRUE(resize_objective(std::string(objective))) << objective;
}

// ---- replaying

TEST(Replay, OfAWholeJournalGivesTheSameDecisions) {
  const RunFolder run;
  run.append(1, journal_line(header_of(1)));
  std::int64_t decisions = 0;
  for (const ResizeObjective objective :
       {ResizeObjective::throughput, ResizeObjective::deadline, ResizeObjective::cost})
    for (const ResizeDecision& decision : simulated_decisions(objective)) {
      run.append(1, decision_line(decision, decision.facts.step, began + decision.now_s));
      ++decisions;
    }
  const ReplayedDecisions replayed = replay(read(run));
  EXPECT_EQ(replayed.same, decisions);
  EXPECT_GT(decisions, 10);
  EXPECT_TRUE(replayed.different.empty()) << replayed.different.front();
  EXPECT_EQ(explain(with_replay(run.path())), exit_done);
}

TEST(Replay, NoticesWhatWasChanged) {
  const RunFolder run;
  run.append(1, journal_line(header_of(1)));
  for (const ResizeDecision& decision : simulated_decisions())
    if (decision.verdict == ResizeVerdict::grow) {
      Json line = Json::parse(decision_line(decision, 120, began));
      line["target"] = 7;
      run.append(1, line.dump() + "\n");
      line["target"] = decision.target;
      line["candidates"][0]["score"] = 0.25;
      run.append(1, line.dump() + "\n");
      run.append(1, R"({"type":"decision","step":130,"reason":"old"})"
                    "\n");
      break;
    }
  const ReplayedDecisions replayed = replay(read(run));
  EXPECT_EQ(replayed.same, 0);
  ASSERT_EQ(replayed.different.size(), 3U);
  EXPECT_TRUE(has(replayed.different[0], "the decision after step 120 of term 1: it was grow"))
      << replayed.different[0];
  EXPECT_TRUE(has(replayed.different[1], "with other figures or words")) << replayed.different[1];
  EXPECT_TRUE(has(replayed.different[2], "this is no decision")) << replayed.different[2];
  EXPECT_EQ(explain(with_replay(run.path())), exit_failed);
  EXPECT_EQ(explain(whole(run.path())), exit_done);
}

// ---- what is shown

/// Two terms, of which the first was cut off after a step that counts, and a line that is not whole.
void write_history(const RunFolder& run) {
  run.append(1, journal_line(header_of(1)));
  run.append(1, generation_line(1, 0, 2, "the job begins"));
  run.append(1, journal_line(JournalStep{1, 1, 0, 8, 1}));
  run.append(
      1,
      R"({"type":"straggler","time":1795353580.25,"step":1,"generation":1,"worker":1,"rank":1,"node":"n2",)"
      R"("part":"data","ratio":2.1,"since":1795353579,"ended":false,"reason":"rank 1 waits for its data"})"
      "\n");
  run.append(1, R"({"type":"novelty","of":"a later version"})"
                "\n");
  JournalHeader header = header_of(2);
  header.follows = {1, run.bytes(1), 1};
  run.append(1, generation_line(2, 1, 9, "written by one that has been replaced"));
  run.append(2, journal_line(header));
  run.append(2, generation_line(3, 1, 1, "worker 1 on n2 was lost: it was killed by signal 9"));
  run.append(2, journal_line(JournalShares{2, 3, {16}, 0.2, "rank 0 is alone"}));
  for (const ResizeDecision& decision : simulated_decisions())
    if (decision.verdict == ResizeVerdict::grow) {
      run.append(2, decision_line(decision, 2, began + 60));
      break;
    }
  run.append(2, generation_line(4, 2, 4, "larger by 3"));
  run.append(2, R"({"type":"end","status":"comp)");
}

TEST(Explanation, HasAllTermsAndOnlyWhatCounts) {
  const RunFolder run;
  write_history(run);
  const Explanation explanation = read(run);
  EXPECT_EQ(explanation.run, "mine/1");
  std::vector<EventKind> kinds;
  for (const ExplainedEvent& explained : explanation.events) kinds.push_back(explained.event.kind);
  EXPECT_EQ(kinds, (std::vector<EventKind>{EventKind::term, EventKind::generation, EventKind::straggler,
                                           EventKind::term, EventKind::generation, EventKind::shares,
                                           EventKind::decision, EventKind::generation}));
  const std::string text = explanation_text(explanation, 0);
  EXPECT_TRUE(has(text, "rank 1 waits for its data")) << text;
  EXPECT_TRUE(has(text, "worker 1 on n2 was lost: it was killed by signal 9")) << text;
  EXPECT_FALSE(has(text, "replaced")) << text;
  EXPECT_FALSE(has(text, "novelty")) << text;
}

TEST(Explanation, ShowsADecisionWithItsCandidates) {
  const RunFolder run;
  write_history(run);
  const std::string text = explanation_text(read(run), 2);
  EXPECT_TRUE(has(text, "6 earlier events are not shown\n")) << text;
  EXPECT_TRUE(has(text, "grows to ")) << text;
  EXPECT_TRUE(has(text, "(throughput, ")) << text;
  EXPECT_TRUE(has(text, "  ranks  ")) << text;
  EXPECT_TRUE(has(text, "  chosen\n")) << text;
  EXPECT_TRUE(has(text, "  runner-up: ")) << text;
  EXPECT_TRUE(has(text, "  now")) << text;
  EXPECT_TRUE(has(text, "allocation 1, capacity 8: short of ")) << text;
}

TEST(Explanation, IsOfUseToPrograms) {
  const RunFolder run;
  write_history(run);
  const Explanation explanation = read(run);
  const Json json = Json::parse(explanation_json(explanation, 0, nullptr));
  ASSERT_EQ(json["events"].size(), 8U);
  EXPECT_EQ(json["run"], "mine/1");
  EXPECT_TRUE(json["replayed"].is_null());
  EXPECT_EQ(json["events"][2]["part"], "data");
  EXPECT_EQ(json["events"][2]["time"], 1795353580.25);
  EXPECT_EQ(json["events"][4]["ranks"], 1);
  EXPECT_EQ(json["events"][6]["decision"]["verdict"], "grow");
  const ReplayedDecisions replayed = replay(explanation);
  EXPECT_EQ(Json::parse(explanation_json(explanation, 1, &replayed))["replayed"]["same"], 1);
  EXPECT_EQ(Json::parse(explanation_json(explanation, 1, &replayed))["events"].size(), 1U);
}

TEST(Explanation, OfARunThatHasNotBegun) {
  const RunFolder run;
  EXPECT_EQ(explanation_text(read(run), 0), "nothing has happened yet\n");
  EXPECT_EQ(explain(whole(run.path())), exit_done);
}

TEST(Explanation, OfWhatIsNoRun) {
  const TemporaryFolder folder;
  EXPECT_EQ(explain(whole(folder.path())), exit_usage);
  EXPECT_EQ(explain(whole(folder / "nowhere")), exit_usage);
}

TEST(ResizingDocument, HasADecisionThatIsMadeAgain) {
  const Result<std::string> text = read_file(std::string(PACELINE_SOURCE_DIR) + "/docs/resizing.md");
  ASSERT_TRUE(text.ok()) << text.error().message;
  const std::string mark = "```json\n";
  const std::size_t begin = text->find(mark);
  ASSERT_NE(begin, std::string::npos);
  const std::size_t end = text->find("```", begin + mark.size());
  ASSERT_NE(end, std::string::npos);
  const Result<DecisionRecord> record =
      parse_decision(std::string_view(*text).substr(begin + mark.size(), end - begin - mark.size()));
  ASSERT_TRUE(record.ok()) << record.error().message;
  EXPECT_EQ(record->decision.verdict, ResizeVerdict::grow);
  EXPECT_EQ(replay(record->decision), "");
}

// The threshold of each rule that the page names is the one that holds.
TEST(ResizingDocument, HasTheThresholds) {
  const Result<std::string> text = read_file(std::string(PACELINE_SOURCE_DIR) + "/docs/resizing.md");
  ASSERT_TRUE(text.ok()) << text.error().message;
  const ResizeRules rules;
  for (const auto& [name, value] : {std::pair("least_gain", rules.least_gain),
                                    {"least_marginal_efficiency", rules.least_marginal_efficiency},
                                    {"explore_gain", rules.explore_gain},
                                    {"explore_factor", rules.explore_factor},
                                    {"most_resizes", static_cast<double>(rules.most_resizes)},
                                    {"late_gain", rules.late_gain},
                                    {"horizon_s", rules.horizon_s},
                                    {"deadline_margin", rules.deadline_margin},
                                    {"disappointment", rules.disappointment},
                                    {"by_hand_s", rules.by_hand_s}})
    EXPECT_TRUE(has(*text, concat("| `", name, "` | ", value))) << name << " " << value;
}

}  // namespace
}  // namespace paceline
