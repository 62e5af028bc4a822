// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every numbered constraint of TernaryOps.td, violated.
// RUN: tercet-opt %s --verify-diagnostics --split-input-file

// expected-error @+1 {{(C1) type}}
ternary.parameter @p : tensor<?xf32> = dense<0.0> : tensor<1xf32>

// -----

// expected-error @+1 {{(C1) type}}
ternary.parameter @p : tensor<1xi4> = dense<0> : tensor<1xi4>

// -----

// expected-error @+1 {{(C2) value is neither}}
ternary.parameter @p : tensor<2xf32> = dense<0.0> : tensor<1xf32>

// -----

// expected-error @+1 {{(C2) value is neither}}
ternary.parameter @p : tensor<2xf32> = "zeros"

// -----

// expected-error @+1 {{(C2) -2 is not a trit}}
ternary.parameter @p : tensor<1x2xi2> = dense<[[-2, 1]]> : tensor<1x2xi2>

// -----

// expected-error @+1 {{(C3) encoding hf_packed cannot hold 'tensor<6x4xi2>'}}
ternary.parameter @p : tensor<6x4xi2> = #ternary.source<"f", offset = 0, size = 6, hf_packed>

// -----

// expected-error @+1 {{(C3) encoding i2_s cannot hold}}
ternary.parameter @p : tensor<2x32xi2> = #ternary.source<"f", offset = 0, size = 48, i2_s>

// -----

// expected-error @+1 {{(C3) source has 48 bytes, 'tensor<1x64xi2>' needs 20}}
ternary.parameter @p : tensor<1x64xi2> = #ternary.source<"f", offset = 0, size = 48, iq2_bn>

// -----

// expected-error @+1 {{(C3) encoding i2_s has no scales of}}
ternary.parameter @p : tensor<2x64xf32> = #ternary.source<"f", offset = 0, size = 64, i2_s>

// -----

// expected-error @+1 {{(C3) encoding iq2_bn cannot hold}}
ternary.parameter @p : tensor<2x2xf32> = #ternary.source<"f", offset = 0, size = 40, iq2_bn>

// -----

// expected-error @+1 {{(C3) source has 40 bytes, 'tensor<2x2xf32>' needs 264}}
ternary.parameter @p : tensor<2x2xf32> = #ternary.source<"f", offset = 0, size = 40, tq2_0>

// -----

// expected-error @+1 {{(C3) rows of 'tensor<6x4xf32>' are not those of 2 rotary heads}}
ternary.parameter @p : tensor<6x4xf32> = #ternary.source<"f", offset = 0, size = 96, f32 rotary_heads = 2>

// -----

// expected-error @+1 {{(C3) encoding f32 does not fit}}
ternary.parameter @p : tensor<4xf32> = #ternary.source<"f", offset = 0, size = 16, f32, absmean = 1.0 : f32>

// -----

// expected-error @+1 {{(C3) source of trits does not fit}}
ternary.parameter @p : tensor<4x4xi2> = #ternary.source<"f", offset = 0, size = 64, f32, absmean = 0.0 : f32>

// -----

// expected-error @+1 {{(C3) encoding q8_0 does not fit}}
ternary.parameter @p : tensor<32xbf16> = #ternary.source<"f", offset = 0, size = 34, q8_0>

// -----

// expected-error @+1 {{(C3) encoding f32 does not fit}}
ternary.parameter @p : tensor<4xf16> = #ternary.source<"f", offset = 0, size = 16, f32>

// -----

// expected-error @+1 {{(C3) source has 8 bytes, 'tensor<8x4xf16>' needs 64}}
ternary.parameter @p : tensor<8x4xf16> = #ternary.source<"f", offset = 0, size = 8, f16>

// -----

// expected-error @+1 {{(C4) a rope table}}
ternary.parameter @p : tensor<8x3xf32> = #ternary.rope_table<1.0e4 : f64>

// -----

// expected-error @+1 {{(C4) a rope table}}
ternary.parameter @p : tensor<8x4xf32> = #ternary.rope_table<-1.0 : f64>

// -----

ternary.parameter @p : tensor<1xf32> = dense<0.0> : tensor<1xf32>
func.func @f() {
  // expected-error @+1 {{(C1) 'p' is not a parameter of type 'tensor<2xf32>'}}
  %p = ternary.get_parameter @p : tensor<2xf32>
  return
}

