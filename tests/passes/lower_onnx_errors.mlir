// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: not tercet-opt %s --lower-onnx --split-input-file 2>&1 | FileCheck %s

func.func @graph(%x: tensor<2xf32> {onnx.name = "x"}) -> tensor<2xf32> {
// CHECK: Frobnicate (node 'odd', opset 19): this operator is not supported
  %0 = "onnx.Frobnicate"(%x) {onnx.version = 19 : i64} : (tensor<2xf32>) -> tensor<2xf32> loc("odd")
  return %0 : tensor<2xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}) -> tensor<2x3xf32> {
// CHECK: MatMul (node 'product', opset 13): inner dimensions are 3 and 2
  %0 = "onnx.MatMul"(%x, %x) {onnx.version = 13 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32> loc("product")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}, %y: tensor<2xf32> {onnx.name = "y"}) -> tensor<2x3xf32> {
// CHECK: Add (node 'sum', opset 13): shapes do not broadcast: 3 and 2
  %0 = "onnx.Add"(%x, %y) {onnx.version = 13 : i64} : (tensor<2x3xf32>, tensor<2xf32>) -> tensor<2x3xf32> loc("sum")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}) -> tensor<f32> {
// CHECK: Det (node 'volume', opset 13): a matrix of 2x3 is not square
  %0 = "onnx.Det"(%x) {onnx.version = 13 : i64} : (tensor<2x3xf32>) -> tensor<f32> loc("volume")
  return %0 : tensor<f32>
}

// -----

func.func @graph(%x: tensor<1x1x2x2xf32> {onnx.name = "x"}) -> tensor<1x1x4x4xf32> {
// CHECK: MaxUnpool (node 'back', opset 11): the indices are of type 'f32', not i64
  %0 = "onnx.MaxUnpool"(%x, %x) {kernel_shape = array<i64: 2, 2>, onnx.version = 11 : i64} : (tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32>) -> tensor<1x1x4x4xf32> loc("back")
  return %0 : tensor<1x1x4x4xf32>
}

// -----

// CHECK: error: an input of the graph has no known rank
func.func @graph(%x: !onnx.unknown {onnx.name = "x"}) -> tensor<2xf32> {
  %0 = "onnx.Relu"(%x) {onnx.version = 13 : i64} : (!onnx.unknown) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
