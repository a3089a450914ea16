#pragma once

#include <string>
#include <string_view>

#include "agent.hpp"
#include "doctor/check.hpp"
#include "where/place.hpp"

namespace paceline::doctor {

/// All checks of one machine, each handed on as it is made. `folder`: absolute.
struct NodeExamination {
  std::string folder;
  bool starts_jobs = true;  ///< this is where `paceline` is called; other nodes need no mpirun
  bool of_several = false;  ///< it is to work together with others
};
void examine_node(const NodeExamination& what, const Place& place, StopSignals& signals, const Sink& sink);

/// What the lines of `paceline doctor --node` begin with, to tell them from what login shells print.
inline constexpr std::string_view line_mark = "paceline-doctor ";
/// And then, before what they bring: a Hello; a Check; at the end of the checks the Hello again, now with
/// where the node listens; an Answer.
inline constexpr std::string_view hello_mark = "hello ", check_mark = "check ", end_mark = "end ",
                                  answer_mark = "answer ";

}  // namespace paceline::doctor
