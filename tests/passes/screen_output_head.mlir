// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --screen-output-head --split-input-file --verify-diagnostics | FileCheck %s

ternary.parameter @head : tensor<40x16xbf16> = dense<1.0> : tensor<40x16xbf16>

// CHECK-LABEL: func @step
// CHECK-SAME: -> tensor<?x16xf32>
// CHECK-NOT: ternary
// CHECK: return %arg0
func.func @step(%x: tensor<?x16xf32>) -> tensor<?x40xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x16xf32>
  %w = ternary.get_parameter @head : tensor<40x16xbf16>
  %out = tensor.empty(%n) : tensor<?x40xf32>
  %y = ternary.linear ins(%x, %w : tensor<?x16xf32>, tensor<40x16xbf16>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// CHECK-LABEL: func @screen(%arg0: tensor<?x16xf32>) -> tensor<?x40xf32>
// CHECK: %[[OUT:.+]] = tensor.empty(%{{.+}}) : tensor<?x40xf32>
// CHECK: %[[W:.+]] = ternary.get_parameter @head
// CHECK: ternary.quantized_linear i8 bounded ins(%arg0, %[[W]] : {{.*}}) outs(%[[OUT]]

// CHECK-LABEL: func @head_rows(%arg0: tensor<?x16xf32>, %arg1: tensor<?xi32>, %arg2: tensor<?x40xf32>) -> tensor<?x40xf32>
// CHECK: %[[W:.+]] = ternary.get_parameter @head
// CHECK: ternary.linear ins(%arg0, %[[W]] : {{.*}}) groups(%arg1 : tensor<?xi32>) outs(%arg2

// -----

// expected-error @+1 {{expected to return a linear of a parameter}}
func.func @step(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  return %x : tensor<?x16xf32>
}

// -----

// expected-error @+1 {{expected a function @step with one result}}
module {
}
