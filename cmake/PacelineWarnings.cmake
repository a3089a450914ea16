# Warnings for our own code, errors by default; never imposed on those who link us.
option(PACELINE_WERROR "Treat warnings in Paceline's own code as errors" ON)

add_library(paceline_warnings INTERFACE)
target_compile_options(
  paceline_warnings INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast
                              -Woverloaded-virtual -Wcast-qual $<$<BOOL:${PACELINE_WERROR}>:-Werror>)
