// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --pass-pipeline="builtin.module(func.func(quantize-output-head{format=q6}))" | FileCheck %s
// RUN: not tercet-opt %s --pass-pipeline="builtin.module(func.func(quantize-output-head{format=q5}))" 2>&1 | FileCheck %s --check-prefix=ERROR

// ERROR: error: unknown format 'q5'

// CHECK-LABEL: func @head
func.func @head(%x: tensor<?x16xf32>, %w: tensor<40x16xbf16>, %out: tensor<?x40xf32>)
    -> tensor<?x40xf32> {
  // CHECK-NOT: ternary.linear
  // CHECK: %[[Y:.+]] = ternary.quantized_linear q6 ins(%arg0, %arg1 : {{.*}}) outs(%arg2
  // CHECK: return %[[Y]]
  %y = ternary.linear ins(%x, %w : tensor<?x16xf32>, tensor<40x16xbf16>)
                      outs(%out : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
