// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every op's description has an example, and the interpreter computes the
// results that it shows.
// RUN: %python %S/extract_examples.py %root/dialect/Ternary/TernaryOps.td \
// RUN:   | tercet-test-run-examples
