#pragma once

#include <cstdio>
#include <string>

#include "data_fixture.hpp"

namespace paceline::data_testing {

struct Ran {
  int status = 0;
  std::string output;
};

/// Runs a Python program from a file in `folder`; the system's Python, which sees Debian's packages.
inline Ran run_python(const TemporaryFolder& folder, const std::string& program) {
  write_bytes(folder / "program.py", program);
  Ran ran;
  FILE* pipe = ::popen(concat("/usr/bin/python3 ", folder / "program.py", " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {-1, "popen failed"};
  char block[512];
  while (std::fgets(block, sizeof block, pipe) != nullptr) ran.output += block;
  ran.status = ::pclose(pipe);
  std::filesystem::remove(folder / "program.py");
  return ran;
}

/// Which Debian package is missing; empty where none is.
inline std::string missing_package(const TemporaryFolder& folder, const std::vector<std::string>& modules) {
  for (const std::string& module : modules)
    if (run_python(folder, "import " + module).status != 0)
      return concat("install python3-", module == "PIL" ? "pil" : module);
  return {};
}

/// Defines expected(samples, shape): the bytes of pixel() for each sample.
inline constexpr const char* expected_values = R"(
import numpy
def expected(samples, shape):
    count = int(numpy.prod(shape))
    sample, at = numpy.ogrid[:samples, :count]
    values = (sample * 31 + at * 7) & 255
    for i in range(4):
        values[:, i] = (numpy.arange(samples) >> (8 * i)) & 255
    return values.astype('u1').reshape(samples, *shape)
)";

}  // namespace paceline::data_testing
