// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_DIALECT_TERNARY_DIALECT_TD
#define TERCET_DIALECT_TERNARY_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Ternary_Dialect : Dialect {
  let name = "ternary";
  let cppNamespace = "::tercet::ternary";
  let summary = "Ternary neural networks, from BitLinear to packed vectors";
  let description = [{
    One dialect, three levels. Tensor level: what a model computes
    (`bit_linear`, `attention`, ...), in destination-passing style so that the
    same ops survive bufferisation. Loop level: the same ops on memrefs, with
    weights packed in a layout (`packed_matmul`, `packed_linear`). Vector level:
    `unpack`, `dot`, `lookup` and their variants, the ops that a backend lowers.

    Activations are `[tokens, features]`, f32, row-major. Ternary weights are
    `[out, in]` tensors of i2 holding -1, 0, 1. The float order of every op is
    the one of docs/numerics.md.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
}

//===----------------------------------------------------------------------===//
// Enums
//===----------------------------------------------------------------------===//

class Ternary_Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::tercet::ternary";
  let genSpecializedAttr = 0;
}

/// How the bytes of a checkpoint encode a parameter;
/// dialect/Ternary/SourceEncoding.cpp decodes them.
def Ternary_Encoding : Ternary_Enum<"Encoding", "encoding of source bytes", [
  I32EnumAttrCase<"F32", 0, "f32">,
  I32EnumAttrCase<"F16", 1, "f16">,
  I32EnumAttrCase<"BF16", 2, "bf16">,
  // transformers' BitNet packing: u8 [out/4, in]; bits 2i..2i+1 of packed row
  // r hold w + 1 of logical row r + i * out/4; code 3 is invalid.
  I32EnumAttrCase<"HFPacked", 3, "hf_packed">,
  // BitNet's GGUF type I2_S, whose layout depends on who wrote it: blocks of
  // 128 elements (x86), 4 rows a byte (x86 without ACT_PARALLEL), blocks of 64
  // (Arm). Codes w + 1, code 3 is invalid; an f32 scale follows.
  I32EnumAttrCase<"I2S", 4, "i2_s">,
  I32EnumAttrCase<"I2SRows", 5, "i2_s_rows">,
  I32EnumAttrCase<"I2SArm", 6, "i2_s_arm">,
  // GGUF's types of trits: blocks of 256 with a scale, or 64 with one a row.
  I32EnumAttrCase<"TQ1_0", 7, "tq1_0">,
  I32EnumAttrCase<"TQ2_0", 8, "tq2_0">,
  I32EnumAttrCase<"IQ1_BN", 9, "iq1_bn">,
  I32EnumAttrCase<"IQ2_BN", 10, "iq2_bn">,
  // GGUF's blocks of 32 or 256 quantised floats.
  I32EnumAttrCase<"Q4_0", 11, "q4_0">,
  I32EnumAttrCase<"Q4_1", 12, "q4_1">,
  I32EnumAttrCase<"Q5_0", 13, "q5_0">,
  I32EnumAttrCase<"Q5_1", 14, "q5_1">,
  I32EnumAttrCase<"Q8_0", 15, "q8_0">,
  I32EnumAttrCase<"Q4_K", 16, "q4_k">,
  I32EnumAttrCase<"Q5_K", 17, "q5_k">,
  I32EnumAttrCase<"Q6_K", 18, "q6_k">
]>;

def Ternary_Activation : Ternary_Enum<"Activation", "gate activation", [
  I32EnumAttrCase<"ReLU2", 0, "relu2">,
  I32EnumAttrCase<"SiLU", 1, "silu">
]>;

