// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A language model as a frontend imports one: two layers, one KV head of two
// query heads, a tied head. Weights are literals in place of a checkpoint.

!cache = !ternary.kv_cache<layers = 2, heads = 1, context = 64, head_dim = 16>
!hidden = tensor<?x32xf32>

ternary.parameter @embed : tensor<40x32xbf16> = dense<0.5> : tensor<40x32xbf16>
ternary.parameter @norm : tensor<32xf32> = dense<1.0> : tensor<32xf32>
ternary.parameter @rope : tensor<64x16xf32> = #ternary.rope_table<10000.0 : f64>
ternary.parameter @q0 : tensor<32x32xi2> = dense<1> : tensor<32x32xi2>
ternary.parameter @k0 : tensor<16x32xi2> = dense<-1> : tensor<16x32xi2>
ternary.parameter @v0 : tensor<16x32xi2> = dense<0> : tensor<16x32xi2>
ternary.parameter @o0 : tensor<32x32xi2> = dense<1> : tensor<32x32xi2>
ternary.parameter @gate0 : tensor<48x32xi2> = dense<1> : tensor<48x32xi2>
ternary.parameter @up0 : tensor<48x32xi2> = dense<-1> : tensor<48x32xi2>
ternary.parameter @down0 : tensor<32x48xi2> = dense<1> : tensor<32x48xi2>
ternary.parameter @q1 : tensor<32x32xi2> = dense<1> : tensor<32x32xi2>
ternary.parameter @k1 : tensor<16x32xi2> = dense<-1> : tensor<16x32xi2>
ternary.parameter @v1 : tensor<16x32xi2> = dense<0> : tensor<16x32xi2>
ternary.parameter @o1 : tensor<32x32xi2> = dense<1> : tensor<32x32xi2>
ternary.parameter @gate1 : tensor<48x32xi2> = dense<1> : tensor<48x32xi2>
ternary.parameter @up1 : tensor<48x32xi2> = dense<-1> : tensor<48x32xi2>
ternary.parameter @down1 : tensor<32x48xi2> = dense<1> : tensor<32x48xi2>

