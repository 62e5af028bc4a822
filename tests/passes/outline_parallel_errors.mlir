// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --outline-parallel --verify-diagnostics --split-input-file

func.func @no_pool(%n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // expected-error @+1 {{expected a function with the thread pool as an argument}}
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
  }
  return
}

// -----

func.func @not_from_zero(%n: index, %pool: !llvm.ptr) {
  %c1 = arith.constant 1 : index
  // expected-error @+1 {{expected items 0 to n, one by one}}
  scf.parallel (%i) = (%c1) to (%n) step (%c1) {
  }
  return
}

// -----

func.func @two_by_two(%n: index, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  // expected-error @+1 {{expected items 0 to n, one by one}}
  scf.parallel (%i) = (%c0) to (%n) step (%c2) {
  }
  return
}

// -----

func.func @two_dimensions(%n: index, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // expected-error @+1 {{expected items 0 to n, one by one}}
  scf.parallel (%i, %j) = (%c0, %c0) to (%n, %n) step (%c1, %c1) {
  }
  return
}

// -----

func.func @reduction(%n: index, %pool: !llvm.ptr) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %f = arith.constant 1.0 : f32
  // expected-error @+1 {{expected items 0 to n, one by one}}
  %sum = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%f) -> f32 {
    scf.reduce(%f : f32) {
    ^bb0(%a: f32, %b: f32):
      %c = arith.addf %a, %b : f32
      scf.reduce.return %c : f32
    }
  }
  return %sum : f32
}
