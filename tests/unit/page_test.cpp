// Pages: what is in the file, whatever the texts are. bench_scaling_test.py opens one in a browser.
#include "paceline/page/page.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

#include "paceline/base/text.hpp"

namespace paceline::page {
namespace {

using nlohmann::json;

constexpr double nothing = std::numeric_limits<double>::quiet_NaN();

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// What the page's script would read, of its first chart.
json chart_in(const std::string& html) {
  const std::string begin = "<script type=\"application/json\">";
  const std::size_t from = html.find(begin) + begin.size();
  return json::parse(html.substr(from, html.find("</script>", from) - from));
}

TEST(Page, IsOneFileThatNeedsNoOther) {
  Page page("A run");
  page.chart(LineChart{.title = "Loss", .lines = {{.name = "train", .points = {{1, 2}}}}});
  const std::string html = page.html();
  EXPECT_EQ(html.rfind("<!DOCTYPE html>", 0), 0U);
  EXPECT_NE(html.find("Chart.js v3"), std::string::npos) << "the library and its licence are part of it";
  for (const char* reference : {" src=", " href=", "@import", "url("})
    EXPECT_EQ(html.find(reference), std::string::npos) << reference;
  EXPECT_NE(html.find("default-src 'none'"), std::string::npos);
}

TEST(Page, ShowsTextsAsTheyAre) {
  const std::string evil = "</script><script>alert(1)</script>\"'&\xff";
  Page page(evil);
  page.heading(evil);
  page.text(evil);
  page.figures({{evil, evil, evil}});
  page.table({.columns = {evil}, .rows = {{.cells = {evil}}}});
  const std::size_t scripts = count(page.html(), "<script");
  page.chart(LineChart{.title = evil,
                       .note = evil,
                       .x_title = evil,
                       .lines = {{.name = evil, .points = {{1, 1}}}},
                       .marks = {{1, evil}}});
  page.chart(BarChart{.title = evil, .categories = {evil}, .bars = {{evil, {1}}}});
  const std::string html = page.html();
  EXPECT_EQ(html.find("<script>alert"), std::string::npos);
  EXPECT_EQ(count(html, "<script"), scripts + 2) << "the charts' own";
  const json chart = chart_in(html);
  EXPECT_EQ(chart["lines"][0]["name"], "</script><script>alert(1)</script>\"'&\xEF\xBF\xBD");
  EXPECT_TRUE(is_utf8(html));
}

TEST(Page, EscapesAnyBytes) {
  EXPECT_EQ(escaped("a<b> & \"c\" 'd'"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39;");
  EXPECT_EQ(escaped("schön\n"), "schön\n");
  EXPECT_EQ(escaped(std::string("\0\x1b", 2)), "\xEF\xBF\xBD\xEF\xBF\xBD");
  std::mt19937 random(1);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes;
    for (int length = static_cast<int>(random() % 40); length > 0; --length)
      bytes += static_cast<char>(random() & 0xff);
    const std::string html = escaped(bytes);
    ASSERT_TRUE(is_utf8(html));
    ASSERT_EQ(html.find_first_of("<>\"'"), std::string::npos);
  }
}

TEST(Page, LinesKeepWhatTheirPointsSay) {
  Page page("x");
  page.chart(LineChart{.title = "Efficiency",
                       .lines = {{.name = "ideal", .points = {{1, 1}, {2, 1}}, .look = Look::dashed},
                                 {.name = "measured",
                                  .points = {{1, 1}, {2, nothing}, {4, 0.8, 0.7, 0.9}},
                                  .spread = Spread::band,
                                  .tone = 5}},
                       .x_ticks = {1, 2, 4},
                       .percent = true});
  const json chart = chart_in(page.html());
  EXPECT_EQ(chart["kind"], "lines");
  EXPECT_EQ(chart["percent"], true);
  EXPECT_EQ(chart["xTicks"], json({1.0, 2.0, 4.0}));
  EXPECT_EQ(chart["lines"][0]["look"], "dashed");
  EXPECT_EQ(chart["lines"][0]["tone"], 0);
  const json& measured = chart["lines"][1];
  EXPECT_EQ(measured["tone"], 5);
  EXPECT_EQ(measured["spread"], "band");
  EXPECT_TRUE(measured["points"][1]["y"].is_null()) << "a gap";
  EXPECT_FALSE(measured["points"][0].contains("low"));
  EXPECT_EQ(measured["points"][2]["high"], 0.9);
}

TEST(Page, BarsHaveAValueForEachCategory) {
  Page page("x");
  page.chart(BarChart{.title = "Parts",
                      .categories = {"1", "2"},
                      .bars = {{"forward", {10, 5}}, {"reduce", {nothing, 1}}},
                      .stacked = true});
  const json chart = chart_in(page.html());
  EXPECT_EQ(chart["bars"][1]["tone"], 1);
  EXPECT_TRUE(chart["bars"][1]["values"][0].is_null());
  EXPECT_EQ(chart["stacked"], true);
}

TEST(Page, TablesSayWhichCellsAreNumbersAndWhichRowsDiffer) {
  Page page("x");
  page.table({.columns = {"mode", "ranks"},
              .rows = {{.cells = {"strong", "2"}}, {.cells = {"strong", "8"}, .faint = true}}});
  const std::string html = page.html();
  EXPECT_NE(html.find("<tr><td>strong</td><td class=\"number\">2</td></tr>"), std::string::npos);
  EXPECT_NE(html.find("<tr class=\"faint\"><td>strong</td><td class=\"number\">8</td></tr>"),
            std::string::npos);
}

TEST(Page, ThinsLongLinesButKeepsPeaksAndEnds) {
  std::vector<Point> points;
  for (int i = 0; i < 10000; ++i) points.push_back({static_cast<double>(i), 1});
  points[1234].y = 99;
  points[8765].y = -99;
  points[5000].y = nothing;
  const std::vector<Point> left = thinned(points, 400);
  EXPECT_LE(left.size(), 400U);
  EXPECT_EQ(left.front().x, 0);
  EXPECT_EQ(left.back().x, 9999);
  double greatest = 0, least = 0;
  for (std::size_t i = 0; i < left.size(); ++i) {
    if (i > 0) {
      EXPECT_LT(left[i - 1].x, left[i].x);
    }
    greatest = std::max(greatest, left[i].y);
    least = std::min(least, left[i].y);
  }
  EXPECT_EQ(greatest, 99);
  EXPECT_EQ(least, -99);
  EXPECT_EQ(thinned(points, 10000).size(), 10000U);
  EXPECT_TRUE(thinned({}, 4).empty());
}

}  // namespace
}  // namespace paceline::page
