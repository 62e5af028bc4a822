// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --add-dot-peak=target=x86-64-v4+avx512vnni | FileCheck %s -DBYTES=64 -DLANES=16 -DPRODUCTS=896
// RUN: tercet-opt %s --add-dot-peak=target=x86-64-v3+avxvnni | FileCheck %s -DBYTES=32 -DLANES=8 -DPRODUCTS=448
// RUN: tercet-opt %s --add-dot-peak=target=x86-64-v3 | FileCheck %s --check-prefix=CHAIN
// RUN: tercet-opt %s --add-dot-peak=target=x86-64 | FileCheck %s -DBYTES=16 -DLANES=4 -DPRODUCTS=224
// RUN: tercet-opt %s --add-dot-peak=target=x86-64-v4+avx512vnni+amxint8 | FileCheck %s --check-prefix=BLOCKS
// RUN: not tercet-opt %s --add-dot-peak=target=vax 2>&1 | FileCheck %s --check-prefix=ERROR
// ERROR: error: unknown target 'vax'

// Sums and their codes in registers, q from memory; codes differ between the sums and q between
// the iterations, so that no product is done once for many.

// CHECK-LABEL: func @dot_peak
// CHECK-SAME: (%[[N:.+]]: i64) -> i64
// CHECK: %[[WORDS:.+]] = memref.alloca() {{.*}} : memref<256xi8>
// CHECK: scf.for
// CHECK: memref.store {{.+}}, %[[WORDS]]
// CHECK: scf.for %[[I:[a-z0-9]+]] =
// CHECK: arith.remui %[[I]]
// CHECK: vector.load %[[WORDS]]
// CHECK: %[[WORD:.+]] = vector.broadcast {{.+}} : i32 to vector<[[LANES]]xi32>
// CHECK: %[[Q:.+]] = vector.bitcast %[[WORD]] : vector<[[LANES]]xi32> to vector<[[BYTES]]xi8>
// CHECK-NOT: memref
// CHECK-COUNT-14: ternary.dot %{{.+}}, %{{.+}}, %[[Q]] : vector<[[LANES]]xi32>
// CHECK-NOT: ternary.dot
// CHECK: vector.reduction <xor>
// CHECK: arith.constant [[PRODUCTS]] : i64
// Six sums of 64 steps in i16, then in i32: 6 * 64 * 32 products an iteration.

// CHAIN-LABEL: func @dot_peak
// CHAIN: scf.for
// CHAIN: scf.for
// CHAIN-COUNT-6: ternary.dot_pairs {{.+}} : vector<16xi16>
// CHAIN-NOT: ternary.dot_pairs
// CHAIN-COUNT-6: ternary.add_pairs
// CHAIN-NOT: ternary.add_pairs
// CHAIN: vector.reduction <xor>
// CHAIN: arith.constant 12288 : i64

// 4 * 16 rows by 128 tokens by 1024 columns.

// BLOCKS-LABEL: func @dot_peak
// BLOCKS: scf.for
// BLOCKS: ternary.dot_block {{.+}} : memref<128x1024xi8>, memref<4x256x64xi8>, memref<4x128x16xi32>
// BLOCKS: memref.load
// BLOCKS: arith.constant 8388608 : i64
module {}
