// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --outline-parallel --split-input-file | FileCheck %s

// Views and constants are recomputed in the body; arguments and numbers are
// captured. Workers get the scratch of the body that needs most: 300 bytes.

// CHECK: module attributes {ternary.scratch_size = 300 : i64}

// CHECK-LABEL: func private @step_0
// CHECK-SAME: (%[[ARENA:[^:]+]]: memref<64xi8>, %[[N:[^:]+]]: index, %[[BEGIN:[^:]+]]: index, %[[END:[^:]+]]: index, %[[SCRATCH:[^:]+]]: memref<300xi8>)
// CHECK-DAG: %[[C8:.+]] = arith.constant 8 : index
// CHECK-DAG: %[[VIEW:.+]] = memref.view %[[ARENA]][%[[C8]]][%[[N]]]
// CHECK: scf.for %[[I:.+]] = %[[BEGIN]] to %[[END]] step %{{.+}} {
// CHECK: %[[MINE:.+]] = memref.view %[[SCRATCH]][%{{.+}}][] : memref<300xi8> to memref<64xf32>
// CHECK: memref.store %{{.+}}, %[[MINE]]
// CHECK: memref.store %{{.+}}, %[[VIEW]][%[[I]]]

// CHECK-LABEL: func private @step_1
// CHECK-SAME: %{{[^:]+}}: memref<1xi8>)
// CHECK: scf.for
// A loop in a loop runs inside its item.
// CHECK: scf.parallel

// CHECK-LABEL: func @step
// CHECK: ternary.parallel_for @step_0(%arg0, %[[COUNT:.+]]) items %[[COUNT]] work %[[WORK:.+]] pool %arg2
// CHECK: %[[UNKNOWN:.+]] = arith.constant -1
// CHECK: ternary.parallel_for @step_1({{.*}}) items %arg1 work %[[UNKNOWN]] pool %arg2
// CHECK-NOT: scf.parallel
// CHECK-NOT: worker_scratch
func.func @step(%arena: memref<64xi8>, %n: index, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c8 = arith.constant 8 : index
  %f = arith.constant 1.0 : f32
  %b = arith.constant 1 : i8
  %count = arith.divui %n, %c2 : index
  %view = memref.view %arena[%c8][%count] : memref<64xi8> to memref<?xf32>
  scf.parallel (%i) = (%c0) to (%count) step (%c1) {
    %scratch = ternary.worker_scratch : memref<64xf32>
    %bytes = ternary.worker_scratch : memref<300xi8>
    memref.store %f, %scratch[%c0] : memref<64xf32>
    memref.store %b, %bytes[%c0] : memref<300xi8>
    memref.store %f, %view[%i] : memref<?xf32>
  }
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.parallel (%j) = (%c0) to (%c2) step (%c1) {
      memref.store %f, %view[%j] : memref<?xf32>
    }
  }
  return
}

// -----

// No loop: nothing to do, and no scratch.

// CHECK: module attributes {ternary.scratch_size = 0 : i64}
func.func @step() {
  return
}

// -----

// The work of an item, in vector instructions: a loop, and two in each of 12
// trips; the same with as many trips as an argument says; unknown if that
// depends on the item.

// CHECK-LABEL: func @work(
// CHECK-SAME: %{{.+}}: memref<96xf32>, %[[N:[^:]+]]: index
// CHECK: %[[STATIC:.+]] = arith.constant 25 : index
// CHECK: ternary.parallel_for @work_0({{.*}}) items %[[N]] work %[[STATIC]] pool
// CHECK: %[[TRIPS:.+]] = arith.maxsi %[[N]], %{{.+}}
// CHECK: %[[INSIDE:.+]] = arith.muli %[[TRIPS]], %{{.+}}
// CHECK: %[[DYNAMIC:.+]] = arith.addi %[[INSIDE]], %{{.+}}
// CHECK: ternary.parallel_for @work_1({{.*}}) items %[[N]] work %[[DYNAMIC]] pool
// CHECK: %[[UNKNOWN:.+]] = arith.constant -1
// CHECK: ternary.parallel_for @work_2({{.*}}) items %[[N]] work %[[UNKNOWN]] pool
func.func @work(%x: memref<96xf32>, %n: index, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c96 = arith.constant 96 : index
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %k = %c0 to %c96 step %c8 {
      %v = vector.load %x[%k] : memref<96xf32>, vector<8xf32>
      vector.store %v, %x[%k] : memref<96xf32>, vector<8xf32>
    }
  }
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %k = %c0 to %n step %c1 {
      %v = memref.load %x[%k] : memref<96xf32>
      memref.store %v, %x[%i] : memref<96xf32>
    }
  }
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    scf.for %k = %c0 to %i step %c1 {
      %v = memref.load %x[%k] : memref<96xf32>
      memref.store %v, %x[%i] : memref<96xf32>
    }
  }
  return
}
