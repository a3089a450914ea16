#include <iostream>

#include "allreduce/contenders.hpp"
#include "allreduce/run.hpp"

namespace paceline::bench {

int run_rank(const std::vector<std::string>& arguments) {
  std::vector<char*> views;
  for (const std::string& argument : arguments) views.push_back(const_cast<char*>(argument.c_str()));
  const auto count = static_cast<int>(views.size());
  views.push_back(nullptr);
  const std::string contender = arguments.empty() ? "" : arguments.front();
  if (contender == "paceline") return run_paceline_rank(count, views.data());
  if (contender == "probe") return run_probe_rank(count, views.data());
  std::cerr << "paceline: bench rank is started by `paceline bench allreduce`, not by hand\n";
  return 2;
}

}  // namespace paceline::bench
