// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --canonicalize | FileCheck %s

// CHECK-LABEL: @dot_zero
// CHECK-SAME: %[[ACC:.*]]: vector<1xi32>
// CHECK-NEXT: return %[[ACC]]
func.func @dot_zero(%acc: vector<1xi32>, %q: vector<4xi8>) -> vector<1xi32> {
  %zero = arith.constant dense<0> : vector<4xi8>
  %a = ternary.dot %acc, %zero, %q : vector<1xi32>, vector<4xi8>, vector<4xi8>
  %b = ternary.dot %a, %q, %zero : vector<1xi32>, vector<4xi8>, vector<4xi8>
  return %b : vector<1xi32>
}

// An unused op on tensors is dead, one on memrefs writes.
// CHECK-LABEL: @effects
// CHECK-NOT: outs({{.*}} : tensor
// CHECK: ternary.gated_activation {{.*}} memref
func.func @effects(%t: tensor<1x4xf32>, %m: memref<1x4xf32>) {
  %dead = ternary.gated_activation silu ins(%t, %t : tensor<1x4xf32>, tensor<1x4xf32>)
      outs(%t : tensor<1x4xf32>) -> tensor<1x4xf32>
  ternary.gated_activation silu ins(%m, %m : memref<1x4xf32>, memref<1x4xf32>)
      outs(%m : memref<1x4xf32>)
  return
}
