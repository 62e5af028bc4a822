# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# How every target of the project is made. Includes are written from the
# project's root ("dialect/Ternary/TernaryOps.h", "runtime/...").

separate_arguments(TERCET_LLVM_DEFINITIONS NATIVE_COMMAND "${LLVM_DEFINITIONS}")

# tercet_add_library(Name sources... [LINK libs...] [TABLEGEN targets...])
#   A static library of compiler code: C++ against the shared MLIR and LLVM.
function(tercet_add_library name)
  cmake_parse_arguments(ARG "" "" "LINK;TABLEGEN" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  tercet_use_mlir(${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINK} MLIR LLVM)
  if(ARG_TABLEGEN)
    add_dependencies(${name} ${ARG_TABLEGEN})
  endif()
endfunction()

# tercet_add_executable(name sources... [LINK libs...])
function(tercet_add_executable name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  tercet_use_mlir(${name})
  target_link_libraries(${name} PRIVATE ${ARG_LINK} MLIR LLVM)
endfunction()

function(tercet_use_mlir name)
  target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}
                                            ${PROJECT_SOURCE_DIR}/runtime/include)
  target_include_directories(${name} SYSTEM PUBLIC ${MLIR_INCLUDE_DIRS} ${LLVM_INCLUDE_DIRS})
  target_compile_definitions(${name} PRIVATE ${TERCET_LLVM_DEFINITIONS})
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-unused-parameter
                                         -fno-exceptions -fdiagnostics-color=always)
endfunction()

# tercet_add_unit_test(Name sources... [LINK libs...])
#   A GoogleTest program, run by ctest.
function(tercet_add_unit_test name)
  tercet_add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name})
endfunction()

# tercet_add_pytest(name file [options of pytest])
#   A Python test, told where the tools are; run by ctest. Says what it skips and why.
function(tercet_add_pytest name file)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${name}
           COMMAND ${Python3_EXECUTABLE} -m pytest -q -rs -p no:cacheprovider
                   ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${ARGN})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT
                       "TERCET_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
endfunction()
