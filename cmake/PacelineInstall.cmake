# Installing and exporting: each library target calls paceline_install_library with its set of exports, the top
# calls the rest once. What needs MPI or LibTorch is a set of its own, so that others do not have to have it.
include(CMakePackageConfigHelpers)

# paceline_install_library(target export [headers to leave out...])
function(paceline_install_library target export)
  install(TARGETS ${target} EXPORT ${export} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  set(left_out)
  foreach(header IN LISTS ARGN)
    list(APPEND left_out PATTERN ${header} EXCLUDE)
  endforeach()
  install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} ${left_out})
endfunction()

function(paceline_install_package)
  set(exports PacelineTargets)
  if(PACELINE_WITH_MPI)
    list(APPEND exports PacelineMpiTargets)
  endif()
  if(PACELINE_WITH_CUDA)
    list(APPEND exports PacelineCudaTargets)
  endif()
  if(PACELINE_WITH_TORCH)
    list(APPEND exports PacelineTrainTargets)
  endif()
  foreach(export IN LISTS exports)
    install(EXPORT ${export} NAMESPACE paceline:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
  endforeach()
  configure_package_config_file(
    ${PROJECT_SOURCE_DIR}/cmake/PacelineConfig.cmake.in ${PROJECT_BINARY_DIR}/PacelineConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/PacelineConfigVersion.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/PacelineConfig.cmake ${PROJECT_BINARY_DIR}/PacelineConfigVersion.cmake
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
endfunction()