// -----

func.func @f(%w: tensor<2x4xf32>) {
  // expected-error @+1 {{(C1) trits and latent}}
  %q, %g = ternary.absmean_quantize %w : tensor<2x4xf32> -> tensor<2x5xi2>
  return
}

// -----

func.func @f(%x: memref<?x4xf32>, %w: tensor<3x4xi2>, %v: tensor<3x5xi2>, %g: f32, %y: memref<?x18xf32>) {
  // expected-error @+1 {{(C1) 1 matrices have 2 scales}}
  ternary.bit_linear ins(%x, %w scales %g, %g : memref<?x4xf32>, tensor<3x4xi2>) outs(%y : memref<?x18xf32>)
  return
}

// -----

func.func @f(%x: memref<?x4xf32>, %w: tensor<3x4xi2>, %v: tensor<3x5xi2>, %g: f32, %y: memref<?x18xf32>) {
  // expected-error @+1 {{(C2) matrices and x differ in K}}
  ternary.bit_linear ins(%x, %v scales %g : memref<?x4xf32>, tensor<3x5xi2>) outs(%y : memref<?x18xf32>)
  return
}

// -----

func.func @f(%x: memref<1x131073xf32>, %w: tensor<3x131073xi2>, %g: f32, %y: memref<1x3xf32>) {
  // expected-error @+1 {{(C2) matrices and x differ in K, or K is over 131072}}
  ternary.bit_linear ins(%x, %w scales %g : memref<1x131073xf32>, tensor<3x131073xi2>) outs(%y : memref<1x3xf32>)
  return
}

// -----

func.func @f(%x: memref<?x4xf32>, %w: tensor<3x4xi2>, %v: tensor<3x5xi2>, %g: f32, %y: memref<?x18xf32>) {
  // expected-error @+1 {{(C3) outs does not hold}}
  ternary.bit_linear ins(%x, %w, %w scales %g, %g : memref<?x4xf32>, tensor<3x4xi2>, tensor<3x4xi2>) outs(%y : memref<?x18xf32>)
  return
}

// -----

func.func @f(%x: memref<?x40xf32>, %w: tensor<3x40xi2>, %g: tensor<3x2xf32>, %y: memref<?x3xf32>) {
  // expected-error @+1 {{'group' failed to satisfy constraint: 64-bit signless integer attribute whose value is positive and a multiple of 16}}
  ternary.bit_linear group = 24 ins(%x, %w scales %g : memref<?x40xf32>, tensor<3x40xi2> scales tensor<3x2xf32>) outs(%y : memref<?x3xf32>)
  return
}

// -----

func.func @f(%x: memref<?x40xf32>, %w: tensor<3x40xi2>, %g: f32, %y: memref<?x3xf32>) {
  // expected-error @+1 {{(C4) scales are not f32, or with group not [M_i, groups]}}
  ternary.bit_linear group = 32 ins(%x, %w scales %g : memref<?x40xf32>, tensor<3x40xi2>) outs(%y : memref<?x3xf32>)
  return
}

// -----

func.func @f(%x: memref<?x40xf32>, %w: tensor<3x40xi2>, %g: tensor<3x1xf32>, %y: memref<?x3xf32>) {
  // expected-error @+1 {{(C4) scales are not f32, or with group not [M_i, groups]}}
  ternary.bit_linear group = 32 ins(%x, %w scales %g : memref<?x40xf32>, tensor<3x40xi2> scales tensor<3x1xf32>) outs(%y : memref<?x3xf32>)
  return
}

// -----

func.func @f(%x: memref<?x40xf32>, %w: tensor<3x40xi2>, %g: tensor<3x2xf32>, %y: memref<?x3xf32>) {
  // expected-error @+1 {{(C4) scales are not f32, or with group not [M_i, groups]}}
  ternary.bit_linear ins(%x, %w scales %g : memref<?x40xf32>, tensor<3x40xi2> scales tensor<3x2xf32>) outs(%y : memref<?x3xf32>)
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %q: memref<2x3xi8>, %s: memref<2xf32>, %t: memref<2xi32>) {
  // expected-error @+1 {{(C1) x [N, K] needs q}}
  ternary.quantize_activations ins(%x : memref<2x4xf32>) outs(%q, %s, %t : memref<2x3xi8>, memref<2xf32>, memref<2xi32>)
  return
}

