// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --fuse-rows --split-input-file --allow-unregistered-dialect | FileCheck %s

// Gate, norm and quantisation: one row of a worker, which the norm works on in
// place, and no buffer for what is between them.

// CHECK-LABEL: func.func @feed_forward
// CHECK-SAME: %[[GATE:[^:]+]]: memref<?x48xf32, strided<{{[^>]+}}>>, %[[UP:[^:]+]]: memref<?x48xf32, strided<{{[^>]+}}>>, %[[W:[^:]+]]: memref<48xf32>,
// CHECK-SAME: %[[Q:[^:]+]]: memref<?x48xi8>, %[[SCALE:[^:]+]]: memref<?xf32>, %[[SUM:[^:]+]]: memref<?xi32>
// CHECK-NOT: memref.alloc
// CHECK: ternary.fused_rows ins(%[[GATE]], %[[UP]], %[[W]] : {{.*}}) outs(%[[Q]], %[[SCALE]], %[[SUM]] :
// CHECK-NEXT: ^bb0(%[[GATE0:[^:]+]]: {{[^%]+}}, %[[UP0:[^:]+]]: {{[^%]+}}, %[[W0:[^:]+]]: memref<48xf32>, %[[Q0:[^:]+]]: memref<?x48xi8>, {{.*}}, %[[ROW:[^:]+]]: memref<?x48xf32, strided<[0, 1]>>):
// CHECK-NEXT: ternary.gated_activation relu2 ins(%[[GATE0]], %[[UP0]] : {{.*}}) outs(%[[ROW]] :
// CHECK-NEXT: ternary.rms_norm ins(%[[ROW]], %[[W0]] : {{.*}}) outs(%[[ROW]] :
// CHECK-NEXT: ternary.quantize_activations ins(%[[ROW]] : {{.*}}) outs(%[[Q0]],
// CHECK-NEXT: }
// CHECK-NEXT: "test.use"(%[[Q]])
!half = memref<?x48xf32, strided<[96, 1], offset: ?>>
func.func @feed_forward(%gate: !half, %up: !half, %w: memref<48xf32>, %q: memref<?x48xi8>,
                        %scale: memref<?xf32>, %sum: memref<?xi32>, %n: index) {
  %h = memref.alloc(%n) : memref<?x48xf32>
  ternary.gated_activation relu2 ins(%gate, %up : !half, !half) outs(%h : memref<?x48xf32>)
  %y = memref.alloc(%n) : memref<?x48xf32>
  ternary.rms_norm ins(%h, %w : memref<?x48xf32>, memref<48xf32>)
      outs(%y : memref<?x48xf32>) epsilon = 1.0e-5
  ternary.quantize_activations ins(%y : memref<?x48xf32>)
      outs(%q, %scale, %sum : memref<?x48xi8>, memref<?xf32>, memref<?xi32>)
  "test.use"(%q) : (memref<?x48xi8>) -> ()
  return
}

// -----

// What something else reads stays a buffer.

// CHECK-LABEL: func.func @read_later
// CHECK: %[[Y:.+]] = memref.alloc
// CHECK: ternary.fused_rows ins(%{{.*}}, %{{.*}} : {{.*}}) outs(%[[Y]], %{{.*}}, %{{.*}}, %{{.*}} :
// CHECK: "test.use"(%[[Y]])
func.func @read_later(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                      %scale: memref<?xf32>, %sum: memref<?xi32>, %n: index) {
  %y = memref.alloc(%n) : memref<?x32xf32>
  ternary.rms_norm ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%y : memref<?x32xf32>) epsilon = 1.0e-5
  ternary.quantize_activations ins(%y : memref<?x32xf32>)
      outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  "test.use"(%y) : (memref<?x32xf32>) -> ()
  return
}

// -----

// Unless that overwrites it first: bufferisation lets ops share a buffer.

// CHECK-LABEL: func.func @overwritten_later
// CHECK: %[[Y:.+]] = memref.alloc
// CHECK: ternary.fused_rows ins(%{{.*}}, %{{.*}} : {{.*}}) outs(%{{.*}}, %{{.*}}, %{{.*}} : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
// CHECK: ternary.gated_activation {{.*}} outs(%[[Y]] :
func.func @overwritten_later(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                             %scale: memref<?xf32>, %sum: memref<?xi32>, %n: index) {
  %y = memref.alloc(%n) : memref<?x32xf32>
  ternary.rms_norm ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%y : memref<?x32xf32>) epsilon = 1.0e-5
  ternary.quantize_activations ins(%y : memref<?x32xf32>)
      outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  ternary.gated_activation relu2 ins(%x, %x : memref<?x32xf32>, memref<?x32xf32>)
      outs(%y : memref<?x32xf32>)
  "test.use"(%y) : (memref<?x32xf32>) -> ()
  return
}

// -----

// A view of it may be read by anybody.

// CHECK-LABEL: func.func @viewed
// CHECK: %[[Y:.+]] = memref.alloc
// CHECK: ternary.fused_rows ins(%{{.*}}) outs(%[[Y]], %{{.*}}, %{{.*}}, %{{.*}} :
func.func @viewed(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                  %scale: memref<?xf32>, %sum: memref<?xi32>, %n: index) {
  %y = memref.alloc(%n) : memref<?x32xf32>
  %half = memref.subview %y[0, 0] [%n, 16] [1, 1] : memref<?x32xf32> to memref<?x16xf32, strided<[32, 1]>>
  ternary.rms_norm ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%y : memref<?x32xf32>) epsilon = 1.0e-5
  ternary.quantize_activations ins(%y : memref<?x32xf32>)
      outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  "test.use"(%half) : (memref<?x16xf32, strided<[32, 1]>>) -> ()
  return
}

// -----

// Effects between two ops, and ops of different rows, are not fused.

// CHECK-LABEL: func.func @apart
// CHECK-NOT: fused_rows
// CHECK: return
func.func @apart(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                 %scale: memref<?xf32>, %sum: memref<?xi32>, %n: index) {
  %y = memref.alloc(%n) : memref<?x32xf32>
  ternary.rms_norm ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%y : memref<?x32xf32>) epsilon = 1.0e-5
  "test.effect"(%y) : (memref<?x32xf32>) -> ()
  ternary.quantize_activations ins(%y : memref<?x32xf32>)
      outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  %z = memref.alloc(%n) : memref<?x32xf32>
  ternary.rms_norm ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%z : memref<?x32xf32>) epsilon = 1.0e-5
  return
}
