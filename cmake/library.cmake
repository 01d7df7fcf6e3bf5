# libqfx.so, which C calls, its headers and package files, and the command qfx-run: `cmake --install BUILD --component
# library`. The version is that of qfx.h.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(QFX_CAPI ${CMAKE_SOURCE_DIR}/qfx/runtime/capi)
foreach(part MAJOR MINOR PATCH)
  file(STRINGS ${QFX_CAPI}/qfx.h line REGEX "^#define QFX_VERSION_${part} ")
  string(REGEX MATCH "[0-9]+$" QFX_VERSION_${part} "${line}")
endforeach()
set(QFX_VERSION ${QFX_VERSION_MAJOR}.${QFX_VERSION_MINOR}.${QFX_VERSION_PATCH})

# Small where no time goes: what opens files, plans calls and walks dims. Kernels and what packs for them stay fast.
set(QFX_SMALL ${QFX_SOURCES})
list(FILTER QFX_SMALL INCLUDE REGEX "/qfx/runtime/")
list(FILTER QFX_SMALL EXCLUDE REGEX "/serving/(crc32|conversion)\\.cc$")
set_property(SOURCE ${QFX_SMALL} APPEND PROPERTY COMPILE_OPTIONS -Os)
set(QFX_MEDIUM ${QFX_SOURCES})
list(FILTER QFX_MEDIUM INCLUDE REGEX "/qfx/kernels/[a-z_]+/[a-z_]+\\.cc$")
list(FILTER QFX_MEDIUM EXCLUDE REGEX "__")
set_property(SOURCE ${QFX_MEDIUM} APPEND PROPERTY COMPILE_OPTIONS -O2)
target_compile_options(qfx_core PRIVATE -ffunction-sections -fdata-sections)

add_library(qfx SHARED ${QFX_CAPI}/failure.cc ${QFX_CAPI}/model.cc ${QFX_CAPI}/run.cc)
target_link_libraries(qfx PRIVATE qfx_core)
target_compile_options(qfx PRIVATE ${QFX_FLAGS})
target_include_directories(qfx INTERFACE $<BUILD_INTERFACE:${QFX_CAPI}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# What nothing calls is left out, and what no header names is not seen.
target_link_options(qfx PRIVATE -Wl,--gc-sections -Wl,--version-script=${QFX_CAPI}/qfx.map)
set_target_properties(qfx PROPERTIES VERSION ${QFX_VERSION} SOVERSION ${QFX_VERSION_MAJOR} LINK_DEPENDS ${QFX_CAPI}/qfx.map
  PUBLIC_HEADER "${QFX_CAPI}/qfx.h;${QFX_CAPI}/qfx.hpp")

file(GLOB QFX_RUN_SOURCES CONFIGURE_DEPENDS ${QFX_CAPI}/command/*.cc)
add_executable(qfx_run ${QFX_RUN_SOURCES})
target_compile_options(qfx_run PRIVATE ${QFX_FLAGS})
target_include_directories(qfx_run PRIVATE qfx)
target_link_libraries(qfx_run PRIVATE qfx)
set_target_properties(qfx_run PROPERTIES OUTPUT_NAME qfx-run INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")

set(QFX_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/qfx)
file(RELATIVE_PATH QFX_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/qfx.pc.in qfx.pc @ONLY)
write_basic_package_version_file(qfxConfigVersion.cmake VERSION ${QFX_VERSION} COMPATIBILITY SameMinorVersion)

install(TARGETS qfx EXPORT qfxTargets COMPONENT library
  LIBRARY COMPONENT library NAMELINK_COMPONENT library
  PUBLIC_HEADER COMPONENT library DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS qfx_run RUNTIME COMPONENT library)
install(EXPORT qfxTargets NAMESPACE qfx:: FILE qfxConfig.cmake DESTINATION ${QFX_PACKAGE_DIR} COMPONENT library)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/qfxConfigVersion.cmake DESTINATION ${QFX_PACKAGE_DIR} COMPONENT library)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/qfx.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)
