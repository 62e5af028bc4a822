// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One thing of a BitLinear changed: it stays as it is, and a remark says why.

// RUN: tercet-opt %s --recognize-bit-linear 2>&1 | FileCheck %s --check-prefix=UNCHANGED
// UNCHANGED: remark: recognised BitLinear 4x2, scale per tensor
// UNCHANGED: onnx.ternary.bit_linear

// RUN: sed 's/0.5, 0.0, -0.5/0.5, 0.0, -0.25/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=WEIGHTS,NOT
// WEIGHTS: not recognised as BitLinear: activations are quantised, but weights are not ternary

// RUN: sed 's/<1.0e-05>/<1.0e-06>/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=BOUND,NOT
// BOUND: not recognised as BitLinear: the absmax of the activations has the lower bound 1e-06, not 1e-05

// RUN: sed 's/<-1>/<0>/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=AXIS,NOT
// AXIS: not recognised as BitLinear: the absmax of the activations is not over their last axis

// RUN: sed 's/ReduceMax"(%%abs, %%axes)/ReduceMax"(%%abs)/; s/(!t, tensor<1xi64>)/(!t)/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=TENSOR,NOT
// TENSOR: not recognised as BitLinear: the absmax of the activations is not over one axis

// RUN: sed 's/%%127 = \(.*\)<127.0>/%%127 = \1<7.0>/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=FACTOR,NOT
// FACTOR: not recognised as BitLinear: activations are not scaled by 127 / absmax

// RUN: sed 's/<-128.0>/<-8.0>/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=CLIP,NOT
// CLIP: not recognised as BitLinear: activations are clipped to -8..inf

// RUN: sed 's/onnx.Round/onnx.Floor/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=ROUND,NOT
// ROUND: not recognised as BitLinear: weights are ternary, but activations are not quantised

// RUN: sed 's/"(%%x, %%s)/"(%%abs, %%s)/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=OTHER,NOT
// OTHER: not recognised as BitLinear: activations are rounded, but not scaled by their absmax

// RUN: sed 's/"(%%clipped, %%s) : (!t, !t)/"(%%clipped, %%127) : (!t, tensor<f32>)/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=RESCALE,NOT
// RESCALE: not recognised as BitLinear: the product is not divided by the scale of its activations

// RUN: sed 's/to = 1 :/to = 10 :/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefixes=HALF,NOT
// HALF: not recognised as BitLinear: weights are ternary, but activations are not quantised

// RUN: sed 's/transB = 1/transA = 1/' %s | tercet-opt --recognize-bit-linear 2>&1 | FileCheck %s --check-prefix=NOT

// NOT-NOT: onnx.ternary

!t = !onnx.unknown

func.func @graph(%x: !t) -> !t {
  %axes = "onnx.Constant"() {value = dense<-1> : tensor<1xi64>} : () -> tensor<1xi64>
  %eps = "onnx.Constant"() {value = dense<1.0e-05> : tensor<f32>} : () -> tensor<f32>
  %n128 = "onnx.Constant"() {value = dense<-128.0> : tensor<f32>} : () -> tensor<f32>
  %127 = "onnx.Constant"() {value = dense<127.0> : tensor<f32>} : () -> tensor<f32>
  %w = "onnx.Constant"() {value = dense<[[0.5, 0.0, -0.5, 0.5], [0.0, 0.0, 0.5, -0.5]]> : tensor<2x4xf32>} : () -> tensor<2x4xf32>
  %abs = "onnx.Abs"(%x) : (!t) -> !t
  %absmax = "onnx.ReduceMax"(%abs, %axes) : (!t, tensor<1xi64>) -> !t
  %bounded = "onnx.Max"(%absmax, %eps) : (!t, tensor<f32>) -> !t
  %s = "onnx.Div"(%127, %bounded) : (tensor<f32>, !t) -> !t
  %scaled = "onnx.Mul"(%x, %s) : (!t, !t) -> !t
  %rounded = "onnx.Round"(%scaled) : (!t) -> !t
  %clipped = "onnx.Clip"(%rounded, %n128) : (!t, tensor<f32>) -> !t
  %q = "onnx.Div"(%clipped, %s) : (!t, !t) -> !t
  %cast = "onnx.Cast"(%q) {to = 1 : i64} : (!t) -> !t
  %y = "onnx.Gemm"(%cast, %w) {transB = 1 : i64} : (!t, tensor<2x4xf32>) -> !t
  return %y : !t
}
