// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v4+avx512vnni | FileCheck %s --check-prefixes=CHECK,VNNI512
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v4+avx512vnni+amxint8 | FileCheck %s --check-prefix=AMX
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v3+avxvnni | FileCheck %s --check-prefixes=CHECK,VNNI256
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v4 | FileCheck %s --check-prefixes=AVX512BW
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v3 | FileCheck %s --check-prefixes=CHECK,AVX2
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64-v2 | FileCheck %s --check-prefixes=CHECK,SSSE3
// RUN: tercet-opt %s --lower-vector-ops=target=x86-64 | FileCheck %s --check-prefixes=CHECK,SSE2
// RUN: tercet-opt %s --lower-vector-ops=target=wasm32 | FileCheck %s --check-prefixes=CHECK,GENERIC
// RUN: tercet-opt %s --lower-vector-ops=target=wasm32+simd128 | FileCheck %s --check-prefix=WASM
// RUN: tercet-opt %s --lower-vector-ops=target=riscv64+v | FileCheck %s --check-prefix=RVV
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64 | FileCheck %s --check-prefix=NEON
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64+dotprod | FileCheck %s --check-prefixes=SDOT,TBL
// RUN: tercet-opt %s --lower-vector-ops=target=aarch64+dotprod+i8mm | FileCheck %s --check-prefixes=I8MM,TBL
// RUN: not tercet-opt %s --lower-vector-ops=target=vax 2>&1 | FileCheck %s --check-prefix=ERROR

// ERROR: error: unknown target 'vax'

// CHECK-LABEL: func @dot_16
func.func @dot_16(%acc: vector<16xi32>, %codes: vector<64xi8>, %q: vector<64xi8>) -> vector<16xi32> {
  // VNNI512-NEXT: %[[Y:.+]] = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%arg0, %arg1, %arg2)
  // VNNI512-NEXT: return %[[Y]]
  // Narrower registers: one half after the other.
  // VNNI256: vector.extract_strided_slice %arg2 {offsets = [0]
  // VNNI256: %[[LOW:.+]] = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"
  // VNNI256: vector.insert_strided_slice %[[LOW]], %arg0 {offsets = [0]
  // VNNI256: vector.extract_strided_slice %arg2 {offsets = [32]
  // VNNI256: %[[HIGH:.+]] = llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"
  // VNNI256: vector.insert_strided_slice %[[HIGH]], %{{.+}} {offsets = [8]
  // AVX512BW: llvm.call_intrinsic "llvm.x86.avx512.pmaddubs.w.512"
  // AVX512BW: llvm.call_intrinsic "llvm.x86.avx512.pmaddw.d.512"
  // AVX2-COUNT-2: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
  // SSSE3-COUNT-4: llvm.call_intrinsic "llvm.x86.sse2.pmadd.wd"
  // SSE2-COUNT-8: llvm.call_intrinsic "llvm.x86.sse2.pmadd.wd"
  // GENERIC-COUNT-4: arith.muli
  // I8MM-COUNT-4: "llvm.aarch64.neon.usdot.v4i32.v16i8"
  // SDOT-COUNT-4: "llvm.aarch64.neon.sdot.v4i32.v16i8"
  %y = ternary.dot %acc, %codes, %q : vector<16xi32>, vector<64xi8>, vector<64xi8>
  return %y : vector<16xi32>
}

// CHECK-LABEL: func @dot_8
func.func @dot_8(%acc: vector<8xi32>, %codes: vector<32xi8>, %q: vector<32xi8>) -> vector<8xi32> {
  // VNNI512-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"(%arg0, %arg1, %arg2)
  // VNNI256-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"(%arg0, %arg1, %arg2)
  // AVX2: %[[PRODUCTS:.+]] = llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"(%arg1, %arg2)
  // AVX2: %[[PAIRS:.+]] = arith.addi %{{.+}}, %[[PRODUCTS]]
  // AVX2: %[[ONES:.+]] = arith.constant dense<1> : vector<16xi16>
  // AVX2: %[[SUMS:.+]] = llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"(%[[PAIRS]], %[[ONES]])
  // AVX2: arith.addi %arg0, %[[SUMS]]
  // The generic form widens byte j of each lane by shifts: codes are unsigned.
  // GENERIC: arith.shli
  // GENERIC: arith.shrui
  // GENERIC: arith.shrsi
  // GENERIC-COUNT-3: arith.muli
  // RVV products are of 16 bits, two of them in a lane, which is widened then.
  // RVV-LABEL: func @dot_8
  // RVV-COUNT-2: arith.muli {{.*}} : vector<16xi16>
  // RVV-NOT: arith.muli
  // RVV: vector.bitcast %{{.*}} : vector<16xi16> to vector<8xi32>
  %y = ternary.dot %acc, %codes, %q : vector<8xi32>, vector<32xi8>, vector<32xi8>
  return %y : vector<8xi32>
}

