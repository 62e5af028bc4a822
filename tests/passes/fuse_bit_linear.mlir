// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --fuse-bit-linear --split-input-file | FileCheck %s

// Siblings are one op; each matrix keeps its scale and starts at a multiple of
// 16 columns. What defines the second matrix and its scale moves up.

ternary.parameter @q : tensor<24x32xi2> = dense<1> : tensor<24x32xi2>
ternary.parameter @k : tensor<16x32xi2> = dense<0> : tensor<16x32xi2>
ternary.parameter @g : tensor<16x32xf32> = dense<1.0> : tensor<16x32xf32>

// CHECK-LABEL: func @siblings
// CHECK-SAME: %[[X:[^:]+]]: tensor<?x32xf32>
func.func @siblings(%x: tensor<?x32xf32>, %q_out: tensor<?x24xf32>, %k_out: tensor<?x16xf32>)
    -> (tensor<?x24xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  // CHECK-DAG: %[[Q:.+]] = ternary.get_parameter @q
  // CHECK-DAG: %[[K:.+]] = ternary.get_parameter @k
  // CHECK-DAG: %[[G:.+]] = ternary.get_parameter @g
  // CHECK-DAG: %[[L:.+]], %[[LS:.+]] = ternary.absmean_quantize %[[G]]
  // CHECK-DAG: %[[QS:.+]] = arith.constant 5.0
  // CHECK-DAG: %[[KS:.+]] = arith.constant 2.5
  %q = ternary.get_parameter @q : tensor<24x32xi2>
  %q_scale = arith.constant 0.5 : f32
  // CHECK: %[[N:.+]] = tensor.dim %[[X]]
  // CHECK: %[[EMPTY:.+]] = tensor.empty(%[[N]]) : tensor<?x64xf32>
  // CHECK: %[[Y:.+]] = ternary.bit_linear
  // CHECK-SAME: ins(%[[X]], %[[Q]], %[[K]], %[[L]] scales %[[QS]], %[[KS]], %[[LS]]
  // CHECK-SAME: outs(%[[EMPTY]] : tensor<?x64xf32>)
  // CHECK-NOT: bit_linear
  // CHECK: %[[YQ:.+]] = tensor.extract_slice %[[Y]][0, 0] [%[[N]], 24] [1, 1]
  // CHECK: %[[YK:.+]] = tensor.extract_slice %[[Y]][0, 32] [%[[N]], 16] [1, 1]
  // CHECK: %[[YL:.+]] = tensor.extract_slice %[[Y]][0, 48] [%[[N]], 16] [1, 1]
  %yq = ternary.bit_linear ins(%x, %q scales %q_scale : tensor<?x32xf32>, tensor<24x32xi2>)
                           outs(%q_out : tensor<?x24xf32>) -> tensor<?x24xf32>
  %k = ternary.get_parameter @k : tensor<16x32xi2>
  %k_scale = arith.constant 0.25 : f32
  %yk = ternary.bit_linear ins(%x, %k scales %k_scale : tensor<?x32xf32>, tensor<16x32xi2>)
                           outs(%k_out : tensor<?x16xf32>) -> tensor<?x16xf32>
  %g = ternary.get_parameter @g : tensor<16x32xf32>
  %l, %l_scale = ternary.absmean_quantize %g : tensor<16x32xf32> -> tensor<16x32xi2>
  %yl = ternary.bit_linear ins(%x, %l scales %l_scale : tensor<?x32xf32>, tensor<16x32xi2>)
                           outs(%k_out : tensor<?x16xf32>) -> tensor<?x16xf32>
  // CHECK: return %[[YQ]], %[[YK]], %[[YL]]
  return %yq, %yk, %yl : tensor<?x24xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// A matrix without siblings: its rows are padded to a multiple of 16.

// CHECK-LABEL: func @padding
func.func @padding(%x: tensor<?x32xf32>, %w: tensor<17x32xi2>, %g: f32, %out: tensor<?x17xf32>)
    -> tensor<?x17xf32> {
  // CHECK: %[[Y:.+]] = ternary.bit_linear {{.*}} outs(%{{.+}} : tensor<?x32xf32>)
  // CHECK: tensor.extract_slice %[[Y]][0, 0] [%{{.+}}, 17] [1, 1]
  %y = ternary.bit_linear ins(%x, %w scales %g : tensor<?x32xf32>, tensor<17x32xi2>)
                          outs(%out : tensor<?x17xf32>) -> tensor<?x17xf32>
  return %y : tensor<?x17xf32>
}

// -----

// A static number of tokens stays one.

// CHECK-LABEL: func @static_tokens
func.func @static_tokens(%x: tensor<4x32xf32>, %w: tensor<17x32xi2>, %g: f32,
                         %out: tensor<4x17xf32>) -> tensor<4x17xf32> {
  // CHECK: %[[Y:.+]] = ternary.bit_linear {{.*}} -> tensor<4x32xf32>
  // CHECK: tensor.extract_slice %[[Y]][0, 0] [4, 17] [1, 1] : tensor<4x32xf32> to tensor<4x17xf32>
  %y = ternary.bit_linear ins(%x, %w scales %g : tensor<4x32xf32>, tensor<17x32xi2>)
                          outs(%out : tensor<4x17xf32>) -> tensor<4x17xf32>
  return %y : tensor<4x17xf32>
}

// -----

// Columns that the result has beyond its matrix stay.

// CHECK-LABEL: func @wide_result
func.func @wide_result(%x: tensor<?x32xf32>, %w: tensor<17x32xi2>, %g: f32,
                       %out: tensor<?x20xf32>) -> tensor<?x20xf32> {
  // CHECK: tensor.extract_slice %{{.+}}[0, 0] [%{{.+}}, 20] [1, 1] : tensor<?x32xf32> to tensor<?x20xf32>
  %y = ternary.bit_linear ins(%x, %w scales %g : tensor<?x32xf32>, tensor<17x32xi2>)
                          outs(%out : tensor<?x20xf32>) -> tensor<?x20xf32>
  return %y : tensor<?x20xf32>
}

// -----

// Different inputs stay apart, and a width of a multiple of 16 stays as it is.

// CHECK-LABEL: func @different_inputs
func.func @different_inputs(%a: tensor<?x32xf32>, %b: tensor<?x32xf32>, %w: tensor<16x32xi2>,
                            %g: f32, %out: tensor<?x16xf32>)
    -> (tensor<?x16xf32>, tensor<?x16xf32>) {
  // CHECK: ternary.bit_linear ins(%arg0, %arg2 scales %arg3
  // CHECK-SAME: outs(%arg4
  // CHECK: ternary.bit_linear ins(%arg1, %arg2 scales %arg3
  // CHECK-NOT: extract_slice
  %ya = ternary.bit_linear ins(%a, %w scales %g : tensor<?x32xf32>, tensor<16x32xi2>)
                           outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  %yb = ternary.bit_linear ins(%b, %w scales %g : tensor<?x32xf32>, tensor<16x32xi2>)
                           outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %ya, %yb : tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// What is fused already is left alone.

// CHECK-LABEL: func @fused
func.func @fused(%x: tensor<?x32xf32>, %w: tensor<16x32xi2>, %g: f32, %out: tensor<?x32xf32>)
    -> tensor<?x32xf32> {
  // CHECK-NOT: tensor.empty
  // CHECK: ternary.bit_linear ins(%arg0, %arg1, %arg1 scales %arg2, %arg2
  %y = ternary.bit_linear
      ins(%x, %w, %w scales %g, %g : tensor<?x32xf32>, tensor<16x32xi2>, tensor<16x32xi2>)
      outs(%out : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// The same groups of columns fuse; others, which have other sums, do not.

// CHECK-LABEL: func @groups
func.func @groups(%x: tensor<?x64xf32>, %w: tensor<16x64xi2>, %g: tensor<16x2xf32>,
                  %h: tensor<16x1xf32>, %s: f32, %out: tensor<?x16xf32>)
    -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>) {
  // CHECK: ternary.bit_linear group = 32 ins(%arg0, %arg1, %arg1 scales %arg2, %arg2 : {{.*}} scales tensor<16x2xf32>, tensor<16x2xf32>)
  // CHECK: ternary.bit_linear group = 64 ins(%arg0, %arg1 scales %arg3
  // CHECK: ternary.bit_linear ins(%arg0, %arg1 scales %arg4
  // CHECK-NOT: ternary.bit_linear
  %a = ternary.bit_linear group = 32
      ins(%x, %w scales %g : tensor<?x64xf32>, tensor<16x64xi2> scales tensor<16x2xf32>)
      outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  %b = ternary.bit_linear group = 64
      ins(%x, %w scales %h : tensor<?x64xf32>, tensor<16x64xi2> scales tensor<16x1xf32>)
      outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  %c = ternary.bit_linear ins(%x, %w scales %s : tensor<?x64xf32>, tensor<16x64xi2>)
      outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  %d = ternary.bit_linear group = 32
      ins(%x, %w scales %g : tensor<?x64xf32>, tensor<16x64xi2> scales tensor<16x2xf32>)
      outs(%out : tensor<?x16xf32>) -> tensor<?x16xf32>
  return %a, %b, %c, %d : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>, tensor<?x16xf32>
}
