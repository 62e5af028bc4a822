// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The list of cases that every backend has to pass: each compiles one op for a
// target, runs it in this process, and compares all bits with the reference.

#ifndef TERCET_TESTS_CONFORMANCE_CASES_H
#define TERCET_TESTS_CONFORMANCE_CASES_H

#include "compiler/Target/ParseTarget.h"

#include <functional>
#include <string>
#include <vector>

namespace tercet::conformance {

struct Case {
  std::string name;
  /// Part of the subset that runs in seconds.
  bool isFast;
  /// Reports differences as failures of the running test.
  std::function<void(const TargetSpec &)> run;
  /// Has to execute the dot-product instruction of a level that has one.
  bool hasDots = false;
};

std::vector<Case> getCases();

} // namespace tercet::conformance

#endif // TERCET_TESTS_CONFORMANCE_CASES_H
