// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --outline-parallel=separates-kinds | FileCheck %s
// RUN: tercet-opt %s --outline-parallel | FileCheck %s --check-prefix=TOGETHER

// Items below 10 and the others, whatever range of them a worker gets.

// CHECK-LABEL: func private @step_0(
// CHECK-SAME: %[[X:[^:]+]]: memref<64xf32>, %[[BEGIN:[^:]+]]: index, %[[END:[^:]+]]: index
// CHECK-DAG: %[[COUNT:.+]] = arith.constant 10
// CHECK-DAG: %[[FIRST_END:.+]] = arith.minsi %[[END]], %[[COUNT]]
// CHECK-DAG: %[[SECOND_BEGIN:.+]] = arith.maxsi %[[BEGIN]], %[[COUNT]]
// CHECK: scf.for %[[I:.+]] = %[[BEGIN]] to %[[FIRST_END]] step
// CHECK-NOT: scf.if
// CHECK: memref.store %{{.+}}, %[[X]][%[[I]]]
// CHECK: }
// CHECK: scf.for %[[J:.+]] = %[[SECOND_BEGIN]] to %[[END]] step
// CHECK-NOT: scf.if
// CHECK: %[[NUMBER:.+]] = arith.subi %[[J]], %[[COUNT]]
// CHECK: memref.store %{{.+}}, %[[X]][%[[NUMBER]]]
// CHECK: }
// CHECK: return

// TOGETHER-LABEL: func private @step_0(
// TOGETHER: scf.for
// TOGETHER: scf.if
// TOGETHER-NOT: scf.for
// TOGETHER: return
func.func @step(%x: memref<64xf32>, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c10 = arith.constant 10 : index
  %c14 = arith.constant 14 : index
  %one = arith.constant 1.0 : f32
  %two = arith.constant 2.0 : f32
  scf.parallel (%i) = (%c0) to (%c14) step (%c1) {
    %is_first = arith.cmpi ult, %i, %c10 : index
    scf.if %is_first {
      memref.store %one, %x[%i] : memref<64xf32>
    } else {
      %number = arith.subi %i, %c10 : index
      memref.store %two, %x[%number] : memref<64xf32>
    }
  }
  return
}

// What follows the choice, or happens before it, is of all items: one loop.

// CHECK-LABEL: func private @others_0(
// CHECK: scf.for
// CHECK: scf.if
// CHECK-NOT: scf.for
// CHECK: return
// CHECK-LABEL: func private @others_1(
// CHECK: scf.for
// CHECK: scf.if
// CHECK-NOT: scf.for
// CHECK: return
func.func @others(%x: memref<64xf32>, %pool: !llvm.ptr) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c10 = arith.constant 10 : index
  %c14 = arith.constant 14 : index
  %one = arith.constant 1.0 : f32
  %two = arith.constant 2.0 : f32
  scf.parallel (%i) = (%c0) to (%c14) step (%c1) {
    %is_first = arith.cmpi ult, %i, %c10 : index
    scf.if %is_first {
      memref.store %one, %x[%i] : memref<64xf32>
    } else {
      memref.store %two, %x[%i] : memref<64xf32>
    }
    memref.store %two, %x[%c0] : memref<64xf32>
  }
  scf.parallel (%i) = (%c0) to (%c14) step (%c1) {
    memref.store %two, %x[%c0] : memref<64xf32>
    %is_first = arith.cmpi ult, %i, %c10 : index
    scf.if %is_first {
      memref.store %one, %x[%i] : memref<64xf32>
    } else {
      memref.store %two, %x[%i] : memref<64xf32>
    }
  }
  return
}
