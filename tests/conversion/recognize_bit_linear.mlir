// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --drop-straight-through --recognize-bit-linear 2>/dev/null | FileCheck %s

// As torch exports it: 127 * (1 / absmax), a straight-through estimator, Gemm with
// a bias. What quantised the activations is gone.

!t = !onnx.unknown

// CHECK-LABEL: func @straight_through
// CHECK-SAME: %[[X:[^:]+]]: tensor<?x4xf32>
func.func @straight_through(%x: tensor<?x4xf32>) -> !t {
  // CHECK-NEXT: %[[BIAS:.+]] = "onnx.Constant"() {value = dense<[1.000000e+00, 2.000000e+00]>
  // CHECK-NEXT: %[[Y:.+]] = "onnx.ternary.bit_linear"(%[[X]]) {scales = dense<5.000000e-01> : tensor<f32>,
  // CHECK-SAME: trits = dense<{{\[\[}}1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>}
  // CHECK-NEXT: %[[Z:.+]] = "onnx.Add"(%[[Y]], %[[BIAS]]) {onnx.version = 20 : i64}
  // CHECK-NEXT: return %[[Z]]
  %axes = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %n128 = "onnx.Constant"() {value = dense<-128.0> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %w = "onnx.Constant"() {value = dense<[[0.5, 0.0, -0.5, 0.5], [0.0, 0.0, 0.5, -0.5]]> : tensor<2x4xf32>} : () -> tensor<2x4xf32>
  %b = "onnx.Constant"() {value = dense<[1.0, 2.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %none = "onnx.None"() : () -> none
  %abs = "onnx.Abs"(%x) : (tensor<?x4xf32>) -> !t
  %absmax = "onnx.ReduceMax"(%abs, %axes) {keepdims = 1 : i64} : (!t, tensor<1xi64>) -> !t
  %bounded = "onnx.Clip"(%absmax, %eps, %none) : (!t, tensor<f32>, none) -> !t
  %inverse = "onnx.Reciprocal"(%bounded) : (!t) -> !t
  %s = "onnx.Mul"(%inverse, %127) : (!t, tensor<f32>) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (tensor<?x4xf32>, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %clipped = "onnx.Clip"(%rounded, %n128, %127) : (!t, tensor<f32>, tensor<f32>) -> !t
  %q = "onnx.Div"(%clipped, %s) : (!t, !t) -> !t
  %sub = "onnx.Sub"(%q, %x) : (!t, tensor<?x4xf32>) -> !t
  %ste = "onnx.Add"(%x, %sub) : (tensor<?x4xf32>, !t) -> !t
  %y = "onnx.Gemm"(%ste, %w, %b) {transB = 1 : i64, onnx.version = 20 : i64} : (!t, tensor<2x4xf32>, tensor<2xf32>) -> !t
  return %y : !t
}

// d = absmax / 127, bounded after the division; attributes of older operator sets;
// weights with a scale a row, some of whose magnitudes are one ulp away; Gemm with
// factors. 100 / 127 * 127 = 100 goes to the scales.

// CHECK-LABEL: func @divided
func.func @divided(%x: tensor<3x16xf32>, %b: tensor<2xf32>) -> !t {
  // CHECK: %[[Y:.+]] = "onnx.ternary.bit_linear"(%arg0) {axis = 1 : i64, group = 16 : i64,
  // CHECK-SAME: scales = dense<{{\[\[}}2.500000e+00], [1.500000e+00]]> : tensor<2x1xf32>,
  // CHECK-SAME: trits = dense<{{\[\[}}1, -1, 1, 0, {{.*}}], [0, 0, 0, 0, {{.*}}, -1]]> : tensor<2x16xi2>}
  // CHECK: %[[BETA:.+]] = "onnx.Constant"() {value = dense<3.000000e+00>
  // CHECK: %[[BIAS:.+]] = "onnx.Mul"(%{{.+}}, %[[BETA]])
  // CHECK: "onnx.Add"(%[[Y]], %[[BIAS]])
  %eps = "onnx.Constant"() {value = dense<7.87401571E-8> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %w = "onnx.Constant"() {value = dense<[
    [5.0, 0.0], [-5.0, 0.0], [4.9999995, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0],
    [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, -3.0]]>
    : tensor<16x2xf32>} : () -> tensor<16x2xf32>
  %abs = "onnx.Abs"(%x) : (tensor<3x16xf32>) -> !t
  %absmax = "onnx.ReduceMax"(%abs) {axes = array<i64: 1>} : (!t) -> !t
  %d = "onnx.Div"(%absmax, %127) : (!t, tensor<f32>) -> !t
  %bounded = "onnx.Max"(%eps, %d) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Div"(%x, %bounded) : (tensor<3x16xf32>, !t) -> !t
  %clipped = "onnx.Clip"(%scaled) {min = -128.0 : f32, max = 127.0 : f32} : (!t) -> !t
  %rounded = "onnx.Round"(%clipped) : (!t) -> !t
  %q = "onnx.Mul"(%bounded, %rounded) : (!t, !t) -> !t
  %y = "onnx.Gemm"(%q, %w, %b) {alpha = 0.5 : f32, beta = 3.0 : f32} : (!t, tensor<16x2xf32>, tensor<2xf32>) -> !t
  return %y : !t
}

// The integers are multiplied; scales follow. absmax of ReduceMax and ReduceMin,
// Unsqueeze; the last product is an output and stays.

// CHECK-LABEL: func @integers
func.func @integers(%x: tensor<?x?x4xf32>) -> (!t, !t) {
  // CHECK: %[[Y:.+]] = "onnx.ternary.bit_linear"(%arg0) {group = 16 : i64,
  // CHECK-SAME: scales = dense<{{\[\[}}6.000000e+00], [8.000000e+00]]> : tensor<2x1xf32>,
  // CHECK-SAME: trits = dense<{{\[\[}}-1, 1, 0, 1], [1, 0, 0, 0]]> : tensor<2x4xi2>}
  // CHECK: %[[Z:.+]] = "onnx.Mul"(%[[Y]], %{{.+}})
  // CHECK: return %[[Y]], %[[Z]]
  %axes = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %n128 = "onnx.Constant"() {value = dense<-128.0> : tensor<f32>} : () -> tensor<f32>
  %two = "onnx.Constant"() {value = dense<2.0> : tensor<f32>} : () -> tensor<f32>
  %rows = "onnx.Constant"() {value = dense<[3.0, 4.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %none = "onnx.None"() : () -> none
  %zero = "onnx.Constant"() {value = dense<1> : tensor<ui8>} : () -> tensor<ui8>
  %w = "onnx.Constant"() {value = dense<[[0, 2], [2, 1], [1, 1], [2, 1]]> : tensor<4x2xui8>} : () -> tensor<4x2xui8>
  %largest = "onnx.ReduceMax"(%x, %axes) {keepdims = 0 : i64} : (tensor<?x?x4xf32>, tensor<1xi64>) -> !t
  %kept = "onnx.Unsqueeze"(%largest, %axes) : (!t, tensor<1xi64>) -> !t
  %smallest = "onnx.ReduceMin"(%x, %axes) : (tensor<?x?x4xf32>, tensor<1xi64>) -> !t
  %negated = "onnx.Neg"(%smallest) : (!t) -> !t
  %absmax = "onnx.Max"(%negated, %kept) : (!t, !t) -> !t
  %bounded = "onnx.Clip"(%absmax, %eps) : (!t, tensor<f32>) -> !t
  %s = "onnx.Div"(%127, %bounded) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (tensor<?x?x4xf32>, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %clipped = "onnx.Clip"(%rounded, %n128, %127) : (!t, tensor<f32>, tensor<f32>) -> !t
  %q = "onnx.Cast"(%clipped) {to = 3 : i64} : (!t) -> !t
  %acc = "onnx.MatMulInteger"(%q, %w, %none, %zero) : (!t, tensor<4x2xui8>, none, tensor<ui8>) -> !t
  %wide = "onnx.Cast"(%acc) {to = 1 : i64} : (!t) -> !t
  %y = "onnx.Mul"(%rows, %wide) : (tensor<2xf32>, !t) -> !t
  %half = "onnx.Div"(%s, %two) : (!t, tensor<f32>) -> !t
  %z = "onnx.Div"(%y, %half) : (!t, !t) -> !t
  %last = "onnx.Mul"(%z, %two) : (!t, tensor<f32>) -> !t
  return %z, %last : !t, !t
}

// Two bits a weight: codes 1 + w, scales of groups, zero points of 1.

// CHECK-LABEL: func @nbits
func.func @nbits(%x: tensor<?x32xf32>) -> !t {
  // Bytes 0x59 are the codes 1, 2, 1, 1.
  // CHECK: "onnx.ternary.bit_linear"(%arg0) {group = 16 : i64,
  // CHECK-SAME: scales = dense<{{\[\[}}2.000000e+00, 3.000000e+00]]> : tensor<1x2xf32>,
  // CHECK-SAME: trits = dense<{{\[\[}}0, 1, 0, 0, 0, 1, 0, 0, {{.*}}]]> : tensor<1x32xi2>}
  %axes = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %w = "onnx.Constant"() {value = dense<0x59> : tensor<1x2x4xui8>} : () -> tensor<1x2x4xui8>
  %scales = "onnx.Constant"() {value = dense<[2.0, 3.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %zeros = "onnx.Constant"() {value = dense<5> : tensor<1xui8>} : () -> tensor<1xui8>
  %abs = "onnx.Abs"(%x) : (tensor<?x32xf32>) -> !t
  %absmax = "onnx.ReduceMax"(%abs, %axes) : (!t, tensor<1xi64>) -> !t
  %bounded = "onnx.Clip"(%absmax, %eps) : (!t, tensor<f32>) -> !t
  %s = "onnx.Div"(%127, %bounded) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (tensor<?x32xf32>, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %q = "onnx.Div"(%rounded, %s) : (!t, !t) -> !t
  %y = "onnx.com.microsoft.MatMulNBits"(%q, %w, %scales, %zeros) {N = 1 : i64, K = 32 : i64, bits = 2 : i64, block_size = 16 : i64}
     : (!t, tensor<1x2x4xui8>, tensor<2xf32>, tensor<1xui8>) -> !t
  return %y : !t
}
