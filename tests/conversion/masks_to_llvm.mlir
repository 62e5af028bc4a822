// RUN: tercet-opt %s --convert-ternary-to-llvm | FileCheck %s

// The last 16 rows of a head whose vocabulary is no multiple of 16.

// CHECK-LABEL: llvm.func @tercet_tail(
// CHECK: %[[MASK:.+]] = llvm.icmp "sgt" %{{.+}}, %{{.+}} : vector<16xi32>
// CHECK: llvm.intr.masked.store %{{.+}}, %{{.+}}, %[[MASK]]
func.func @tail(%y: memref<199xf32>, %values: vector<16xf32>, %at: index) {
  %c199 = arith.constant 199 : index
  %rest = arith.subi %c199, %at : index
  %mask = vector.create_mask %rest : vector<16xi1>
  vector.maskedstore %y[%at], %mask, %values : memref<199xf32>, vector<16xi1>, vector<16xf32>
  return
}
