// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --plan-memory=max-step-tokens=4 --split-input-file --allow-unregistered-dialect | FileCheck %s

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>

// The C signature, each dynamic dimension at its capacity. %a and %c are never
// alive together and share bytes; a view of %b keeps it alive beyond %c. The
// logits are the caller's.

// CHECK: module attributes {ternary.arena_size = 512 : i64
// CHECK: func.func @step(%[[W:[^:]+]]: memref<128xi8>, %[[ARENA:[^:]+]]: memref<512xi8>,
// CHECK-SAME: %{{[^:]+}}: !ternary.kv_cache<{{[^>]*}}>,
// CHECK-SAME: %[[TOKENS:[^:]+]]: memref<4xi32>, %{{[^:]+}}: memref<4xi32>,
// CHECK-SAME: %{{[^:]+}}: memref<4xi32>, %[[ROWS:[^:]+]]: memref<4xi32>,
// CHECK-SAME: %[[LOGITS:[^:]+]]: memref<4x24xf32>, %[[N:[^:]+]]: index, %[[R:[^:]+]]: index, %{{[^:]+}}: !llvm.ptr) {
module attributes {ternary.weights_size = 128 : i64} {
func.func @step(%tokens: memref<?xi32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                %rows: memref<?xi32>, %cache: !cache) -> memref<?x24xf32> {
  %c0 = arith.constant 0 : index
  %n = memref.dim %tokens, %c0 : memref<?xi32>
  %r = memref.dim %rows, %c0 : memref<?xi32>
  // CHECK-DAG: memref.reinterpret_cast %[[TOKENS]] to offset: [0], sizes: [%[[N]]]
  // CHECK-DAG: memref.reinterpret_cast %[[ROWS]] to offset: [0], sizes: [%[[R]]]
  // CHECK-DAG: %[[Y:.+]] = memref.reinterpret_cast %[[LOGITS]] to offset: [0], sizes: [%[[R]], 24], strides: [24, 1]
  // CHECK-NOT: memref.dim
  // CHECK: arith.constant 0
  // CHECK: %[[A_AT:.+]] = arith.constant [[A:0|256]] : index
  // CHECK: %[[A_BUF:.+]] = memref.view %[[ARENA]][%[[A_AT]]][%[[N]]] : memref<512xi8> to memref<?x16xf32>
  %a = memref.alloc(%n) {alignment = 64 : i64} : memref<?x16xf32>
  // CHECK: "test.write"(%[[A_BUF]], %[[TOKENS_VIEW:.+]])
  "test.write"(%a, %tokens) : (memref<?x16xf32>, memref<?xi32>) -> ()
  // CHECK: %[[B_AT:.+]] = arith.constant [[B:0|256]] : index
  // CHECK: %[[B_BUF:.+]] = memref.view %[[ARENA]][%[[B_AT]]][%[[N]]]
  %b = memref.alloc(%n) {alignment = 64 : i64} : memref<?x16xf32>
  %b_view = memref.subview %b[0, 0] [%n, 8] [1, 1] : memref<?x16xf32> to memref<?x8xf32, strided<[16, 1]>>
  "test.write"(%b, %a) : (memref<?x16xf32>, memref<?x16xf32>) -> ()
  // CHECK: %[[C_AT:.+]] = arith.constant [[A]] : index
  // CHECK: %[[C_BUF:.+]] = memref.view %[[ARENA]][%[[C_AT]]][%[[N]]]
  %c = memref.alloc(%n) {alignment = 64 : i64} : memref<?x16xf32>
  "test.write"(%c, %b_view) : (memref<?x16xf32>, memref<?x8xf32, strided<[16, 1]>>) -> ()
  // CHECK: %[[WEIGHTS:.+]] = memref.view %[[W]][%{{.+}}][] : memref<128xi8> to memref<16xf32>
  %c64 = arith.constant 64 : index
  %w = ternary.packed_parameter %c64 : memref<16xf32>
  // CHECK-NOT: memref.alloc
  %y = memref.alloc(%r) {alignment = 64 : i64} : memref<?x24xf32>
  // CHECK: "test.write"(%[[Y]], %[[C_BUF]], %[[WEIGHTS]])
  "test.write"(%y, %c, %w) : (memref<?x24xf32>, memref<?x16xf32>, memref<16xf32>) -> ()
  // CHECK: return
  // CHECK-NOT: %
  return %y : memref<?x24xf32>
}
}

