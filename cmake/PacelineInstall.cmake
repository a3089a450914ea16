# Installing and exporting: each library target calls paceline_install_library with its set of exports, the top
# calls the rest once. What needs LibTorch is a set of its own, so that others do not have to have it.
include(CMakePackageConfigHelpers)

function(paceline_install_library target export)
  install(TARGETS ${target} EXPORT ${export} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
          LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(DIRECTORY include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endfunction()

function(paceline_install_package)
  install(EXPORT PacelineTargets NAMESPACE paceline:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
  if(PACELINE_WITH_TORCH)
    install(EXPORT PacelineTrainTargets NAMESPACE paceline:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
  endif()
  configure_package_config_file(
    ${PROJECT_SOURCE_DIR}/cmake/PacelineConfig.cmake.in ${PROJECT_BINARY_DIR}/PacelineConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/PacelineConfigVersion.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/PacelineConfig.cmake ${PROJECT_BINARY_DIR}/PacelineConfigVersion.cmake
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/Paceline)
endfunction()
