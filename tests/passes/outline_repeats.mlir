// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --outline-repeats --split-input-file --allow-unregistered-dialect | FileCheck %s

// Two layers of two ops between an embedding and a head. Of each layer's four
// constants one is the same in both; two have the same values and share an
// argument.

// CHECK-LABEL: func private @layer_0(
// CHECK-SAME: %[[W:[^:]+]]: memref<1024xi8>, %[[X:[^:]+]]: memref<4x16xf32>, %[[AT:[^:]+]]: index, %[[LAYER:[^:]+]]: index) {
// CHECK-DAG: %[[NORM:.+]] = memref.view %[[W]][%[[AT]]][] : memref<1024xi8> to memref<16xf32>
// CHECK: ternary.rms_norm ins(%[[X]], %[[NORM]]
// CHECK-DAG: %[[C8:.+]] = arith.constant 8 : index
// CHECK-DAG: %[[AGAIN:.+]] = memref.view %[[W]][%[[AT]]][]
// CHECK: "test.effect"(%[[AGAIN]], %[[LAYER]], %[[C8]])
// CHECK: return

// CHECK-LABEL: func @step
// CHECK: "test.embedding"
// CHECK: %[[C64:.+]] = arith.constant 64 : index
// CHECK: %[[C0:.+]] = arith.constant 0 : index
// CHECK: call @layer_0(%arg0, %arg1, %[[C64]], %[[C0]])
// CHECK: %[[C128:.+]] = arith.constant 128 : index
// CHECK: %[[C1:.+]] = arith.constant 1 : index
// CHECK: call @layer_0(%arg0, %arg1, %[[C128]], %[[C1]])
// CHECK-NOT: memref.view
// CHECK: "test.head"
func.func @step(%w: memref<1024xi8>, %x: memref<4x16xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c8 = arith.constant 8 : index
  %c64 = arith.constant 64 : index
  %c128 = arith.constant 128 : index
  "test.embedding"(%x) : (memref<4x16xf32>) -> ()
  %w0 = memref.view %w[%c64][] : memref<1024xi8> to memref<16xf32>
  ternary.rms_norm ins(%x, %w0 : memref<4x16xf32>, memref<16xf32>)
                   outs(%x : memref<4x16xf32>) epsilon = 1.0e-5
  "test.effect"(%w0, %c0, %c8) : (memref<16xf32>, index, index) -> ()
  %w1 = memref.view %w[%c128][] : memref<1024xi8> to memref<16xf32>
  ternary.rms_norm ins(%x, %w1 : memref<4x16xf32>, memref<16xf32>)
                   outs(%x : memref<4x16xf32>) epsilon = 1.0e-5
  "test.effect"(%w1, %c1, %c8) : (memref<16xf32>, index, index) -> ()
  "test.head"(%x) : (memref<4x16xf32>) -> ()
  return
}

// -----

// Two kinds of blocks: two functions.

// CHECK-LABEL: func private @layer_0
// CHECK: "test.a"
// CHECK: "test.b"
// CHECK-LABEL: func private @layer_1
// CHECK: "test.c"
// CHECK: "test.d"
// CHECK-LABEL: func @step
// CHECK-COUNT-3: call @layer_0
// CHECK-COUNT-2: call @layer_1
// CHECK-NEXT: return
func.func @step(%x: memref<4x16xf32>) {
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.c"(%x) : (memref<4x16xf32>) -> ()
  "test.d"(%x) : (memref<4x16xf32>) -> ()
  "test.c"(%x) : (memref<4x16xf32>) -> ()
  "test.d"(%x) : (memref<4x16xf32>) -> ()
  return
}

// -----

// The shortest period: four equal layers are four calls, not two of two layers.

// CHECK-LABEL: func private @layer_0
// CHECK: "test.a"
// CHECK: "test.b"
// CHECK-NEXT: return
// CHECK-LABEL: func @step
// CHECK-COUNT-4: call @layer_0
// CHECK-NEXT: return
func.func @step(%x: memref<4x16xf32>) {
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  "test.a"(%x) : (memref<4x16xf32>) -> ()
  "test.b"(%x) : (memref<4x16xf32>) -> ()
  return
}

// -----

// Layers that differ in an attribute, in a float constant, in a body, or in
// which result they read are not the same.

// CHECK-NOT: @layer
// CHECK-LABEL: func @step
#map = affine_map<(d0) -> (d0)>
func.func @step(%x: memref<16xf32>, %y: memref<4x16xf32>) {
  %f0 = arith.constant 0.0 : f32
  %f1 = arith.constant 1.0 : f32
  "test.a"(%x) {kind = 0} : (memref<16xf32>) -> ()
  "test.b"(%x, %f0) : (memref<16xf32>, f32) -> ()
  "test.a"(%x) {kind = 1} : (memref<16xf32>) -> ()
  "test.b"(%x, %f1) : (memref<16xf32>, f32) -> ()
  "test.c"(%x) : (memref<16xf32>) -> ()
  linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]}
      ins(%x : memref<16xf32>) outs(%x : memref<16xf32>) {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.addf %a, %b : f32
    linalg.yield %0 : f32
  }
  "test.c"(%x) : (memref<16xf32>) -> ()
  linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel"]}
      ins(%x : memref<16xf32>) outs(%x : memref<16xf32>) {
  ^bb0(%a: f32, %b: f32):
    %0 = arith.mulf %a, %b : f32
    linalg.yield %0 : f32
  }
  %m0, %o0, %s0:2, %t0:2 = memref.extract_strided_metadata %y : memref<4x16xf32> -> memref<f32>, index, index, index, index, index
  "test.d"(%s0#0) : (index) -> ()
  "test.e"(%x) : (memref<16xf32>) -> ()
  "test.d"(%s0#1) : (index) -> ()
  "test.e"(%x) : (memref<16xf32>) -> ()
  return
}

// -----

// Equal bodies on different places are the same: a residual addition.

// CHECK-LABEL: func private @layer_0
// CHECK: linalg.add
// CHECK-LABEL: func @step
// CHECK-COUNT-2: call @layer_0
func.func @step(%arena: memref<1024xi8>) {
  %c0 = arith.constant 0 : index
  %c64 = arith.constant 64 : index
  %c128 = arith.constant 128 : index
  %x = memref.view %arena[%c0][] : memref<1024xi8> to memref<16xf32>
  %y = memref.view %arena[%c64][] : memref<1024xi8> to memref<16xf32>
  %z = memref.view %arena[%c128][] : memref<1024xi8> to memref<16xf32>
  "test.a"(%x) : (memref<16xf32>) -> ()
  linalg.add ins(%x, %y : memref<16xf32>, memref<16xf32>) outs(%y : memref<16xf32>)
  "test.a"(%y) : (memref<16xf32>) -> ()
  linalg.add ins(%y, %z : memref<16xf32>, memref<16xf32>) outs(%z : memref<16xf32>)
  return
}

// -----

// Nothing repeats, and without @step there is nothing to do.

// CHECK-LABEL: func @other
// CHECK-COUNT-4: "test.
func.func @other(%x: memref<16xf32>) {
  "test.a"(%x) : (memref<16xf32>) -> ()
  "test.b"(%x) : (memref<16xf32>) -> ()
  "test.a"(%x) : (memref<16xf32>) -> ()
  "test.b"(%x) : (memref<16xf32>) -> ()
  return
}
