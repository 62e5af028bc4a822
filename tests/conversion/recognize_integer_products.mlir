// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --recognize-bit-linear 2>%t.remarks | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK --input-file=%t.remarks

// Ternary weights and activations of 8 bits that are no BitLinear: the activations
// are quantised as the graph says.

!t = !onnx.unknown

// A static scale. 3.0 * 0.5 of activations and weights are one.

// REMARK: recognised ternary product 4x2, scale per tensor
// CHECK-LABEL: func @symmetric
func.func @symmetric(%x: !t) -> !t {
  // CHECK: %[[Q:.+]] = "onnx.QuantizeLinear"
  // CHECK-NEXT: %[[Y:.+]] = "onnx.ternary.matmul"(%[[Q]]) {scales = dense<1.500000e+00> : tensor<f32>,
  // CHECK-SAME: trits = dense<{{\[\[}}1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>, zero = 0 : i64}
  // CHECK-NEXT: return %[[Y]]
  %scale = "onnx.Constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %zero = "onnx.Constant"() {value = dense<0> : tensor<i8>} : () -> tensor<i8>
  %w = "onnx.Constant"() {value = dense<[[0.5, 0.0], [0.0, 0.0], [-0.5, 0.5], [0.5, -0.5]]> : tensor<4x2xf32>} : () -> tensor<4x2xf32>
  %q = "onnx.QuantizeLinear"(%x, %scale, %zero) : (!t, tensor<f32>, tensor<i8>) -> !t
  %d = "onnx.DequantizeLinear"(%q, %scale, %zero) : (!t, tensor<f32>, tensor<i8>) -> !t
  %y = "onnx.MatMul"(%d, %w) : (!t, tensor<4x2xf32>) -> !t
  return %y : !t
}

// A zero point: 100 of ui8 is -28 of i8. Rows sum up to 1 and 0 trits.

// REMARK: recognised ternary product 4x2, scale per tensor
// CHECK-LABEL: func @asymmetric
func.func @asymmetric(%x: !t) -> !t {
  // CHECK: %[[Y:.+]] = "onnx.ternary.matmul"(%{{.+}}) {{.*}}zero = -28 : i64}
  // CHECK: %[[C:.+]] = "onnx.Constant"() {value = dense<[4.200000e+01, 0.000000e+00]> : tensor<2xf32>}
  // CHECK: "onnx.Add"(%[[Y]], %[[C]])
  %scale = "onnx.Constant"() {value = dense<3.0> : tensor<f32>} : () -> tensor<f32>
  %zero = "onnx.Constant"() {value = dense<100> : tensor<ui8>} : () -> tensor<ui8>
  %w = "onnx.Constant"() {value = dense<[[0.5, 0.0], [0.0, 0.0], [-0.5, 0.5], [0.5, -0.5]]> : tensor<4x2xf32>} : () -> tensor<4x2xf32>
  %q = "onnx.QuantizeLinear"(%x, %scale, %zero) : (!t, tensor<f32>, tensor<ui8>) -> !t
  %d = "onnx.DequantizeLinear"(%q, %scale, %zero) : (!t, tensor<f32>, tensor<ui8>) -> !t
  %y = "onnx.MatMul"(%d, %w) : (!t, tensor<4x2xf32>) -> !t
  return %y : !t
}

// A scale for each image goes with the convolution. Channels come
// last in the trits; the weights have a scale for each row.

// REMARK: recognised ternary convolution 16x2, scale per row
// CHECK-LABEL: func @convolution
func.func @convolution(%x: !t) -> !t {
  // CHECK: %[[S:.+]] = "onnx.Div"
  // CHECK: %[[Q:.+]] = "onnx.Clip"(%{{.+}}, %{{.+}}, %{{.+}})
  // CHECK-NEXT: %[[Y:.+]] = "onnx.ternary.conv"(%[[Q]], %[[S]]) {group = 16 : i64, kernel_shape = array<i64: 1, 2>, pads = array<i64: 0, 1, 0, 1>,
  // CHECK-SAME: scales = dense<{{\[\[}}5.000000e-01], [2.000000e+00]]> : tensor<2x1xf32>,
  // CHECK-SAME: trits = dense<{{\[\[}}1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1], [1, 1, {{.*}}
  // CHECK-NOT: "onnx.Div"
  // CHECK: %[[B:.+]] = "onnx.Reshape"(%{{.+}}, %{{.+}})
  // CHECK: "onnx.Add"(%[[Y]], %[[B]])
  %axes = "onnx.Constant"() {value = dense<[1, 2, 3]> : tensor<3xi64>} : () -> tensor<3xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %n128 = "onnx.Constant"() {value = dense<-128.0> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %b = "onnx.Constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %w = "onnx.Constant"() {value = dense<[
    [[[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]], [[0.5, -0.5]]],
    [[[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 2.0]], [[2.0, 0.0]]]]>
    : tensor<2x8x1x2xf32>} : () -> tensor<2x8x1x2xf32>
  %abs = "onnx.Abs"(%x) : (!t) -> !t
  %absmax = "onnx.ReduceMax"(%abs, %axes) : (!t, tensor<3xi64>) -> !t
  %bounded = "onnx.Max"(%absmax, %eps) : (!t, tensor<f32>) -> !t
  %s = "onnx.Div"(%127, %bounded) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (!t, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %clipped = "onnx.Clip"(%rounded, %n128, %127) : (!t, tensor<f32>, tensor<f32>) -> !t
  %q = "onnx.Div"(%clipped, %s) : (!t, !t) -> !t
  %y = "onnx.Conv"(%q, %w, %b) {pads = array<i64: 0, 1, 0, 1>} : (!t, tensor<2x8x1x2xf32>, tensor<2xf32>) -> !t
  return %y : !t
}

// A scale for each column of pixels is not one along all that is summed.

// REMARK: not recognised as BitLinear: the absmax of the activations is not over one axis
// CHECK-LABEL: func @scale_of_columns
func.func @scale_of_columns(%x: !t) -> !t {
  // CHECK: "onnx.Conv"
  %axes = "onnx.Constant"() {value = dense<[1, 2]> : tensor<2xi64>} : () -> tensor<2xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %n128 = "onnx.Constant"() {value = dense<-128.0> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %w = "onnx.Constant"() {value = dense<[[[[1.0, -1.0]]]]> : tensor<1x1x1x2xf32>} : () -> tensor<1x1x1x2xf32>
  %abs = "onnx.Abs"(%x) : (!t) -> !t
  %absmax = "onnx.ReduceMax"(%abs, %axes) : (!t, tensor<2xi64>) -> !t
  %bounded = "onnx.Max"(%absmax, %eps) : (!t, tensor<f32>) -> !t
  %s = "onnx.Div"(%127, %bounded) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (!t, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %clipped = "onnx.Clip"(%rounded, %n128, %127) : (!t, tensor<f32>, tensor<f32>) -> !t
  %q = "onnx.Div"(%clipped, %s) : (!t, !t) -> !t
  %y = "onnx.Conv"(%q, %w) : (!t, tensor<1x1x1x2xf32>) -> !t
  return %y : !t
}
