// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --plan-graph --split-input-file | FileCheck %s

// The C signature: weights, inputs, outputs, pool. Static buffers are places in
// one arena, a dynamic one is freed after its last use; results are neither.

// CHECK-LABEL: func.func @evaluate
// CHECK-SAME: (%{{[^:]+}}: memref<256xi8>, %[[INS:[^:]+]]: !llvm.ptr,
// CHECK-SAME: %[[OUTS:[^:]+]]: !llvm.ptr, %{{[^:]+}}: !llvm.ptr) {
module attributes {ternary.weights_size = 256 : i64} {
func.func @graph(%x: memref<?x8xf32> {onnx.name = "x"}) -> (memref<?x8xf32>, memref<8xf32>) {
  // CHECK: llvm.getelementptr %[[INS]][0, 0]
  // CHECK: %[[ROWS_AT:.+]] = llvm.getelementptr %[[INS]][0, 1, 0]
  // CHECK: llvm.load %[[ROWS_AT]] : !llvm.ptr -> i64
  // CHECK: %[[X:.+]] = builtin.unrealized_conversion_cast %{{.+}} to memref<?x8xf32>
  // CHECK: %[[ARENA:.+]] = memref.alloc() : memref<128xi8>
  %zero = arith.constant 0.0 : f32
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?x8xf32>
  // CHECK: %[[Y:.+]] = memref.alloc(%{{.+}}) : memref<?x8xf32>
  // CHECK: %[[T:.+]] = memref.alloc(%{{.+}}) : memref<?x8xf32>
  %y = memref.alloc(%n) : memref<?x8xf32>
  %t = memref.alloc(%n) : memref<?x8xf32>
  // CHECK: %[[A:.+]] = memref.view %[[ARENA]]
  // CHECK: %[[B:.+]] = memref.view %[[ARENA]]
  // CHECK: %[[R:.+]] = memref.alloc() : memref<8xf32>
  %a = memref.alloc() : memref<8xf32>
  %b = memref.alloc() : memref<8xf32>
  %r = memref.alloc() : memref<8xf32>
  linalg.fill ins(%zero : f32) outs(%a : memref<8xf32>)
  // CHECK: linalg.copy ins(%[[A]] : memref<8xf32>) outs(%[[B]] : memref<8xf32>)
  memref.copy %a, %b : memref<8xf32> to memref<8xf32>
  memref.copy %x, %t : memref<?x8xf32> to memref<?x8xf32>
  // CHECK: linalg.copy ins(%[[T]] : memref<?x8xf32>) outs(%[[Y]] : memref<?x8xf32>)
  // CHECK-NEXT: memref.dealloc %[[T]]
  memref.copy %t, %y : memref<?x8xf32> to memref<?x8xf32>
  memref.copy %b, %r : memref<8xf32> to memref<8xf32>
  // CHECK: memref.dealloc %[[ARENA]]
  // CHECK-NOT: memref.dealloc
  // CHECK: memref.extract_aligned_pointer_as_index %[[Y]]
  // CHECK: llvm.getelementptr %[[OUTS]][0, 0]
  // CHECK: llvm.getelementptr %[[OUTS]][0, 1, 0]
  // CHECK: llvm.getelementptr %[[OUTS]][0, 1, 1]
  // CHECK: memref.extract_aligned_pointer_as_index %[[R]]
  // CHECK: llvm.getelementptr %[[OUTS]][1, 0]
  // CHECK: return
  // CHECK-NEXT: }
  return %y, %r : memref<?x8xf32>, memref<8xf32>
}
}

// -----

// Buffers that are not alive together share bytes; a view keeps one alive.

// CHECK-LABEL: func.func @evaluate
func.func @graph(%x: memref<16xf32>) -> memref<4x4xf32> {
  // CHECK: %[[ARENA:.+]] = memref.alloc() : memref<128xi8>
  // CHECK: arith.constant [[A:0|64]] : index
  // CHECK: memref.view %[[ARENA]]
  %a = memref.alloc() : memref<16xf32>
  %view = memref.expand_shape %a [[0, 1]] output_shape [4, 4] : memref<16xf32> into memref<4x4xf32>
  memref.copy %x, %a : memref<16xf32> to memref<16xf32>
  // CHECK: arith.constant [[B:0|64]] : index
  // CHECK: memref.view %[[ARENA]]
  %b = memref.alloc() : memref<4x4xf32>
  memref.copy %view, %b : memref<4x4xf32> to memref<4x4xf32>
  // CHECK: arith.constant [[A]] : index
  // CHECK: memref.view %[[ARENA]]
  %c = memref.alloc() : memref<4x4xf32>
  memref.copy %b, %c : memref<4x4xf32> to memref<4x4xf32>
  %y = memref.alloc() : memref<4x4xf32>
  memref.copy %c, %y : memref<4x4xf32> to memref<4x4xf32>
  return %y : memref<4x4xf32>
}

// -----

// A caller can own neither an argument nor a buffer twice: they are copied.

