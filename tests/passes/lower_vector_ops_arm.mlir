// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64 | FileCheck %s --check-prefixes=CHECK,NEON
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64+dotprod | FileCheck %s --check-prefixes=CHECK,SDOT

// Fields of two vectors: one is inserted above the other.
// CHECK-LABEL: func @insert_above
func.func @insert_above(%v: vector<16xi8>, %w: vector<16xi8>) -> vector<16xi8> {
  // SDOT-NOT: arith.shli
  // SDOT: %[[BOTH:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.vsli.v16i8"(%arg0, %arg1, %c4_i32)
  // SDOT: %[[CODES:.+]] = arith.andi %[[BOTH]], %{{.+}} : vector<16xi8>
  // SDOT: return %[[CODES]]
  // NEON: %[[V:.+]] = vector.shuffle %arg0, %arg0 [0, 2,
  // NEON: %[[W:.+]] = vector.shuffle %arg1, %arg1 [0, 2,
  // NEON: %[[BOTH:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.vsli.v16i8"(%[[V]], %[[W]], %c4_i32)
  // NEON: %[[CODES:.+]] = arith.andi %[[BOTH]]
  // NEON: %[[Y:.+]] = vector.shuffle %[[CODES]], %[[CODES]] [0, 8,
  // NEON: return %[[Y]]
  %c4 = arith.constant dense<4> : vector<16xi8>
  %c15 = arith.constant dense<15> : vector<16xi8>
  %c48 = arith.constant dense<48> : vector<16xi8>
  %low = arith.andi %v, %c15 : vector<16xi8>
  %shifted = arith.shli %w, %c4 : vector<16xi8>
  %high = arith.andi %shifted, %c48 : vector<16xi8>
  %codes = arith.ori %low, %high : vector<16xi8>
  return %codes : vector<16xi8>
}

// Or below it; of two bits and four nothing else is left in the byte.
// CHECK-LABEL: func @insert_below
func.func @insert_below(%v: vector<16xi8>, %w: vector<16xi8>) -> vector<16xi8> {
  // SDOT: %[[HIGH:.+]] = arith.shrui %arg1
  // SDOT: %[[CODES:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.vsri.v16i8"(%[[HIGH]], %arg0, %c4_i32)
  // SDOT-SAME: llvm.range = #llvm.constant_range<i8, 0, 64>
  // SDOT: return %[[CODES]]
  %c2 = arith.constant dense<2> : vector<16xi8>
  %c4 = arith.constant dense<4> : vector<16xi8>
  %c15 = arith.constant dense<15> : vector<16xi8>
  %c48 = arith.constant dense<48> : vector<16xi8>
  %nibble = arith.shrui %v, %c4 : vector<16xi8>
  %low = arith.andi %nibble, %c15 : vector<16xi8>
  %shifted = arith.shrui %w, %c2 : vector<16xi8>
  %high = arith.andi %shifted, %c48 : vector<16xi8>
  %codes = arith.ori %low, %high : vector<16xi8>
  return %codes : vector<16xi8>
}

// Nothing is shifted. What overlaps is no field.
// CHECK-LABEL: func @no_insertion
func.func @no_insertion(%v: vector<16xi8>, %w: vector<16xi8>) -> (vector<16xi8>, vector<16xi8>) {
  // CHECK-NOT: vsli
  // CHECK-NOT: vsri
  // NEON: arith.addi
  // SDOT: arith.ori
  // CHECK: arith.ori
  %c4 = arith.constant dense<4> : vector<16xi8>
  %c15 = arith.constant dense<15> : vector<16xi8>
  %c24 = arith.constant dense<24> : vector<16xi8>
  %c48 = arith.constant dense<48> : vector<16xi8>
  %low = arith.andi %v, %c15 : vector<16xi8>
  %high = arith.andi %w, %c48 : vector<16xi8>
  %codes = arith.ori %low, %high : vector<16xi8>
  %moved = arith.shli %w, %c4 : vector<16xi8>
  %overlapping = arith.andi %moved, %c24 : vector<16xi8>
  %mixed = arith.ori %low, %overlapping : vector<16xi8>
  return %codes, %mixed : vector<16xi8>, vector<16xi8>
}