// -----

func.func @f(%x: memref<2x40xf32>, %q: memref<2x48xi8>, %s: memref<2xf32>, %t: memref<2x2xi32>) {
  // expected-error @+1 {{(C2) sum is not [N], or with group not [N, groups]}}
  ternary.quantize_activations ins(%x : memref<2x40xf32>) outs(%q, %s, %t : memref<2x48xi8>, memref<2xf32>, memref<2x2xi32>)
  return
}

// -----

func.func @f(%x: memref<2x40xf32>, %q: memref<2x48xi8>, %s: memref<2xf32>, %t: memref<2x2xi32>) {
  // expected-error @+1 {{(C2) sum is not [N], or with group not [N, groups]}}
  ternary.quantize_activations group = 16 ins(%x : memref<2x40xf32>) outs(%q, %s, %t : memref<2x48xi8>, memref<2xf32>, memref<2x2xi32>)
  return
}

// -----

func.func @f(%q: memref<2x4xi8>, %w: tensor<3x5xi2>, %y: memref<2x3xi32>) {
  // expected-error @+1 {{(C1) matrices differ in K}}
  ternary.matmul ins(%q, %w : memref<2x4xi8>, tensor<3x5xi2>) outs(%y : memref<2x3xi32>)
  return
}

// -----

func.func @f(%q: memref<2x4xi8>, %w: tensor<3x4xi2>, %y: memref<2x2xi32>) {
  // expected-error @+1 {{(C2) outs does not hold}}
  ternary.matmul ins(%q, %w : memref<2x4xi8>, tensor<3x4xi2>) outs(%y : memref<2x2xi32>)
  return
}

// -----

func.func @f(%q: memref<2x48xi8>, %w: tensor<3x40xi2>, %y: memref<2x3x3xi32>) {
  // expected-error @+1 {{(C3) outs is not [N, W], or with group not [N, groups, W]}}
  ternary.matmul group = 32 ins(%q, %w : memref<2x48xi8>, tensor<3x40xi2>) outs(%y : memref<2x3x3xi32>)
  return
}

// -----

func.func @f(%q: memref<2x48xi8>, %w: tensor<3x40xi2>, %y: memref<2x2x3xi32>) {
  // expected-error @+1 {{(C3) outs is not [N, W], or with group not [N, groups, W]}}
  ternary.matmul ins(%q, %w : memref<2x48xi8>, tensor<3x40xi2>) outs(%y : memref<2x2x3xi32>)
  return
}

// -----

func.func @f(%a: memref<2x18xi32>, %s: memref<2xf32>, %t: memref<3xf32>, %g: f32, %y: memref<2x18xf32>) {
  // expected-error @+1 {{(C1) acc [N, W] or [N, groups, W] needs}}
  ternary.rescale ins(%a, %t scales %g : memref<2x18xi32>, memref<3xf32>) outs(%y : memref<2x18xf32>) rows = [18]
  return
}

// -----

func.func @f(%a: memref<2x18xi32>, %s: memref<2xf32>, %t: memref<3xf32>, %g: f32, %y: memref<2x18xf32>) {
  // expected-error @+1 {{(C2) needs a weight scale per matrix}}
  ternary.rescale ins(%a, %s scales %g : memref<2x18xi32>, memref<2xf32>) outs(%y : memref<2x18xf32>) rows = [2, 2]
  return
}

// -----

func.func @f(%a: memref<2x18xi32>, %s: memref<2xf32>, %t: memref<3xf32>, %g: f32, %y: memref<2x18xf32>) {
  // expected-error @+1 {{(C2) needs a weight scale per matrix}}
  ternary.rescale ins(%a, %s scales %g : memref<2x18xi32>, memref<2xf32>) outs(%y : memref<2x18xf32>) rows = [19]
  return
}

// -----

func.func @f(%a: memref<2x18xi32>, %s: memref<2xf32>, %g: tensor<18x1xf32>, %y: memref<2x18xf32>) {
  // expected-error @+1 {{(C3) scales are not f32, or those of groups not [M_i, groups]}}
  ternary.rescale ins(%a, %s scales %g : memref<2x18xi32>, memref<2xf32> scales tensor<18x1xf32>) outs(%y : memref<2x18xf32>) rows = [18]
  return
}

// -----

