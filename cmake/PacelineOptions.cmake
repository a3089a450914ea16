# What is built. Optional packages are AUTO (used when found), ON (an error when missing) or OFF.
set(PACELINE_COMPONENTS "all" CACHE STRING "all, or allreduce: the library alone, with nothing but a compiler")
set(PACELINE_TORCH "AUTO" CACHE STRING "LibTorch, for paceline::train and paceline-worker: AUTO, ON or OFF")
option(PACELINE_TESTS "Build the tests" ON)
set(PACELINE_SANITIZE "" CACHE STRING "Sanitizers for everything, e.g. address,undefined or thread")
set_property(CACHE PACELINE_COMPONENTS PROPERTY STRINGS all allreduce)
set_property(CACHE PACELINE_TORCH PROPERTY STRINGS AUTO ON OFF)

if(PACELINE_SANITIZE)
  add_compile_options(-fsanitize=${PACELINE_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${PACELINE_SANITIZE})
endif()

if(NOT PACELINE_COMPONENTS MATCHES "^(all|allreduce)$")
  message(FATAL_ERROR "PACELINE_COMPONENTS is '${PACELINE_COMPONENTS}': use all or allreduce")
endif()

find_package(Threads REQUIRED)

set(PACELINE_WITH_PROGRAMS OFF)
set(PACELINE_WITH_TORCH OFF)
if(PACELINE_COMPONENTS STREQUAL "all")
  set(PACELINE_WITH_PROGRAMS ON)
  if(NOT PACELINE_TORCH STREQUAL "OFF")
    # Debian's Caffe2 configuration reports what it was built with; that is not our news.
    set(saved_quiet ${CMAKE_MESSAGE_LOG_LEVEL})
    set(CMAKE_MESSAGE_LOG_LEVEL WARNING)
    find_package(Torch QUIET)
    set(CMAKE_MESSAGE_LOG_LEVEL ${saved_quiet})
    if(Torch_FOUND)
      set(PACELINE_WITH_TORCH ON)
    elseif(PACELINE_TORCH STREQUAL "ON")
      message(FATAL_ERROR "LibTorch was asked for and not found: install libtorch-dev, or set Torch_DIR")
    else()
      message(WARNING "LibTorch was not found, so paceline-worker is not built and nothing can be trained: "
                      "install libtorch-dev, or set Torch_DIR")
    endif()
  endif()
endif()

# An error that names the Debian package where a dependency of the programs is missing.
macro(paceline_require package debian_package)
  find_package(${package} QUIET ${ARGN})
  if(NOT ${package}_FOUND)
    message(FATAL_ERROR "${package} was not found: install ${debian_package}")
  endif()
endmacro()
