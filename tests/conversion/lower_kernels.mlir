// RUN: tercet-opt %s --lower-kernels --split-input-file | FileCheck %s
// RUN: tercet-opt %s --lower-kernels=max-dot-code=128 --split-input-file \
// RUN:   | FileCheck %s --check-prefix=SATURATES
// RUN: tercet-opt %s --lower-kernels=prefetches-keys --split-input-file \
// RUN:   | FileCheck %s --check-prefix=FETCHES

// One parallel loop over tokens; a chain of squares in 16 lanes, and 8 lanes of
// tail. Nothing of the row's end is read or written.

// CHECK-LABEL: func @rms_norm
// CHECK-SAME: %[[X:[^:]+]]: memref<?x40xf32, strided<[48, 1]>>
func.func @rms_norm(%x: memref<?x40xf32, strided<[48, 1]>>, %w: memref<40xf32>,
                    %y: memref<?x40xf32, strided<[48, 1]>>) {
  // CHECK: %[[N:.+]] = memref.dim %[[X]]
  // CHECK: scf.parallel (%[[TOKEN:.+]]) = (%{{.+}}) to (%[[N]])
  // CHECK: scf.for
  // CHECK: %[[V:.+]] = vector.load %[[X]][%[[TOKEN]], %{{.+}}] : {{.*}}, vector<16xf32>
  // CHECK: math.fma %[[V]], %[[V]], %{{.+}} : vector<16xf32>
  // CHECK: loop_annotation = #[[NO_UNROLL:.+]]}
  // CHECK: vector.constant_mask [8]
  // CHECK: vector.maskedload %[[X]]
  // CHECK: math.sqrt
  // CHECK: vector.store
  // CHECK: vector.maskedstore
  // CHECK-NOT: ternary.
  ternary.rms_norm ins(%x, %w : memref<?x40xf32, strided<[48, 1]>>, memref<40xf32>)
                   outs(%y : memref<?x40xf32, strided<[48, 1]>>) epsilon = 1.0e-05
  return
}

// -----

// Columns of q beyond x's are zeros.

// CHECK-LABEL: func @quantize_activations
func.func @quantize_activations(%x: memref<?x16xf32>, %q: memref<?x32xi8>,
                                %scale: memref<?xf32>, %sum: memref<?xi32>) {
  // CHECK: scf.parallel
  // CHECK: math.absf
  // CHECK: math.roundeven
  // CHECK: arith.fptosi
  // CHECK: vector.store %{{.+}}, %arg1[%{{.+}}, %{{.+}}] : memref<?x32xi8>, vector<16xi8>
  // CHECK: vector.reduction <add>
  // CHECK: memref.store %{{.+}}, %arg3
  // CHECK: vector.store %{{.+}}, %arg1[%{{.+}}, %{{.+}}] : memref<?x32xi8>, vector<16xi8>
  // CHECK: memref.store %{{.+}}, %arg2
  ternary.quantize_activations ins(%x : memref<?x16xf32>)
    outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  return
}

// -----

// One loop over the rows: all of a row's kernels, with their result between
// them in memory of the worker.

// CHECK-LABEL: func @fused_rows
func.func @fused_rows(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                      %scale: memref<?xf32>, %sum: memref<?xi32>) {
  // CHECK: %[[N:.+]] = memref.dim %arg0
  // CHECK: scf.parallel (%[[ROW:.+]]) = (%{{.+}}) to (%[[N]])
  // CHECK: %[[BYTES:.+]] = ternary.worker_scratch : memref<128xi8>
  // CHECK: %[[VIEW:.+]] = memref.view %[[BYTES]]
  // CHECK: %[[Y:.+]] = memref.reinterpret_cast %[[VIEW]] to offset: [0], sizes: [%[[N]], 32], strides: [0, 1]
  // CHECK: vector.load %arg0[%[[ROW]],
  // CHECK: math.sqrt
  // CHECK: vector.store %{{.+}}, %[[Y]][%[[ROW]],
  // CHECK: vector.load %[[Y]][%[[ROW]],
  // CHECK: math.roundeven
  // CHECK: vector.store %{{.+}}, %arg2[%[[ROW]],
  // CHECK-NOT: scf.parallel
  ternary.fused_rows ins(%x, %w : memref<?x32xf32>, memref<32xf32>)
      outs(%q, %scale, %sum : memref<?x32xi8>, memref<?xf32>, memref<?xi32>) {
  ^bb0(%x0: memref<?x32xf32>, %w0: memref<32xf32>, %q0: memref<?x32xi8>,
       %scale0: memref<?xf32>, %sum0: memref<?xi32>,
       %y: memref<?x32xf32, strided<[0, 1]>>):
    ternary.rms_norm ins(%x0, %w0 : memref<?x32xf32>, memref<32xf32>)
        outs(%y : memref<?x32xf32, strided<[0, 1]>>) epsilon = 1.0e-5
    ternary.quantize_activations ins(%y : memref<?x32xf32, strided<[0, 1]>>)
        outs(%q0, %scale0, %sum0 : memref<?x32xi8>, memref<?xf32>, memref<?xi32>)
  }
  return
}

