// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-onnx --canonicalize --split-input-file | FileCheck %s

// The bias is where the chain over k starts; the extent that is not known is
// that of the input.

// CHECK: #[[X:.+]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK: #[[W:.+]] = affine_map<(d0, d1, d2) -> (d2, d1)>
// CHECK-LABEL: func @graph
// CHECK-SAME: %[[INPUT:.+]]: tensor<?x3xf32> {{.*}}onnx.type = tensor<?x3xf32>
// CHECK: %[[INIT:.+]] = linalg.generic
// CHECK: %[[PRODUCT:.+]] = linalg.generic
// CHECK-SAME: indexing_maps = [#[[X]], #[[W]],
// CHECK-SAME: outs(%[[INIT]]
// CHECK: math.fma
// CHECK: arith.cmpf olt
// CHECK: arith.select
func.func @graph(%x: tensor<?x3xf32> {onnx.name = "x", onnx.dims = ["n", "3"]})
    -> (tensor<?x2xf32> {onnx.name = "y"}) {
  %w = "onnx.Constant"() {value = dense<[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]> : tensor<2x3xf32>} : () -> tensor<2x3xf32>
  %b = "onnx.Constant"() {value = dense<[0.5, 1.5]> : tensor<2xf32>} : () -> tensor<2xf32>
  %0 = "onnx.Gemm"(%x, %w, %b) {transB = 1 : i64, onnx.version = 13 : i64} : (tensor<?x3xf32>, tensor<2x3xf32>, tensor<2xf32>) -> !onnx.unknown
  %1 = "onnx.Relu"(%0) {onnx.version = 13 : i64} : (!onnx.unknown) -> tensor<?x2xf32>
  return %1 : tensor<?x2xf32>
}

// -----

// A chain of shape arithmetic folds: what remains is a reshape to [n, 6].

// CHECK-LABEL: func @graph
// CHECK-NOT: tensor.from_elements
// CHECK-NOT: cf.assert
// CHECK: return %{{.+}} : tensor<?x6xf32>
func.func @graph(%x: tensor<?x2x3xf32> {onnx.name = "x", onnx.dims = ["n", "2", "3"]})
    -> (tensor<?x6xf32> {onnx.name = "y"}) {
  %zero = "onnx.Constant"() {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
  %rest = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %0 = "onnx.Shape"(%x) {onnx.version = 13 : i64} : (tensor<?x2x3xf32>) -> tensor<3xi64>
  %1 = "onnx.Gather"(%0, %zero) {onnx.version = 13 : i64} : (tensor<3xi64>, tensor<1xi64>) -> tensor<1xi64>
  %2 = "onnx.Concat"(%1, %rest) {axis = 0 : i64, onnx.version = 13 : i64} : (tensor<1xi64>, tensor<1xi64>) -> tensor<2xi64>
  %3 = "onnx.Reshape"(%x, %2) {onnx.version = 14 : i64} : (tensor<?x2x3xf32>, tensor<2xi64>) -> tensor<?x6xf32>
  return %3 : tensor<?x6xf32>
}

// -----

// Constants of more than 64 elements are parameters.

// CHECK-LABEL: func @graph
// CHECK-SAME: -> (tensor<65xi8> {{.*}}onnx.type = tensor<65xui8>
// CHECK: ternary.get_parameter @constant_0
// CHECK: ternary.parameter @constant_0 : tensor<65xi8> = dense<3>
func.func @graph() -> (tensor<65xui8> {onnx.name = "y"}) {
  %0 = "onnx.Constant"() {value = dense<3> : tensor<65xui8>} : () -> tensor<65xui8>
  return %0 : tensor<65xui8>
}
