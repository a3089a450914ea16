#include "paceline/page/page.hpp"

#include "assets.hpp"
#include "charts.hpp"
#include "paceline/base/assert.hpp"
#include "paceline/base/text.hpp"

namespace paceline::page {
namespace {

/// What is drawn comes from this file alone, whatever texts are in it.
constexpr std::string_view policy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";

std::string cells_of(const std::vector<std::string>& cells, std::string_view tag, std::size_t text_columns) {
  std::string html;
  for (std::size_t i = 0; i < cells.size(); ++i)
    html +=
        concat("<", tag, i < text_columns ? "" : " class=\"number\"", ">", escaped(cells[i]), "</", tag, ">");
  return html;
}

}  // namespace

void Page::heading(std::string_view text) {
  body_ += concat("<h2>", escaped(text), "</h2>\n");
}

void Page::text(std::string_view paragraph) {
  body_ += concat("<p>", escaped(paragraph), "</p>\n");
}

void Page::figures(const std::vector<Figure>& figures) {
  body_ += "<div class=\"figures\">\n";
  for (const Figure& figure : figures)
    body_ += concat("<div><span class=\"name\">", escaped(figure.name), "</span><span class=\"value\">",
                    escaped(figure.value), "</span><span class=\"note\">", escaped(figure.note),
                    "</span></div>\n");
  body_ += "</div>\n";
}

void Page::table(const Table& table) {
  body_ += concat("<div class=\"table\"><table>\n<thead><tr>",
                  cells_of(table.columns, "th", table.text_columns), "</tr></thead>\n<tbody>\n");
  for (const Row& row : table.rows) {
    PACELINE_ASSERT(row.cells.size() == table.columns.size(), "a row has a cell for each column");
    body_ += concat(row.faint ? "<tr class=\"faint\">" : "<tr>",
                    cells_of(row.cells, "td", table.text_columns), "</tr>\n");
  }
  body_ += "</tbody>\n</table></div>\n";
}

void Page::chart(const LineChart& chart) {
  add_chart(chart.title, chart.note, to_json(chart));
}

void Page::chart(const BarChart& chart) {
  add_chart(chart.title, chart.note, to_json(chart));
}

void Page::add_chart(const std::string& title, const std::string& note, const std::string& json) {
  body_ += concat("<figure class=\"chart\"><figcaption><h3>", escaped(title), "</h3>");
  if (!note.empty()) body_ += concat("<p>", escaped(note), "</p>");
  body_ += concat("</figcaption>\n<div class=\"canvas\"><canvas role=\"img\" aria-label=\"", escaped(title),
                  "\"></canvas></div>\n<script type=\"application/json\">", json, "</script></figure>\n");
}

std::string Page::html() const {
  return concat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
                "<meta http-equiv=\"Content-Security-Policy\" content=\"", policy, "\">\n",
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
                "<meta name=\"color-scheme\" content=\"light dark\">\n<title>", escaped(title_),
                "</title>\n<style>\n", assets::page_css, "</style>\n</head>\n<body>\n<h1>", escaped(title_),
                "</h1>\n",
                "<noscript><p>The charts need JavaScript; the tables hold the same figures.</p></noscript>\n",
                body_, "<script>\n", assets::chart_js, "\n</script>\n<script>\n", assets::page_js,
                "</script>\n</body>\n</html>\n");
}

}  // namespace paceline::page
