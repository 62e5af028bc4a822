// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tiny model after each phase, for a target with a dot product and for one
// without.
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=import" | FileCheck %s --check-prefix=IMPORT
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=fuse" | FileCheck %s --check-prefix=FUSE
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=quantise" | FileCheck %s --check-prefix=QUANTISE
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=select-layout" | FileCheck %s --check-prefix=LAYOUT
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=pack-weights" | FileCheck %s --check-prefix=PACK
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=bufferise" | FileCheck %s --check-prefix=BUFFERISE
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=plan-memory" | FileCheck %s --check-prefix=PLAN
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=outline" | FileCheck %s --check-prefix=OUTLINE
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=lower-kernels" | FileCheck %s --check-prefix=KERNELS
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=outline-parallel" | FileCheck %s --check-prefix=PARALLEL
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=lower-vectors" | FileCheck %s --check-prefix=VECTORS
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni" | FileCheck %s --check-prefixes=LLVM,LLVM-VNNI
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v2 max-step-tokens=4" | FileCheck %s --check-prefixes=LLVM,LLVM-V2
// RUN: tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni head=q6 compile-to=pack-weights" | FileCheck %s --check-prefix=HEAD
// RUN: not tercet-opt %S/Inputs/tiny.mlir --tercet-pipeline="compile-to=quantize" 2>&1 | FileCheck %s --check-prefix=UNKNOWN

// UNKNOWN: no phase is called 'quantize'

// IMPORT-COUNT-14: ternary.bit_linear
// IMPORT-NOT: ternary.bit_linear

// q, k, v of a layer, then o, gate and up, down.
// FUSE-COUNT-8: ternary.bit_linear
// FUSE-NOT: ternary.bit_linear

// QUANTISE-NOT: ternary.bit_linear
// QUANTISE-COUNT-8: ternary.quantize_activations

// LAYOUT-COUNT-8: ternary.matmul {{.*}}layout = #ternary.layout<i2
// LAYOUT: ternary.linear {{.*}}layout = #ternary.layout<bf16_pairs

// The head is packed once, for the embedding too.
// PACK: module attributes {{.*}}ternary.num_trits = 15360
// PACK-NOT: ternary.parameter
// PACK: ternary.embedding {{.*}}layout = #ternary.layout<bf16_pairs
// PACK-COUNT-8: ternary.packed_matmul <i2
// PACK: ternary.packed_linear <bf16_pairs

// A quantised head is a copy; the embedding reads its own rows.
// HEAD: ternary.embedding {{.*}}tensor<40x32xbf16>
// HEAD-NOT: ternary.packed_linear
// HEAD: ternary.quantize_wide group = 64
// HEAD: ternary.packed_quantized_linear <q6

// BUFFERISE-NOT: memref.copy
// BUFFERISE-NOT: tensor<

// PLAN: ternary.arena_size
// PLAN: func.func @step({{.*}}memref<128xi32>{{.*}}!llvm.ptr)
// PLAN-NOT: memref.alloc

// OUTLINE: func.func private @layer_0
// OUTLINE-COUNT-4: ternary.packed_matmul
// OUTLINE: func.func @step
// OUTLINE-COUNT-2: call @layer_0
// OUTLINE-NOT: ternary.packed_matmul

// KERNELS-NOT: ternary.packed_matmul
// KERNELS: scf.parallel
// KERNELS: ternary.dot
// KERNELS: func.func @dot_peak

// PARALLEL-NOT: scf.parallel
// PARALLEL: func.func private @layer_0_0
// PARALLEL: ternary.parallel_for @layer_0_0

// VECTORS-NOT: ternary.dot
// VECTORS: llvm.x86.avx512.vpdpbusd.512

// LLVM: llvm.func internal @layer_0_0
// LLVM-VNNI: llvm.x86.avx512.vpdpbusd.512
// LLVM-V2: llvm.x86.ssse3.pmadd.ub.sw.128
// LLVM-DAG: llvm.func @tercet_step
// LLVM-DAG: llvm.func @tercet_dot_peak