// Two products of codes of 8 bits do not fit 16 bits.
// CHECK-LABEL: func @wide_dot_8
// SDOT-LABEL: func @wide_dot_8
// NEON-LABEL: func @wide_dot_8
func.func @wide_dot_8(%acc: vector<8xi32>, %codes: vector<32xi8>, %q: vector<32xi8>) -> vector<8xi32> {
  // VNNI512-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"(%arg0, %arg1, %arg2)
  // VNNI256-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.256"(%arg0, %arg1, %arg2)
  // AVX2-NOT: pmadd.ub.sw
  // AVX2-COUNT-2: llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"
  // GENERIC-COUNT-4: arith.muli
  // Codes become signed: 128 sum q is added.
  // SDOT: %[[BIASED:.+]] = arith.xori
  // SDOT: %[[SUM:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%{{.+}}, %[[Q:.+]], %{{.+}})
  // SDOT: %[[BIAS:.+]] = arith.shli %[[SUM]]
  // SDOT: %[[ACC:.+]] = arith.addi %{{.+}}, %[[BIAS]]
  // SDOT: "llvm.aarch64.neon.sdot.v4i32.v16i8"(%[[ACC]], %[[BIASED]], %[[Q]])
  // NEON-COUNT-4: "llvm.aarch64.neon.saddlp.v4i32.v8i16"
  %y = ternary.dot %acc, %codes, %q wide : vector<8xi32>, vector<32xi8>, vector<32xi8>
  return %y : vector<8xi32>
}

// CHECK-LABEL: func @dot_4
// NEON-LABEL: func @dot_4
// SDOT-LABEL: func @dot_4
// I8MM-LABEL: func @dot_4
func.func @dot_4(%acc: vector<4xi32>, %codes: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // VNNI512-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.128"
  // VNNI256-NEXT: llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.128"
  // AVX2: llvm.call_intrinsic "llvm.x86.ssse3.pmadd.ub.sw.128"
  // AVX2: llvm.call_intrinsic "llvm.x86.sse2.pmadd.wd"
  // SSSE3: llvm.call_intrinsic "llvm.x86.ssse3.pmadd.ub.sw.128"
  // SSSE3: llvm.call_intrinsic "llvm.x86.sse2.pmadd.wd"
  // SSE2-NOT: pmadd.ub.sw
  // SSE2-COUNT-2: llvm.call_intrinsic "llvm.x86.sse2.pmadd.wd"
  // GENERIC-COUNT-4: arith.muli
  // WASM-LABEL: func @dot_4
  // WASM-COUNT-2: llvm.call_intrinsic "llvm.wasm.dot"
  // WASM-NOT: arith.muli
  // WASM: return
  // Even bytes and odd bytes.
  // NEON: %[[CODES:.+]] = vector.shuffle %arg1, %arg1 [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]
  // NEON: vector.shuffle %arg2, %arg2 [0, 2,
  // NEON: "llvm.aarch64.neon.smull.v8i16"
  // NEON: vector.extract_strided_slice %[[CODES]] {offsets = [8]
  // NEON: "llvm.aarch64.neon.smull.v8i16"
  // NEON: %[[SUMS:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.saddlp.v4i32.v8i16"
  // NEON: arith.addi %arg0, %[[SUMS]]
  // SDOT: %[[Y:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%arg0, %arg1, %arg2)
  // SDOT-NEXT: return %[[Y]]
  // I8MM: %[[Y:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.usdot.v4i32.v16i8"(%arg0, %arg1, %arg2)
  // I8MM-NEXT: return %[[Y]]
  %y = ternary.dot %acc, %codes, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %y : vector<4xi32>
}

