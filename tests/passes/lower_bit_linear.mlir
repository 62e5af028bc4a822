// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-bit-linear | FileCheck %s

// Columns of q are padded to a multiple of 16; the matrices keep their scales,
// and the result is written to the op's own outs.

// CHECK-LABEL: func @two_matrices
// CHECK-SAME: (%[[X:[^:]+]]: tensor<?x20xf32>, %[[A:[^:]+]]: tensor<16x20xi2>, %[[B:[^:]+]]: tensor<3x20xi2>
// CHECK-SAME: %[[G:[^:]+]]: f32, %[[H:[^:]+]]: f32, %[[OUT:[^:]+]]: tensor<?x32xf32>
func.func @two_matrices(%x: tensor<?x20xf32>, %a: tensor<16x20xi2>, %b: tensor<3x20xi2>,
                        %g: f32, %h: f32, %out: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK: %[[N:.+]] = tensor.dim %[[X]]
  // CHECK: %[[Q:.+]], %[[S:.+]], %{{.+}} = ternary.quantize_activations ins(%[[X]] : tensor<?x20xf32>)
  // CHECK-SAME: -> tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>
  // CHECK: %[[ACC:.+]] = ternary.matmul ins(%[[Q]], %[[A]], %[[B]]
  // CHECK-SAME: -> tensor<?x32xi32>
  // CHECK: %[[Y:.+]] = ternary.rescale ins(%[[ACC]], %[[S]] scales %[[G]], %[[H]]
  // CHECK-SAME: outs(%[[OUT]] : tensor<?x32xf32>) rows = [16, 3] -> tensor<?x32xf32>
  // CHECK: return %[[Y]]
  // CHECK-NOT: bit_linear
  %y = ternary.bit_linear
      ins(%x, %a, %b scales %g, %h : tensor<?x20xf32>, tensor<16x20xi2>, tensor<3x20xi2>)
      outs(%out : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// CHECK-LABEL: func @static_tokens
func.func @static_tokens(%x: tensor<2x16xf32>, %a: tensor<16x16xi2>, %g: f32,
                         %out: tensor<2x16xf32>) -> tensor<2x16xf32> {
  // CHECK: ternary.quantize_activations {{.*}} -> tensor<2x16xi8>, tensor<2xf32>, tensor<2xi32>
  // CHECK: ternary.matmul {{.*}} -> tensor<2x16xi32>
  %y = ternary.bit_linear ins(%x, %a scales %g : tensor<2x16xf32>, tensor<16x16xi2>)
                          outs(%out : tensor<2x16xf32>) -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// Sums of groups of columns, the last of 8.

// CHECK-LABEL: func @groups
func.func @groups(%x: tensor<?x40xf32>, %a: tensor<16x40xi2>, %g: tensor<16x2xf32>,
                  %out: tensor<?x16xf32>) -> tensor<?x16xf32> {
  // CHECK: ternary.quantize_activations group = 32 {{.*}} -> tensor<?x48xi8>, tensor<?xf32>, tensor<?x2xi32>
  // CHECK: %[[ACC:.+]] = ternary.matmul group = 32 {{.*}} -> tensor<?x2x16xi32>
  // CHECK: ternary.rescale ins(%[[ACC]], %{{.+}} scales %{{.+}} : tensor<?x2x16xi32>, tensor<?xf32> scales tensor<16x2xf32>)
  %y = ternary.bit_linear group = 32
      ins(%x, %a scales %g : tensor<?x40xf32>, tensor<16x40xi2> scales tensor<16x2xf32>)
      outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
