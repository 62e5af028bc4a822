// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v2 | FileCheck %s --check-prefixes=CHECK,F64
// RUN: tercet-opt %s --lower-vector-ops=target=wasm32+simd128 | FileCheck %s --check-prefixes=CHECK,F64
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v3 | FileCheck %s --check-prefixes=CHECK,FMA
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64 | FileCheck %s --check-prefixes=CHECK,FMA

// Rounded twice, unless that may differ: then from an f64 rounded to odd.

// CHECK-LABEL: func @fma
func.func @fma(%a: vector<8xf32>, %b: vector<8xf32>, %c: vector<8xf32>) -> vector<8xf32> {
  // FMA-NEXT: math.fma
  // F64: %[[A:.+]] = arith.extf %arg0
  // F64: %[[B:.+]] = arith.extf %arg1
  // F64: %[[P:.+]] = arith.mulf %[[A]], %[[B]] : vector<8xf64>
  // F64: %[[C:.+]] = arith.extf %arg2
  // F64: %[[S:.+]] = arith.addf %[[P]], %[[C]] : vector<8xf64>
  // F64: %[[R:.+]] = arith.truncf %[[S]]
  // F64: %[[ANY:.+]] = vector.reduction <or>
  // F64: %[[RARE:.+]] = llvm.intr.expect %[[ANY]]
  // F64: scf.if %[[RARE]]
  // F64: arith.ori {{.+}} : vector<8xi64>
  // F64: } else {
  // F64: scf.yield %[[R]]
  // F64-NOT: math.fma
  // CHECK: return
  %y = math.fma %a, %b, %c : vector<8xf32>
  return %y : vector<8xf32>
}

// CHECK-LABEL: func @scalar
func.func @scalar(%a: f32) -> f32 {
  // CHECK: math.fma
  %y = math.fma %a, %a, %a : f32
  return %y : f32
}