func.func @f(%a: memref<2x3x18xi32>, %s: memref<2xf32>, %g: tensor<18x2xf32>, %y: memref<2x18xf32>) {
  // expected-error @+1 {{(C3) scales are not f32, or those of groups not [M_i, groups]}}
  ternary.rescale ins(%a, %s scales %g : memref<2x3x18xi32>, memref<2xf32> scales tensor<18x2xf32>) outs(%y : memref<2x18xf32>) rows = [18]
  return
}

// -----

func.func @f(%t: memref<2xi32>, %w: memref<8x4xf32>, %y: memref<2x5xf32>) {
  // expected-error @+1 {{(C1) tokens [N] need}}
  ternary.embedding ins(%t, %w : memref<2xi32>, memref<8x4xf32>) outs(%y : memref<2x5xf32>)
  return
}

// -----

func.func @f(%t: memref<2xi32>, %w: memref<64xi8>, %y: memref<2x4xf32>) {
  // expected-error @+1 {{(C1) tokens [N] need}}
  ternary.embedding ins(%t, %w : memref<2xi32>, memref<64xi8>) outs(%y : memref<2x4xf32>)
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %w: memref<5xf32>) {
  // expected-error @+1 {{(C1) x [N, K] needs outs}}
  ternary.rms_norm ins(%x, %w : memref<2x4xf32>, memref<5xf32>) outs(%x : memref<2x4xf32>) epsilon = 1.0
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %w: memref<4xf32>) {
  // expected-error @+1 {{(C2) epsilon}}
  ternary.rms_norm ins(%x, %w : memref<2x4xf32>, memref<4xf32>) outs(%x : memref<2x4xf32>) epsilon = 0.0
  return
}

// -----

