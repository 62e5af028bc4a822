// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --convert-ternary-to-llvm | FileCheck %s

!cache = !ternary.kv_cache<layers = 2, heads = 3, context = 64, head_dim = 16>

// What is public is exported with the runtime's prefix; everything else is
// internal. A memref is one pointer.

// CHECK: llvm.func internal @body(%{{[^:]+}}: !llvm.ptr, %{{[^:]+}}: i64, %{{[^:]+}}: i64, %{{[^:]+}}: i64, %{{[^:]+}}: !llvm.ptr)
// CHECK-SAME: no_unwind
func.func private @body(%data: memref<64xf32>, %n: index, %begin: index, %end: index,
                        %scratch: memref<1xf32>) {
  return
}

// CHECK: llvm.func @tercet_step(%[[DATA:[^:]+]]: !llvm.ptr, %[[CACHE:[^:]+]]: !llvm.ptr, %[[N:[^:]+]]: i64, %[[POOL:[^:]+]]: !llvm.ptr)
// CHECK-SAME: no_unwind
func.func @step(%data: memref<64xf32>, %cache: !cache, %n: index, %pool: !llvm.ptr) {
  // The captures are a struct on the stack, and the call names the trampoline.
  // CHECK: %[[SLOT:.+]] = llvm.alloca %{{.+}} x !llvm.struct<(ptr, i64)>
  // CHECK: %[[AT0:.+]] = llvm.getelementptr %[[SLOT]][0, 0]
  // CHECK: llvm.store %{{.+}}, %[[AT0]] : !llvm.ptr
  // CHECK: %[[AT1:.+]] = llvm.getelementptr %[[SLOT]][0, 1]
  // CHECK: llvm.store %[[N]], %[[AT1]] : i64
  // CHECK: %[[BODY:.+]] = llvm.mlir.addressof @body.items
  // CHECK: llvm.call @tercet_parallel_for(%[[POOL]], %[[BODY]], %[[SLOT]], %[[N]], %[[N]])
  ternary.parallel_for @body(%data, %n) items %n work %n pool %pool : !llvm.ptr, (memref<64xf32>, index)
  // A cache is its pointer; slots are 2 * 3 * 2 * 1024 floats apart.
  // CHECK: llvm.mlir.constant(12288 : index)
  // CHECK: llvm.load
  %memory = builtin.unrealized_conversion_cast %cache : !cache to memref<?x2x3x2x1024xf32>
  %c0 = arith.constant 0 : index
  %f = memref.load %memory[%n, %c0, %c0, %c0, %c0] : memref<?x2x3x2x1024xf32>
  memref.store %f, %data[%c0] : memref<64xf32>
  // CHECK: llvm.return
  return
}

// CHECK: llvm.func @tercet_again
func.func @again(%data: memref<64xf32>, %n: index, %pool: !llvm.ptr) {
  // CHECK: llvm.mlir.addressof @body.items
  ternary.parallel_for @body(%data, %n) items %n work %n pool %pool : !llvm.ptr, (memref<64xf32>, index)
  return
}

// One trampoline for both calls.
// CHECK: llvm.func internal @body.items(%[[CONTEXT:[^:]+]]: !llvm.ptr, %[[BEGIN:[^:]+]]: i64, %[[END:[^:]+]]: i64, %[[SCRATCH:[^:]+]]: !llvm.ptr)
// CHECK: %[[F0:.+]] = llvm.load %{{.+}} : !llvm.ptr -> !llvm.ptr
// CHECK: %[[F1:.+]] = llvm.load %{{.+}} : !llvm.ptr -> i64
// CHECK: llvm.call @body(%[[F0]], %[[F1]], %[[BEGIN]], %[[END]], %[[SCRATCH]])
// CHECK-NOT: @body.items(
