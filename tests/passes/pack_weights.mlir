// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// RUN: tercet-opt %s --pack-weights --split-input-file | FileCheck %s

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @a : tensor<16x20xi2> = dense<1> : tensor<16x20xi2>
ternary.parameter @b : tensor<3x20xi2> = dense<-1> : tensor<3x20xi2>
ternary.parameter @norm : tensor<20xf32> = dense<1.0> : tensor<20xf32>

// In program order: two row scales (8 bytes, rounded up to 64), two strips of 16
// rows by 2 x 16 columns of 64 bytes, then the floats that no matrix holds.

// CHECK: module attributes
// CHECK-SAME: ternary.head_bytes = 0
// CHECK-SAME: ternary.num_trits = 380
// CHECK-SAME: ternary.ternary_bytes = 264
// CHECK-SAME: ternary.weights_size = 448
// CHECK-NOT: ternary.parameter
// CHECK-LABEL: func @matmul
func.func @matmul(%x: tensor<?x20xf32>, %n: index) -> (tensor<?x32xf32>, tensor<20xf32>) {
  %norm = ternary.get_parameter @norm : tensor<20xf32>
  %a = ternary.get_parameter @a : tensor<16x20xi2>
  %b = ternary.get_parameter @b : tensor<3x20xi2>
  %g = arith.constant 0.5 : f32
  %h = arith.constant 0.25 : f32
  %eq = tensor.empty(%n) : tensor<?x32xi8>
  %es = tensor.empty(%n) : tensor<?xf32>
  %et = tensor.empty(%n) : tensor<?xi32>
  %ea = tensor.empty(%n) : tensor<?x32xi32>
  %ey = tensor.empty(%n) : tensor<?x32xf32>
  // CHECK: %[[AT:.+]] = arith.constant 320 : index
  // CHECK: %[[NORM:.+]] = ternary.packed_parameter %[[AT]] : tensor<20xf32>
  // CHECK: %[[Q:.+]], %[[S:.+]], %[[SUM:.+]] = ternary.quantize_activations
  // CHECK: %[[C0:.+]] = arith.constant 0 : index
  // CHECK: %[[SCALES:.+]] = ternary.packed_parameter %[[C0]] : tensor<2xf32>
  // CHECK: %[[C64:.+]] = arith.constant 64 : index
  // CHECK: %[[W:.+]] = ternary.packed_parameter %[[C64]] : tensor<256xi8>
  // CHECK: %[[Y:.+]] = ternary.packed_matmul <i2, {{.*}}> ins(%[[Q]], %[[S]], %[[SUM]], %[[W]], %[[SCALES]]
  // CHECK: return %[[Y]], %[[NORM]]
  %q, %s, %t = ternary.quantize_activations ins(%x : tensor<?x20xf32>)
      outs(%eq, %es, %et : tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>)
      -> tensor<?x32xi8>, tensor<?xf32>, tensor<?xi32>
  %acc = ternary.matmul ins(%q, %a, %b : tensor<?x32xi8>, tensor<16x20xi2>, tensor<3x20xi2>)
      outs(%ea : tensor<?x32xi32>) {layout = #layout} -> tensor<?x32xi32>
  %y = ternary.rescale ins(%acc, %s scales %g, %h : tensor<?x32xi32>, tensor<?xf32>)
      outs(%ey : tensor<?x32xf32>) rows = [16, 3] -> tensor<?x32xf32>
  return %y, %norm : tensor<?x32xf32>, tensor<20xf32>
}

// -----

// A tied head and embedding are one matrix, placed where the embedding, the
// first of the two, reads it: two tiles of 32 rows by 8 pairs.

#head = #ternary.layout<bf16_pairs, tile_rows = 32, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @table : tensor<40x16xbf16> = dense<1.0> : tensor<40x16xbf16>

// CHECK: ternary.head_bytes = 2048
// CHECK-SAME: ternary.weights_size = 2048
// CHECK-LABEL: func @tied
func.func @tied(%tokens: tensor<?xi32>, %ex: tensor<?x16xf32>, %ey: tensor<?x40xf32>)
    -> tensor<?x40xf32> {
  %table = ternary.get_parameter @table : tensor<40x16xbf16>
  // CHECK: %[[C0:.+]] = arith.constant 0 : index
  // CHECK: %[[T:.+]] = ternary.packed_parameter %[[C0]] : tensor<2048xi8>
  // CHECK: ternary.embedding ins(%{{.+}}, %[[T]] : tensor<?xi32>, tensor<2048xi8>) {{.*}} {layout = #ternary.layout<bf16_pairs, tile_rows = 32
  // CHECK: %[[D0:.+]] = arith.constant 0 : index
  // CHECK: %[[H:.+]] = ternary.packed_parameter %[[D0]] : tensor<2048xi8>
  // CHECK: ternary.packed_linear <bf16_pairs, tile_rows = 32{{.*}}> ins(%{{.+}}, %[[H]]
  %x = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<40x16xbf16>)
                         outs(%ex : tensor<?x16xf32>) -> tensor<?x16xf32>
  %y = ternary.linear ins(%x, %table : tensor<?x16xf32>, tensor<40x16xbf16>)
                      outs(%ey : tensor<?x40xf32>) {layout = #head} -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// An embedding of its own stays plain, and so does a head without a layout.

ternary.parameter @table : tensor<40x16xbf16> = dense<1.0> : tensor<40x16xbf16>
ternary.parameter @head : tensor<40x16xf32> = dense<1.0> : tensor<40x16xf32>

// CHECK: ternary.head_bytes = 2560
// CHECK-SAME: ternary.weights_size = 3840
// CHECK-LABEL: func @plain
func.func @plain(%tokens: tensor<?xi32>, %ex: tensor<?x16xf32>, %ey: tensor<?x40xf32>)
    -> tensor<?x40xf32> {
  // CHECK: ternary.packed_parameter %{{.+}} : tensor<40x16xbf16>
  // CHECK: arith.constant 1280 : index
  // CHECK: ternary.packed_parameter %{{.+}} : tensor<40x16xf32>
  // CHECK: ternary.embedding
  // CHECK: ternary.linear
  %table = ternary.get_parameter @table : tensor<40x16xbf16>
  %head = ternary.get_parameter @head : tensor<40x16xf32>
  %x = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<40x16xbf16>)
                         outs(%ex : tensor<?x16xf32>) -> tensor<?x16xf32>
  %y = ternary.linear ins(%x, %head : tensor<?x16xf32>, tensor<40x16xf32>)
                      outs(%ey : tensor<?x40xf32>) -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// A tied embedding keeps its bf16 rows beside the codes: three tiles of 16 rows,
// each 16 scales of 2 bytes and 4 chunks of 64.

#codes = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>

ternary.parameter @table : tensor<40x12xbf16> = dense<1.0> : tensor<40x12xbf16>

// CHECK: ternary.head_bytes = 864
// CHECK-SAME: ternary.weights_size = 1856
// CHECK-LABEL: func @quantised
func.func @quantised(%tokens: tensor<?xi32>, %ex: tensor<?x12xf32>, %ey: tensor<?x40xf32>)
    -> tensor<?x40xf32> {
  // CHECK: %[[AT:.+]] = arith.constant 896 : index
  // CHECK: %[[TABLE:.+]] = ternary.packed_parameter %[[AT]] : tensor<40x12xbf16>
  // CHECK: %[[X:.+]] = ternary.embedding ins(%{{.+}}, %[[TABLE]] : {{.*}}) outs({{.*}}) ->
  // CHECK: %[[HIGH:.+]], %[[LOW:.+]], %[[SCALE:.+]], %[[SUMS:.+]] = ternary.quantize_wide group = 64 ins(%[[X]]
  // CHECK: ternary.packed_parameter %{{.+}} : tensor<864xi8>
  // CHECK: ternary.packed_quantized_linear <i8, {{.*}}> ins(%[[HIGH]], %[[LOW]], %[[SCALE]], %[[SUMS]], %{{.+}} : tensor<?x16xi8>, tensor<?x16xi8>, tensor<?xf32>, tensor<?x1xi32>, tensor<864xi8>)
  %table = ternary.get_parameter @table : tensor<40x12xbf16>
  %x = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<40x12xbf16>)
                         outs(%ex : tensor<?x12xf32>) -> tensor<?x12xf32>
  %y = ternary.quantized_linear i8 ins(%x, %table : tensor<?x12xf32>, tensor<40x12xbf16>)
                                outs(%ey : tensor<?x40xf32>) {layout = #codes} -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// A screened head: codes, a bound for each row, and the rows themselves in tiles
// of 16, which are read when somebody asks for them.

#codes = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
#pairs = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 2, tokens = 4, prefetch = 0>

ternary.parameter @table : tensor<40x12xbf16> = dense<1.0> : tensor<40x12xbf16>

// CHECK: ternary.error_bounds = 896
// CHECK-SAME: ternary.head_bytes = 1024
// CHECK-SAME: ternary.head_group_bytes = 384
// CHECK-SAME: ternary.weights_size = 2240
// CHECK-LABEL: func @screen
func.func @screen(%x: tensor<?x12xf32>, %ey: tensor<?x40xf32>) -> tensor<?x40xf32> {
  // CHECK: ternary.packed_parameter %{{.+}} : tensor<864xi8>
  // CHECK: ternary.packed_quantized_linear
  %table = ternary.get_parameter @table : tensor<40x12xbf16>
  %y = ternary.quantized_linear i8 bounded ins(%x, %table : tensor<?x12xf32>, tensor<40x12xbf16>)
                                outs(%ey : tensor<?x40xf32>) {layout = #codes} -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}
// CHECK-LABEL: func @head_rows
func.func @head_rows(%x: tensor<?x12xf32>, %groups: tensor<?xi32>, %ey: tensor<?x40xf32>) -> tensor<?x40xf32> {
  // CHECK: %[[AT:.+]] = arith.constant 1088 : index
  // CHECK: %[[W:.+]] = ternary.packed_parameter %[[AT]] : tensor<1152xi8>
  // CHECK: ternary.packed_linear <bf16_pairs, tile_rows = 16, {{.*}}> ins(%arg0, %[[W]] : {{.*}}) groups(%arg1 : tensor<?xi32>) outs(%arg2
  %table = ternary.get_parameter @table : tensor<40x12xbf16>
  %y = ternary.linear ins(%x, %table : tensor<?x12xf32>, tensor<40x12xbf16>) groups(%groups : tensor<?xi32>)
                      outs(%ey : tensor<?x40xf32>) {layout = #pairs} -> tensor<?x40xf32>
  return %y : tensor<?x40xf32>
}

// -----

// Scales of groups: of two row groups, two groups of columns and 16 rows (256
// bytes), then two strips of 16 rows by 3 x 16 columns of 64 bytes.

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @a : tensor<16x40xi2> = dense<1> : tensor<16x40xi2>
ternary.parameter @b : tensor<3x40xi2> = dense<-1> : tensor<3x40xi2>
ternary.parameter @ga : tensor<16x2xf32> = dense<0.5> : tensor<16x2xf32>
ternary.parameter @gb : tensor<3x2xf32> = dense<0.25> : tensor<3x2xf32>

// CHECK: ternary.ternary_bytes = 640
// CHECK-SAME: ternary.weights_size = 640
// CHECK-NOT: ternary.parameter
// CHECK-LABEL: func @groups
func.func @groups(%x: tensor<?x40xf32>, %n: index) -> tensor<?x32xf32> {
  %a = ternary.get_parameter @a : tensor<16x40xi2>
  %b = ternary.get_parameter @b : tensor<3x40xi2>
  %ga = ternary.get_parameter @ga : tensor<16x2xf32>
  %gb = ternary.get_parameter @gb : tensor<3x2xf32>
  %eq = tensor.empty(%n) : tensor<?x48xi8>
  %es = tensor.empty(%n) : tensor<?xf32>
  %et = tensor.empty(%n) : tensor<?x2xi32>
  %ea = tensor.empty(%n) : tensor<?x2x32xi32>
  %ey = tensor.empty(%n) : tensor<?x32xf32>
  // CHECK: %[[C0:.+]] = arith.constant 0 : index
  // CHECK: %[[SCALES:.+]] = ternary.packed_parameter %[[C0]] : tensor<2x2x16xf32>
  // CHECK: %[[C256:.+]] = arith.constant 256 : index
  // CHECK: %[[W:.+]] = ternary.packed_parameter %[[C256]] : tensor<384xi8>
  // CHECK: ternary.packed_matmul <i2, {{.*}}> group = 32 ins({{.*}}, %[[W]], %[[SCALES]]
  %q, %s, %t = ternary.quantize_activations group = 32 ins(%x : tensor<?x40xf32>)
      outs(%eq, %es, %et : tensor<?x48xi8>, tensor<?xf32>, tensor<?x2xi32>)
      -> tensor<?x48xi8>, tensor<?xf32>, tensor<?x2xi32>
  %acc = ternary.matmul group = 32 ins(%q, %a, %b : tensor<?x48xi8>, tensor<16x40xi2>, tensor<3x40xi2>)
      outs(%ea : tensor<?x2x32xi32>) {layout = #layout} -> tensor<?x2x32xi32>
  %y = ternary.rescale
      ins(%acc, %s scales %ga, %gb
          : tensor<?x2x32xi32>, tensor<?xf32> scales tensor<16x2xf32>, tensor<3x2xf32>)
      outs(%ey : tensor<?x32xf32>) rows = [16, 3] -> tensor<?x32xf32>
  return %y : tensor<?x32xf32>
}

// -----

// Activations that a graph has quantised in its own way come without the sums of
// their rows, which the codes 0, 1, 2 of i2 are corrected by.

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>

ternary.parameter @w : tensor<16x32xi2> = dense<1> : tensor<16x32xi2>

// CHECK-LABEL: func.func @row_sums
// CHECK-SAME: %[[Q:[^:]+]]: tensor<?x32xi8>
func.func @row_sums(%q: tensor<?x32xi8>, %s: tensor<?xf32>, %acc: tensor<?x16xi32>, %out: tensor<?x16xf32>)
    -> tensor<?x16xf32> {
  // CHECK: %[[SUMS:.+]] = linalg.generic {{{.*}}iterator_types = ["parallel", "reduction"]} ins(%[[Q]] : tensor<?x32xi8>)
  // CHECK: arith.extsi %{{.+}} : i8 to i32
  // CHECK: arith.addi
  // CHECK: ternary.packed_matmul <i2, {{.*}}> ins(%[[Q]], %{{.+}}, %[[SUMS]], %{{.+}}, %{{.+}}
  %w = ternary.get_parameter @w : tensor<16x32xi2>
  %g = arith.constant 0.5 : f32
  %sums = ternary.matmul ins(%q, %w : tensor<?x32xi8>, tensor<16x32xi2>)
      outs(%acc : tensor<?x16xi32>) {layout = #layout} -> tensor<?x16xi32>
  %y = ternary.rescale ins(%sums, %s scales %g : tensor<?x16xi32>, tensor<?xf32>)
      outs(%out : tensor<?x16xf32>) rows = [16] -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}

// -----

// Blocks of q8_0 as a head and its table: a tile of 64 rows, one f16 and 32 bytes
// of each. Those of a table without a head are placed as well.

#blocks = #ternary.layout<q8_0, tile_rows = 64, lanes = 16, unroll = 1, tokens = 4, prefetch = 0>

ternary.parameter @tied : tensor<40x32xf32> = #ternary.source<"m.gguf", offset = 0, size = 1360, q8_0>
ternary.parameter @table : tensor<80x32xf32> = #ternary.source<"m.gguf", offset = 0, size = 1440, q4_0>

#nibbles = #ternary.layout<q4_0, tile_rows = 64, lanes = 16, unroll = 1, tokens = 4, prefetch = 0>

// CHECK: ternary.head_bytes = 2176
// CHECK-SAME: ternary.weights_size = 4480
// CHECK-LABEL: func @blocks
func.func @blocks(%tokens: tensor<?xi32>, %ex: tensor<?x32xf32>, %ey: tensor<?x40xf32>)
    -> (tensor<?x40xf32>, tensor<?x32xf32>) {
  // CHECK: %[[TIED:.+]] = ternary.packed_parameter %{{.+}} : tensor<2176xi8>
  // CHECK: ternary.embedding ins(%{{.+}}, %[[TIED]] : tensor<?xi32>, tensor<2176xi8>) {{.*}} {layout = #ternary.layout<q8_0,
  // CHECK: ternary.packed_linear <q8_0, tile_rows = 64, {{.*}}> ins(%{{.+}}, %{{.+}} : tensor<?x32xf32>, tensor<2176xi8>)
  // CHECK: %[[AT:.+]] = arith.constant 2176 : index
  // CHECK: %[[TABLE:.+]] = ternary.packed_parameter %[[AT]] : tensor<2304xi8>
  // CHECK: ternary.embedding ins(%{{.+}}, %[[TABLE]] : tensor<?xi32>, tensor<2304xi8>) {{.*}} {layout = #ternary.layout<q4_0,
  %tied = ternary.get_parameter @tied : tensor<40x32xf32>
  %table = ternary.get_parameter @table : tensor<80x32xf32>
  %x = ternary.embedding ins(%tokens, %tied : tensor<?xi32>, tensor<40x32xf32>)
                         outs(%ex : tensor<?x32xf32>) {layout = #blocks} -> tensor<?x32xf32>
  %y = ternary.linear ins(%x, %tied : tensor<?x32xf32>, tensor<40x32xf32>)
                      outs(%ey : tensor<?x40xf32>) {layout = #blocks} -> tensor<?x40xf32>
  %z = ternary.embedding ins(%tokens, %table : tensor<?xi32>, tensor<80x32xf32>)
                         outs(%ex : tensor<?x32xf32>) {layout = #nibbles} -> tensor<?x32xf32>
  return %y, %z : tensor<?x40xf32>, tensor<?x32xf32>
}

// -----

// Windows of 2 lines of 4 pixels stay what they are copied from, and the sums are
// of that; a scale for all positions is spread over them.

#layout = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 1, tokens = 1, prefetch = 0>
#see = affine_map<(n, h, w, r, c) -> (n, h + r, w + c)>
#all = affine_map<(n, h, w, r, c) -> (n, h, w, r, c)>

ternary.parameter @w : tensor<16x8xi2> = dense<1> : tensor<16x8xi2>

// CHECK: #[[SEE:.+]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1 + d3, d2 + d4)>
// CHECK: #[[COLUMNS:.+]] = affine_map<(d0, d1, d2, d3, d4) -> (d3, d4)>
// CHECK: #[[TOKENS:.+]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2)>
// CHECK-LABEL: func.func @windows
// CHECK-SAME: %[[X:[^:]+]]: tensor<?x6x8xi8>, %[[SCALE:[^:]+]]: tensor<?x5x5xf32>
func.func @windows(%x: tensor<?x6x8xi8>, %scale: tensor<?x5x5xf32>, %n: index, %acc: tensor<?x16xi32>,
                   %out: tensor<?x16xf32>) -> tensor<?x16xf32> {
  // CHECK: %[[Q:.+]] = linalg.generic {{.*}} ins(%[[X]] : tensor<?x6x8xi8>) outs({{.*}} : tensor<?x5x5x2x4xi8>)
  // CHECK: %[[SUMS:.+]] = linalg.generic {indexing_maps = [#[[SEE]], #[[COLUMNS]], #[[TOKENS]]]{{.*}} ins(%[[X]], %{{.+}} : tensor<?x6x8xi8>, tensor<2x4xi8>)
  // CHECK: %[[Y:.+]] = ternary.packed_matmul <i2, {{.*}}> ins(%[[Q]], %[[SCALE]], %[[SUMS]], {{.*}} -> tensor<?x5x5x16xf32>
  // CHECK: tensor.collapse_shape %[[Y]] {{\[}}[0, 1, 2], [3]]
  %w = ternary.get_parameter @w : tensor<16x8xi2>
  %g = arith.constant 0.5 : f32
  %empty = tensor.empty(%n) : tensor<?x5x5x2x4xi8>
  %windows = linalg.generic {indexing_maps = [#see, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]}
      ins(%x : tensor<?x6x8xi8>) outs(%empty : tensor<?x5x5x2x4xi8>) {
  ^bb0(%in: i8, %o: i8):
    linalg.yield %in : i8
  } -> tensor<?x5x5x2x4xi8>
  %q = tensor.collapse_shape %windows [[0, 1, 2], [3, 4]] : tensor<?x5x5x2x4xi8> into tensor<?x8xi8>
  %s = tensor.collapse_shape %scale [[0, 1, 2]] : tensor<?x5x5xf32> into tensor<?xf32>
  %sums = ternary.matmul ins(%q, %w : tensor<?x8xi8>, tensor<16x8xi2>)
      outs(%acc : tensor<?x16xi32>) {layout = #layout} -> tensor<?x16xi32>
  %y = ternary.rescale ins(%sums, %s scales %g : tensor<?x16xi32>, tensor<?xf32>)
      outs(%out : tensor<?x16xf32>) rows = [16] -> tensor<?x16xf32>
  return %y : tensor<?x16xf32>
}
