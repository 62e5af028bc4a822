// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --pack-weights --verify-diagnostics --split-input-file

func.func @no_matmul(%acc: tensor<2x16xi32>, %s: tensor<2xf32>, %g: f32, %ey: tensor<2x16xf32>)
    -> tensor<2x16xf32> {
  // expected-error @+1 {{expected the sums of one matmul with a layout}}
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x16xi32>, tensor<2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

func.func @no_layout(%q: tensor<2x16xi8>, %w: tensor<16x16xi2>, %ea: tensor<2x16xi32>,
                     %s: tensor<2xf32>, %g: f32, %ey: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %acc = ternary.matmul ins(%q, %w : tensor<2x16xi8>, tensor<16x16xi2>)
      outs(%ea : tensor<2x16xi32>) -> tensor<2x16xi32>
  // expected-error @+1 {{expected the sums of one matmul with a layout}}
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x16xi32>, tensor<2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

func.func @two_uses(%q: tensor<2x16xi8>, %w: tensor<16x16xi2>, %ea: tensor<2x16xi32>,
                    %s: tensor<2xf32>, %g: f32, %ey: tensor<2x16xf32>)
    -> (tensor<2x16xf32>, tensor<2x16xi32>) {
  %acc = ternary.matmul ins(%q, %w : tensor<2x16xi8>, tensor<16x16xi2>)
      outs(%ea : tensor<2x16xi32>) {layout = #layout} -> tensor<2x16xi32>
  // expected-error @+1 {{expected the sums of one matmul with a layout}}
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x16xi32>, tensor<2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y, %acc : tensor<2x16xf32>, tensor<2x16xi32>
}

// -----

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

func.func @no_constant_weights(%q: tensor<2x16xi8>, %w: tensor<16x16xi2>, %ea: tensor<2x16xi32>,
                       %s: tensor<2xf32>, %g: f32, %ey: tensor<2x16xf32>) -> tensor<2x16xf32> {
  // expected-error @+1 {{expected constant weights}}
  %acc = ternary.matmul ins(%q, %w : tensor<2x16xi8>, tensor<16x16xi2>)
      outs(%ea : tensor<2x16xi32>) {layout = #layout} -> tensor<2x16xi32>
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x16xi32>, tensor<2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @w : tensor<16x16xi2> = dense<1> : tensor<16x16xi2>

func.func @scale_of_run_time(%x: tensor<2x16xf32>, %eq: tensor<2x16xi8>, %es: tensor<2xf32>,
                             %et: tensor<2xi32>, %ea: tensor<2x16xi32>, %g: f32,
                             %ey: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %w = ternary.get_parameter @w : tensor<16x16xi2>
  %q, %s, %t = ternary.quantize_activations ins(%x : tensor<2x16xf32>)
      outs(%eq, %es, %et : tensor<2x16xi8>, tensor<2xf32>, tensor<2xi32>)
      -> tensor<2x16xi8>, tensor<2xf32>, tensor<2xi32>
  %acc = ternary.matmul ins(%q, %w : tensor<2x16xi8>, tensor<16x16xi2>)
      outs(%ea : tensor<2x16xi32>) {layout = #layout} -> tensor<2x16xi32>
  // expected-error @+1 {{expected constant scales}}
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x16xi32>, tensor<2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @w : tensor<16x64xi2> = dense<1> : tensor<16x64xi2>
ternary.parameter @g : tensor<16x2xf32> = dense<1.0> : tensor<16x2xf32>

func.func @other_groups(%x: tensor<2x64xf32>, %eq: tensor<2x64xi8>, %es: tensor<2xf32>,
                        %et: tensor<2xi32>, %ea: tensor<2x2x16xi32>,
                        %ey: tensor<2x16xf32>) -> tensor<2x16xf32> {
  %w = ternary.get_parameter @w : tensor<16x64xi2>
  %g = ternary.get_parameter @g : tensor<16x2xf32>
  %q, %s, %t = ternary.quantize_activations ins(%x : tensor<2x64xf32>)
      outs(%eq, %es, %et : tensor<2x64xi8>, tensor<2xf32>, tensor<2xi32>)
      -> tensor<2x64xi8>, tensor<2xf32>, tensor<2xi32>
  // expected-error @+1 {{expected the groups of its activations}}
  %acc = ternary.matmul group = 32 ins(%q, %w : tensor<2x64xi8>, tensor<16x64xi2>)
      outs(%ea : tensor<2x2x16xi32>) {layout = #layout} -> tensor<2x2x16xi32>
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x2x16xi32>, tensor<2xf32> scales tensor<16x2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @w : tensor<16x64xi2> = dense<1> : tensor<16x64xi2>

func.func @group_scales_of_run_time(%x: tensor<2x64xf32>, %eq: tensor<2x64xi8>, %es: tensor<2xf32>,
                                    %et: tensor<2x2xi32>, %ea: tensor<2x2x16xi32>,
                                    %g: tensor<16x2xf32>, %ey: tensor<2x16xf32>)
    -> tensor<2x16xf32> {
  %w = ternary.get_parameter @w : tensor<16x64xi2>
  %q, %s, %t = ternary.quantize_activations group = 32 ins(%x : tensor<2x64xf32>)
      outs(%eq, %es, %et : tensor<2x64xi8>, tensor<2xf32>, tensor<2x2xi32>)
      -> tensor<2x64xi8>, tensor<2xf32>, tensor<2x2xi32>
  %acc = ternary.matmul group = 32 ins(%q, %w : tensor<2x64xi8>, tensor<16x64xi2>)
      outs(%ea : tensor<2x2x16xi32>) {layout = #layout} -> tensor<2x2x16xi32>
  // expected-error @+1 {{expected constant scales}}
  %y = ternary.rescale ins(%acc, %s scales %g : tensor<2x2x16xi32>, tensor<2xf32> scales tensor<16x2xf32>)
      outs(%ey : tensor<2x16xf32>) rows = [16] -> tensor<2x16xf32>
  return %y : tensor<2x16xf32>
}

// -----

// Trits have a place only in a matmul.

ternary.parameter @w : tensor<16x16xi2> = dense<1> : tensor<16x16xi2>

func.func @trits_elsewhere() -> tensor<16x16xi2> {
  // expected-error @+1 {{expected trits to be used by matmuls only}}
  %w = ternary.get_parameter @w : tensor<16x16xi2>
  return %w : tensor<16x16xi2>
}