func.func @f(%x: memref<2x12xf32>, %p: memref<2xi32>, %t: memref<32x8xf32>) {
  // expected-error @+1 {{(C1) x [N, heads * H] needs}}
  ternary.rope ins(%x, %p, %t : memref<2x12xf32>, memref<2xi32>, memref<32x8xf32>) outs(%x : memref<2x12xf32>)
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 32, head_dim = 8>
func.func @f(%k: memref<2x8xf32>, %p: memref<2xi32>, %c: !cache) {
  %layer = arith.constant 2 : index
  // expected-error @+1 {{(C1) keys and values need shape [N, 16]}}
  ternary.kv_update %k, %k, %p, %p into %c layer %layer : memref<2x8xf32>, memref<2x8xf32>, memref<2xi32>, memref<2xi32>, !cache
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 32, head_dim = 8>
func.func @f(%k: memref<2x16xf32>, %p: memref<2xi32>, %c: !cache) {
  %layer = arith.constant 2 : index
  // expected-error @+1 {{(C2) the cache has no such layer}}
  ternary.kv_update %k, %k, %p, %p into %c layer %layer : memref<2x16xf32>, memref<2x16xf32>, memref<2xi32>, memref<2xi32>, !cache
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 32, head_dim = 8>
func.func @f(%q: memref<2x24xf32>, %p: memref<2xi32>, %c: !cache) {
  %layer = arith.constant 2 : index
  // expected-error @+1 {{(C1) q and outs need whole groups of 2 heads of 8}}
  ternary.attention ins(%q, %p, %p, %c layer %layer : memref<2x24xf32>, memref<2xi32>, memref<2xi32>, !cache) outs(%q : memref<2x24xf32>) scale = 1.0
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 32, head_dim = 8>
func.func @f(%q: memref<2x32xf32>, %p: memref<2xi32>, %c: !cache) {
  %layer = arith.constant 2 : index
  // expected-error @+1 {{(C2) the cache has no such layer}}
  ternary.attention ins(%q, %p, %p, %c layer %layer : memref<2x32xf32>, memref<2xi32>, memref<2xi32>, !cache) outs(%q : memref<2x32xf32>) scale = 1.0
  return
}

// -----

func.func @f(%g: memref<2x4xf32>, %u: memref<2x5xf32>) {
  // expected-error @+1 {{(C1) gate, up and outs differ}}
  ternary.gated_activation relu2 ins(%g, %u : memref<2x4xf32>, memref<2x5xf32>) outs(%g : memref<2x4xf32>)
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %r: memref<3xi32>) {
  // expected-error @+1 {{(C1) x [N, K] and rows [R]}}
  ternary.gather_rows ins(%x, %r : memref<2x4xf32>, memref<3xi32>) outs(%x : memref<2x4xf32>)
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %w: memref<5x4xf32>) {
  // expected-error @+1 {{(C1) x [N, K] and weight [M, K]}}
  ternary.linear ins(%x, %w : memref<2x4xf32>, memref<5x4xf32>) outs(%x : memref<2x4xf32>)
  return
}

// -----

func.func @f(%x: memref<2x4xf32>, %w: memref<5x4xf32>) {
  // expected-error @+1 {{(C1) x [N, K] and weight [M, K]}}
  ternary.quantized_linear q4 ins(%x, %w : memref<2x4xf32>, memref<5x4xf32>) outs(%x : memref<2x4xf32>)
  return
}

// -----

func.func @f(%x: memref<2x20xf32>, %q: memref<2x20xi8>, %s: memref<2xf32>, %t: memref<2x1xi32>) {
  // expected-error @+1 {{(C1) x [N, K] needs high and low}}
  ternary.quantize_wide group = 32 ins(%x : memref<2x20xf32>) outs(%q, %q, %s, %t : memref<2x20xi8>, memref<2x20xi8>, memref<2xf32>, memref<2x1xi32>)
  return
}

// -----

func.func @f(%x: memref<2x20xf32>, %q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2x1xi32>) {
  // expected-error @+1 {{'group' failed to satisfy constraint}}
  ternary.quantize_wide group = 24 ins(%x : memref<2x20xf32>) outs(%q, %q, %s, %t : memref<2x32xi8>, memref<2x32xi8>, memref<2xf32>, memref<2x1xi32>)
  return
}

// -----

func.func @f(%x: memref<2x20xf32>, %q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2x1xi32>) {
  // expected-error @+1 {{(C2) sums is not [N, groups]}}
  ternary.quantize_wide group = 16 ins(%x : memref<2x20xf32>) outs(%q, %q, %s, %t : memref<2x32xi8>, memref<2x32xi8>, memref<2xf32>, memref<2x1xi32>)
  return
}

// -----

#l = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x16xi8>, %p: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2x1xi32>, %w: memref<288xi8>, %y: memref<2x9xf32>) {
  // expected-error @+1 {{(C1) high and low}}
  ternary.packed_quantized_linear #l ins(%q, %p, %s, %t, %w : memref<2x16xi8>, memref<2x32xi8>, memref<2xf32>, memref<2x1xi32>, memref<288xi8>) outs(%y : memref<2x9xf32>)
  return
}

// -----

#l = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x16xi8>, %s: memref<2xf32>, %t: memref<2x1xi32>, %w: memref<256xi8>, %y: memref<2x9xf32>) {
  // expected-error @+1 {{(C2) sums or weights do not fit}}
  ternary.packed_quantized_linear #l ins(%q, %q, %s, %t, %w : memref<2x16xi8>, memref<2x16xi8>, memref<2xf32>, memref<2x1xi32>, memref<256xi8>) outs(%y : memref<2x9xf32>)
  return
}

// -----

#l = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x16xi8>, %s: memref<2xf32>, %t: memref<2x2xi32>, %w: memref<288xi8>, %y: memref<2x9xf32>) {
  // expected-error @+1 {{(C2) sums or weights do not fit}}
  ternary.packed_quantized_linear #l ins(%q, %q, %s, %t, %w : memref<2x16xi8>, memref<2x16xi8>, memref<2xf32>, memref<2x2xi32>, memref<288xi8>) outs(%y : memref<2x9xf32>)
  return
}

// -----

// expected-error @+1 {{tile_rows = 24 is not a multiple of 16}}
#l = #ternary.code_layout<i8, tile_rows = 24, lanes = 16, parts = 1, tokens = 1, prefetch = 0>

// -----

// expected-error @+1 {{lanes must divide 16 and lanes * parts tile_rows}}
#l = #ternary.code_layout<i8, tile_rows = 16, lanes = 8, parts = 4, tokens = 1, prefetch = 0>

// -----

func.func @f() {
  %o = arith.constant 32 : index
  // expected-error @+1 {{(C1) offset is not a multiple}}
  %w = ternary.packed_parameter %o : memref<4xf32>
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<128xi8>, %v: memref<64xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>, %z: memref<2x30xf32>) {
  // expected-error @+1 {{(C1) q [N.., K'..] needs}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x8xi8>, memref<2xf32>, memref<2xi32>, memref<128xi8>, memref<2xf32>) outs(%z : memref<2x30xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<128xi8>, %v: memref<64xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>, %z: memref<2x30xf32>) {
  // expected-error @+1 {{(C2) weights or scales}}
  ternary.packed_matmul #l ins(%q, %s, %t, %v, %g : memref<2x8xi8>, memref<2xf32>, memref<2xi32>, memref<64xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<256xi8>, %g: memref<2x2x16xf32>, %y: memref<2x32xf32>) {
  // expected-error @+1 {{(C3) sum or scales}}
  ternary.packed_matmul #l group = 16 ins(%q, %s, %t, %w, %g : memref<2x32xi8>, memref<2xf32>, memref<2xi32>, memref<256xi8>, memref<2x2x16xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2x2xi32>, %w: memref<256xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>) {
  // expected-error @+1 {{(C3) sum or scales}}
  ternary.packed_matmul #l group = 16 ins(%q, %s, %t, %w, %g : memref<2x32xi8>, memref<2xf32>, memref<2x2xi32>, memref<256xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<256xi8>, %g: memref<2x1x16xf32>, %y: memref<2x32xf32>) {
  // expected-error @+1 {{(C3) sum or scales}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x32xi8>, memref<2xf32>, memref<2xi32>, memref<256xi8>, memref<2x1x16xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x3x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<128xi8>, %g: memref<2xf32>, %y: memref<2x3x32xf32>) {
  // expected-error @+1 {{(C1) q, scale and outs differ in dimensions of tokens}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x3x8xi8>, memref<2xf32>, memref<2xi32>, memref<128xi8>, memref<2xf32>) outs(%y : memref<2x3x32xf32>)
  return
}

// -----

// Lines of 3 columns are no operands of dot products.
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x4x3xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<128xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>) {
  // expected-error @+1 {{(C1) q [N.., K'..] needs}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x4x3xi8>, memref<2xf32>, memref<2xi32>, memref<128xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<128xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>, %b: memref<1x384xi8>) {
  // expected-error @+1 {{(C4) tables are not what the layout reads}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x8xi8>, memref<2xf32>, memref<2xi32>, memref<128xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>) tables(%b : memref<1x384xi8>)
  return
}