// Codes of six bits: two products in 16 bits.
// CHECK-LABEL: func @dots_of_six_bits
func.func @dots_of_six_bits(%acc: vector<4xi32>, %v: vector<16xi8>, %w: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // NEON-COUNT-4: "llvm.aarch64.neon.smull.v8i16"
  // NEON-COUNT-1: "llvm.aarch64.neon.saddlp.v4i32.v8i16"
  // NEON-NOT: saddlp
  %c63 = arith.constant dense<63> : vector<16xi8>
  %a = arith.andi %v, %c63 : vector<16xi8>
  %b = arith.andi %w, %c63 : vector<16xi8>
  %first = ternary.dot %acc, %a, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  %second = ternary.dot %first, %b, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %second : vector<4xi32>
}

// Of seven bits they may not fit.
// CHECK-LABEL: func @dots_of_seven_bits
func.func @dots_of_seven_bits(%acc: vector<4xi32>, %v: vector<16xi8>, %w: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // NEON-COUNT-2: "llvm.aarch64.neon.saddlp.v4i32.v8i16"
  %c127 = arith.constant dense<127> : vector<16xi8>
  %c63 = arith.constant dense<63> : vector<16xi8>
  %a = arith.andi %v, %c127 : vector<16xi8>
  %b = arith.andi %w, %c63 : vector<16xi8>
  %first = ternary.dot %acc, %a, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  %second = ternary.dot %first, %b, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %second : vector<4xi32>
}

// The largest magnitude.
// CHECK-LABEL: func @largest
func.func @largest(%x: memref<64xf32>, %init: vector<4xf32>) -> (vector<4xf32>, vector<4xf32>) {
  // CHECK: scf.for
  // CHECK: %[[A:.+]] = math.absf
  // CHECK: arith.maxnumf %[[A]], %
  // Of two zeros with different signs the select may leave the other.
  // CHECK: scf.for
  // CHECK-NOT: arith.maxnumf
  // CHECK: arith.select
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %c64 = arith.constant 64 : index
  %zero = arith.constant dense<0.0> : vector<4xf32>
  %y = scf.for %i = %c0 to %c64 step %c4 iter_args(%carried = %zero) -> vector<4xf32> {
    %v = vector.load %x[%i] : memref<64xf32>, vector<4xf32>
    %a = math.absf %v : vector<4xf32>
    %greater = arith.cmpf ogt, %a, %carried : vector<4xf32>
    %max = arith.select %greater, %a, %carried : vector<4xi1>, vector<4xf32>
    scf.yield %max : vector<4xf32>
  }
  %z = scf.for %i = %c0 to %c64 step %c4 iter_args(%carried = %init) -> vector<4xf32> {
    %v = vector.load %x[%i] : memref<64xf32>, vector<4xf32>
    %a = math.absf %v : vector<4xf32>
    %greater = arith.cmpf ogt, %a, %carried : vector<4xf32>
    %max = arith.select %greater, %a, %carried : vector<4xi1>, vector<4xf32>
    scf.yield %max : vector<4xf32>
  }
  return %y, %z : vector<4xf32>, vector<4xf32>
}

// A register at a time.
// CHECK-LABEL: func @copy
func.func @copy(%x: memref<2x64xf32>, %y: memref<2x64xf32>, %i: index, %j: index) {
  // CHECK: vector.load %arg0[%arg2, %{{.+}}] : memref<2x64xf32>, vector<4xf32>
  // CHECK-COUNT-3: vector.load {{.+}} vector<4xf32>
  // CHECK-COUNT-4: vector.store {{.+}} vector<4xf32>
  // CHECK-NOT: vector.store
  %v = vector.load %x[%i, %j] : memref<2x64xf32>, vector<16xf32>
  vector.store %v, %y[%i, %j] : memref<2x64xf32>, vector<16xf32>
  return
}
