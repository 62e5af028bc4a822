# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# The runtime for every architecture but this one, in lib/tercet/ARCHITECTURE/,
# compiled by the same clang against Debian's cross libraries. What a machine
# has no libraries for is left out: `tercet compile` then names the package.
# docs/decisions/0012-cross-runtimes.md has the reasons.

set(TERCET_PCRE2_SOURCE ${PROJECT_SOURCE_DIR}/.sources/pcre2 CACHE PATH
    "Sources of PCRE2, for the runtimes of other architectures (./dev setup)")

# tercet_add_cross_pcre2(name)
#   PCRE2 as an archive of 8-bit code units with Unicode, compiled with
#   TERCET_RUNTIME_OPTIONS.
function(tercet_add_cross_pcre2 name)
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/pcre2)
  configure_file(${TERCET_PCRE2_SOURCE}/src/pcre2.h.generic
                 ${generated}/pcre2.h COPYONLY)
  configure_file(${TERCET_PCRE2_SOURCE}/src/config.h.generic
                 ${generated}/config.h COPYONLY)
  configure_file(${TERCET_PCRE2_SOURCE}/src/pcre2_chartables.c.dist
                 ${generated}/pcre2_chartables.c COPYONLY)
  set(units auto_possess compile config context error extuni find_bracket
            jit_compile maketables match match_data newline ord2utf
            pattern_info script_run string_utils study tables ucd valid_utf
            xclass)
  list(TRANSFORM units PREPEND ${TERCET_PCRE2_SOURCE}/src/pcre2_)
  list(TRANSFORM units APPEND .c)
  add_library(${name} STATIC ${units} ${generated}/pcre2_chartables.c)
  target_include_directories(${name} PUBLIC ${generated}
                             PRIVATE ${TERCET_PCRE2_SOURCE}/src)
  target_compile_definitions(${name} PRIVATE HAVE_CONFIG_H SUPPORT_UNICODE
                             PCRE2_CODE_UNIT_WIDTH=8)
  if(NOT TERCET_RUNTIME_SYSTEM STREQUAL wasi)
    target_compile_definitions(${name} PRIVATE SUPPORT_JIT)
  endif()
  target_compile_options(${name} PRIVATE ${TERCET_RUNTIME_OPTIONS} -O2 -w -fPIC
    -fvisibility=hidden -ffunction-sections -fdata-sections)
endfunction()

# tercet_add_cross_runtime(architecture triple library)
#   Everything of one architecture, if clang finds `library`, a file of its C++
#   library, for it. TERCET_RUNTIME_SYSTEM may be set.
function(tercet_add_cross_runtime architecture triple library)
  execute_process(
    COMMAND ${CMAKE_CXX_COMPILER} --target=${triple} -print-file-name=${library}
    OUTPUT_VARIABLE path OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT IS_ABSOLUTE "${path}")
    message(STATUS "No runtime for ${architecture}: no ${library} for it")
    return()
  endif()
  set(TERCET_RUNTIME_OPTIONS --target=${triple} -Wno-deprecated)
  set(suffix -${architecture})
  tercet_add_cross_pcre2(pcre2-8${suffix})
  tercet_add_runtime(${suffix})
  target_link_libraries(tercet_runtime${suffix} PUBLIC pcre2-8${suffix})
  set(directory lib/tercet/${architecture})
  foreach(name pcre2-8 tercet_runtime tercet_main tercet_graph tercet_graph_main)
    set_target_properties(${name}${suffix} PROPERTIES
      ARCHIVE_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/${directory}
      OUTPUT_NAME ${name})
    add_dependencies(tercet-cross-runtimes ${name}${suffix})
    install(TARGETS ${name}${suffix} ARCHIVE DESTINATION ${directory})
  endforeach()
endfunction()

add_custom_target(tercet-cross-runtimes)
if(TERCET_SANITIZE)
  message(STATUS "No runtimes for other architectures: sanitizers are on")
elseif(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(STATUS "No runtimes for other architectures: they need clang")
elseif(NOT EXISTS ${TERCET_PCRE2_SOURCE}/src/pcre2.h.generic)
  message(STATUS "No runtimes for other architectures: no PCRE2 in "
                 "${TERCET_PCRE2_SOURCE}, ./dev setup gets it")
else()
  foreach(architecture aarch64 riscv64)
    if(NOT architecture STREQUAL CMAKE_SYSTEM_PROCESSOR)
      tercet_add_cross_runtime(${architecture} ${architecture}-linux-gnu libstdc++.a)
    endif()
  endforeach()
  set(TERCET_RUNTIME_SYSTEM wasi)
  tercet_add_cross_runtime(wasm32 wasm32-wasi libc++.a)
endif()