// Two products of signed bytes may not fit 16 bits: each is widened.
// CHECK-LABEL: func @dot_signed
// NEON-LABEL: func @dot_signed
// SDOT-LABEL: func @dot_signed
func.func @dot_signed(%acc: vector<4xi32>, %codes: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // NEON: %[[EVEN:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.smull.v8i16"
  // NEON: %[[ODD:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.smull.v8i16"
  // NEON: "llvm.aarch64.neon.saddlp.v4i32.v8i16"(%[[EVEN]])
  // NEON: "llvm.aarch64.neon.saddlp.v4i32.v8i16"(%[[ODD]])
  // SDOT-NEXT: llvm.call_intrinsic "llvm.aarch64.neon.sdot.v4i32.v16i8"(%arg0, %arg1, %arg2)
  // GENERIC: arith.shrsi
  // GENERIC-NOT: arith.shrui
  // GENERIC: return
  // CHECK-NOT: ternary.
  %y = ternary.dot_signed %acc, %codes, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %y : vector<4xi32>
}

// Two rows by two tokens over eight columns.
// I8MM-LABEL: func @dot_tile
// SDOT-LABEL: func @dot_tile
func.func @dot_tile(%acc: vector<4xi32>, %codes: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // I8MM: %[[Y:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.usmmla.v4i32.v16i8"(%arg0, %arg1, %arg2)
  // I8MM-NOT: usdot
  // I8MM: return %[[Y]]
  // SDOT-COUNT-2: "llvm.aarch64.neon.sdot.v4i32.v16i8"
  %rows = vector.bitcast %codes : vector<16xi8> to vector<4xi32>
  %tokens = vector.bitcast %q : vector<16xi8> to vector<4xi32>
  %0 = vector.shuffle %rows, %rows [0, 0, 2, 2] : vector<4xi32>, vector<4xi32>
  %1 = vector.shuffle %tokens, %tokens [0, 2, 0, 2] : vector<4xi32>, vector<4xi32>
  %2 = vector.shuffle %rows, %rows [1, 1, 3, 3] : vector<4xi32>, vector<4xi32>
  %3 = vector.shuffle %tokens, %tokens [1, 3, 1, 3] : vector<4xi32>, vector<4xi32>
  %4 = vector.bitcast %0 : vector<4xi32> to vector<16xi8>
  %5 = vector.bitcast %1 : vector<4xi32> to vector<16xi8>
  %6 = vector.bitcast %2 : vector<4xi32> to vector<16xi8>
  %7 = vector.bitcast %3 : vector<4xi32> to vector<16xi8>
  %first = ternary.dot %acc, %4, %5 : vector<4xi32>, vector<16xi8>, vector<16xi8>
  %y = ternary.dot %first, %6, %7 : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %y : vector<4xi32>
}

// Rows that meet one token each are none.
// I8MM-LABEL: func @no_dot_tile
func.func @no_dot_tile(%acc: vector<4xi32>, %codes: vector<16xi8>, %q: vector<16xi8>) -> vector<4xi32> {
  // I8MM-NOT: usmmla
  // I8MM-COUNT-2: usdot
  %first = ternary.dot %acc, %codes, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  %y = ternary.dot %first, %codes, %q : vector<4xi32>, vector<16xi8>, vector<16xi8>
  return %y : vector<4xi32>
}

// CHECK-LABEL: func @chain
// NEON-LABEL: func @chain
func.func @chain(%acc: vector<8xi32>, %pairs: vector<16xi16>, %codes: vector<32xi8>, %q: vector<32xi8>) -> vector<8xi32> {
  // AVX2: %[[PRODUCTS:.+]] = llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"(%arg2, %arg3)
  // AVX2: %[[PAIRS:.+]] = arith.addi %arg1, %[[PRODUCTS]] : vector<16xi16>
  // AVX2: %[[SUMS:.+]] = llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"(%[[PAIRS]],
  // AVX2: arith.addi %arg0, %[[SUMS]]
  // The others have no use for chains, and the generic form.
  // VNNI512-COUNT-2: arith.muli {{.+}} : vector<16xi16>
  // GENERIC-COUNT-2: arith.muli {{.+}} : vector<16xi16>
  // GENERIC-COUNT-2: arith.shrsi {{.+}} : vector<8xi32>
  // NEON-COUNT-4: "llvm.aarch64.neon.smull.v8i16"
  // NEON-COUNT-2: "llvm.aarch64.neon.saddlp.v4i32.v8i16"
  // CHECK-NOT: ternary.
  %next = ternary.dot_pairs %pairs, %codes, %q : vector<16xi16>, vector<32xi8>, vector<32xi8>
  %y = ternary.add_pairs %acc, %next : vector<8xi32>, vector<16xi16>
  return %y : vector<8xi32>
}