// -----

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>

// A use inside a region counts as one of the op that has the region: %a and %b
// are alive at the same time.

// CHECK: ternary.arena_size = 128
func.func @step(%tokens: memref<?xi32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                %rows: memref<?xi32>, %cache: !cache) -> memref<?x24xf32> {
  %c0 = arith.constant 0 : index
  %n = memref.dim %tokens, %c0 : memref<?xi32>
  %r = memref.dim %rows, %c0 : memref<?xi32>
  %a = memref.alloc() : memref<16xf32>
  "test.write"(%a) : (memref<16xf32>) -> ()
  %b = memref.alloc() : memref<16xf32>
  %more = arith.cmpi ugt, %n, %c0 : index
  scf.if %more {
    "test.write"(%b, %a) : (memref<16xf32>, memref<16xf32>) -> ()
  }
  %y = memref.alloc(%r) : memref<?x24xf32>
  "test.write"(%y, %b) : (memref<?x24xf32>, memref<16xf32>) -> ()
  return %y : memref<?x24xf32>
}

// -----

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>

// What a screened head has beside @step. A result that is an argument stays one;
// its groups of 16 rows are a dimension of their own.

// CHECK: ternary.arena_size = 256
// CHECK: func.func @step
func.func @step(%tokens: memref<?xi32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                %rows: memref<?xi32>, %cache: !cache) -> memref<?x8xf32> {
  %c0 = arith.constant 0 : index
  %r = memref.dim %rows, %c0 : memref<?xi32>
  %y = memref.alloc(%r) : memref<?x8xf32>
  return %y : memref<?x8xf32>
}
// CHECK: func.func @screen(%{{[^:]+}}: memref<1xi8>, %[[ARENA:[^:]+]]: memref<256xi8>, %[[X:[^:]+]]: memref<4x8xf32>,
// CHECK-SAME: %[[Y:[^:]+]]: memref<4x40xf32>, %[[N:[^:]+]]: index, %{{[^:]+}}: !llvm.ptr) {
func.func @screen(%x: memref<?x8xf32>) -> memref<?x40xf32> {
  %c0 = arith.constant 0 : index
  %n = memref.dim %x, %c0 : memref<?x8xf32>
  // CHECK: memref.view %[[ARENA]][%{{.+}}][%[[N]]] : memref<256xi8> to memref<?x16xf32>
  %t = memref.alloc(%n) : memref<?x16xf32>
  "test.write"(%t, %x) : (memref<?x16xf32>, memref<?x8xf32>) -> ()
  %y = memref.alloc(%n) : memref<?x40xf32>
  "test.write"(%y, %t) : (memref<?x40xf32>, memref<?x16xf32>) -> ()
  return %y : memref<?x40xf32>
}
// CHECK: func.func @head_rows(%{{[^:]+}}: memref<1xi8>, %{{[^:]+}}: memref<1xi8>, %[[X:[^:]+]]: memref<4x8xf32>,
// CHECK-SAME: %[[G:[^:]+]]: memref<3xi32>, %[[Y:[^:]+]]: memref<4x40xf32>, %[[N:[^:]+]]: index, %[[M:[^:]+]]: index, %{{[^:]+}}: !llvm.ptr) {
func.func @head_rows(%x: memref<?x8xf32>, %groups: memref<?xi32>, %y: memref<?x40xf32>) -> memref<?x40xf32> {
  // CHECK-DAG: memref.reinterpret_cast %[[X]] to offset: [0], sizes: [%[[N]], 8]
  // CHECK-DAG: memref.reinterpret_cast %[[G]] to offset: [0], sizes: [%[[M]]]
  // CHECK-DAG: memref.reinterpret_cast %[[Y]] to offset: [0], sizes: [%[[N]], 40]
  "test.write"(%y, %x, %groups) : (memref<?x40xf32>, memref<?x8xf32>, memref<?xi32>) -> ()
  // CHECK: return
  // CHECK-NOT: %
  return %y : memref<?x40xf32>
}
