# `cmake --install`, find_package, pkg-config and `cpack`.
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/paraexport)

if(paraexport_type STREQUAL "SHARED")
  install(TARGETS paraexport EXPORT paraexportTargets)
else()
  install(TARGETS paraexport paraexport_settings EXPORT paraexportTargets)
endif()
install(FILES include/paraexport.h include/paraexport.hpp DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT paraexportTargets NAMESPACE paraexport:: DESTINATION ${package_folder})
if(TARGET paraexport_images)
  install(TARGETS paraexport_images EXPORT paraexportImagesTargets)
  install(FILES images/include/paraexport_images.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(EXPORT paraexportImagesTargets NAMESPACE paraexport:: DESTINATION ${package_folder})
endif()
set(licence_folder ${CMAKE_INSTALL_DATADIR}/licenses/paraexport)
install(FILES ${PROJECT_SOURCE_DIR}/../LICENSE THIRD_PARTY.md DESTINATION ${licence_folder})
if(PARAEXPORT_JSON_LICENCE)
  install(FILES ${PARAEXPORT_JSON_LICENCE} DESTINATION ${licence_folder} RENAME nlohmann-json.txt)
else()
  message(NOTICE "the licence text of nlohmann-json is not found; to pass the library on, set PARAEXPORT_JSON_LICENCE "
                 "to its file")
endif()

configure_package_config_file(cmake/paraexportConfig.cmake.in ${PROJECT_BINARY_DIR}/paraexportConfig.cmake
                              INSTALL_DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/paraexportConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/paraexportConfig.cmake ${PROJECT_BINARY_DIR}/paraexportConfigVersion.cmake
        DESTINATION ${package_folder})

# The files of pkg-config find the prefix from their own place, so that the folder can be moved.
file(RELATIVE_PATH PARAEXPORT_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/paraexport.pc.in ${PROJECT_BINARY_DIR}/paraexport.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/paraexport.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(TARGET paraexport_images)
  configure_file(cmake/paraexport_images.pc.in ${PROJECT_BINARY_DIR}/paraexport_images.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/paraexport_images.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_VENDOR paraexport)
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/../LICENSE)
set(CPACK_STRIP_FILES ON)
include(CPack)