/// Weight packings (layouts); docs/packings.md has the formulas.
def Ternary_Packing : Ternary_Enum<"Packing", "weight packing", [
  // 2 bits a trit, codes w + 1; rows in lanes.
  I32EnumAttrCase<"I2", 0, "i2">,
  // bf16 pairs (k, k+1) in 32-bit lanes, 16 rows a vector.
  I32EnumAttrCase<"BF16Pairs", 1, "bf16_pairs">,
  // 1.6 bits a trit: five to a byte, sign and magnitude of a base-3 number.
  I32EnumAttrCase<"T5", 2, "t5">,
  // 5/3 bits a trit: the magnitude of three as a nibble, their sign as a bit.
  I32EnumAttrCase<"T3", 3, "t3">,
  // 16/9 bits a trit: indices into tables of the sums of three activations.
  I32EnumAttrCase<"L3", 4, "l3">,
  // f32 or f16, 16 rows a vector.
  I32EnumAttrCase<"F32", 5, "f32">,
  I32EnumAttrCase<"F16", 6, "f16">,
  // The blocks of the encoding of that name: codes, rows in lanes, and scales.
  I32EnumAttrCase<"Q4_0", 7, "q4_0">,
  I32EnumAttrCase<"Q4_1", 8, "q4_1">,
  I32EnumAttrCase<"Q5_0", 9, "q5_0">,
  I32EnumAttrCase<"Q5_1", 10, "q5_1">,
  I32EnumAttrCase<"Q8_0", 11, "q8_0">,
  I32EnumAttrCase<"Q4_K", 12, "q4_k">,
  I32EnumAttrCase<"Q5_K", 13, "q5_k">,
  I32EnumAttrCase<"Q6_K", 14, "q6_k">
]>;

/// What a KV cache stores; docs/numerics.md says how it rounds.
def Ternary_KVElement : Ternary_Enum<"KVElement", "element of a KV cache", [
  I32EnumAttrCase<"F32", 0, "f32">,
  I32EnumAttrCase<"BF16", 1, "bf16">,
  // Codes of -127..127 and a scale for each position, head and of key or value.
  I32EnumAttrCase<"Int8", 2, "int8">
]>;

/// Integer forms of a float matrix; dialect/Ternary/CodeFormat.h says what each
/// stores.
def Ternary_CodeFormat : Ternary_Enum<"CodeFormat", "integer form of a float matrix", [
  I32EnumAttrCase<"I8", 0, "i8">,
  I32EnumAttrCase<"Q6", 1, "q6">,
  I32EnumAttrCase<"Q4", 2, "q4">
]>;
def Ternary_CodeFormatAttr
    : EnumAttr<Ternary_Dialect, Ternary_CodeFormat, "code_format"> {
  let assemblyFormat = "$value";
}

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

class Ternary_Attr<string name, string attrMnemonic> : AttrDef<Ternary_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Ternary_SourceAttr : Ternary_Attr<"Source", "source"> {
  let summary = "Bytes of a file that hold a parameter";
  let description = [{
    `#ternary.source<"model.safetensors", offset = 4096, size = 64, hf_packed>`:
    `size` bytes at byte `offset` of the file. The frontend has checked that
    they lie inside the file and that their number fits shape and encoding.
    With `absmean = g : f32` the values are latent floats, quantised to trits as
    `clip(round(w / g), -1, 1)`, half to even. With `f32 rotary_heads = N`
    the rows are those of N heads in the order of interleaved rotary pairs: of
    the H rows of a head, row i < H/2 is stored at 2i, row i + H/2 at 2i + 1.
  }];
  let parameters = (ins
    StringRefParameter<"path of the file">:$path,
    "uint64_t":$offset, "uint64_t":$size,
    EnumParameter<Ternary_Encoding>:$encoding,
    OptionalParameter<"::mlir::FloatAttr", "scale of latent weights">:$absmean,
    DefaultValuedParameter<"int64_t", "0">:$rotaryHeads);
  let assemblyFormat = [{
    `<` $path `,` `offset` `=` $offset `,` `size` `=` $size `,` $encoding
        (`rotary_heads` `=` $rotaryHeads^)? (`,` `absmean` `=` $absmean^)? `>`
  }];
  let extraClassDeclaration = [{
    /// Where a row of a matrix of `rows` rows is stored.
    int64_t getStoredRow(int64_t row, int64_t rows) const;
  }];
}

