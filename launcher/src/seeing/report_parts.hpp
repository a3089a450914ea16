#pragma once

#include "paceline/page/page.hpp"
#include "seeing/report_data.hpp"

namespace paceline {

// Parts of a report's page. Each adds nothing, or says why, where nothing is known.

/// Where the time of ranks went.
void add_time_uses(page::Page& page, const ReportData& data);
/// Energy and cost, all in all and per sample.
void add_costs(page::Page& page, const ReportData& data);
/// Shares over steps.
void add_shares(page::Page& page, const ReportData& data);
/// Generations, stragglers and decisions.
void add_events(page::Page& page, const ReportData& data);
/// What each worker measured.
void add_workers(page::Page& page, const ReportData& data);

}  // namespace paceline