// -----

#l = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<64xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>) {
  // expected-error @+1 {{(C4) tables are missing}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x8xi8>, memref<2xf32>, memref<2xi32>, memref<64xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>)
  return
}

// -----

// The last strip would have 18 columns: six tables of 64 bytes.
#l = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x8xi8>, %s: memref<2xf32>, %t: memref<2xi32>, %w: memref<64xi8>, %g: memref<2xf32>, %y: memref<2x32xf32>, %b: memref<1x192xi8>) {
  // expected-error @+1 {{(C4) tables do not fit layout and columns}}
  ternary.packed_matmul #l ins(%q, %s, %t, %w, %g : memref<2x8xi8>, memref<2xf32>, memref<2xi32>, memref<64xi8>, memref<2xf32>) outs(%y : memref<2x32xf32>) tables(%b : memref<1x192xi8>)
  return
}

// -----

#l = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%q: memref<2x32xi8>, %s: memref<2xf32>, %t: memref<2x2xi32>, %w: memref<256xi8>, %g: memref<2x2x16xf32>, %y: memref<2x32xf32>, %b: memref<1x768xi8>) {
  // expected-error @+1 {{(C5) l3 has no scales of groups, and its q is a matrix}}
  ternary.packed_matmul #l group = 16 ins(%q, %s, %t, %w, %g : memref<2x32xi8>, memref<2xf32>, memref<2x2xi32>, memref<256xi8>, memref<2x2x16xf32>) outs(%y : memref<2x32xf32>) tables(%b : memref<1x768xi8>)
  return
}

// -----

#l = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%x: memref<2x4xf32>, %w: memref<128xi8>, %y: memref<3x16xf32>) {
  // expected-error @+1 {{(C1) x [N, K] needs outs}}
  ternary.packed_linear #l ins(%x, %w : memref<2x4xf32>, memref<128xi8>) outs(%y : memref<3x16xf32>)
  return
}

// -----