def Ternary_RopeTableAttr : Ternary_Attr<"RopeTable", "rope_table"> {
  let summary = "Cosines and sines of rotary positions, computed at compile time";
  let description = [{
    A parameter of type tensor<CxHxf32>: row p holds cos(p * f_i) for i < H/2,
    then sin(p * f_i), with f_i = theta^(-2i/H) (docs/numerics.md). Theta is an
    f64 attribute.
  }];
  let parameters = (ins "::mlir::FloatAttr":$theta);
  let assemblyFormat = "`<` $theta `>`";
}

def Ternary_LayoutAttr : Ternary_Attr<"Layout", "layout"> {
  let summary = "Packing of a weight matrix and schedule of its kernels";
  let description = [{
    `tile_rows` rows form a tile, stored contiguously over all of K. The rest
    is the schedule, which does not change the bytes: `lanes` rows share a
    vector register; `unroll` steps of K are in flight, with an accumulator set
    each (GEMV; l3: tiles side by side, also in a GEMM); `tokens` columns form
    the register tile of a GEMM; `prefetch` is a distance in bytes (0: none);
    `chain` dot products (l3: cells) are added in i16 before they are widened
    (1, the default: each is added in i32); with `in_place` codes are not
    shifted down before the dot product, the sums are; with `plane_major` a GEMM
    takes a plane of codes for all tokens before it unpacks the next; a GEMV
    takes `parts` vectors of `lanes` rows at a time (0, the default: all
    16 / lanes of a group). With `blocks` a GEMM of many tokens and one scale a
    matrix unpacks an item's codes once and multiplies blocks of them
    (`dot_block`). One token reads `streams` places in turns, so that more lines
    are on their way from memory: as many parts of a tile, among which the
    accumulator sets are divided; of floats, as many tiles.

    - (C1) tile_rows is what the packing has.
    - (C2) lanes, unroll, tokens, chain and streams are positive, prefetch and
      parts not negative.
    - (C3) chain is at most 64, and 1 with `in_place`: the sums then fit i16. A
      code is at most 2, a pair of products thus -512..508, and 64 of them are
      -32768..32512. Codes in place are up to 64 times as large. l3: at most 28.
      An entry of a table is the sum of three of 0, q and -q, thus -384..384, and
      28 cells of three entries are -32256..32256.
    - (C4) l3 has neither in_place, plane_major nor blocks.
    - (C5) streams of trits divide unroll, and are 1 in chains (which are too
      short to part) and of l3 (whose unrolled tiles are streams).
  }];
  let parameters = (ins
    EnumParameter<Ternary_Packing>:$packing,
    "int64_t":$tileRows, "int64_t":$lanes, "int64_t":$unroll,
    "int64_t":$tokens, "int64_t":$prefetch,
    DefaultValuedParameter<"int64_t", "1">:$chain,
    DefaultValuedParameter<"bool", "false">:$inPlace,
    DefaultValuedParameter<"bool", "false">:$planeMajor,
    DefaultValuedParameter<"int64_t", "0">:$parts,
    DefaultValuedParameter<"bool", "false">:$blocks,
    DefaultValuedParameter<"int64_t", "1">:$streams);
  let builders = [AttrBuilder<(ins "Packing":$packing, "int64_t":$tileRows,
                                   "const Schedule &":$schedule), [{
    return $_get($_ctxt, packing, tileRows, schedule.lanes, schedule.unroll,
                 schedule.tokens, schedule.prefetch, schedule.chain,
                 schedule.inPlace, schedule.planeMajor, schedule.parts,
                 schedule.blocks, schedule.streams);
  }]>];
  let genVerifyDecl = 1;
  let assemblyFormat = [{
    `<` $packing `,` `tile_rows` `=` $tileRows `,` `lanes` `=` $lanes `,`
        `unroll` `=` $unroll `,` `tokens` `=` $tokens `,`
        `prefetch` `=` $prefetch ``
        custom<Options>($chain, $inPlace, $planeMajor, $parts, $blocks,
                        $streams) `` `>`
  }];
  let extraClassDeclaration = [{
    Schedule getSchedule() const;
    /// The same bytes, read by another schedule.
    LayoutAttr withSchedule(const Schedule &schedule) const;

    /// A layout of trits, whose tiles have 16 rows a plane.
    static LayoutAttr getTrits(::mlir::MLIRContext *context, Packing packing,
                               const Schedule &schedule);

    /// Whether the weights are trits rather than floats.
    bool packsTrits() const;
    /// Of floats in blocks: what a block is.
    std::optional<Encoding> getBlockEncoding() const;
    std::optional<BlockFormat> getBlockFormat() const;
    /// Groups of 16 rows in a tile of trits; 0 for floats.
    int64_t getNumPlanes() const;
    /// Whether the weights are indices into tables of sums of activations.
    bool usesTables() const;
    /// Bytes of the tables of one token. A register of 64 bytes holds a table
    /// of words; smaller ones look up the two bytes of a sum apart.
    int64_t getTableBytes(int64_t columns) const;
    /// Tokens whose tables fit `kTablesSize`, whole blocks of `tokens`.
    int64_t getTableTokens(int64_t columns) const;
    /// What repeats along K in a tile of `tile_rows` rows.
    Cell getCell() const;
    /// Trits: what repeats along K in a strip, the 16 rows that the rows
    /// beyond the last whole tile are divided into.
    Cell getStripCell() const;

    int64_t getTileBytes(int64_t columns) const;
    int64_t getStripBytes(int64_t columns) const;
    /// Bytes of a packed matrix: trits are whole tiles, then strips; floats are
    /// whole tiles, the last with rows of padding.
    int64_t getPackedBytes(int64_t rows, int64_t columns) const;
  }];
}

