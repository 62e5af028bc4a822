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
// CHECK: MaxUnpool (node 'back', opset 11): input 'I' is of type f32; it has to be i64
  %0 = "onnx.MaxUnpool"(%x, %x) {kernel_shape = array<i64: 2, 2>, onnx.version = 11 : i64} : (tensor<1x1x2x2xf32>, tensor<1x1x2x2xf32>) -> tensor<1x1x4x4xf32> loc("back")
  return %0 : tensor<1x1x4x4xf32>
}

// -----

func.func @graph(%x: tensor<2xf32> {onnx.name = "x"}, %y: tensor<2xi32> {onnx.name = "y"}) -> tensor<2xf32> {
// CHECK: Add (node 'sum', opset 13): input 'B' is of type i32, but 'A' of f32; both have to be of one type
  %0 = "onnx.Add"(%x, %y) {onnx.version = 13 : i64} : (tensor<2xf32>, tensor<2xi32>) -> tensor<2xf32> loc("sum")
  return %0 : tensor<2xf32>
}

// -----

func.func @graph(%x: tensor<2xi64> {onnx.name = "x"}) -> tensor<2xi64> {
// CHECK: Sqrt (node 'root', opset 13): input 'X' is of type i64; it has to be f32 or f16 or f64 or bf16
  %0 = "onnx.Sqrt"(%x) {onnx.version = 13 : i64} : (tensor<2xi64>) -> tensor<2xi64> loc("root")
  return %0 : tensor<2xi64>
}

// -----

func.func @graph(%x: tensor<1x1x4x4xf32> {onnx.name = "x"}, %w: tensor<1x4xf32> {onnx.name = "w"}) -> tensor<1x1x4x4xf32> {
// CHECK: Conv (node 'c', opset 11): input 'W' is a 'tensor<1x4xf32>'; it has to have rank 4
  %0 = "onnx.Conv"(%x, %w) {onnx.version = 11 : i64} : (tensor<1x1x4x4xf32>, tensor<1x4xf32>) -> tensor<1x1x4x4xf32> loc("c")
  return %0 : tensor<1x1x4x4xf32>
}

// -----

func.func @graph(%x: tensor<2xf32> {onnx.name = "x"}, %s: tensor<?xi64> {onnx.name = "s"}) -> tensor<2xf32> {
// CHECK: Reshape (node 'r', opset 14): input 'shape' is a 'tensor<?xi64>'; it has to be a list of known length
  %0 = "onnx.Reshape"(%x, %s) {onnx.version = 14 : i64} : (tensor<2xf32>, tensor<?xi64>) -> tensor<2xf32> loc("r")
  return %0 : tensor<2xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}, %y: tensor<2x2xf32> {onnx.name = "y"}) -> tensor<2x3xf32> {
// CHECK: BatchNormalization (node 'n', opset 15): has 2 inputs; at least 5 are needed
  %0 = "onnx.BatchNormalization"(%x, %y) {onnx.version = 15 : i64} : (tensor<2x3xf32>, tensor<2x2xf32>) -> tensor<2x3xf32> loc("n")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}) -> tensor<2x3xf32> {
// CHECK: Softmax (node 's', opset 13): attribute 'axis' is a string; it has to be an integer
  %0 = "onnx.Softmax"(%x) {axis = "last", onnx.version = 13 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("s")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}) -> tensor<2x3xf32> {
// CHECK: Concat (node 'c', opset 13): attribute 'axis' is missing
  %0 = "onnx.Concat"(%x) {onnx.version = 13 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("c")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2x3xf32> {onnx.name = "x"}) -> tensor<2x3xf32> {
// CHECK: Relu (node 'r', opset 14): has attribute 'slope', which the operator does not have
  %0 = "onnx.Relu"(%x) {onnx.version = 14 : i64, slope = 1 : i64} : (tensor<2x3xf32>) -> tensor<2x3xf32> loc("r")
  return %0 : tensor<2x3xf32>
}

// -----

func.func @graph(%x: tensor<2xui32> {onnx.name = "x"}, %y: tensor<2xui32> {onnx.name = "y"}) -> tensor<2xui32> {
// CHECK: BitShift (node 's', opset 11): attribute 'direction' is 'UP'; it has to be LEFT or RIGHT
  %0 = "onnx.BitShift"(%x, %y) {direction = "UP", onnx.version = 11 : i64} : (tensor<2xui32>, tensor<2xui32>) -> tensor<2xui32> loc("s")
  return %0 : tensor<2xui32>
}

// -----

func.func @graph(%x: tensor<1x1x4x4xf32> {onnx.name = "x"}, %w: tensor<2x1x1x1xf32> {onnx.name = "w"}, %b: tensor<3xf32> {onnx.name = "b"}) -> tensor<1x2x4x4xf32> {
// CHECK: Conv (node 'c', opset 11): its inputs do not fit each other or its attributes: 'tensor<1x1x4x4xf32>', 'tensor<2x1x1x1xf32>', 'tensor<3xf32>'
  %0 = "onnx.Conv"(%x, %w, %b) {onnx.version = 11 : i64} : (tensor<1x1x4x4xf32>, tensor<2x1x1x1xf32>, tensor<3xf32>) -> tensor<1x2x4x4xf32> loc("c")
  return %0 : tensor<1x2x4x4xf32>
}

// -----

// CHECK: error: an input of the graph has no known rank
func.func @graph(%x: !onnx.unknown {onnx.name = "x"}) -> tensor<2xf32> {
  %0 = "onnx.Relu"(%x) {onnx.version = 13 : i64} : (!onnx.unknown) -> tensor<2xf32>
  return %0 : tensor<2xf32>
}
