// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The examples in the op descriptions are valid.
// RUN: %python %S/extract_examples.py %root/dialect/Ternary/TernaryOps.td \
// RUN:   | tercet-opt --split-input-file | FileCheck %s

// CHECK: ternary.parameter @w
// CHECK: ternary.bit_linear
// CHECK: ternary.attention
// CHECK: ternary.unpack
// CHECK: ternary.dot
