// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Four bf16 latents: 1, -2, 0.25, 0; their mean absolute value is 0.8125.
// RUN: printf '\200\077\000\300\200\076\000\000' > %t.bin
// RUN: sed 's#FILE#%t.bin#' %s > %t.mlir
// RUN: tercet-opt %t.mlir --quantize-weights | FileCheck %s

// The bytes stay in the checkpoint; the parameter of latents stays for its
// other uses.

// CHECK-DAG: ternary.parameter @w : tensor<2x2xbf16> = #ternary.source<"{{.*}}.bin", offset = 0, size = 8, bf16>
// CHECK-DAG: ternary.parameter @w.trits : tensor<2x2xi2> = #ternary.source<"{{.*}}.bin", offset = 0, size = 8, bf16, absmean = 8.125000e-01 : f32>
ternary.parameter @w : tensor<2x2xbf16> = #ternary.source<"FILE", offset = 0, size = 8, bf16>

// CHECK-LABEL: func @two_uses
func.func @two_uses() -> (tensor<2x2xi2>, f32, tensor<2x2xi2>, f32) {
  // CHECK-NOT: @w :
  // CHECK-DAG: %[[T0:.+]] = ternary.get_parameter @w.trits
  // CHECK-DAG: %[[S0:.+]] = arith.constant 8.125000e-01 : f32
  // CHECK-DAG: %[[T1:.+]] = ternary.get_parameter @w.trits
  // CHECK: return
  %w = ternary.get_parameter @w : tensor<2x2xbf16>
  %a, %g = ternary.absmean_quantize %w : tensor<2x2xbf16> -> tensor<2x2xi2>
  %b, %h = ternary.absmean_quantize %w : tensor<2x2xbf16> -> tensor<2x2xi2>
  return %a, %g, %b, %h : tensor<2x2xi2>, f32, tensor<2x2xi2>, f32
}

// CHECK-LABEL: func @other_use
func.func @other_use() -> tensor<2x2xbf16> {
  // CHECK: ternary.get_parameter @w : tensor<2x2xbf16>
  %w = ternary.get_parameter @w : tensor<2x2xbf16>
  return %w : tensor<2x2xbf16>
}