// CHECK-LABEL: func.func @evaluate
func.func @graph(%x: memref<4xf32>) -> (memref<4xf32>, memref<4xf32>, memref<2x2xf32>) {
  %zero = arith.constant 0.0 : f32
  // CHECK: %[[X:.+]] = builtin.unrealized_conversion_cast
  // CHECK: %[[Y:.+]] = memref.alloc() : memref<4xf32>
  %y = memref.alloc() : memref<4xf32>
  linalg.fill ins(%zero : f32) outs(%y : memref<4xf32>)
  // CHECK: %[[V:.+]] = memref.reinterpret_cast %[[Y]] to offset: [0], sizes: [2, 2], strides: [2, 1]
  %v = memref.expand_shape %y [[0, 1]] output_shape [2, 2] : memref<4xf32> into memref<2x2xf32>
  // CHECK: %[[X_COPY:.+]] = memref.alloc() : memref<4xf32>
  // CHECK: linalg.copy ins(%[[X]] : {{.+}}) outs(%[[X_COPY]] :
  // CHECK: %[[V_COPY:.+]] = memref.alloc() : memref<2x2xf32>
  // CHECK: linalg.copy ins(%[[V]] : {{.+}}) outs(%[[V_COPY]] :
  // CHECK: memref.extract_aligned_pointer_as_index %[[X_COPY]]
  // CHECK: memref.extract_aligned_pointer_as_index %[[Y]]
  // CHECK: memref.extract_aligned_pointer_as_index %[[V_COPY]]
  return %x, %y, %v : memref<4xf32>, memref<4xf32>, memref<2x2xf32>
}

// -----

// The kernel of a packed_matmul takes windows and a scale of all positions where
// they are; what is written in between has to be copied first.

// CHECK-LABEL: func.func @evaluate
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
#see = affine_map<(n, h, w, r, c) -> (n, h * 2 + r, w * 3 + c)>
#all = affine_map<(n, h, w, r, c) -> (n, h, w, r, c)>
#image = affine_map<(n, h, w) -> (n)>
#position = affine_map<(n, h, w) -> (n, h, w)>
module {
func.func @graph(%x: memref<?x4x20xi8> {onnx.name = "x"}, %s: memref<?xf32> {onnx.name = "s"},
                 %sum: memref<?x2x5xi32> {onnx.name = "sum"}, %w: memref<64xi8> {onnx.name = "w"},
                 %g: memref<1xf32> {onnx.name = "g"}) -> (memref<?x2x5x16xf32>, memref<?x2x5x16xf32>) {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0 : i8
  %n = memref.dim %x, %c0 : memref<?x4x20xi8>
  // CHECK: %[[Q:.+]] = memref.reinterpret_cast %[[X:.+]] to offset: [0], sizes: [%{{.+}}, 2, 5, 2, 4], strides: [80, 40, 3, 20, 1]
  %q = memref.alloc(%n) : memref<?x2x5x2x4xi8>
  linalg.generic {indexing_maps = [#see, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]}
      ins(%x : memref<?x4x20xi8>) outs(%q : memref<?x2x5x2x4xi8>) {
  ^bb0(%in: i8, %o: i8):
    linalg.yield %in : i8
  }
  // CHECK: %[[S:.+]] = memref.reinterpret_cast %{{.+}} to offset: [0], sizes: [%{{.+}}, 2, 5], strides: [1, 0, 0]
  %scale = memref.alloc(%n) : memref<?x2x5xf32>
  linalg.generic {indexing_maps = [#image, #position], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%s : memref<?xf32>) outs(%scale : memref<?x2x5xf32>) {
  ^bb0(%in: f32, %o: f32):
    linalg.yield %in : f32
  }
  %y = memref.alloc(%n) : memref<?x2x5x16xf32>
  // CHECK: ternary.packed_matmul <i2, {{.*}}> ins(%[[Q]], %[[S]],
  ternary.packed_matmul #l ins(%q, %scale, %sum, %w, %g : memref<?x2x5x2x4xi8>, memref<?x2x5xf32>, memref<?x2x5xi32>, memref<64xi8>, memref<1xf32>)
      outs(%y : memref<?x2x5x16xf32>)
  // CHECK: linalg.generic
  %q2 = memref.alloc(%n) : memref<?x2x5x2x4xi8>
  linalg.generic {indexing_maps = [#see, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]}
      ins(%x : memref<?x4x20xi8>) outs(%q2 : memref<?x2x5x2x4xi8>) {
  ^bb0(%in: i8, %o: i8):
    linalg.yield %in : i8
  }
  linalg.fill ins(%zero : i8) outs(%x : memref<?x4x20xi8>)
  %z = memref.alloc(%n) : memref<?x2x5x16xf32>
  ternary.packed_matmul #l ins(%q2, %scale, %sum, %w, %g : memref<?x2x5x2x4xi8>, memref<?x2x5xf32>, memref<?x2x5xi32>, memref<64xi8>, memref<1xf32>)
      outs(%z : memref<?x2x5x16xf32>)
  return %y, %z : memref<?x2x5x16xf32>, memref<?x2x5x16xf32>
}
}
