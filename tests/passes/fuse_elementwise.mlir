// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --fuse-elementwise | FileCheck %s

#row = affine_map<(i, j) -> (i, j)>
#column = affine_map<(i, j) -> (j, i)>
#first = affine_map<(i, j) -> (i)>

// CHECK-LABEL: func.func @chain
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK-NEXT: arith.mulf
// CHECK-NOT: linalg.generic
func.func @chain(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %sum = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %square = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%sum : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.mulf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  return %square : tensor<4x8xf32>
}

// What is transposed is computed while vectors are transposed.

// CHECK-LABEL: func.func @transposed
// CHECK: linalg.generic
// CHECK: arith.addf
// CHECK-NOT: linalg.transpose
// CHECK: return
func.func @transposed(%x: tensor<4x8xf32>) -> tensor<8x4xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %other = tensor.empty() : tensor<8x4xf32>
  %sum = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %moved = linalg.transpose ins(%sum : tensor<4x8xf32>) outs(%other : tensor<8x4xf32>)
      permutation = [1, 0]
  return %moved : tensor<8x4xf32>
}

// What two read is stored.

// CHECK-LABEL: func.func @two_readers
// CHECK-COUNT-3: linalg.generic
func.func @two_readers(%x: tensor<4x8xf32>) -> (tensor<4x8xf32>, tensor<8x4xf32>) {
  %empty = tensor.empty() : tensor<4x8xf32>
  %other = tensor.empty() : tensor<8x4xf32>
  %sum = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %square = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%sum : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.mulf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %moved = linalg.generic {indexing_maps = [#column, #row], iterator_types = ["parallel", "parallel"]}
      ins(%sum : tensor<4x8xf32>) outs(%other : tensor<8x4xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.negf %a : f32
    linalg.yield %b : f32
  } -> tensor<8x4xf32>
  return %square, %moved : tensor<4x8xf32>, tensor<8x4xf32>
}

// A row's exponential is not computed again for each of its elements. No sum
// begins with an op that reads nothing in the order of the sum.

// CHECK-LABEL: func.func @broadcast_and_reduction
// CHECK-COUNT-3: linalg.generic
func.func @broadcast_and_reduction(%x: tensor<4xf32>) -> tensor<4xf32> {
  %rows = tensor.empty() : tensor<4xf32>
  %empty = tensor.empty() : tensor<4x8xf32>
  %exp = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%rows : tensor<4xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = math.exp %a : f32
    linalg.yield %b : f32
  } -> tensor<4xf32>
  %wide = linalg.generic {indexing_maps = [#first, #row], iterator_types = ["parallel", "parallel"]}
      ins(%exp : tensor<4xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %sum = linalg.generic {indexing_maps = [#row, #first], iterator_types = ["parallel", "reduction"]}
      ins(%wide : tensor<4x8xf32>) outs(%x : tensor<4xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<4xf32>
  return %sum : tensor<4xf32>
}

// A reduction that reads each element once computes them itself.

// CHECK-LABEL: func.func @sum_of_squares
// CHECK-COUNT-1: linalg.generic
// CHECK: arith.mulf
// CHECK-NEXT: arith.addf
// CHECK-NOT: linalg.generic
func.func @sum_of_squares(%x: tensor<4x8xf32>, %init: tensor<4xf32>) -> tensor<4xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %square = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.mulf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %sum = linalg.generic {indexing_maps = [#row, #first], iterator_types = ["parallel", "reduction"]}
      ins(%square : tensor<4x8xf32>) outs(%init : tensor<4xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<4xf32>
  return %sum : tensor<4xf32>
}

// So does a pool whose windows do not overlap, and no other one.

#apart = affine_map<(i, p, k) -> (i, p * 2 + k)>
#overlapping = affine_map<(i, p, k) -> (i, p + k)>
#taps = affine_map<(i, p, k) -> (k)>
#pooled = affine_map<(i, p, k) -> (i, p)>

// CHECK-LABEL: func.func @pool
// CHECK-COUNT-1: linalg.generic
// CHECK-NOT: linalg.generic
// CHECK-LABEL: func.func @overlapping_pool
// CHECK-COUNT-2: linalg.generic
func.func @pool(%x: tensor<4x8xf32>, %taps: tensor<2xf32>, %init: tensor<4x4xf32>) -> tensor<4x4xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %square = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.mulf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %max = linalg.generic {indexing_maps = [#apart, #taps, #pooled], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%square, %taps : tensor<4x8xf32>, tensor<2xf32>) outs(%init : tensor<4x4xf32>) {
  ^bb0(%a: f32, %tap: f32, %out: f32):
    %b = arith.maximumf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<4x4xf32>
  return %max : tensor<4x4xf32>
}
func.func @overlapping_pool(%x: tensor<4x8xf32>, %taps: tensor<2xf32>, %init: tensor<4x7xf32>) -> tensor<4x7xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %square = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.mulf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %max = linalg.generic {indexing_maps = [#overlapping, #taps, #pooled], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%square, %taps : tensor<4x8xf32>, tensor<2xf32>) outs(%init : tensor<4x7xf32>) {
  ^bb0(%a: f32, %tap: f32, %out: f32):
    %b = arith.maximumf %a, %out : f32
    linalg.yield %b : f32
  } -> tensor<4x7xf32>
  return %max : tensor<4x7xf32>
}

// Nor does an op lose its lanes to one that looks at indices.

// CHECK-LABEL: func.func @indices
// CHECK-COUNT-2: linalg.generic
func.func @indices(%x: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %empty = tensor.empty() : tensor<4x8xf32>
  %sum = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  %tril = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%sum : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %zero = arith.constant 0.0 : f32
    %i = linalg.index 0 : index
    %j = linalg.index 1 : index
    %below = arith.cmpi sge, %i, %j : index
    %b = arith.select %below, %a, %zero : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  return %tril : tensor<4x8xf32>
}

// Nor does an op that adds to what its result holds: it would stay a second result
// of the fused op. Such is a matmul whose reduction had extent 1.

#outer = affine_map<(i, j, k) -> (i, j)>
#left = affine_map<(i, j, k) -> (i, k)>
#right = affine_map<(i, j, k) -> (k, j)>

// CHECK-LABEL: func.func @adds_to_its_result
// CHECK: %[[PRODUCT:.*]] = linalg.generic
// CHECK-SAME: iterator_types = ["parallel", "parallel"]
// CHECK: math.fma
// CHECK: linalg.generic {{.*}} ins(%[[PRODUCT]]
// CHECK: arith.negf
func.func @adds_to_its_result(%x: tensor<4x1xf32>, %y: tensor<1x8xf32>, %init: tensor<4x8xf32>) -> tensor<4x8xf32> {
  %product = linalg.generic {indexing_maps = [#left, #right, #outer], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %y : tensor<4x1xf32>, tensor<1x8xf32>) outs(%init : tensor<4x8xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %c = math.fma %a, %b, %out : f32
    linalg.yield %c : f32
  } -> tensor<4x8xf32>
  %empty = tensor.empty() : tensor<4x8xf32>
  %negated = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%product : tensor<4x8xf32>) outs(%empty : tensor<4x8xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.negf %a : f32
    linalg.yield %b : f32
  } -> tensor<4x8xf32>
  return %negated : tensor<4x8xf32>
}

// A loop of extent 1 goes, but not that of the position of a window: there the
// window's loop of 3 would have to see all 4 elements of the operand.

#seen = affine_map<(c, p, k) -> (c, p * 2 + k)>
#weights = affine_map<(c, p, k) -> (c, k)>
#positions = affine_map<(c, p, k) -> (c, p)>

// CHECK-LABEL: func.func @unit_extents
// CHECK: iterator_types = ["parallel"]
// CHECK: iterator_types = ["parallel", "parallel", "reduction"]
func.func @unit_extents(%x: tensor<8x1xf32>, %y: tensor<8x4xf32>, %w: tensor<8x3xf32>, %init: tensor<8x1xf32>)
    -> (tensor<8x1xf32>, tensor<8x1xf32>) {
  %empty = tensor.empty() : tensor<8x1xf32>
  %sum = linalg.generic {indexing_maps = [#row, #row], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<8x1xf32>) outs(%empty : tensor<8x1xf32>) {
  ^bb0(%a: f32, %out: f32):
    %b = arith.addf %a, %a : f32
    linalg.yield %b : f32
  } -> tensor<8x1xf32>
  %window = linalg.generic {indexing_maps = [#seen, #weights, #positions], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%y, %w : tensor<8x4xf32>, tensor<8x3xf32>) outs(%init : tensor<8x1xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %c = math.fma %a, %b, %out : f32
    linalg.yield %c : f32
  } -> tensor<8x1xf32>
  return %sum, %window : tensor<8x1xf32>, tensor<8x1xf32>
}