// -----

// CHECK-LABEL: func @rope
func.func @rope(%x: memref<?x128xf32>, %positions: memref<?xi32>,
                %table: memref<64x64xf32>, %y: memref<?x128xf32>) {
  // CHECK: scf.parallel
  // CHECK: memref.load %arg1
  // CHECK-COUNT-2: vector.load %arg2
  // CHECK: scf.for
  // CHECK: arith.negf
  // CHECK: math.fma
  ternary.rope ins(%x, %positions, %table : memref<?x128xf32>, memref<?xi32>, memref<64x64xf32>)
               outs(%y : memref<?x128xf32>)
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 100, head_dim = 32>

// The chains of values wait in outs between blocks of keys; LLVM must not move
// them to registers.
// CHECK: #llvm.loop_licm<disable = true>

// The cache is one memref of whole blocks of 64 keys. Scratch holds a row of
// scores and 16 more floats for each query head of a group and each of 8 tokens.

// CHECK-LABEL: func @attention
// FETCHES-LABEL: func @attention
func.func @attention(%q: memref<?x128xf32>, %kv: memref<?x64xf32>, %positions: memref<?xi32>,
                     %slots: memref<?xi32>, %cache: !cache, %layer: index,
                     %y: memref<?x128xf32>) {
  // CHECK: builtin.unrealized_conversion_cast %{{.+}} to memref<?x36864xf32>
  // CHECK: scf.parallel
  // CHECK: memref.store %{{.+}}, %{{.+}} : memref<?x36864xf32>
  // CHECK: vector.store %{{.+}}, %{{.+}} : memref<?x36864xf32>, vector<16xf32>
  ternary.kv_update %kv, %kv, %positions, %slots into %cache layer %layer
    : memref<?x64xf32>, memref<?x64xf32>, memref<?xi32>, memref<?xi32>, !cache
  // CHECK: scf.parallel
  // CHECK: ternary.worker_scratch : memref<2048xf32>
  // Two heads and eight vectors of keys: sixteen chains.
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK-NOT: memref.prefetch
  // CHECK-COUNT-16: math.fma
  // Two blocks of the cache ahead.
  // FETCHES: arith.constant 36864 : index
  // FETCHES-COUNT-8: memref.prefetch %{{.+}}, read, locality<2>, data : memref<?x36864xf32>
  // FETCHES: math.fma
  // CHECK: scf.for
  // CHECK: math.roundeven
  // CHECK-NOT: ternary.attention
  ternary.attention ins(%q, %positions, %slots, %cache layer %layer
                        : memref<?x128xf32>, memref<?xi32>, memref<?xi32>, !cache)
                    outs(%y : memref<?x128xf32>) scale = 0.125
  return
}

// -----

!cache = !ternary.kv_cache<layers = 2, heads = 2, context = 100, head_dim = 30, element = int8>

// Blocks of 64 rows of 32 codes and a scale. Scores are integer sums, of which
// a saturating dot product makes two.

// CHECK-LABEL: func @int8_attention
// SATURATES-LABEL: func @int8_attention
// FETCHES-LABEL: func @int8_attention
func.func @int8_attention(%q: memref<?x120xf32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                          %cache: !cache, %layer: index, %y: memref<?x120xf32>) {
  // CHECK: builtin.unrealized_conversion_cast %{{.+}} to memref<?x41472xi8>
  // CHECK: ternary.worker_scratch : memref<2304xf32>
  // CHECK: arith.fptosi
  // CHECK: scf.for
  // CHECK-COUNT-16: ternary.dot
  // CHECK-NOT: ternary.dot
  // CHECK: arith.sitofp
  // SATURATES-COUNT-32: ternary.dot
  // SATURATES-NOT: ternary.dot
  // SATURATES: arith.sitofp
  // A line of each vector of keys, then of scales of keys and of values.
  // FETCHES: ternary.dot
  // FETCHES: scf.yield
  // FETCHES-COUNT-16: memref.prefetch %{{.+}}, read, locality<2>, data : memref<?x41472xi8>
  // FETCHES: arith.sitofp
  ternary.attention ins(%q, %positions, %slots, %cache layer %layer
                        : memref<?x120xf32>, memref<?xi32>, memref<?xi32>, !cache)
                    outs(%y : memref<?x120xf32>) scale = 0.125
  return
}

// -----

// CHECK-LABEL: func @gated_activation
func.func @gated_activation(%gate: memref<?x32xf32>, %up: memref<?x32xf32>,
                            %y: memref<?x32xf32>) {
  // CHECK: scf.parallel
  // CHECK: arith.cmpf ogt
  // CHECK: arith.select
  ternary.gated_activation relu2 ins(%gate, %up : memref<?x32xf32>, memref<?x32xf32>)
                                 outs(%y : memref<?x32xf32>)
  // CHECK: scf.parallel
  // CHECK: arith.shli
  // CHECK: arith.divf
  ternary.gated_activation silu ins(%gate, %up : memref<?x32xf32>, memref<?x32xf32>)
                                outs(%y : memref<?x32xf32>)
  return
}

// -----

// CHECK-LABEL: func @rows
func.func @rows(%x: memref<?x32xf32>, %rows: memref<?xi32>, %table: memref<10x32xbf16>,
                %y: memref<?x32xf32>) {
  // CHECK: memref.dim %arg1
  // CHECK: scf.parallel
  ternary.gather_rows ins(%x, %rows : memref<?x32xf32>, memref<?xi32>)
                      outs(%y : memref<?x32xf32>)
  // CHECK: scf.parallel
  // CHECK: arith.extf %{{.+}} : vector<16xbf16> to vector<16xf32>
  ternary.embedding ins(%rows, %table : memref<?xi32>, memref<10x32xbf16>)
                    outs(%y : memref<?x32xf32>)
  // CHECK: scf.parallel
  // CHECK: arith.addf %{{.+}}, %{{.+}} : vector<16xf32>
  linalg.add ins(%x, %x : memref<?x32xf32>, memref<?x32xf32>) outs(%y : memref<?x32xf32>)
  return
}

// -----

// Rows in lanes, tiles as items; blocks of four tokens, of two, then single
// ones. The last tile has 36 rows.

// CHECK-LABEL: func @packed_linear
func.func @packed_linear(%x: memref<?x32xf32>, %w: memref<8192xi8>, %y: memref<?x100xf32>) {
  // CHECK: scf.parallel (%{{.+}}) = (%{{.+}}) to (%c2
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK-COUNT-32: math.fma
  // CHECK: vector.create_mask
  // CHECK: vector.maskedstore
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK-COUNT-16: math.fma
  // CHECK: scf.for
  // CHECK: scf.for
  // CHECK-COUNT-8: math.fma
  ternary.packed_linear <bf16_pairs, tile_rows = 64, lanes = 16, unroll = 1, tokens = 4, prefetch = 0>
    ins(%x, %w : memref<?x32xf32>, memref<8192xi8>) outs(%y : memref<?x100xf32>)
  return
}

// -----

// CHECK-LABEL: func @linear
func.func @linear(%x: memref<?x32xf32>, %w: memref<48x32xf16>, %y: memref<?x48xf32>) {
  // CHECK: scf.parallel (%{{.+}}) = (%{{.+}}) to (%c3
  // CHECK-COUNT-16: memref.load %arg1
  // CHECK: vector.from_elements
  ternary.linear ins(%x, %w : memref<?x32xf32>, memref<48x32xf16>) outs(%y : memref<?x48xf32>)
  return
}

// -----

// Tensors are left alone: lower-kernels runs after bufferisation.

// CHECK-LABEL: func @tensor
func.func @tensor(%x: tensor<?x32xf32>, %rows: tensor<?xi32>, %y: tensor<?x32xf32>) -> tensor<?x32xf32> {
  // CHECK: ternary.gather_rows
  %0 = ternary.gather_rows ins(%x, %rows : tensor<?x32xf32>, tensor<?xi32>)
                           outs(%y : tensor<?x32xf32>) -> tensor<?x32xf32>
  return %0 : tensor<?x32xf32>
}