// CHECK-LABEL: func @unpack
// NEON-LABEL: func @unpack
func.func @unpack(%bytes: vector<16xi8>) -> (vector<16xi8>, vector<16xi8>, vector<16xi8>) {
  // CHECK-DAG: %[[THREE:.+]] = arith.constant dense<3> : vector<16xi8>
  // CHECK: arith.andi %arg0, %[[THREE]]
  // CHECK-DAG: %[[SIX:.+]] = arith.constant dense<6> : vector<16xi8>
  // CHECK: %[[DOWN:.+]] = arith.shrui %arg0, %[[SIX]]
  // CHECK: arith.andi %[[DOWN]], %{{.+}} : vector<16xi8>
  // CHECK: %[[TOP:.+]] = arith.constant dense<-64> : vector<16xi8>
  // CHECK: arith.andi %arg0, %[[TOP]]
  // Planes are shuffled as smull wants them before they are separated, so that
  // they share it.
  // NEON: %[[SEPARATE:.+]] = vector.shuffle %arg0, %arg0 [0, 2,
  // NEON: %[[CODES:.+]] = arith.andi %[[SEPARATE]]
  // NEON: vector.shuffle %[[CODES]], %[[CODES]] [0, 8, 1, 9,
  %0 = ternary.unpack %bytes plane 0 : vector<16xi8>
  %1 = ternary.unpack %bytes plane 3 : vector<16xi8>
  %2 = ternary.unpack %bytes plane 3 in_place : vector<16xi8>
  return %0, %1, %2 : vector<16xi8>, vector<16xi8>, vector<16xi8>
}

// Indices count modulo the size of the table.
// CHECK-LABEL: func @lookup
func.func @lookup(%table: vector<8xi8>, %indices: vector<4xi8>) -> vector<4xi8> {
  // CHECK: %[[MASK:.+]] = arith.constant dense<7> : vector<4xi8>
  // CHECK: arith.andi %arg1, %[[MASK]]
  // CHECK-COUNT-4: vector.extract %arg0
  // CHECK: vector.from_elements
  // CHECK-NOT: ternary.
  %y = ternary.lookup %table, %indices : vector<8xi8>, vector<4xi8>
  return %y : vector<4xi8>
}

// A table of 16 bytes for the magnitudes; the others have minus their digits.
// CHECK-LABEL: func @unpack_t3
// TBL-LABEL: func @unpack_t3
// AVX512BW-LABEL: func @unpack_t3
func.func @unpack_t3(%magnitudes: vector<16xi8>, %signs: vector<16xi8>) -> vector<16xi8> {
  // SSSE3: %[[NEGATIVE:.+]] = arith.cmpi slt, %arg1
  // SSSE3: %[[FIELDS:.+]] = llvm.call_intrinsic "llvm.x86.ssse3.pshuf.b.128"
  // SSSE3: %[[MINUS:.+]] = arith.subi %{{.+}}, %[[FIELDS]]
  // SSSE3: arith.select %[[NEGATIVE]], %[[MINUS]], %[[FIELDS]]
  // VNNI256: llvm.call_intrinsic "llvm.x86.ssse3.pshuf.b.128"
  // TBL: %[[SIGN:.+]] = arith.shrui %arg1
  // TBL: %[[INDEX:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.vsli.v16i8"(%arg0, %[[SIGN]]
  // TBL: llvm.call_intrinsic "llvm.aarch64.neon.tbl2.v16i8"({{.*}}, %[[INDEX]]) {{.*}}llvm.range = #llvm.constant_range<i8, 0, 43>
  // SSE2-NOT: pshuf
  // GENERIC-NOT: pshuf
  // SSE2-COUNT-6: arith.select
  // GENERIC-COUNT-6: arith.select
  // CHECK-NOT: ternary.
  %fields = ternary.unpack_t3 %magnitudes, %signs : vector<16xi8>
  return %fields : vector<16xi8>
}

