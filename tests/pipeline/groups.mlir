// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scales of groups through the phases.
// RUN: tercet-opt %S/Inputs/groups.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=fuse" | FileCheck %s --check-prefix=FUSE
// RUN: tercet-opt %S/Inputs/groups.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=quantise" | FileCheck %s --check-prefix=QUANTISE
// RUN: tercet-opt %S/Inputs/groups.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni+avx512vbmi compile-to=pack-weights" | FileCheck %s --check-prefix=PACK
// RUN: tercet-opt %S/Inputs/groups.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni compile-to=plan-memory" | FileCheck %s --check-prefix=PLAN
// RUN: tercet-opt %S/Inputs/groups.mlir --tercet-pipeline="target=x86-64-v4+avx512vnni" | FileCheck %s --check-prefix=LLVM

// FUSE: ternary.bit_linear group = 32 {{.*}} scales tensor<40x2xf32>, tensor<8x2xf32>, tensor<8x2xf32>)
// FUSE: ternary.bit_linear group = 32 {{.*}} scales tensor<200x2xf32>)
// FUSE: ternary.bit_linear group = 128 {{.*}} scales tensor<40x2xf32>)
// FUSE-NOT: ternary.bit_linear

// QUANTISE: ternary.quantize_activations group = 32 {{.*}} tensor<?x2xi32>
// QUANTISE: ternary.matmul group = 32 {{.*}} -> tensor<?x2x80xi32>
// QUANTISE: ternary.matmul group = 32 {{.*}} -> tensor<?x2x208xi32>
// QUANTISE: ternary.matmul group = 128 {{.*}} -> tensor<?x2x48xi32>

// PACK: ternary.packed_matmul <i2, {{.*}}> group = 32 {{.*}} tensor<5x2x16xf32>)
// PACK: ternary.packed_matmul <i2, {{.*}}> group = 32 {{.*}} tensor<13x2x16xf32>)
// PACK: ternary.packed_matmul <i2, {{.*}}> group = 128 {{.*}} tensor<3x2x16xf32>)

// PLAN-NOT: memref.alloc
// PLAN: ternary.packed_matmul <i2, {{.*}}> group = 32 {{.*}}memref<5x2x16xf32

// LLVM: llvm.x86.avx512.vpdpbusd.512
