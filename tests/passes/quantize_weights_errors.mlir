// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --quantize-weights --verify-diagnostics --split-input-file

func.func @argument(%w: tensor<2x2xf32>) -> f32 {
  // expected-error @+1 {{quantises something that is not a parameter of the checkpoint}}
  %t, %g = ternary.absmean_quantize %w : tensor<2x2xf32> -> tensor<2x2xi2>
  return %g : f32
}

// -----

ternary.parameter @literal : tensor<2x2xf32> = dense<1.0> : tensor<2x2xf32>

func.func @literal_latents() -> f32 {
  %w = ternary.get_parameter @literal : tensor<2x2xf32>
  // expected-error @+1 {{quantises something that is not a parameter of the checkpoint}}
  %t, %g = ternary.absmean_quantize %w : tensor<2x2xf32> -> tensor<2x2xi2>
  return %g : f32
}

// -----

// expected-error @+1 {{no-such-file.bin}}
ternary.parameter @w : tensor<2x2xf32> = #ternary.source<"no-such-file.bin", offset = 0, size = 16, f32>

func.func @no_file() -> f32 {
  %w = ternary.get_parameter @w : tensor<2x2xf32>
  %t, %g = ternary.absmean_quantize %w : tensor<2x2xf32> -> tensor<2x2xi2>
  return %g : f32
}
