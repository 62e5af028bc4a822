// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every op and attribute prints what it parsed, on tensors and memrefs.
// RUN: tercet-opt %s > %t && tercet-opt %t | diff %t - && FileCheck %s < %t

!cache = !ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 16>
!cache_bf16 = !ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 16, element = bf16>
!cache_int8 = !ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 16, element = int8>
#i2 = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 4, tokens = 6, prefetch = 4096, in_place = true>
#l3 = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 4, tokens = 4, prefetch = 0, chain = 28>
#q6 = #ternary.code_layout<q6, tile_rows = 64, lanes = 16, parts = 1, tokens = 2, prefetch = 0>
#bf16 = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 4, tokens = 6, prefetch = 0>

// CHECK: func.func private @caches(!ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 16, element = bf16>, !ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 16, element = int8>)
func.func private @caches(!cache_bf16, !cache_int8)
// CHECK: ternary.parameter @packed : tensor<8x4xi2> = #ternary.source<"m.bin", offset = 64, size = 8, hf_packed>
ternary.parameter @packed : tensor<8x4xi2> = #ternary.source<"m.bin", offset = 64, size = 8, hf_packed>
// CHECK: ternary.parameter @latent : tensor<3x4xi2> = #ternary.source<"m.bin", offset = 0, size = 24, bf16, absmean = 5.000000e-01 : f32>
ternary.parameter @latent : tensor<3x4xi2> = #ternary.source<"m.bin", offset = 0, size = 24, bf16, absmean = 0.5 : f32>
// CHECK: ternary.parameter @permuted : tensor<4x4xi2> = #ternary.source<"m.bin", offset = 0, size = 32, f16 rotary_heads = 2, absmean = 5.000000e-01 : f32>
ternary.parameter @permuted : tensor<4x4xi2> = #ternary.source<"m.bin", offset = 0, size = 32, f16 rotary_heads = 2, absmean = 0.5 : f32>
// CHECK: ternary.parameter @narrowed : tensor<4xbf16> = #ternary.source<"m.bin", offset = 0, size = 16, f32>
ternary.parameter @narrowed : tensor<4xbf16> = #ternary.source<"m.bin", offset = 0, size = 16, f32>
// CHECK: ternary.parameter @scales : tensor<2x3xf32> = #ternary.source<"m.bin", offset = 0, size = 396, tq2_0>
ternary.parameter @scales : tensor<2x3xf32> = #ternary.source<"m.bin", offset = 0, size = 396, tq2_0>
// CHECK: ternary.parameter @widened : tensor<4xf32> = #ternary.source<"m.bin", offset = 0, size = 8, f16>
ternary.parameter @widened : tensor<4xf32> = #ternary.source<"m.bin", offset = 0, size = 8, f16>
// CHECK: ternary.parameter @rope : tensor<32x16xf32> = #ternary.rope_table<1.000000e+04 : f64>
ternary.parameter @rope : tensor<32x16xf32> = #ternary.rope_table<10000.0 : f64>
// CHECK: ternary.parameter @table : tensor<8x16xbf16> = dense<0.000000e+00> : tensor<8x16xbf16>
ternary.parameter @table : tensor<8x16xbf16> = dense<0.0> : tensor<8x16xbf16>

