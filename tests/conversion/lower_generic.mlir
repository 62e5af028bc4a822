// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-kernels --split-input-file | FileCheck %s

#x = affine_map<(i, j, k) -> (i, k)>
#w = affine_map<(i, j, k) -> (k, j)>
#y = affine_map<(i, j, k) -> (i, j)>

// Neighbours in lanes. A tile is 8 rows of 2 vectors: a vector of the weights is
// loaded once for all rows, a number of the operand once for both vectors.

// CHECK-LABEL: func.func @matmul
// CHECK-SAME: %[[X:[^:]+]]: memref<8x64xf32>, %[[W:[^:]+]]: memref<64x32xf32>
func.func @matmul(%x: memref<8x64xf32>, %w: memref<64x32xf32>, %y: memref<8x32xf32>) {
  // CHECK: scf.parallel
  // CHECK: %{{.+}}:16 = scf.for
  // CHECK: memref.load %[[X]]
  // CHECK: %[[W0:.+]] = vector.load %[[W]]
  // CHECK: math.fma %{{.+}}, %[[W0]], %{{.+}} : vector<16xf32>
  // CHECK: %[[W1:.+]] = vector.load %[[W]]
  // CHECK: math.fma %{{.+}}, %[[W1]], %{{.+}} : vector<16xf32>
  // CHECK-NOT: vector.load
  // CHECK: math.fma %{{.+}}, %[[W0]], %{{.+}} : vector<16xf32>
  // CHECK: scf.yield
  // CHECK-COUNT-16: vector.store
  // CHECK-NOT: linalg.
  linalg.generic {indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : memref<8x64xf32>, memref<64x32xf32>) outs(%y : memref<8x32xf32>) {
  ^bb0(%a: f32, %b: f32, %sum: f32):
    %next = math.fma %a, %b, %sum : f32
    linalg.yield %next : f32
  }
  return
}

// -----

#x = affine_map<(i, j, k) -> (i, k)>
#w = affine_map<(i, j, k) -> (k, j)>
#y = affine_map<(i, j, k) -> (i, j)>

// One row: 8 vectors hide the latency of their chains. 130 columns are a block
// of 8 vectors and 2 lanes of another.

