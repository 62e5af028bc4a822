// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --sink-transposes | FileCheck %s

#same = affine_map<(n, c, h) -> (n, c, h)>
#channel = affine_map<(n, c, h) -> (c)>
#first = affine_map<(n, c, h) -> (n)>

// Two transpositions around an elementwise op and a pool are none.

#seen = affine_map<(n, c, p, k) -> (n, c, p * 2 + k)>
#taps = affine_map<(n, c, p, k) -> (k)>
#pooled = affine_map<(n, c, p, k) -> (n, c, p)>

// CHECK-DAG: #[[LAST:.*]] = affine_map<(d0, d1, d2) -> (d2)>
// CHECK-DAG: #[[SEEN:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d1 * 2 + d3, d2)>

// CHECK-LABEL: func.func @chain(
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x8x16xf32>, %[[BIAS:[^:]*]]:
// CHECK-NOT: linalg.transpose
// CHECK: linalg.generic {indexing_maps = [#{{.*}}, #[[LAST]], #{{.*}}], {{.*}} ins(%[[X]], %[[BIAS]]
// CHECK: linalg.fill
// CHECK: linalg.generic {indexing_maps = [#[[SEEN]],
// CHECK-NOT: linalg.transpose
// CHECK: return
func.func @chain(%x: tensor<?x8x16xf32>, %bias: tensor<16xf32>, %n: index) -> tensor<?x4x16xf32> {
  %low = arith.constant 0xFF800000 : f32
  %wide = tensor.empty(%n) : tensor<?x16x8xf32>
  %t = linalg.transpose ins(%x : tensor<?x8x16xf32>) outs(%wide : tensor<?x16x8xf32>) permutation = [0, 2, 1]
  %sum = linalg.generic {indexing_maps = [#same, #channel, #same], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%t, %bias : tensor<?x16x8xf32>, tensor<16xf32>) outs(%wide : tensor<?x16x8xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %c = arith.addf %a, %b : f32
    linalg.yield %c : f32
  } -> tensor<?x16x8xf32>
  %taps = tensor.empty() : tensor<2xf32>
  %empty = tensor.empty(%n) : tensor<?x16x4xf32>
  %init = linalg.fill ins(%low : f32) outs(%empty : tensor<?x16x4xf32>) -> tensor<?x16x4xf32>
  %max = linalg.generic {indexing_maps = [#seen, #taps, #pooled], iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
      ins(%sum, %taps : tensor<?x16x8xf32>, tensor<2xf32>) outs(%init : tensor<?x16x4xf32>) {
  ^bb0(%a: f32, %tap: f32, %out: f32):
    %b = arith.maximumf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<?x16x4xf32>
  %back = tensor.empty(%n) : tensor<?x4x16xf32>
  %result = linalg.transpose ins(%max : tensor<?x16x4xf32>) outs(%back : tensor<?x4x16xf32>) permutation = [0, 2, 1]
  return %result : tensor<?x4x16xf32>
}

// A maximum has no order; a sum of floats has that of its operand.

// CHECK-LABEL: func.func @maximum
// CHECK-NOT: linalg.transpose
// CHECK-LABEL: func.func @sum
// CHECK: linalg.transpose
func.func @maximum(%x: tensor<2x8x16xf32>, %init: tensor<2xf32>) -> tensor<2xf32> {
  %wide = tensor.empty() : tensor<2x16x8xf32>
  %t = linalg.transpose ins(%x : tensor<2x8x16xf32>) outs(%wide : tensor<2x16x8xf32>) permutation = [0, 2, 1]
  %r = linalg.generic {indexing_maps = [#same, #first], iterator_types = ["parallel", "reduction", "reduction"]}
      ins(%t : tensor<2x16x8xf32>) outs(%init : tensor<2xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.maximumf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<2xf32>
  return %r : tensor<2xf32>
}
func.func @sum(%x: tensor<2x8x16xf32>, %init: tensor<2xf32>) -> tensor<2xf32> {
  %wide = tensor.empty() : tensor<2x16x8xf32>
  %t = linalg.transpose ins(%x : tensor<2x8x16xf32>) outs(%wide : tensor<2x16x8xf32>) permutation = [0, 2, 1]
  %r = linalg.generic {indexing_maps = [#same, #first], iterator_types = ["parallel", "reduction", "reduction"]}
      ins(%t : tensor<2x16x8xf32>) outs(%init : tensor<2xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<2xf32>
  return %r : tensor<2xf32>
}

// Three channels would leave most lanes empty, and what another operand has in
// its own order would have to be transposed instead.

// CHECK-LABEL: func.func @few_channels
// CHECK: linalg.transpose
// CHECK: linalg.generic
// CHECK-LABEL: func.func @two_orders
// CHECK: linalg.transpose
// CHECK: linalg.generic
func.func @few_channels(%x: tensor<2x8x3xf32>) -> tensor<2x3x8xf32> {
  %wide = tensor.empty() : tensor<2x3x8xf32>
  %t = linalg.transpose ins(%x : tensor<2x8x3xf32>) outs(%wide : tensor<2x3x8xf32>) permutation = [0, 2, 1]
  %r = linalg.generic {indexing_maps = [#same, #same], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%t : tensor<2x3x8xf32>) outs(%wide : tensor<2x3x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.negf %a : f32
    linalg.yield %b : f32
  } -> tensor<2x3x8xf32>
  return %r : tensor<2x3x8xf32>
}
func.func @two_orders(%x: tensor<2x8x16xf32>, %y: tensor<2x16x8xf32>) -> tensor<2x16x8xf32> {
  %wide = tensor.empty() : tensor<2x16x8xf32>
  %t = linalg.transpose ins(%x : tensor<2x8x16xf32>) outs(%wide : tensor<2x16x8xf32>) permutation = [0, 2, 1]
  %r = linalg.generic {indexing_maps = [#same, #same, #same], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%t, %y : tensor<2x16x8xf32>, tensor<2x16x8xf32>) outs(%wide : tensor<2x16x8xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %c = arith.addf %a, %b : f32
    linalg.yield %c : f32
  } -> tensor<2x16x8xf32>
  return %r : tensor<2x16x8xf32>
}
