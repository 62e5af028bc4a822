// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --plan-memory --verify-diagnostics --split-input-file

// expected-error @+1 {{expected a function @step}}
module {}

// -----

// expected-error @+1 {{expected the signature of a language model's step}}
func.func @step(%tokens: memref<?xi32>) -> memref<?x24xf32> {
  %c0 = arith.constant 0 : index
  %y = memref.alloc(%c0) : memref<?x24xf32>
  return %y : memref<?x24xf32>
}

// -----

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>

// Tensors: bufferisation did not run.
// expected-error @+1 {{expected the signature of a language model's step}}
func.func @step(%tokens: tensor<?xi32>, %positions: tensor<?xi32>, %slots: tensor<?xi32>,
                %rows: tensor<?xi32>, %cache: !cache) -> tensor<?xi32> {
  return %tokens : tensor<?xi32>
}

// -----

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>

// What the caller gets is written where the caller wants it: no view, no argument.
// expected-error @+1 {{expected to return a buffer of its own}}
func.func @step(%tokens: memref<?xi32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                %rows: memref<?xi32>, %cache: !cache) -> memref<?xi32> {
  return %tokens : memref<?xi32>
}

// -----

!cache = !ternary.kv_cache<layers = 1, heads = 1, context = 64, head_dim = 16>
func.func @step(%tokens: memref<?xi32>, %positions: memref<?xi32>, %slots: memref<?xi32>,
                %rows: memref<?xi32>, %cache: !cache) -> memref<?x8xf32> {
  %c4 = arith.constant 4 : index
  %y = memref.alloc(%c4) : memref<?x8xf32>
  return %y : memref<?x8xf32>
}
// expected-error @+1 {{expected the signature of a language model's head_rows}}
func.func @head_rows(%x: memref<?x8xf32>, %y: memref<?x40xf32>) -> memref<?x40xf32> {
  return %y : memref<?x40xf32>
}