// CHECK-LABEL: func.func @one_row
func.func @one_row(%x: memref<1x512xf32>, %w: memref<512x130xf32>, %y: memref<1x130xf32>) {
  // CHECK: scf.parallel
  // CHECK: %{{.+}}:8 = scf.for
  // CHECK-COUNT-8: vector.load
  // CHECK-COUNT-8: vector.store
  // CHECK: vector.maskedload
  // CHECK: vector.maskedstore
  linalg.generic {indexing_maps = [#x, #w, #y], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : memref<1x512xf32>, memref<512x130xf32>) outs(%y : memref<1x130xf32>) {
  ^bb0(%a: f32, %b: f32, %sum: f32):
    %next = math.fma %a, %b, %sum : f32
    linalg.yield %next : f32
  }
  return
}

// -----

#row = affine_map<(i, j) -> (i, j)>
#first = affine_map<(i, j) -> (i)>

// The innermost dimension is reduced: lanes hold partial sums, from the neutral
// element on, and fold in a tree. The 8 lanes beyond the row keep theirs.

// CHECK-LABEL: func.func @row_sums
// CHECK-SAME: %[[X:[^:]+]]: memref<8x40xf32>, %[[Y:[^:]+]]: memref<8xf32>
func.func @row_sums(%x: memref<8x40xf32>, %y: memref<8xf32>) {
  // CHECK: arith.constant dense<0.000000e+00> : vector<16xf32>
  // CHECK: scf.for
  // CHECK: vector.load %[[X]]
  // CHECK: arith.addf {{.*}} : vector<16xf32>
  // CHECK: vector.maskedload %[[X]]
  // CHECK: %[[LANES:.+]] = arith.select
  // CHECK: vector.extract_strided_slice %[[LANES]] {offsets = [0], sizes = [8]
  // CHECK: vector.extract_strided_slice %[[LANES]] {offsets = [8], sizes = [8]
  // CHECK: memref.load %[[Y]]
  // CHECK: arith.addf {{.*}} : f32
  // CHECK: memref.store {{.*}}, %[[Y]]
  linalg.generic {indexing_maps = [#row, #first], iterator_types = ["parallel", "reduction"]}
      ins(%x : memref<8x40xf32>) outs(%y : memref<8xf32>) {
  ^bb0(%a: f32, %sum: f32):
    %next = arith.addf %a, %sum : f32
    linalg.yield %next : f32
  }
  return
}

// -----

#row = affine_map<(i, j) -> (i, j)>

// What looks at indices is computed element by element; less work than a call
// of the pool is worth stays with the caller.

// CHECK-LABEL: func.func @indices
// CHECK-SAME: %[[Y:[^:]+]]: memref<4x8xi64>
func.func @indices(%y: memref<4x8xi64>) {
  // CHECK-NOT: scf.parallel
  // CHECK-NOT: vector
  // CHECK: scf.for %{{.+}} =
  // CHECK: scf.for %[[J:.+]] =
  // CHECK: %[[V:.+]] = arith.index_cast %[[J]] : index to i64
  // CHECK: memref.store %[[V]], %[[Y]][%{{.+}}, %[[J]]]
  linalg.generic {indexing_maps = [#row], iterator_types = ["parallel", "parallel"]} outs(%y : memref<4x8xi64>) {
  ^bb0(%out: i64):
    %j = linalg.index 1 : index
    %v = arith.index_cast %j : index to i64
    linalg.yield %v : i64
  }
  return
}

// -----

#x = affine_map<(c, i, j) -> (c, i, j)>
#bias = affine_map<(c, i, j) -> (c)>

// Rows of 7 pixels are one of 49, three vectors and a lane, as they are neighbours
// in memory and all that the bias sees is the channel.

// CHECK-LABEL: func.func @short_rows
// CHECK-SAME: %[[X:[^:]+]]: memref<64x7x7xf32>
func.func @short_rows(%x: memref<64x7x7xf32>, %bias: memref<64xf32>, %y: memref<64x7x7xf32>) {
  // CHECK: %[[PIXELS:.+]] = memref.collapse_shape %[[X]] {{\[}}[0], [1, 2]] : {{.+}} into memref<64x49xf32>
  // CHECK: vector.load %[[PIXELS]][{{.+}}] : memref<64x49xf32>, vector<16xf32>
  // CHECK: vector.maskedload %[[PIXELS]]
  linalg.generic {indexing_maps = [#x, #bias, #x], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%x, %bias : memref<64x7x7xf32>, memref<64xf32>) outs(%y : memref<64x7x7xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %next = arith.addf %a, %b : f32
    linalg.yield %next : f32
  }
  return
}

// -----

// Not where memory has gaps between them.

// CHECK-LABEL: func.func @rows_with_gaps
// CHECK-SAME: %[[X:[^:]+]]: memref
func.func @rows_with_gaps(%x: memref<64x7x7xf32, strided<[72, 8, 1]>>, %y: memref<64x7x7xf32>) {
  // CHECK-NOT: vector.load
  // CHECK: vector.maskedload %[[X]]
  // CHECK-NOT: vector.load
  linalg.copy ins(%x : memref<64x7x7xf32, strided<[72, 8, 1]>>) outs(%y : memref<64x7x7xf32>)
  return
}

// -----

// 16 columns of 16 numbers each are 16 rows after four rounds of shuffles.

// CHECK-LABEL: func.func @transpose
// CHECK-SAME: %[[X:[^:]+]]: memref<196x32xf32>, %[[Y:[^:]+]]: memref<32x196xf32>
func.func @transpose(%x: memref<196x32xf32>, %y: memref<32x196xf32>) {
  // CHECK-COUNT-16: vector.load %[[X]][{{.+}}] : {{.+}}, vector<16xf32>
  // CHECK-COUNT-64: vector.shuffle
  // CHECK-NOT: vector.shuffle
  // CHECK-COUNT-16: vector.store {{.+}}, %[[Y]]
  linalg.transpose ins(%x : memref<196x32xf32>) outs(%y : memref<32x196xf32>) permutation = [1, 0]
  return
}

// -----

#x = affine_map<(c, i, k) -> (c, i * 2 + k)>
#k = affine_map<(c, i, k) -> (k)>
#y = affine_map<(c, i, k) -> (c, i)>

// Every other element: two vectors, of which the second begins 15 elements after
// the first, since there need not be a 32nd.

// CHECK-LABEL: func.func @stride_of_two
// CHECK-SAME: %[[X:[^:]+]]: memref<64x32xf32>
func.func @stride_of_two(%x: memref<64x32xf32>, %w: memref<2xf32>, %y: memref<64x16xf32>) {
  // CHECK: %[[FIRST:.+]] = vector.load %[[X]][%{{.+}}, %[[I:.+]]]
  // CHECK: %[[J:.+]] = arith.addi %[[I]], %c15
  // CHECK: %[[SECOND:.+]] = vector.load %[[X]][%{{.+}}, %[[J]]]
  // CHECK: vector.shuffle %[[FIRST]], %[[SECOND]] [0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31]
  linalg.generic {indexing_maps = [#x, #k, #y], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%x, %w : memref<64x32xf32>, memref<2xf32>) outs(%y : memref<64x16xf32>) {
  ^bb0(%a: f32, %b: f32, %max: f32):
    %next = arith.maximumf %a, %max : f32
    linalg.yield %next : f32
  }
  return
}
