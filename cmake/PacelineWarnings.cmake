# Warnings for our own code, errors by default; never imposed on those who link us.
option(PACELINE_WERROR "Treat warnings in Paceline's own code as errors" ON)

add_library(paceline_warnings INTERFACE)
target_compile_options(
  paceline_warnings
  INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wpedantic;-Wshadow;-Wnon-virtual-dtor;-Wold-style-cast;-Woverloaded-virtual;-Wcast-qual>"
            "$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<BOOL:${PACELINE_WERROR}>>:-Werror>"
            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wshadow>"
            "$<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<BOOL:${PACELINE_WERROR}>>:--Werror=all-warnings;-Xcompiler=-Werror>")