def Ternary_CodeLayoutAttr : Ternary_Attr<"CodeLayout", "code_layout"> {
  let summary = "Packing of a quantised float matrix and schedule of its kernel";
  let description = [{
    `tile_rows` rows form a tile, stored contiguously over all of K with their
    scales (docs/packings.md). The rest is the schedule: `lanes` rows share a
    vector register, `parts` such vectors of a tile are summed at a time, for
    `tokens` columns, `prefetch` is a distance in bytes (0: none).
  }];
  let parameters = (ins
    EnumParameter<Ternary_CodeFormat>:$format,
    "int64_t":$tileRows, "int64_t":$lanes, "int64_t":$parts,
    "int64_t":$tokens, "int64_t":$prefetch);
  let genVerifyDecl = 1;
  let assemblyFormat = [{
    `<` $format `,` `tile_rows` `=` $tileRows `,` `lanes` `=` $lanes `,`
        `parts` `=` $parts `,` `tokens` `=` $tokens `,` `prefetch` `=` $prefetch `>`
  }];
  let extraClassDeclaration = [{
    /// Bytes of the scales and codes of a tile in a group of `columns`.
    int64_t getGroupSize(int64_t columns) const;
    /// Bytes of a tile.
    int64_t getTileSize(int64_t columns) const;
    /// Bytes of a matrix: whole tiles.
    int64_t getSize(int64_t rows, int64_t columns) const;
  }];
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

def Ternary_KVElementParameter : EnumParameter<Ternary_KVElement> {
  let defaultValue = "::tercet::ternary::KVElement::F32";
}

def Ternary_KVCacheType : TypeDef<Ternary_Dialect, "KVCache"> {
  let mnemonic = "kv_cache";
  let summary = "Keys and values of all layers, for a run-time number of slots";
  let description = [{
    `!ternary.kv_cache<layers = 30, heads = 5, context = 4096, head_dim = 128>`:
    keys and values indexed [slot, layer, head, position, d]. They are f32, or
    with `element = bf16` or `element = int8` rounded when they are stored
    (docs/numerics.md).
  }];
  let parameters = (ins "int64_t":$layers, "int64_t":$heads,
                        "int64_t":$capacity, "int64_t":$headDim,
                        Ternary_KVElementParameter:$element);
  let genVerifyDecl = 1;
  let assemblyFormat = [{
    `<` `layers` `=` $layers `,` `heads` `=` $heads `,` `context` `=` $capacity
        `,` `head_dim` `=` $headDim (`,` `element` `=` $element^)? `>`
  }];
}

#endif // TERCET_DIALECT_TERNARY_DIALECT_TD