#l = #ternary.layout<bf16_pairs, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%x: memref<2x4xf32>, %w: memref<512xi8>, %g: memref<1xi32>, %y: memref<2x64xf32>) {
  // expected-error @+1 {{(C3) groups need tiles of 16 rows}}
  ternary.packed_linear #l ins(%x, %w : memref<2x4xf32>, memref<512xi8>) groups(%g : memref<1xi32>) outs(%y : memref<2x64xf32>)
  return
}

// -----

#l = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
func.func @f(%x: memref<2x4xf32>, %w: memref<64xi8>, %y: memref<2x16xf32>) {
  // expected-error @+1 {{(C2) weights do not fit}}
  ternary.packed_linear #l ins(%x, %w : memref<2x4xf32>, memref<64xi8>) outs(%y : memref<2x16xf32>)
  return
}

// -----

func.func @f(%b: vector<4xi8>) {
  // expected-error @+1 {{(C1) plane is not 0..3}}
  %c = ternary.unpack %b plane 4 : vector<4xi8>
  return
}

// -----

func.func @f(%a: vector<2xi32>, %b: vector<4xi8>) {
  // expected-error @+1 {{(C1) codes and q need}}
  %c = ternary.dot %a, %b, %b : vector<2xi32>, vector<4xi8>, vector<4xi8>
  return
}

// -----

func.func @f(%a: vector<4xi16>, %b: vector<4xi8>) {
  // expected-error @+1 {{(C1) codes and q need two elements per element of acc}}
  %c = ternary.dot_pairs %a, %b, %b : vector<4xi16>, vector<4xi8>, vector<4xi8>
  return
}

// -----

func.func @f(%a: vector<4xi32>, %b: vector<4xi16>) {
  // expected-error @+1 {{(C1) pairs need two elements per element of acc}}
  %c = ternary.add_pairs %a, %b : vector<4xi32>, vector<4xi16>
  return
}

// -----

func.func @f(%t: vector<12xi8>, %i: vector<4xi8>) {
  // expected-error @+1 {{(C1) size of the table}}
  %c = ternary.lookup %t, %i : vector<12xi8>, vector<4xi8>
  return
}

// -----

func.func @f(%t: vector<32xi16>, %i: vector<4xi8>) {
  // expected-error @+1 {{(C2) elements of table and indices differ}}
  %c = ternary.lookup %t, %i : vector<32xi16>, vector<4xi8>
  return
}

// -----

// expected-error @+1 {{(C1) tile_rows = 32 is no tile of i2}}
#l = #ternary.layout<i2, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

// -----

// expected-error @+1 {{(C2) lanes, unroll, tokens, chain and streams must be positive}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 0, tokens = 1, prefetch = 0>

// -----

// expected-error @+1 {{(C2) lanes, unroll, tokens, chain and streams must be positive, prefetch and parts not negative}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 4, unroll = 1, tokens = 1, prefetch = 0, parts = -1>

// -----

// 65 pairs of products with q = -128 are -33280.
// expected-error @+1 {{(C3) chain = 65 may overflow i16: at most 64, and 1 with in_place}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0, chain = 65>

// -----

// expected-error @+1 {{(C3) chain = 2 may overflow i16: at most 64, and 1 with in_place}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0, chain = 2, in_place = true>

// -----

// 29 cells of three entries of 384 are 33408.
// expected-error @+1 {{(C5) streams = 3 of trits must divide unroll, and be 1 in chains and of l3}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 4, tokens = 1, prefetch = 0, streams = 3>

// -----

// expected-error @+1 {{(C5) streams = 2 of trits}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 2, tokens = 1, prefetch = 0, chain = 16, streams = 2>

// -----

// expected-error @+1 {{(C2) lanes, unroll, tokens, chain and streams must be positive}}
#l = #ternary.layout<bf16_pairs, tile_rows = 64, lanes = 16, unroll = 2, tokens = 1, prefetch = 0, streams = 0>

// -----

// expected-error @+1 {{expected an option of a layout}}
#l = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 2, tokens = 1, prefetch = 0, stream = 2>

// -----

// expected-error @+1 {{(C3) chain = 29 may overflow i16: at most 28, and 1 with in_place}}
#l = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0, chain = 29>

// -----

// expected-error @+1 {{(C4) l3 has neither in_place, plane_major nor blocks}}
#l = #ternary.layout<l3, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0, plane_major = true>

// -----