func.func @step(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %slots: tensor<?xi32>,
                %logit_rows: tensor<?xi32>, %cache: !cache) -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %tokens, %c0 : tensor<?xi32>
  %r = tensor.dim %logit_rows, %c0 : tensor<?xi32>
  %embed = ternary.get_parameter @embed : tensor<40x32xbf16>
  %norm = ternary.get_parameter @norm : tensor<32xf32>
  %rope = ternary.get_parameter @rope : tensor<64x16xf32>
  %ex = tensor.empty(%n) : !hidden
  %x0 = ternary.embedding ins(%tokens, %embed : tensor<?xi32>, tensor<40x32xbf16>)
      outs(%ex : !hidden) -> !hidden

  // Layer 0.
  %layer0 = arith.constant 0 : index
  %e1 = tensor.empty(%n) : tensor<?x32xf32>
  %h0 = ternary.rms_norm ins(%x0, %norm : !hidden, tensor<32xf32>)
      outs(%e1 : !hidden) epsilon = 1.0e-5 -> !hidden
  %w_q0 = ternary.get_parameter @q0 : tensor<32x32xi2>
  %g_q0 = arith.constant 0.5 : f32
  %e2 = tensor.empty(%n) : tensor<?x32xf32>
  %q0 = ternary.bit_linear ins(%h0, %w_q0 scales %g_q0 : tensor<?x32xf32>, tensor<32x32xi2>)
      outs(%e2 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %w_k0 = ternary.get_parameter @k0 : tensor<16x32xi2>
  %g_k0 = arith.constant 0.5 : f32
  %e3 = tensor.empty(%n) : tensor<?x16xf32>
  %k0 = ternary.bit_linear ins(%h0, %w_k0 scales %g_k0 : tensor<?x32xf32>, tensor<16x32xi2>)
      outs(%e3 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %w_v0 = ternary.get_parameter @v0 : tensor<16x32xi2>
  %g_v0 = arith.constant 0.5 : f32
  %e4 = tensor.empty(%n) : tensor<?x16xf32>
  %v0 = ternary.bit_linear ins(%h0, %w_v0 scales %g_v0 : tensor<?x32xf32>, tensor<16x32xi2>)
      outs(%e4 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %e5 = tensor.empty(%n) : tensor<?x32xf32>
  %rq0 = ternary.rope ins(%q0, %positions, %rope : tensor<?x32xf32>, tensor<?xi32>, tensor<64x16xf32>)
      outs(%e5 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e6 = tensor.empty(%n) : tensor<?x16xf32>
  %rk0 = ternary.rope ins(%k0, %positions, %rope : tensor<?x16xf32>, tensor<?xi32>, tensor<64x16xf32>)
      outs(%e6 : tensor<?x16xf32>) -> tensor<?x16xf32>
  ternary.kv_update %rk0, %v0, %positions, %slots into %cache layer %layer0
      : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  %e7 = tensor.empty(%n) : tensor<?x32xf32>
  %a0 = ternary.attention ins(%rq0, %positions, %slots, %cache layer %layer0
      : !hidden, tensor<?xi32>, tensor<?xi32>, !cache)
      outs(%e7 : !hidden) scale = 0.25 -> !hidden
  %w_o0 = ternary.get_parameter @o0 : tensor<32x32xi2>
  %g_o0 = arith.constant 0.5 : f32
  %e8 = tensor.empty(%n) : tensor<?x32xf32>
  %o0 = ternary.bit_linear ins(%a0, %w_o0 scales %g_o0 : tensor<?x32xf32>, tensor<32x32xi2>)
      outs(%e8 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e9 = tensor.empty(%n) : tensor<?x32xf32>
  %m0 = linalg.add ins(%x0, %o0 : !hidden, !hidden) outs(%e9 : !hidden) -> !hidden
  %e10 = tensor.empty(%n) : tensor<?x32xf32>
  %f0 = ternary.rms_norm ins(%m0, %norm : !hidden, tensor<32xf32>)
      outs(%e10 : !hidden) epsilon = 1.0e-5 -> !hidden
  %w_gate0 = ternary.get_parameter @gate0 : tensor<48x32xi2>
  %g_gate0 = arith.constant 0.5 : f32
  %e11 = tensor.empty(%n) : tensor<?x48xf32>
  %gate0 = ternary.bit_linear ins(%f0, %w_gate0 scales %g_gate0 : tensor<?x32xf32>, tensor<48x32xi2>)
      outs(%e11 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %w_up0 = ternary.get_parameter @up0 : tensor<48x32xi2>
  %g_up0 = arith.constant 0.5 : f32
  %e12 = tensor.empty(%n) : tensor<?x48xf32>
  %up0 = ternary.bit_linear ins(%f0, %w_up0 scales %g_up0 : tensor<?x32xf32>, tensor<48x32xi2>)
      outs(%e12 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %e13 = tensor.empty(%n) : tensor<?x48xf32>
  %act0 = ternary.gated_activation relu2 ins(%gate0, %up0 : tensor<?x48xf32>, tensor<?x48xf32>)
      outs(%e13 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %w_down0 = ternary.get_parameter @down0 : tensor<32x48xi2>
  %g_down0 = arith.constant 0.5 : f32
  %e14 = tensor.empty(%n) : tensor<?x32xf32>
  %d0 = ternary.bit_linear ins(%act0, %w_down0 scales %g_down0 : tensor<?x48xf32>, tensor<32x48xi2>)
      outs(%e14 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e15 = tensor.empty(%n) : tensor<?x32xf32>
  %x1 = linalg.add ins(%m0, %d0 : !hidden, !hidden) outs(%e15 : !hidden) -> !hidden

  // Layer 1.
  %layer1 = arith.constant 1 : index
  %e16 = tensor.empty(%n) : tensor<?x32xf32>
  %h1 = ternary.rms_norm ins(%x1, %norm : !hidden, tensor<32xf32>)
      outs(%e16 : !hidden) epsilon = 1.0e-5 -> !hidden
  %w_q1 = ternary.get_parameter @q1 : tensor<32x32xi2>
  %g_q1 = arith.constant 0.75 : f32
  %e17 = tensor.empty(%n) : tensor<?x32xf32>
  %q1 = ternary.bit_linear ins(%h1, %w_q1 scales %g_q1 : tensor<?x32xf32>, tensor<32x32xi2>)
      outs(%e17 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %w_k1 = ternary.get_parameter @k1 : tensor<16x32xi2>
  %g_k1 = arith.constant 0.75 : f32
  %e18 = tensor.empty(%n) : tensor<?x16xf32>
  %k1 = ternary.bit_linear ins(%h1, %w_k1 scales %g_k1 : tensor<?x32xf32>, tensor<16x32xi2>)
      outs(%e18 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %w_v1 = ternary.get_parameter @v1 : tensor<16x32xi2>
  %g_v1 = arith.constant 0.75 : f32
  %e19 = tensor.empty(%n) : tensor<?x16xf32>
  %v1 = ternary.bit_linear ins(%h1, %w_v1 scales %g_v1 : tensor<?x32xf32>, tensor<16x32xi2>)
      outs(%e19 : tensor<?x16xf32>) -> tensor<?x16xf32>
  %e20 = tensor.empty(%n) : tensor<?x32xf32>
  %rq1 = ternary.rope ins(%q1, %positions, %rope : tensor<?x32xf32>, tensor<?xi32>, tensor<64x16xf32>)
      outs(%e20 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e21 = tensor.empty(%n) : tensor<?x16xf32>
  %rk1 = ternary.rope ins(%k1, %positions, %rope : tensor<?x16xf32>, tensor<?xi32>, tensor<64x16xf32>)
      outs(%e21 : tensor<?x16xf32>) -> tensor<?x16xf32>
  ternary.kv_update %rk1, %v1, %positions, %slots into %cache layer %layer1
      : tensor<?x16xf32>, tensor<?x16xf32>, tensor<?xi32>, tensor<?xi32>, !cache
  %e22 = tensor.empty(%n) : tensor<?x32xf32>
  %a1 = ternary.attention ins(%rq1, %positions, %slots, %cache layer %layer1
      : !hidden, tensor<?xi32>, tensor<?xi32>, !cache)
      outs(%e22 : !hidden) scale = 0.25 -> !hidden
  %w_o1 = ternary.get_parameter @o1 : tensor<32x32xi2>
  %g_o1 = arith.constant 0.75 : f32
  %e23 = tensor.empty(%n) : tensor<?x32xf32>
  %o1 = ternary.bit_linear ins(%a1, %w_o1 scales %g_o1 : tensor<?x32xf32>, tensor<32x32xi2>)
      outs(%e23 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e24 = tensor.empty(%n) : tensor<?x32xf32>
  %m1 = linalg.add ins(%x1, %o1 : !hidden, !hidden) outs(%e24 : !hidden) -> !hidden
  %e25 = tensor.empty(%n) : tensor<?x32xf32>
  %f1 = ternary.rms_norm ins(%m1, %norm : !hidden, tensor<32xf32>)
      outs(%e25 : !hidden) epsilon = 1.0e-5 -> !hidden
  %w_gate1 = ternary.get_parameter @gate1 : tensor<48x32xi2>
  %g_gate1 = arith.constant 0.75 : f32
  %e26 = tensor.empty(%n) : tensor<?x48xf32>
  %gate1 = ternary.bit_linear ins(%f1, %w_gate1 scales %g_gate1 : tensor<?x32xf32>, tensor<48x32xi2>)
      outs(%e26 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %w_up1 = ternary.get_parameter @up1 : tensor<48x32xi2>
  %g_up1 = arith.constant 0.75 : f32
  %e27 = tensor.empty(%n) : tensor<?x48xf32>
  %up1 = ternary.bit_linear ins(%f1, %w_up1 scales %g_up1 : tensor<?x32xf32>, tensor<48x32xi2>)
      outs(%e27 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %e28 = tensor.empty(%n) : tensor<?x48xf32>
  %act1 = ternary.gated_activation relu2 ins(%gate1, %up1 : tensor<?x48xf32>, tensor<?x48xf32>)
      outs(%e28 : tensor<?x48xf32>) -> tensor<?x48xf32>
  %w_down1 = ternary.get_parameter @down1 : tensor<32x48xi2>
  %g_down1 = arith.constant 0.75 : f32
  %e29 = tensor.empty(%n) : tensor<?x32xf32>
  %d1 = ternary.bit_linear ins(%act1, %w_down1 scales %g_down1 : tensor<?x48xf32>, tensor<32x48xi2>)
      outs(%e29 : tensor<?x32xf32>) -> tensor<?x32xf32>
  %e30 = tensor.empty(%n) : tensor<?x32xf32>
  %x2 = linalg.add ins(%m1, %d1 : !hidden, !hidden) outs(%e30 : !hidden) -> !hidden

  %e31 = tensor.empty(%r) : tensor<?x32xf32>
  %last = ternary.gather_rows ins(%x2, %logit_rows : !hidden, tensor<?xi32>)
      outs(%e31 : !hidden) -> !hidden
  %e32 = tensor.empty(%r) : tensor<?x32xf32>
  %final = ternary.rms_norm ins(%last, %norm : !hidden, tensor<32xf32>)
      outs(%e32 : !hidden) epsilon = 1.0e-5 -> !hidden
  %e33 = tensor.empty(%r) : tensor<?x40xf32>
  %logits = ternary.linear ins(%final, %embed : !hidden, tensor<40x32xbf16>)
      outs(%e33 : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %logits : tensor<?x40xf32>
}