// CHECK-LABEL: @tensors
func.func @tensors(%tokens: tensor<?xi32>, %cache: !cache, %x: tensor<?x16xf32>,
                   %q_out: tensor<?x16xi8>, %scale_out: tensor<?xf32>,
                   %sum_out: tensor<?xi32>, %acc_out: tensor<?x18xi32>,
                   %y_out: tensor<?x18xf32>, %g: f32, %norm: tensor<16xf32>,
                   %a: tensor<2x16xi2>, %latent: tensor<2x16xf32>) -> tensor<?x18xf32> {
  %zero = arith.constant 0 : index
  // CHECK: ternary.get_parameter @table : tensor<8x16xbf16>
  %table = ternary.get_parameter @table : tensor<8x16xbf16>
  %rope = ternary.get_parameter @rope : tensor<32x16xf32>
  // CHECK: ternary.absmean_quantize %{{.*}} : tensor<2x16xf32> -> tensor<2x16xi2>
  %b, %scale_b = ternary.absmean_quantize %latent : tensor<2x16xf32> -> tensor<2x16xi2>
  // CHECK: ternary.embedding ins(%{{.*}}, %{{.*}} : tensor<?xi32>, tensor<8x16xbf16>) outs(%{{.*}} : tensor<?x16xf32>) -> tensor<?x16xf32>
  %h = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<8x16xbf16>) outs(%x : tensor<?x16xf32>) -> tensor<?x16xf32>
  // CHECK: ternary.rms_norm {{.*}} epsilon = 9.99999974E-6 ->
  %n = ternary.rms_norm ins(%h, %norm : tensor<?x16xf32>, tensor<16xf32>) outs(%x : tensor<?x16xf32>) epsilon = 1.0e-5 -> tensor<?x16xf32>
  // CHECK: ternary.rope
  %r = ternary.rope ins(%n, %tokens, %rope : tensor<?x16xf32>, tensor<?xi32>, tensor<32x16xf32>) outs(%x : tensor<?x16xf32>) -> tensor<?x16xf32>
  // CHECK: ternary.kv_update %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} into %{{.*}} layer %{{.*}} :
  ternary.kv_update %r, %n, %tokens, %tokens into %cache layer %zero : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  // CHECK: ternary.attention ins({{.*}} layer %{{.*}} : {{.*}}) outs({{.*}}) scale = 2.500000e-01 ->
  %o = ternary.attention ins(%r, %tokens, %tokens, %cache layer %zero : tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache) outs(%x : tensor<?x16xf32>) scale = 0.25 -> tensor<?x16xf32>
  // CHECK: ternary.gated_activation silu
  %s = ternary.gated_activation silu ins(%o, %n : tensor<?x16xf32>, tensor<?x16xf32>) outs(%x : tensor<?x16xf32>) -> tensor<?x16xf32>
  // CHECK: ternary.gather_rows
  %rows = ternary.gather_rows ins(%s, %tokens : tensor<?x16xf32>, tensor<?xi32>) outs(%x : tensor<?x16xf32>) -> tensor<?x16xf32>
  // CHECK: ternary.linear
  %l = ternary.linear ins(%rows, %table : tensor<?x16xf32>, tensor<8x16xbf16>) outs(%y_out : tensor<?x18xf32>) -> tensor<?x18xf32>
  // CHECK: ternary.linear {{.*}} groups(%{{.+}} : tensor<?xi32>) outs
  %lg = ternary.linear ins(%rows, %table : tensor<?x16xf32>, tensor<8x16xbf16>) groups(%tokens : tensor<?xi32>) outs(%l : tensor<?x18xf32>) -> tensor<?x18xf32>
  // CHECK: ternary.quantized_linear i8 bounded ins
  %qb = ternary.quantized_linear i8 bounded ins(%rows, %table : tensor<?x16xf32>, tensor<8x16xbf16>) outs(%y_out : tensor<?x18xf32>) -> tensor<?x18xf32>
  // CHECK: ternary.quantized_linear q6 ins({{.*}}) outs({{.*}}) {layout = #ternary.code_layout<q6, tile_rows = 64, lanes = 16, parts = 1, tokens = 2, prefetch = 0>} ->
  %ql = ternary.quantized_linear q6 ins(%rows, %table : tensor<?x16xf32>, tensor<8x16xbf16>) outs(%y_out : tensor<?x18xf32>) {layout = #q6} -> tensor<?x18xf32>
  // CHECK: ternary.quantize_activations {{.*}} -> tensor<?x16xi8>, tensor<?xf32>, tensor<?xi32>
  %q, %scale, %sum = ternary.quantize_activations ins(%rows : tensor<?x16xf32>) outs(%q_out, %scale_out, %sum_out : tensor<?x16xi8>, tensor<?xf32>, tensor<?xi32>) -> tensor<?x16xi8>, tensor<?xf32>, tensor<?xi32>
  // CHECK: ternary.matmul {{.*}} {layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 4, tokens = 6, prefetch = 4096, in_place = true>} ->
  %acc = ternary.matmul ins(%q, %a, %b : tensor<?x16xi8>, tensor<2x16xi2>, tensor<2x16xi2>) outs(%acc_out : tensor<?x18xi32>) {layout = #i2} -> tensor<?x18xi32>
  // CHECK: ternary.rescale {{.*}} rows = [2, 2] ->
  %y = ternary.rescale ins(%acc, %scale scales %g, %scale_b : tensor<?x18xi32>, tensor<?xf32>) outs(%y_out : tensor<?x18xf32>) rows = [2, 2] -> tensor<?x18xf32>
  // CHECK: ternary.bit_linear
  %z = ternary.bit_linear ins(%x, %a, %b scales %g, %g : tensor<?x16xf32>, tensor<2x16xi2>, tensor<2x16xi2>) outs(%y_out : tensor<?x18xf32>) -> tensor<?x18xf32>
  return %z : tensor<?x18xf32>
}

// CHECK-LABEL: @memrefs
func.func @memrefs(%x: memref<?x16xf32>, %q: memref<?x16xi8>, %scale: memref<?xf32>,
                   %sum: memref<?xi32>, %y: memref<?x32xf32>, %tables: memref<4x384xi8>) {
  %offset = arith.constant 128 : index
  // CHECK: ternary.packed_parameter %{{.*}} : memref<128xi8>
  %w = ternary.packed_parameter %offset : memref<128xi8>
  %scales = ternary.packed_parameter %offset : memref<2xf32>
  %head = ternary.packed_parameter %offset : memref<1024xi8>
  // CHECK: ternary.quantize_activations ins({{.*}}) outs({{.*}} : memref<?x16xi8>, memref<?xf32>, memref<?xi32>)
  ternary.quantize_activations ins(%x : memref<?x16xf32>) outs(%q, %scale, %sum : memref<?x16xi8>, memref<?xf32>, memref<?xi32>)
  // CHECK: ternary.packed_matmul <i2,
  ternary.packed_matmul #i2 ins(%q, %scale, %sum, %w, %scales : memref<?x16xi8>, memref<?xf32>, memref<?xi32>, memref<128xi8>, memref<2xf32>) outs(%y : memref<?x32xf32>)
  // CHECK: ternary.packed_matmul <l3, {{.*}} tables(%{{.*}} : memref<4x384xi8>)
  ternary.packed_matmul #l3 ins(%q, %scale, %sum, %w, %scales : memref<?x16xi8>, memref<?xf32>, memref<?xi32>, memref<128xi8>, memref<2xf32>) outs(%y : memref<?x32xf32>) tables(%tables : memref<4x384xi8>)
  // CHECK: ternary.packed_linear <bf16_pairs,
  ternary.packed_linear #bf16 ins(%x, %head : memref<?x16xf32>, memref<1024xi8>) outs(%y : memref<?x32xf32>)
  // CHECK: ternary.embedding {{.*}} {layout = #ternary.layout<bf16_pairs,
  ternary.embedding ins(%sum, %head : memref<?xi32>, memref<1024xi8>) outs(%x : memref<?x16xf32>) {layout = #bf16}
  return
}

// CHECK-LABEL: @quantised_head
func.func @quantised_head(%x: memref<?x20xf32>, %q: memref<?x32xi8>, %scale: memref<?xf32>,
                          %sums: memref<?x2xi32>, %y: memref<?x40xf32>) {
  %offset = arith.constant 128 : index
  %w = ternary.packed_parameter %offset : memref<1664xi8>
  // CHECK: ternary.quantize_wide group = 16 ins({{.*}}) outs({{.*}} : memref<?x32xi8>, memref<?x32xi8>, memref<?xf32>, memref<?x2xi32>)
  ternary.quantize_wide group = 16 ins(%x : memref<?x20xf32>) outs(%q, %q, %scale, %sums : memref<?x32xi8>, memref<?x32xi8>, memref<?xf32>, memref<?x2xi32>)
  %one = memref.cast %sums : memref<?x2xi32> to memref<?x?xi32>
  // CHECK: ternary.packed_quantized_linear <q6, tile_rows = 64, lanes = 16, parts = 1, tokens = 2, prefetch = 0> ins(
  ternary.packed_quantized_linear #q6 ins(%q, %q, %scale, %one, %w : memref<?x32xi8>, memref<?x32xi8>, memref<?xf32>, memref<?x?xi32>, memref<1664xi8>) outs(%y : memref<?x40xf32>)
  return
}

// CHECK-LABEL: @vectors
func.func @vectors(%acc: vector<16xi32>, %bytes: vector<64xi8>, %table: vector<16xi8>, %zero: vector<32xi16>) -> vector<16xi32> {
  // CHECK: ternary.unpack %{{.*}} plane 2 in_place : vector<64xi8>
  %codes = ternary.unpack %bytes plane 2 in_place : vector<64xi8>
  // CHECK: ternary.lookup %{{.*}}, %{{.*}} : vector<16xi8>, vector<64xi8>
  %q = ternary.lookup %table, %bytes : vector<16xi8>, vector<64xi8>
  // CHECK: ternary.dot %{{.*}}, %{{.*}}, %{{.*}} : vector<16xi32>, vector<64xi8>, vector<64xi8>
  %sum = ternary.dot %acc, %codes, %q : vector<16xi32>, vector<64xi8>, vector<64xi8>
  // CHECK: ternary.dot %{{.*}}, %{{.*}}, %{{.*}} wide : vector<16xi32>, vector<64xi8>, vector<64xi8>
  %wide = ternary.dot %sum, %codes, %q wide : vector<16xi32>, vector<64xi8>, vector<64xi8>
  // CHECK: ternary.dot_pairs %{{.*}}, %{{.*}}, %{{.*}} : vector<32xi16>, vector<64xi8>, vector<64xi8>
  %pairs = ternary.dot_pairs %zero, %codes, %q : vector<32xi16>, vector<64xi8>, vector<64xi8>
  // CHECK: ternary.add_pairs %{{.*}}, %{{.*}} : vector<16xi32>, vector<32xi16>
  %total = ternary.add_pairs %wide, %pairs : vector<16xi32>, vector<32xi16>
  return %total : vector<16xi32>
}

// CHECK-LABEL: @schedules
// CHECK-SAME: #ternary.layout<i2, tile_rows = 64, lanes = 8, unroll = 1, tokens = 2, prefetch = 0, chain = 64, plane_major = true, parts = 1>
// CHECK-SAME: #ternary.layout<i2, tile_rows = 64, lanes = 8, unroll = 1, tokens = 2, prefetch = 0>
// CHECK-SAME: #ternary.layout<t5, tile_rows = 80, lanes = 16, unroll = 4, tokens = 3, prefetch = 0, in_place = true, streams = 2>
func.func private @schedules() attributes {
  a = #ternary.layout<i2, tile_rows = 64, lanes = 8, unroll = 1, tokens = 2, prefetch = 0, chain = 64, plane_major = true, parts = 1>,
  b = #ternary.layout<i2, tile_rows = 64, lanes = 8, unroll = 1, tokens = 2, prefetch = 0, chain = 1>,
  c = #ternary.layout<t5, tile_rows = 80, lanes = 16, unroll = 4, tokens = 3, prefetch = 0, in_place = true, streams = 2>
}

// CHECK-LABEL: @groups
func.func @groups(%x: tensor<2x40xf32>, %a: tensor<3x40xi2>, %b: tensor<16x40xi2>,
                  %g: tensor<3x2xf32>, %h: tensor<16x2xf32>, %eq: tensor<2x48xi8>,
                  %es: tensor<2xf32>, %et: tensor<2x2xi32>, %ea: tensor<2x2x32xi32>,
                  %w: tensor<384xi8>, %packed: tensor<2x2x16xf32>, %ey: tensor<2x32xf32>)
    -> (tensor<2x32xf32>, tensor<2x32xf32>, tensor<2x32xf32>) {
  // CHECK: ternary.bit_linear group = 32 ins({{.*}} scales %{{.+}}, %{{.+}} : tensor<2x40xf32>, tensor<3x40xi2>, tensor<16x40xi2> scales tensor<3x2xf32>, tensor<16x2xf32>) outs
  %y = ternary.bit_linear group = 32 ins(%x, %a, %b scales %g, %h : tensor<2x40xf32>, tensor<3x40xi2>, tensor<16x40xi2> scales tensor<3x2xf32>, tensor<16x2xf32>) outs(%ey : tensor<2x32xf32>) -> tensor<2x32xf32>
  // CHECK: ternary.quantize_activations group = 32 ins({{.*}} -> tensor<2x48xi8>, tensor<2xf32>, tensor<2x2xi32>
  %q, %s, %t = ternary.quantize_activations group = 32 ins(%x : tensor<2x40xf32>) outs(%eq, %es, %et : tensor<2x48xi8>, tensor<2xf32>, tensor<2x2xi32>) -> tensor<2x48xi8>, tensor<2xf32>, tensor<2x2xi32>
  // CHECK: ternary.matmul group = 32 ins({{.*}} -> tensor<2x2x32xi32>
  %acc = ternary.matmul group = 32 ins(%q, %a, %b : tensor<2x48xi8>, tensor<3x40xi2>, tensor<16x40xi2>) outs(%ea : tensor<2x2x32xi32>) -> tensor<2x2x32xi32>
  // CHECK: ternary.rescale ins({{.*}} : tensor<2x2x32xi32>, tensor<2xf32> scales tensor<3x2xf32>, tensor<16x2xf32>) outs
  %z = ternary.rescale ins(%acc, %s scales %g, %h : tensor<2x2x32xi32>, tensor<2xf32> scales tensor<3x2xf32>, tensor<16x2xf32>) outs(%ey : tensor<2x32xf32>) rows = [3, 16] -> tensor<2x32xf32>
  // CHECK: ternary.packed_matmul <i2, {{.*}}> group = 32 ins({{.*}}tensor<2x2x16xf32>) outs
  %p = ternary.packed_matmul #i2 group = 32 ins(%q, %s, %t, %w, %packed : tensor<2x48xi8>, tensor<2xf32>, tensor<2x2xi32>, tensor<384xi8>, tensor<2x2x16xf32>) outs(%ey : tensor<2x32xf32>) -> tensor<2x32xf32>
  return %y, %z, %p : tensor<2x32xf32>, tensor<2x32xf32>, tensor<2x32xf32>
}