// expected-error @+2 {{expected ::tercet::ternary::KVElement to be one of: f32, bf16, int8}}
// expected-error @+1 {{failed to parse Ternary_KVCacheType parameter 'element'}}
func.func private @f(!ternary.kv_cache<layers = 2, heads = 1, context = 32, head_dim = 8, element = f16>)

// -----

// expected-error @+1 {{sizes of a KV cache must be positive}}
func.func private @f(!ternary.kv_cache<layers = 2, heads = 0, context = 32, head_dim = 8>)

// -----

// expected-error @+1 {{(C1) tile_rows = 64 is no tile of t3}}
#l = #ternary.layout<t3, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

// -----

func.func @f(%q: memref<?x48xi8>, %codes: memref<4x16x64xi8>, %acc: memref<4x32x16xi32>, %n: index) {
  // expected-error @+1 {{(C1) q needs a multiple of 4 columns, at least 64}}
  ternary.dot_block %q[%n, %n] count %n, %codes into %acc : memref<?x48xi8>, memref<4x16x64xi8>, memref<4x32x16xi32>
  return
}

// -----

func.func @f(%q: memref<?x80xi8>, %codes: memref<4x48x64xi8>, %acc: memref<4x32x16xi32>, %n: index) {
  // expected-error @+1 {{(C2) codes need panels of 16 x 64, not beyond all columns, acc [planes, a multiple of 32, 16]}}
  ternary.dot_block %q[%n, %n] count %n, %codes into %acc : memref<?x80xi8>, memref<4x48x64xi8>, memref<4x32x16xi32>
  return
}

// -----

func.func @f(%q: memref<?x80xi8>, %codes: memref<4x16x64xi8>, %acc: memref<4x32x16xi32>, %n: index) {
  // expected-error @+1 {{the body of work takes one index}}
  ternary.dot_block %q[%n, %n] count %n, %codes into %acc meanwhile 3 {
  ^bb0(%i: i32):
  } : memref<?x80xi8>, memref<4x16x64xi8>, memref<4x32x16xi32>
  return
}

// -----

func.func @f(%q: memref<?x80xi8>, %codes: memref<4x32x64xi8>, %acc: memref<4x48x16xi32>, %n: index) {
  // expected-error @+1 {{(C2) codes need panels of 16 x 64, not beyond all columns, acc [planes, a multiple of 32, 16]}}
  ternary.dot_block %q[%n, %n] count %n, %codes into %acc : memref<?x80xi8>, memref<4x32x64xi8>, memref<4x48x16xi32>
  return
}

// -----

func.func @fused_rows_c1(%x: memref<32xf32>, %y: memref<?x32xf32>) {
  // expected-error @+1 {{(C1) the first of ins is not [N, K]}}
  ternary.fused_rows ins(%x : memref<32xf32>) outs(%y : memref<?x32xf32>) {
  ^bb0(%x0: memref<32xf32>, %y0: memref<?x32xf32>):
  }
  return
}

// -----

func.func @fused_rows_c2(%x: memref<?x32xf32>, %y: memref<?x32xf32>) {
  // expected-error @+1 {{(C2) the block's arguments are not the op's}}
  ternary.fused_rows ins(%x : memref<?x32xf32>) outs(%y : memref<?x32xf32>) {
  ^bb0(%x0: memref<?x32xf32>):
  }
  return
}

// -----

func.func @fused_rows_c2(%x: memref<?x32xf32>, %y: memref<?x32xf32>) {
  // expected-error @+1 {{(C2) a row of a worker is no memref}}
  ternary.fused_rows ins(%x : memref<?x32xf32>) outs(%y : memref<?x32xf32>) {
  ^bb0(%x0: memref<?x32xf32>, %y0: memref<?x32xf32>, %row: memref<?x32xf32>):
  }
  return
}

// -----

func.func @fused_rows_c3(%x: memref<?x32xf32>, %rows: memref<?xi32>, %y: memref<?x32xf32>) {
  ternary.fused_rows ins(%x, %rows : memref<?x32xf32>, memref<?xi32>) outs(%y : memref<?x32xf32>) {
  ^bb0(%x0: memref<?x32xf32>, %rows0: memref<?xi32>, %y0: memref<?x32xf32>):
    // expected-error @+1 {{(C3) does not work on rows}}
    ternary.gather_rows ins(%x0, %rows0 : memref<?x32xf32>, memref<?xi32>) outs(%y0 : memref<?x32xf32>)
  }
  return
}
