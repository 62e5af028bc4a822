// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --fold-constants --split-input-file | FileCheck %s

// Nodes whose operands are constants are computed; random numbers are none.

!t = !onnx.unknown

// CHECK-LABEL: func @graph
func.func @graph(%x: tensor<2x2xf32>) -> (!t, !t) {
  // CHECK: %[[W:.+]] = "onnx.Constant"() {value = dense<{{\[\[}}3.000000e+00, 5.000000e+00], [4.000000e+00, 6.000000e+00]]> : tensor<2x2xf32>}
  // CHECK: "onnx.Add"(%arg0, %[[W]])
  // CHECK: %[[R:.+]] = "onnx.RandomNormalLike"
  // CHECK: "onnx.Add"(%arg0, %[[R]])
  %a = "onnx.Constant"() {value = dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  %b = "onnx.Constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %t = "onnx.Transpose"(%a) {perm = array<i64: 1, 0>, onnx.version = 21 : i64} : (tensor<2x2xf32>) -> !t
  %w = "onnx.Add"(%t, %b) {onnx.version = 21 : i64} : (!t, tensor<f32>) -> !t
  %y = "onnx.Add"(%x, %w) {onnx.version = 21 : i64} : (tensor<2x2xf32>, !t) -> !t
  %r = "onnx.RandomNormalLike"(%a) {onnx.version = 21 : i64} : (tensor<2x2xf32>) -> !t
  %z = "onnx.Add"(%x, %r) {onnx.version = 21 : i64} : (tensor<2x2xf32>, !t) -> !t
  return %y, %z : !t, !t
}

// -----

// A graph without inputs is left to whoever asks for it.

// CHECK-LABEL: func @graph
func.func @graph() -> !onnx.unknown {
  // CHECK: "onnx.Neg"
  %a = "onnx.Constant"() {value = dense<1.0> : tensor<f32>} : () -> tensor<f32>
  %y = "onnx.Neg"(%a) {onnx.version = 21 : i64} : (tensor<f32>) -> !onnx.unknown
  return %y : !onnx.unknown
}
