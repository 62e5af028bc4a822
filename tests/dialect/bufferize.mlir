// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --one-shot-bufferize="bufferize-function-boundaries function-boundary-type-conversion=identity-layout-map" --cse | FileCheck %s

// Every op writes the buffer of its outs: no copy of anything, weights and the
// cache least of all, and one buffer for each value.

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 64, head_dim = 16>

// CHECK-NOT: memref.copy
// CHECK-NOT: tensor<
// CHECK-LABEL: func @layer
// CHECK-SAME: %[[X:[^:]+]]: memref<?x32xf32>
func.func @layer(%x: tensor<?x32xf32>, %positions: tensor<?xi32>, %slots: tensor<?xi32>,
                 %cache: !cache) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %c128 = arith.constant 128 : index
  %n = tensor.dim %x, %c0 : tensor<?x32xf32>
  // CHECK-DAG: %[[NORM:.+]] = ternary.packed_parameter %{{.+}} : memref<32xf32>
  // CHECK-DAG: %[[SCALES:.+]] = ternary.packed_parameter %{{.+}} : memref<6xf32>
  // CHECK-DAG: %[[W:.+]] = ternary.packed_parameter %{{.+}} : memref<768xi8>
  %norm = ternary.packed_parameter %c0 : tensor<32xf32>
  %scales = ternary.packed_parameter %c64 : tensor<6xf32>
  %w = ternary.packed_parameter %c128 : tensor<768xi8>
  %table = ternary.packed_parameter %c0 : tensor<64x16xf32>
  // CHECK: %[[H:.+]] = memref.alloc(%{{.+}}) {{.*}} : memref<?x32xf32>
  // CHECK: ternary.rms_norm ins(%[[X]], %[[NORM]] {{.*}} outs(%[[H]] : memref<?x32xf32>) epsilon
  %e32_1 = tensor.empty(%n) : tensor<?x32xf32>
  %h = ternary.rms_norm ins(%x, %norm : tensor<?x32xf32>, tensor<32xf32>)
      outs(%e32_1 : tensor<?x32xf32>) epsilon = 1.0e-5 -> tensor<?x32xf32>
  // CHECK: ternary.quantize_activations ins(%[[H]] {{.*}} outs(%[[Q:.+]], %[[S:.+]], %[[SUM:.+]] :
  %eq = tensor.empty(%n) : tensor<?x32xi8>
  %es = tensor.empty(%n) : tensor<?xf32>
  %et = tensor.empty(%n) : tensor<?xi32>
  %q, %s, %sum = ternary.quantize_activations ins(%h : tensor<?x32xf32>)
      outs(%eq, %es, %et : tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>)
      -> tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>
  // CHECK: ternary.packed_matmul {{.*}} ins(%[[Q]], %[[S]], %[[SUM]], %[[W]], %[[SCALES]]
  // CHECK-SAME: outs(%[[QKV:.+]] : memref<?x96xf32>)
  %e96 = tensor.empty(%n) : tensor<?x96xf32>
  %qkv = ternary.packed_matmul <i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
      ins(%q, %s, %sum, %w, %scales : tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>,
          tensor<768xi8>, tensor<6xf32>) outs(%e96 : tensor<?x96xf32>) -> tensor<?x96xf32>
  // Columns of the fused result are views.
  // CHECK: %[[QS:.+]] = memref.subview %[[QKV]][0, 0]
  // CHECK: %[[KS:.+]] = memref.subview %[[QKV]][0, 32]
  // CHECK: %[[VS:.+]] = memref.subview %[[QKV]][0, 64]
  %query = tensor.extract_slice %qkv[0, 0] [%n, 32] [1, 1] : tensor<?x96xf32> to tensor<?x32xf32>
  %key = tensor.extract_slice %qkv[0, 32] [%n, 32] [1, 1] : tensor<?x96xf32> to tensor<?x32xf32>
  %value = tensor.extract_slice %qkv[0, 64] [%n, 32] [1, 1] : tensor<?x96xf32> to tensor<?x32xf32>
  // CHECK: ternary.rope ins(%[[QS]]
  %e32_2 = tensor.empty(%n) : tensor<?x32xf32>
  %rq = ternary.rope ins(%query, %positions, %table : tensor<?x32xf32>, tensor<?xi32>, tensor<64x16xf32>)
      outs(%e32_2 : tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: ternary.kv_update %[[KS]], %[[VS]], {{.*}} into %{{.+}} layer
  ternary.kv_update %key, %value, %positions, %slots into %cache layer %c0
      : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  // CHECK: ternary.attention
  %e32_3 = tensor.empty(%n) : tensor<?x32xf32>
  %a = ternary.attention ins(%rq, %positions, %slots, %cache layer %c0
      : tensor<?x32xf32>, tensor<?xi32>, tensor<?xi32>, !cache)
      outs(%e32_3 : tensor<?x32xf32>) scale = 0.25 -> tensor<?x32xf32>
  // CHECK: ternary.gated_activation
  %e32_4 = tensor.empty(%n) : tensor<?x32xf32>
  %g = ternary.gated_activation silu ins(%a, %h : tensor<?x32xf32>, tensor<?x32xf32>)
      outs(%e32_4 : tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: %[[Y:.+]] = memref.alloc
  // CHECK: linalg.add ins(%[[X]], {{.*}} outs(%[[Y]] :
  %e32_5 = tensor.empty(%n) : tensor<?x32xf32>
  %y = linalg.add ins(%x, %g : tensor<?x32xf32>, tensor<?x32xf32>) outs(%e32_5 : tensor<?x32xf32>)
      -> tensor<?x32xf32>
  // CHECK-NOT: memref.copy
  // CHECK: return %[[Y]]
  return %y : tensor<?x32xf32>
}

// CHECK-LABEL: func @ends
func.func @ends(%tokens: tensor<?xi32>, %rows: tensor<?xi32>) -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %r = tensor.dim %rows, %c0 : tensor<?xi32>
  %table = ternary.packed_parameter %c0 : tensor<40x32xbf16>
  %packed = ternary.packed_parameter %c0 : tensor<4096xi8>
  // CHECK: ternary.embedding {{.*}} outs(%[[X:.+]] : memref<?x32xf32>)
  %ex = tensor.empty(%n) : tensor<?x32xf32>
  %x = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<40x32xbf16>)
      outs(%ex : tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: ternary.gather_rows ins(%[[X]], {{.*}} outs(%[[L:.+]] : memref<?x32xf32>)
  %el = tensor.empty(%r) : tensor<?x32xf32>
  %l = ternary.gather_rows ins(%x, %rows : tensor<?x32xf32>, tensor<?xi32>)
      outs(%el : tensor<?x32xf32>) -> tensor<?x32xf32>
  %ey = tensor.empty(%r) : tensor<?x40xf32>
  // CHECK: ternary.packed_linear {{.*}} ins(%[[L]], {{.*}} outs(%[[Y:.+]] : memref<?x40xf32>)
  %y = ternary.packed_linear <bf16_pairs, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
      ins(%l, %packed : tensor<?x32xf32>, tensor<4096xi8>) outs(%ey : tensor<?x40xf32>)
      -> tensor<?x40xf32>
  // CHECK-NOT: memref.copy
  // CHECK: ternary.linear ins(%[[L]], {{.*}} outs(%[[Y]]
  %z = ternary.linear ins(%l, %table : tensor<?x32xf32>, tensor<40x32xbf16>)
      outs(%y : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: return %[[Y]]
  return %z : tensor<?x40xf32>
}

// Some groups of rows are written into the others' buffer.
// CHECK-LABEL: func @head_rows
// CHECK-SAME: (%[[X:.+]]: memref<?x32xf32>, %[[G:.+]]: memref<?xi32>, %[[Y:.+]]: memref<?x40xf32>)
func.func @head_rows(%x: tensor<?x32xf32>, %groups: tensor<?xi32>, %y: tensor<?x40xf32>) -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %w = ternary.packed_parameter %c0 : tensor<3072xi8>
  // CHECK-NOT: memref.copy
  // CHECK: ternary.packed_linear {{.*}} ins(%[[X]], {{.*}} groups(%[[G]] : memref<?xi32>) outs(%[[Y]] : memref<?x40xf32>)
  %z = ternary.packed_linear <bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
      ins(%x, %w : tensor<?x32xf32>, tensor<3072xi8>) groups(%groups : tensor<?xi32>)
      outs(%y : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: return %[[Y]]
  return %z : tensor<?x40xf32>
}

// Others are read: what is still needed of them is copied first.
// CHECK-LABEL: func @head_rows_of_a_copy
func.func @head_rows_of_a_copy(%x: tensor<?x32xf32>, %groups: tensor<?xi32>, %y: tensor<?x40xf32>)
    -> (tensor<?x40xf32>, tensor<?x40xf32>) {
  %c0 = arith.constant 0 : index
  %w = ternary.packed_parameter %c0 : tensor<3072xi8>
  // CHECK: memref.copy
  // CHECK: ternary.packed_linear
  %z = ternary.packed_linear <bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
      ins(%x, %w : tensor<?x32xf32>, tensor<3072xi8>) groups(%groups : tensor<?xi32>)
      outs(%y : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y, %z : tensor<?x40xf32>, tensor<?x40xf32>
}

// CHECK-LABEL: func @quantised_head
func.func @quantised_head(%x: tensor<?x32xf32>) -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x32xf32>
  %w = ternary.packed_parameter %c0 : tensor<1632xi8>
  %eq = tensor.empty(%n) : tensor<?x32xi8>
  %ep = tensor.empty(%n) : tensor<?x32xi8>
  %es = tensor.empty(%n) : tensor<?xf32>
  %et = tensor.empty(%n) : tensor<?x1xi32>
  // CHECK: ternary.quantize_wide {{.*}} outs(%[[H:.+]], %[[L:.+]], %[[S:.+]], %[[T:.+]] : memref
  %h, %l, %s, %t = ternary.quantize_wide group = 64 ins(%x : tensor<?x32xf32>)
      outs(%eq, %ep, %es, %et : tensor<?x32xi8>, tensor<?x32xi8>, tensor<?xf32>, tensor<?x1xi32>)
      -> tensor<?x32xi8>, tensor<?x32xi8>, tensor<?xf32>, tensor<?x1xi32>
  %ey = tensor.empty(%n) : tensor<?x40xf32>
  // CHECK-NOT: memref.copy
  // CHECK: ternary.packed_quantized_linear {{.*}} ins(%[[H]], %[[L]], %[[S]], %[[T]], {{.*}} outs(%[[Y:.+]] : memref<?x40xf32>)
  %y = ternary.packed_quantized_linear <i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
      ins(%h, %l, %s, %t, %w : tensor<?x32xi8>, tensor<?x32xi8>, tensor<?xf32>, tensor<?x1xi32>, tensor<1632xi8>)
      outs(%ey : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: return %[[Y]]
  return %y : tensor<?x40xf32>
}

// Tables are memory that the kernel writes.
// CHECK-LABEL: func @tables
func.func @tables(%q: tensor<?x16xi8>, %s: tensor<?xf32>, %sum: tensor<?xi32>) -> tensor<?x32xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %q, %c0 : tensor<?x16xi8>
  %w = ternary.packed_parameter %c0 : tensor<128xi8>
  %scales = ternary.packed_parameter %c0 : tensor<2xf32>
  // CHECK-DAG: %[[TABLES:.+]] = memref.alloc() {{.*}} : memref<4x384xi8>
  %tables = tensor.empty() : tensor<4x384xi8>
  %ey = tensor.empty(%n) : tensor<?x32xf32>
  // CHECK-NOT: memref.copy
  // CHECK: ternary.packed_matmul {{.*}} outs(%[[Y:.+]] : memref<?x32xf32>) tables(%[[TABLES]] : memref<4x384xi8>)
  %y = ternary.packed_matmul <l3, tile_rows = 32, lanes = 16, unroll = 4, tokens = 4, prefetch = 0, chain = 28>
      ins(%q, %s, %sum, %w, %scales : tensor<?x16xi8>, tensor<?xf32>, tensor<?xi32>,
          tensor<128xi8>, tensor<2xf32>) outs(%ey : tensor<?x32xf32>)
      tables(%tables : tensor<4x384xi8>) -> tensor<?x32xf32>
  // CHECK: return %[[Y]]
  return %y : tensor<?x32xf32>
}