// The second step of a vector, whose signs are bit 3: one bit is moved, and the
// nibbles are inserted below it.
// CHECK-LABEL: func @unpack_upper_t3
// TBL-LABEL: func @unpack_upper_t3
func.func @unpack_upper_t3(%bytes: vector<16xi8>, %signs: vector<16xi8>) -> vector<16xi8> {
  %four = arith.constant dense<4> : vector<16xi8>
  %four16 = arith.constant dense<4> : vector<8xi16>
  %magnitudes = arith.shrui %bytes, %four : vector<16xi8>
  %words = vector.bitcast %signs : vector<16xi8> to vector<8xi16>
  %shifted = arith.shli %words, %four16 : vector<8xi16>
  %upper = vector.bitcast %shifted : vector<8xi16> to vector<16xi8>
  // TBL: %[[MOVED:.+]] = arith.shli %arg1
  // TBL: %[[SIGN:.+]] = arith.andi %[[MOVED]]
  // TBL: %[[INDEX:.+]] = llvm.call_intrinsic "llvm.aarch64.neon.vsri.v16i8"(%[[SIGN]], %arg0
  // TBL: llvm.call_intrinsic "llvm.aarch64.neon.tbl2.v16i8"({{.*}}, %[[INDEX]])
  // CHECK-NOT: ternary.
  %fields = ternary.unpack_t3 %magnitudes, %upper : vector<16xi8>
  return %fields : vector<16xi8>
}

// CHECK-LABEL: func @unpack_t3_32
// AVX512BW-LABEL: func @unpack_t3_32
func.func @unpack_t3_32(%magnitudes: vector<32xi8>, %signs: vector<32xi8>) -> vector<32xi8> {
  // VNNI512: "llvm.x86.avx2.pshuf.b"
  // VNNI256: "llvm.x86.avx2.pshuf.b"
  // AVX512BW: "llvm.x86.avx2.pshuf.b"
  // AVX2: "llvm.x86.avx2.pshuf.b"
  // SSSE3-NOT: pshuf
  // CHECK-NOT: ternary.
  %fields = ternary.unpack_t3 %magnitudes, %signs : vector<32xi8>
  return %fields : vector<32xi8>
}

// CHECK-LABEL: func @unpack_t3_64
// AVX512BW-LABEL: func @unpack_t3_64
func.func @unpack_t3_64(%magnitudes: vector<64xi8>, %signs: vector<64xi8>) -> vector<64xi8> {
  // VNNI512: "llvm.x86.avx512.pshuf.b.512"
  // AVX512BW: "llvm.x86.avx512.pshuf.b.512"
  // AVX2-NOT: pshuf
  // CHECK-NOT: ternary.
  %fields = ternary.unpack_t3 %magnitudes, %signs : vector<64xi8>
  return %fields : vector<64xi8>
}

// Words of one register; bytes of one lane of 128 bits, of which an index with
// its highest bit set would give 0.
// CHECK-LABEL: func @lookup_sums
// TBL-LABEL: func @lookup_sums
// AVX512BW-LABEL: func @lookup_sums
func.func @lookup_sums(%words: vector<32xi16>, %bytes: vector<16xi8>, %i: vector<32xi16>,
                       %j: vector<32xi8>) -> (vector<32xi16>, vector<32xi8>) {
  // VNNI512: "llvm.x86.avx512.permvar.hi.512"(%arg0, %arg2)
  // AVX512BW: "llvm.x86.avx512.permvar.hi.512"(%arg0, %arg2)
  // AVX2-NOT: permvar
  // AVX2: %[[TABLE:.+]] = vector.shuffle %arg1, %arg1
  // AVX2: %[[MASK:.+]] = arith.constant dense<15> : vector<32xi8>
  // AVX2: %[[INDICES:.+]] = arith.andi %arg3, %[[MASK]]
  // AVX2: "llvm.x86.avx2.pshuf.b"(%[[TABLE]], %[[INDICES]])
  // SSSE3: vector.extract %arg0
  // SSE2: vector.extract %arg0
  // GENERIC: vector.extract %arg0
  // TBL: vector.extract %arg0
  // TBL-COUNT-2: "llvm.aarch64.neon.tbl1.v16i8"(%arg1,
  // CHECK-NOT: ternary.
  %0 = ternary.lookup %words, %i : vector<32xi16>, vector<32xi16>
  %1 = ternary.lookup %bytes, %j : vector<16xi8>, vector<32xi8>
  return %0, %1 : vector<32xi16>, vector<32xi8>
}

