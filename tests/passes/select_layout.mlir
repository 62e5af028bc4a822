// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --select-layout=target=x86-64-v4+avx512vnni | FileCheck %s --check-prefixes=CHECK,VNNI512
// RUN: tercet-opt %s "--select-layout=target=x86-64-v4+avx512vnni+avx512vbmi packing=t5" | FileCheck %s --check-prefixes=CHECK,T5
// RUN: tercet-opt %s "--select-layout=target=x86-64-v4 packing=l3" | FileCheck %s --check-prefixes=CHECK,L3
// RUN: tercet-opt %s --select-layout=target=x86-64-v4 | FileCheck %s --check-prefixes=CHECK,AVX512BW
// RUN: tercet-opt %s --select-layout=target=x86-64-v3 | FileCheck %s --check-prefixes=CHECK,AVX2
// RUN: tercet-opt %s --select-layout=target=x86-64-v3+avxvnni | FileCheck %s --check-prefixes=CHECK,VNNI256
// RUN: tercet-opt %s --select-layout=target=x86-64-v2 | FileCheck %s --check-prefixes=CHECK,SSSE3
// RUN: tercet-opt %s --select-layout=target=x86-64 | FileCheck %s --check-prefixes=CHECK,SSE2
// RUN: tercet-opt %s "--select-layout=target=x86-64-v2 levels=x86-64-v2,x86-64-v4+avx512vnni" | FileCheck %s --check-prefixes=CHECK,LEVELS
// RUN: tercet-opt %s --select-layout=target=riscv64 | FileCheck %s --check-prefixes=CHECK,GENERIC
// RUN: not tercet-opt %s --select-layout=packing=bf16_pairs 2>&1 | FileCheck %s --check-prefix=PACKING
// RUN: not tercet-opt %s --select-layout=packing=q6_k 2>&1 | FileCheck %s --check-prefix=PACKING
// RUN: not tercet-opt %s --select-layout=packing=i9 2>&1 | FileCheck %s --check-prefix=PACKING
// RUN: not tercet-opt %s --select-layout=target=x86-64-v9 2>&1 | FileCheck %s --check-prefix=ERROR
// RUN: not tercet-opt %s "--select-layout=target=x86-64 levels=x86-64,x86-64-v9" 2>&1 | FileCheck %s --check-prefix=ERROR

// PACKING: error: '{{i9|bf16_pairs|q6_k}}' is no packing of trits
// ERROR: error: unknown target 'x86-64-v9'

ternary.parameter @head : tensor<40x16xbf16> = dense<1.0> : tensor<40x16xbf16>
ternary.parameter @half : tensor<40x16xf16> = dense<1.0> : tensor<40x16xf16>
ternary.parameter @blocks : tensor<40x32xf32> = #ternary.source<"m.gguf", offset = 0, size = 1360, q8_0>
ternary.parameter @words : tensor<40x32xf32> = #ternary.source<"m.gguf", offset = 0, size = 5120, f32>

// 16-bit sums are chained, of codes that are shifted down; a dot product in i32
// takes them in place.
// CHECK-LABEL: func @matmul
func.func @matmul(%q: tensor<?x16xi8>, %w: tensor<16x16xi2>, %out: tensor<?x16xi32>)
    -> tensor<?x16xi32> {
  // CHECK: ternary.matmul
  // VNNI512-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, {{.*}}in_place = true, streams = 8>
  // T5-SAME: layout = #ternary.layout<t5, tile_rows = 80, lanes = 16, {{.*}}in_place = true, streams = 8>
  // L3-SAME: layout = #ternary.layout<l3, tile_rows = 32, lanes = 16, {{.*}}chain = 28>
  // VNNI256-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 8, {{.*}}in_place = true, streams = 8>
  // AVX512BW-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, {{.*}}chain = {{[0-9]+}}>
  // AVX2-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 8, {{.*}}chain = {{[0-9]+}}>
  // SSSE3-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 4, {{.*}}chain = {{[0-9]+}}, parts = 2>
  // SSE2-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 4, {{.*}}in_place = true, parts = 1>
  // GENERIC-SAME: layout = #ternary.layout<i2, tile_rows = 64, lanes = 4, {{.*}}prefetch = {{[0-9]+}}>
  %y = ternary.matmul ins(%q, %w : tensor<?x16xi8>, tensor<16x16xi2>)
                      outs(%out : tensor<?x16xi32>) -> tensor<?x16xi32>
  return %y : tensor<?x16xi32>
}

