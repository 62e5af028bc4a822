// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A model whose ternary weights have scales of groups of columns: one layer, one
// KV head, a head of its own. WEIGHTS is a file of 16384 floats.

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 8>
ternary.parameter @embed : tensor<24x40xf32> = #ternary.source<"WEIGHTS", offset = 0, size = 3840, f32>
ternary.parameter @norm : tensor<40xf32> = #ternary.source<"WEIGHTS", offset = 64, size = 160, f32>
ternary.parameter @rope : tensor<64x8xf32> = #ternary.rope_table<10000.0 : f64>
ternary.parameter @q : tensor<40x40xi2> = #ternary.source<"WEIGHTS", offset = 128, size = 6400, f32, absmean = 0.5 : f32>
ternary.parameter @k : tensor<8x40xi2> = #ternary.source<"WEIGHTS", offset = 8192, size = 1280, f32, absmean = 0.5 : f32>
ternary.parameter @v : tensor<8x40xi2> = #ternary.source<"WEIGHTS", offset = 12288, size = 1280, f32, absmean = 0.5 : f32>
ternary.parameter @up : tensor<200x40xi2> = #ternary.source<"WEIGHTS", offset = 1024, size = 32000, f32, absmean = 0.5 : f32>
ternary.parameter @down : tensor<40x200xi2> = #ternary.source<"WEIGHTS", offset = 2048, size = 32000, f32, absmean = 0.5 : f32>
ternary.parameter @gq : tensor<40x2xf32> = #ternary.source<"WEIGHTS", offset = 4096, size = 320, f32>
ternary.parameter @gk : tensor<8x2xf32> = #ternary.source<"WEIGHTS", offset = 5120, size = 64, f32>
ternary.parameter @gv : tensor<8x2xf32> = #ternary.source<"WEIGHTS", offset = 6144, size = 64, f32>
ternary.parameter @gup : tensor<200x2xf32> = #ternary.source<"WEIGHTS", offset = 7168, size = 1600, f32>
ternary.parameter @gdown : tensor<40x2xf32> = #ternary.source<"WEIGHTS", offset = 9216, size = 320, f32>

func.func @step(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %slots: tensor<?xi32>,
                %logit_rows: tensor<?xi32>, %cache: !cache) -> tensor<?x24xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %r = tensor.dim %logit_rows, %c0 : tensor<?xi32>
  %embed = ternary.get_parameter @embed : tensor<24x40xf32>
  %norm = ternary.get_parameter @norm : tensor<40xf32>
  %rope = ternary.get_parameter @rope : tensor<64x8xf32>
  %wq = ternary.get_parameter @q : tensor<40x40xi2>
  %wk = ternary.get_parameter @k : tensor<8x40xi2>
  %wv = ternary.get_parameter @v : tensor<8x40xi2>
  %wup = ternary.get_parameter @up : tensor<200x40xi2>
  %wdown = ternary.get_parameter @down : tensor<40x200xi2>
  %gq = ternary.get_parameter @gq : tensor<40x2xf32>
  %gk = ternary.get_parameter @gk : tensor<8x2xf32>
  %gv = ternary.get_parameter @gv : tensor<8x2xf32>
  %gup = ternary.get_parameter @gup : tensor<200x2xf32>
  %gdown = ternary.get_parameter @gdown : tensor<40x2xf32>
  %e40 = tensor.empty(%n) : tensor<?x40xf32>
  %e8 = tensor.empty(%n) : tensor<?x8xf32>
  %e200 = tensor.empty(%n) : tensor<?x200xf32>

  %x = ternary.embedding ins(%tokens, %embed : tensor<?xi32>, tensor<24x40xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %h = ternary.rms_norm ins(%x, %norm : tensor<?x40xf32>, tensor<40xf32>)
      outs(%e40 : tensor<?x40xf32>) epsilon = 1.0e-5 -> tensor<?x40xf32>
  %q = ternary.bit_linear group = 32
      ins(%h, %wq scales %gq : tensor<?x40xf32>, tensor<40x40xi2> scales tensor<40x2xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %k = ternary.bit_linear group = 32
      ins(%h, %wk scales %gk : tensor<?x40xf32>, tensor<8x40xi2> scales tensor<8x2xf32>)
      outs(%e8 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %v = ternary.bit_linear group = 32
      ins(%h, %wv scales %gv : tensor<?x40xf32>, tensor<8x40xi2> scales tensor<8x2xf32>)
      outs(%e8 : tensor<?x8xf32>) -> tensor<?x8xf32>
  %rq = ternary.rope ins(%q, %positions, %rope : tensor<?x40xf32>, tensor<?xi32>, tensor<64x8xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %rk = ternary.rope ins(%k, %positions, %rope : tensor<?x8xf32>, tensor<?xi32>, tensor<64x8xf32>)
      outs(%e8 : tensor<?x8xf32>) -> tensor<?x8xf32>
  ternary.kv_update %rk, %v, %positions, %slots into %cache layer %c0
      : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  %a = ternary.attention ins(%rq, %positions, %slots, %cache layer %c0
      : tensor<?x40xf32>, tensor<?xi32>, tensor<?xi32>, !cache)
      outs(%e40 : tensor<?x40xf32>) scale = 0.35 -> tensor<?x40xf32>
  %x1 = linalg.add ins(%x, %a : tensor<?x40xf32>, tensor<?x40xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %up = ternary.bit_linear group = 32
      ins(%x1, %wup scales %gup : tensor<?x40xf32>, tensor<200x40xi2> scales tensor<200x2xf32>)
      outs(%e200 : tensor<?x200xf32>) -> tensor<?x200xf32>
  %f = ternary.gated_activation silu ins(%up, %up : tensor<?x200xf32>, tensor<?x200xf32>)
      outs(%e200 : tensor<?x200xf32>) -> tensor<?x200xf32>
  %d = ternary.bit_linear group = 128
      ins(%f, %wdown scales %gdown : tensor<?x200xf32>, tensor<40x200xi2> scales tensor<40x2xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>
  %x2 = linalg.add ins(%x1, %d : tensor<?x40xf32>, tensor<?x40xf32>)
      outs(%e40 : tensor<?x40xf32>) -> tensor<?x40xf32>

  %er = tensor.empty(%r) : tensor<?x40xf32>
  %last = ternary.gather_rows ins(%x2, %logit_rows : tensor<?x40xf32>, tensor<?xi32>)
      outs(%er : tensor<?x40xf32>) -> tensor<?x40xf32>
  %el = tensor.empty(%r) : tensor<?x24xf32>
  %y = ternary.linear ins(%last, %embed : tensor<?x40xf32>, tensor<24x40xf32>)
      outs(%el : tensor<?x24xf32>) -> tensor<?x24xf32>
  return %y : tensor<?x24xf32>
}