// Tiles 0..3 are sums of two halves of the tokens by two planes, 4 and 5 q, 6
// and 7 codes. The fifth plane is alone; columns 36..99 are the last panel.
// AMX-LABEL: func @dot_block
// GENERIC-LABEL: func @dot_block
func.func @dot_block(%q: memref<?x100xi8>, %codes: memref<5x32x64xi8>, %acc: memref<5x32x16xi32>,
                     %first: index, %n: index) {
  // AMX: "llvm.x86.ldtilecfg"
  // AMX: scf.for
  // AMX: scf.if
  // AMX: "llvm.x86.ldtilecfg"
  // One tile of tokens.
  // AMX: scf.if
  // AMX: "llvm.x86.tilezero"
  // Two of them: sums begin at zero with the first column.
  // AMX-COUNT-4: "llvm.x86.tilezero"
  // AMX: } else {
  // AMX-COUNT-4: "llvm.x86.tileloadd64"
  // AMX: scf.for
  // AMX-COUNT-2: "llvm.x86.tileloadd64"
  // AMX: "llvm.x86.tileloadd64"
  // AMX-COUNT-2: "llvm.x86.tdpbsud"
  // AMX: "llvm.x86.tileloadd64"
  // AMX-COUNT-2: "llvm.x86.tdpbsud"
  // AMX: arith.constant 36 : index
  // AMX-COUNT-4: "llvm.x86.tdpbsud"
  // AMX-COUNT-4: "llvm.x86.tilestored64"
  // AMX: "llvm.x86.tilerelease"
  // GENERIC: scf.for
  // GENERIC-NOT: ternary.
  // AMX-NOT: ternary.
  %c0 = arith.constant 0 : index
  ternary.dot_block %q[%first, %c0] count %n, %codes into %acc
      : memref<?x100xi8>, memref<5x32x64xi8>, memref<5x32x16xi32>
  return
}

// With 32 tokens there are two panels by one pair of planes: three iterations of
// the work after each. What is left follows the products.
// AMX-LABEL: func @dot_block_with_work
// GENERIC-LABEL: func @dot_block_with_work
func.func @dot_block_with_work(%q: memref<?x256xi8>, %codes: memref<3x32x64xi8>, %acc: memref<3x32x16xi32>,
                               %column: index, %n: index, %done: memref<5xindex>) {
  // One tile of tokens.
  // AMX: "llvm.x86.tilestored64"
  // Two of them.
  // AMX: scf.for
  // AMX-COUNT-4: "llvm.x86.tdpbsud"
  // AMX: scf.if
  // AMX-COUNT-3: memref.store %{{.+}}, %arg5
  // AMX-NOT: memref.store %{{.+}}, %arg5
  // AMX: "llvm.x86.tilerelease"
  // AMX: scf.for
  // AMX: memref.store %{{.+}}, %arg5
  // AMX-NOT: ternary.
  // GENERIC: vector.load %arg2
  // GENERIC: arith.select
  // GENERIC: vector.store %{{.+}}, %arg2
  // GENERIC: scf.for
  // GENERIC: memref.store %{{.+}}, %arg5
  // GENERIC-NOT: ternary.
  %c0 = arith.constant 0 : index
  ternary.dot_block %q[%c0, %column] count %n, %codes into %acc meanwhile 5 {
  ^bb0(%i: index):
    memref.store %n, %done[%i] : memref<5xindex>
  } : memref<?x256xi8>, memref<3x32x64xi8>, memref<3x32x16xi32>
  return
}