// A parameter is packed for the head; other weights stay plain.
// CHECK-LABEL: func @heads
func.func @heads(%x: tensor<?x16xf32>, %w: tensor<40x16xbf16>, %out: tensor<?x40xf32>)
    -> (tensor<?x40xf32>, tensor<?x40xf32>, tensor<?x40xf32>) {
  %p = ternary.get_parameter @head : tensor<40x16xbf16>
  %h = ternary.get_parameter @half : tensor<40x16xf16>
  // CHECK: ternary.linear {{.*}}layout = #ternary.layout<bf16_pairs, tile_rows =
  // VNNI512-SAME: 32, {{.*}}streams = 8>
  // LEVELS-SAME: 32,
  // AVX2-SAME: 64, {{.*}}streams = 4>
  %y = ternary.linear ins(%x, %p : tensor<?x16xf32>, tensor<40x16xbf16>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: ternary.linear {{.*}}layout = #ternary.layout<f16, tile_rows = 64,
  %z = ternary.linear ins(%x, %h : tensor<?x16xf32>, tensor<40x16xf16>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: ternary.linear
  // CHECK-NOT: layout
  %v = ternary.linear ins(%x, %w : tensor<?x16xf32>, tensor<40x16xbf16>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: return
  return %y, %z, %v : tensor<?x40xf32>, tensor<?x40xf32>, tensor<?x40xf32>
}

// Floats in blocks are packed as they are in the file, in a table without a head
// too, whose other rows stay plain.
// CHECK-LABEL: func @as_in_the_file
func.func @as_in_the_file(%tokens: tensor<?xi32>, %x: tensor<?x32xf32>, %y: tensor<?x40xf32>)
    -> (tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x40xf32>, tensor<?x40xf32>) {
  %b = ternary.get_parameter @blocks : tensor<40x32xf32>
  %w = ternary.get_parameter @words : tensor<40x32xf32>
  // CHECK: ternary.embedding {{.*}}layout = #ternary.layout<q8_0, tile_rows = 64,
  %0 = ternary.embedding ins(%tokens, %b : tensor<?xi32>, tensor<40x32xf32>)
                         outs(%x : tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: ternary.embedding
  // CHECK-NOT: layout
  %1 = ternary.embedding ins(%tokens, %w : tensor<?xi32>, tensor<40x32xf32>)
                         outs(%x : tensor<?x32xf32>) -> tensor<?x32xf32>
  // CHECK: ternary.linear {{.*}}layout = #ternary.layout<q8_0, tile_rows = 64,
  %2 = ternary.linear ins(%0, %b : tensor<?x32xf32>, tensor<40x32xf32>)
                      outs(%y : tensor<?x40xf32>) -> tensor<?x40xf32>
  // CHECK: ternary.linear {{.*}}layout = #ternary.layout<f32, tile_rows = 64,
  %3 = ternary.linear ins(%1, %w : tensor<?x32xf32>, tensor<40x32xf32>)
                      outs(%y : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %0, %1, %2, %3 : tensor<?x32xf32>, tensor<?x32xf32>, tensor<?x40xf32>, tensor<?x40xf32>
}

// CHECK-LABEL: func @quantised_head
func.func @quantised_head(%x: tensor<?x16xf32>, %out: tensor<?x40xf32>) -> tensor<?x40xf32> {
  %h = ternary.get_parameter @half : tensor<40x16xf16>
  // CHECK: ternary.quantized_linear q4
  // VNNI512-SAME: layout = #ternary.code_layout<q4, tile_rows = 64, lanes = 16, parts = 4,
  // VNNI256-SAME: layout = #ternary.code_layout<q4, tile_rows = 32, lanes = 8, parts = 4,
  // AVX2-SAME: layout = #ternary.code_layout<q4, tile_rows = 16, lanes = 8, parts = 1,
  // SSSE3-SAME: layout = #ternary.code_layout<q4, tile_rows = 16, lanes = 4, parts = 1,
  // LEVELS-SAME: layout = #ternary.code_layout<q4, tile_rows = 64, lanes = 4, parts = 1,
  // GENERIC-SAME: layout = #ternary.code_layout<q4, tile_rows = 16, lanes = 4,
  %y = ternary.quantized_linear q4 ins(%x, %h : tensor<?x16xf32>, tensor<40x16xf16>)
                                   outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// CHECK-LABEL: func @head_rows
func.func @head_rows(%x: tensor<?x16xf32>, %groups: tensor<?xi32>, %out: tensor<?x40xf32>) -> tensor<?x40xf32> {
  %h = ternary.get_parameter @head : tensor<40x16xbf16>
  // CHECK: ternary.linear {{.*}}layout = #ternary.layout<bf16_pairs, tile_rows = 16,
  %y = ternary.linear ins(%x, %h : tensor<?x16xf32>, tensor<40x16xbf16>) groups(%groups : tensor<?xi32>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
