// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#ifndef TERCET_DIALECT_TERNARY_OPS_TD
#define TERCET_DIALECT_TERNARY_OPS_TD

include "dialect/Ternary/TernaryDialect.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/DestinationStyleOpInterface.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Ternary_Op<string mnemonic, list<Trait> traits = []>
    : Op<Ternary_Dialect, mnemonic, traits>;

def WorksOnRows : NativeOpTrait<"WorksOnRows"> {
  let cppNamespace = "::tercet::ternary";
}

/// An activation or weight: a tensor before bufferisation, a memref after.
class ShapedRankOf<list<Type> elements, list<int> ranks>
    : AnyTypeOf<[TensorRankOf<elements, ranks>, StridedMemRefRankOf<elements, ranks>]>;
class Shaped<list<Type> elements, int rank> : ShapedRankOf<elements, [rank]>;
def Activations : Shaped<[F32], 2>;        // [tokens, features]
def Accumulators : Shaped<[I32], 2>;       // [tokens, features]
def TokenIds : Shaped<[I32], 1>;           // [tokens]
def Quantised : Shaped<[I8], 2>;           // [tokens, features]
def TokenScales : Shaped<[F32], 1>;        // [tokens]
// Of packed_matmul, whose tokens and columns may be several dimensions each.
def PackedTokens : ShapedRankOf<[I8], [2, 3, 4, 5, 6, 7, 8]>; // [tokens.., columns..]
def PackedTokenScales : ShapedRankOf<[F32], [1, 2, 3, 4]>;    // [tokens..]
def PackedTokenSums : ShapedRankOf<[I32], [1, 2, 3, 4, 5]>;   // [tokens.., groups?]
def PackedResults : ShapedRankOf<[F32], [2, 3, 4, 5]>;        // [tokens.., features]
def TritMatrix : TensorRankOf<[I<2>], [2]>;// [out, in]
def FeatureVector : Shaped<[F32], 1>;      // [features]
def FloatMatrix : Shaped<[F32, BF16, F16], 2>;
def PackedBytes : Shaped<[I8], 1>;

/// Columns of a group.
def GroupSize : ConfinedAttr<I64Attr, [IntPositive,
    AttrConstraint<CPred<"::llvm::cast<::mlir::IntegerAttr>($_self).getInt() % 16 == 0">,
                   "and a multiple of 16">]>;

// Of ops with weight scales per matrix, or per row and group of columns.
def TokenSums : ShapedRankOf<[I32], [1, 2]>;  // [tokens], or [tokens, groups]
def MatmulSums : ShapedRankOf<[I32], [2, 3]>; // [tokens, out], or [tokens, groups, out]
def WeightScales : AnyTypeOf<[F32, TensorRankOf<[F32], [2]>]>; // one, or [out, groups]
def PackedScales : ShapedRankOf<[F32], [1, 3]>; // [out / 16], or [out / 16, groups, 16]

/// Destination-passing style: `outs` is the buffer of the result. Results exist
/// on tensors only; on memrefs the op writes its `outs`.
class Ternary_DestinationOp<string mnemonic, list<Trait> traits = []>
    : Ternary_Op<mnemonic, !listconcat(traits, [
        DestinationStyleOpInterface,
        DeclareOpInterfaceMethods<MemoryEffectsOpInterface>])> {
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getOutsMutable(); }
  }];
}

//===----------------------------------------------------------------------===//
// Parameters
//===----------------------------------------------------------------------===//

def Ternary_ParameterOp : Ternary_Op<"parameter", [Symbol]> {
  let summary = "A constant tensor of the model";
  let description = [{
    Names a constant without holding it: `value` is `#ternary.source` (bytes of
    a checkpoint), `#ternary.rope_table`, or a dense literal.

    Constraints:
    - (C1) `type` is a ranked tensor of static shape whose elements are i2, or
      floats or integers of whole bytes.
    - (C2) a literal, dense or a resource, has exactly type `type`; of i2 it has one
      byte for each element, and no element is -2.
    - (C3) the source's size is what encoding and shape need. A 2-D i2 type takes
      an encoding of trits, or of floats with an `absmean`, which is a positive
      finite f32. An f32 type takes any encoding of floats, an f16 type f16, and a
      bf16 type also f16 and f32 whose values all are bf16s. A 2-D f32 type with an encoding of trits is the scales that
      are stored among them, `[out, 1]` or `[out, blocks]`. With `rotary_heads`
      it is 2-D, and each head has an even number of rows.
    - (C4) a rope table has type tensor<CxHxf32> with H even, and a positive
      finite f64 theta.

    ```mlir
    ternary.parameter @w : tensor<2x4xi2> = dense<[[1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$type, AnyAttr:$value);
  let assemblyFormat = "$sym_name `:` $type `=` $value attr-dict";
  let hasVerifier = 1;
}

def Ternary_GetParameterOp : Ternary_Op<"get_parameter",
    [Pure, DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "Value of a parameter";
  let description = [{
    - (C1) the symbol names a `ternary.parameter` of the result's type.

    ```mlir
    ternary.parameter @w : tensor<2x4xi2> = dense<[[1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>
    func.func @f() -> tensor<2x4xi2> {
      %w = ternary.get_parameter @w : tensor<2x4xi2>
      return %w : tensor<2x4xi2>
    }
    // result: [[1, 0, -1, 1], [0, 0, 1, -1]]
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$name);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = "$name `:` type($result) attr-dict";
}

//===----------------------------------------------------------------------===//
// Tensor level: BitLinear
//===----------------------------------------------------------------------===//

def Ternary_AbsmeanQuantizeOp : Ternary_Op<"absmean_quantize", [Pure]> {
  let summary = "Quantises latent weights to trits, one scale per matrix";
  let description = [{
    `g = max(mean(|w|), 1e-5)` (the mean in double, then rounded to f32),
    `q = clip(round(w / g), -1, 1)`, half to even.

    - (C1) trits and latent have the same static shape.

    ```mlir
    func.func @f() -> (tensor<2x2xi2>, f32) {
      %w = arith.constant dense<[[0.5, -2.0], [0.25, 1.25]]> : tensor<2x2xf32>
      %q, %g = ternary.absmean_quantize %w : tensor<2x2xf32> -> tensor<2x2xi2>
      return %q, %g : tensor<2x2xi2>, f32
    }
    // result: [[0, -1], [0, 1]]
    // result: 1
    ```
  }];
  let arguments = (ins TensorRankOf<[F32, BF16, F16], [2]>:$latent);
  let results = (outs TritMatrix:$trits, F32:$scale);
  let assemblyFormat = "$latent attr-dict `:` type($latent) `->` type($trits)";
  let hasVerifier = 1;
}

def Ternary_BitLinearOp : Ternary_DestinationOp<"bit_linear", [AttrSizedOperandSegments]> {
  let summary = "y = (q(x) . w) * scale / s, for one or more weight matrices";
  let description = [{
    Quantises each row of x by its absmax (`quantize_activations`), multiplies
    with ternary weights exactly (`matmul`) and rescales (`rescale`). Several
    matrices share the quantised input: matrix i writes the columns that start
    at o_i, with o_0 = 0 and o_{i+1} = o_i + M_i rounded up to 16; columns
    between are unspecified.

    - (C1) at least one matrix; as many scales as matrices.
    - (C2) x is [N, K], every matrix [M_i, K], K <= 131072.
    - (C3) outs is [N, W] with W >= the end of the last matrix.

    ```mlir
    // Two fused matrices: columns 0..2 and 16..17 of the result.
    func.func @f() -> (tensor<1x3xf32>, tensor<1x2xf32>) {
      %x = arith.constant dense<[[127.0, 2.0, -3.0, 4.0]]> : tensor<1x4xf32>
      %a = arith.constant dense<[[1, 0, 0, 0], [0, 1, 1, 1], [1, 1, -1, 0]]> : tensor<3x4xi2>
      %b = arith.constant dense<[[0, -1, 0, 0], [0, 0, 0, 1]]> : tensor<2x4xi2>
      %g = arith.constant 0.5 : f32
      %h = arith.constant 2.0 : f32
      %out = tensor.empty() : tensor<1x18xf32>
      %y = ternary.bit_linear
          ins(%x, %a, %b scales %g, %h : tensor<1x4xf32>, tensor<3x4xi2>, tensor<2x4xi2>)
          outs(%out : tensor<1x18xf32>) -> tensor<1x18xf32>
      %0 = tensor.extract_slice %y[0, 0] [1, 3] [1, 1] : tensor<1x18xf32> to tensor<1x3xf32>
      %1 = tensor.extract_slice %y[0, 16] [1, 2] [1, 1] : tensor<1x18xf32> to tensor<1x2xf32>
      return %0, %1 : tensor<1x3xf32>, tensor<1x2xf32>
    }
    // result: [[63.5, 1.5, 66]]
    // result: [[-4, 8]]
    ```

    Scales of groups; the second group has one column:

    ```mlir
    func.func @f() -> tensor<1x2xf32> {
      %x = arith.constant dense<[[127.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]]> : tensor<1x17xf32>
      %w = arith.constant dense<[[1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                                 [1, -1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1]]> : tensor<2x17xi2>
      %g = arith.constant dense<[[0.5, 2.0], [1.0, 4.0]]> : tensor<2x2xf32>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.bit_linear group = 16
          ins(%x, %w scales %g : tensor<1x17xf32>, tensor<2x17xi2> scales tensor<2x2xf32>)
          outs(%out : tensor<1x2xf32>) -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[70.5, 113]]
    ```
  }];
  let arguments = (ins Activations:$x, Variadic<TritMatrix>:$weights,
                       Variadic<WeightScales>:$scales, Activations:$outs,
                       OptionalAttr<GroupSize>:$group);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    (`group` `=` $group^)? `ins` `(` $x `,` $weights `scales` $scales `:` type($x) `,`
      type($weights) custom<ScaleTypes>(ref($scales), type($scales)) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_QuantizeActivationsOp : Ternary_DestinationOp<"quantize_activations", [SameVariadicResultSize, WorksOnRows]> {
  let summary = "Absmax quantisation of each row to i8";
  let description = [{
    `s = 127 / max(max|x|, 1e-5)`, `q = clamp(roundeven(x * s), -128, 127)`,
    sum = the sum of q, with `group` that of each group of so many columns, the
    last one of what is left. Columns of q beyond x's are zero.

    - (C1) x is [N, K]; q is [N, K'] with K' >= K; scale is [N].
    - (C2) sum is [N]; with group it is [N, K / group rounded up].

    ```mlir
    func.func @f() -> (tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>) {
      %x = arith.constant dense<[[1.0, -2.0]]> : tensor<1x2xf32>
      %0 = tensor.empty() : tensor<1x4xi8>
      %1 = tensor.empty() : tensor<1xf32>
      %2 = tensor.empty() : tensor<1xi32>
      %q, %scale, %sum = ternary.quantize_activations ins(%x : tensor<1x2xf32>)
          outs(%0, %1, %2 : tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>)
          -> tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>
      return %q, %scale, %sum : tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>
    }
    // result: [[64, -127, 0, 0]]
    // result: [63.5]
    // result: [-63]
    ```
  }];
  let arguments = (ins Activations:$x, Quantised:$q_outs, TokenScales:$scale_outs,
                       TokenSums:$sum_outs, OptionalAttr<GroupSize>:$group);
  let results = (outs Optional<Quantised>:$q, Optional<TokenScales>:$scale,
                      Optional<TokenSums>:$sum);
  let assemblyFormat = [{
    (`group` `=` $group^)? `ins` `(` $x `:` type($x) `)`
    `outs` `(` $q_outs `,` $scale_outs `,` $sum_outs `:` type($q_outs) `,`
               type($scale_outs) `,` type($sum_outs) `)` attr-dict
    (`->` type($q)^ `,` type($scale) `,` type($sum))?
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return ::mlir::MutableOperandRange(getOperation(), /*start=*/1, /*length=*/3);
    }
  }];
}

def Ternary_MatmulOp : Ternary_DestinationOp<"matmul"> {
  let summary = "acc[n, o_i + m] = sum_k q[n, k] * w_i[m, k], exact in i32";
  let description = [{
    Columns as in `bit_linear`. With `group` acc[n, g] has the sums over the
    columns of group g only. `layout`, when present, is the packing and schedule
    chosen for this matmul.

    - (C1) q is [N, K'], matrices [M_i, K], K <= K', K <= 131072; columns of q
      beyond K are zero.
    - (C2) outs is [N, W] with W >= the end of the last matrix.
    - (C3) with group outs is [N, K / group rounded up, W].

    ```mlir
    func.func @f() -> tensor<1x2xi32> {
      %q = arith.constant dense<[[10, 20, 30, 40]]> : tensor<1x4xi8>
      %w = arith.constant dense<[[1, 0, -1, 1], [0, 0, 1, -1]]> : tensor<2x4xi2>
      %out = tensor.empty() : tensor<1x2xi32>
      %acc = ternary.matmul ins(%q, %w : tensor<1x4xi8>, tensor<2x4xi2>)
          outs(%out : tensor<1x2xi32>) -> tensor<1x2xi32>
      return %acc : tensor<1x2xi32>
    }
    // result: [[20, -10]]
    ```
  }];
  let arguments = (ins Quantised:$q, Variadic<TritMatrix>:$weights,
                       MatmulSums:$outs, OptionalAttr<GroupSize>:$group,
                       OptionalAttr<Ternary_LayoutAttr>:$layout);
  let results = (outs Optional<MatmulSums>:$result);
  let assemblyFormat = [{
    (`group` `=` $group^)? `ins` `(` $q `,` $weights `:` type($q) `,` type($weights) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_RescaleOp : Ternary_DestinationOp<"rescale"> {
  let summary = "y = f32(acc) * (weight scale / activation scale)";
  let description = [{
    Matrix i, of `rows[i]` rows, has columns from o_i on (see `bit_linear`). The
    sums of groups, acc [N, G, W], are added up: `y[n, o_i + m]` is the chain over
    g of `fma(f32(acc[n, g, o_i + m]), scales_i[m, g], .)`, times
    `1 / activation_scale[n]`.

    - (C1) acc is [N, W] or [N, G, W], outs [N, W], activation_scale [N].
    - (C2) one weight scale per entry of `rows`; W >= the end of the last matrix.
    - (C3) every weight scale is an f32; if acc is [N, G, W], that of matrix i is
      [rows[i], G].

    ```mlir
    func.func @f() -> tensor<1x2xf32> {
      %acc = arith.constant dense<[[20, -10]]> : tensor<1x2xi32>
      %s = arith.constant dense<[2.0]> : tensor<1xf32>
      %g = arith.constant 0.5 : f32
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.rescale ins(%acc, %s scales %g : tensor<1x2xi32>, tensor<1xf32>)
          outs(%out : tensor<1x2xf32>) rows = [2] -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[5, -2.5]]
    ```

    ```mlir
    // Two groups.
    func.func @f() -> tensor<1x2xf32> {
      %acc = arith.constant dense<[[[20, -10], [3, 5]]]> : tensor<1x2x2xi32>
      %s = arith.constant dense<[2.0]> : tensor<1xf32>
      %g = arith.constant dense<[[0.5, 2.0], [1.0, 4.0]]> : tensor<2x2xf32>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.rescale
          ins(%acc, %s scales %g : tensor<1x2x2xi32>, tensor<1xf32> scales tensor<2x2xf32>)
          outs(%out : tensor<1x2xf32>) rows = [2] -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[8, 5]]
    ```
  }];
  let arguments = (ins MatmulSums:$acc, TokenScales:$activation_scale,
                       Variadic<WeightScales>:$weight_scales, Activations:$outs,
                       DenseI64ArrayAttr:$rows);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $acc `,` $activation_scale `scales` $weight_scales `:` type($acc) `,`
              type($activation_scale)
              custom<ScaleTypes>(ref($weight_scales), type($weight_scales)) `)`
    `outs` `(` $outs `:` type($outs) `)` `rows` `=` $rows attr-dict
    (`->` type($result)^)?
  }];
}

//===----------------------------------------------------------------------===//
// Tensor level: the rest of a transformer
//===----------------------------------------------------------------------===//

def Ternary_EmbeddingOp : Ternary_DestinationOp<"embedding"> {
  let summary = "Rows of a table, by token id";
  let description = [{
    A table of bytes is packed in `layout` (`packed_linear`'s form); any other
    may have a layout that is chosen for it.

    - (C1) tokens is [N], outs [N, D], the table [V, D], or bytes and a layout of
      floats.

    ```mlir
    func.func @f() -> tensor<2x2xf32> {
      %tokens = arith.constant dense<[2, 0]> : tensor<2xi32>
      %table = arith.constant dense<[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]> : tensor<3x2xbf16>
      %out = tensor.empty() : tensor<2x2xf32>
      %y = ternary.embedding ins(%tokens, %table : tensor<2xi32>, tensor<3x2xbf16>)
          outs(%out : tensor<2x2xf32>) -> tensor<2x2xf32>
      return %y : tensor<2x2xf32>
    }
    // result: [[5, 6], [1, 2]]
    ```
  }];
  let arguments = (ins TokenIds:$tokens, AnyTypeOf<[FloatMatrix, PackedBytes]>:$table,
                       Activations:$outs, OptionalAttr<Ternary_LayoutAttr>:$layout);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $tokens `,` $table `:` type($tokens) `,` type($table) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_RMSNormOp : Ternary_DestinationOp<"rms_norm", [WorksOnRows]> {
  let summary = "y = w * (x / sqrt(mean(x^2) + eps)) per row";
  let description = [{
    - (C1) x and outs are [N, K], weight is [K].
    - (C2) epsilon is positive and finite.

    ```mlir
    func.func @f() -> tensor<1x4xf32> {
      %x = arith.constant dense<[[1.0, -1.0, 1.0, 1.0]]> : tensor<1x4xf32>
      %w = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
      %out = tensor.empty() : tensor<1x4xf32>
      %y = ternary.rms_norm ins(%x, %w : tensor<1x4xf32>, tensor<4xf32>)
          outs(%out : tensor<1x4xf32>) epsilon = 3.0 -> tensor<1x4xf32>
      return %y : tensor<1x4xf32>
    }
    // result: [[0.5, -1, 1.5, 2]]
    ```
  }];
  let arguments = (ins Activations:$x, FeatureVector:$weight, Activations:$outs,
                       F32Attr:$epsilon);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $x `,` $weight `:` type($x) `,` type($weight) `)`
    `outs` `(` $outs `:` type($outs) `)` `epsilon` `=` $epsilon attr-dict
    (`->` type($result)^)?
  }];
}

def Ternary_RopeOp : Ternary_DestinationOp<"rope"> {
  let summary = "Rotary position embedding of each head (halves, as in LLaMA)";
  let description = [{
    - (C1) x and outs are [N, heads * H] with the table [C, H], H even;
      positions is [N] with values below C.

    ```mlir
    // At position 1 the first pair (1, 3) turns by 90 degrees, the second by 0.
    func.func @f() -> tensor<1x4xf32> {
      %x = arith.constant dense<[[1.0, 2.0, 3.0, 4.0]]> : tensor<1x4xf32>
      %positions = arith.constant dense<[1]> : tensor<1xi32>
      %table = arith.constant dense<[[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]> : tensor<2x4xf32>
      %out = tensor.empty() : tensor<1x4xf32>
      %y = ternary.rope ins(%x, %positions, %table : tensor<1x4xf32>, tensor<1xi32>, tensor<2x4xf32>)
          outs(%out : tensor<1x4xf32>) -> tensor<1x4xf32>
      return %y : tensor<1x4xf32>
    }
    // result: [[-3, 2, 1, 4]]
    ```
  }];
  let arguments = (ins Activations:$x, TokenIds:$positions, Shaped<[F32], 2>:$table,
                       Activations:$outs);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $x `,` $positions `,` $table `:` type($x) `,` type($positions) `,` type($table) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_KVUpdateOp : Ternary_Op<"kv_update",
    [DeclareOpInterfaceMethods<MemoryEffectsOpInterface>]> {
  let summary = "Stores keys and values of a layer at each token's slot and position";
  let description = [{
    - (C1) keys and values are [N, heads * head_dim] of the cache; positions and
      slots are [N].
    - (C2) layer is below the cache's layers.

    ```mlir
    !cache = !ternary.kv_cache<layers = 1, heads = 1, context = 4, head_dim = 2>
    func.func @f(%cache: !cache) -> tensor<1x2xf32> {
      %keys = arith.constant dense<0.0> : tensor<2x2xf32>
      %values = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
      %positions = arith.constant dense<[0, 1]> : tensor<2xi32>
      %slots = arith.constant dense<[0, 0]> : tensor<2xi32>
      %layer = arith.constant 0 : index
      ternary.kv_update %keys, %values, %positions, %slots into %cache layer %layer
          : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2xi32>, tensor<2xi32>, !cache
      // Equal scores: the mean of the values up to position 1.
      %q = arith.constant dense<1.0> : tensor<1x2xf32>
      %p = arith.constant dense<[1]> : tensor<1xi32>
      %s = arith.constant dense<[0]> : tensor<1xi32>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.attention
          ins(%q, %p, %s, %cache layer %layer : tensor<1x2xf32>, tensor<1xi32>, tensor<1xi32>, !cache)
          outs(%out : tensor<1x2xf32>) scale = 1.0 -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[2, 3]]
    ```

    The elements of the cache say how keys and values round:

    ```mlir
    !bf16 = !ternary.kv_cache<layers = 1, heads = 1, context = 4, head_dim = 2, element = bf16>
    !int8 = !ternary.kv_cache<layers = 1, heads = 1, context = 4, head_dim = 2, element = int8>
    func.func @f(%bf16: !bf16, %int8: !int8) -> (tensor<1x2xf32>, tensor<1x2xf32>) {
      %x = arith.constant dense<[[127.0, 0.501953125]]> : tensor<1x2xf32>
      %zero = arith.constant dense<0> : tensor<1xi32>
      %layer = arith.constant 0 : index
      ternary.kv_update %x, %x, %zero, %zero into %bf16 layer %layer
          : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xi32>, tensor<1xi32>, !bf16
      ternary.kv_update %x, %x, %zero, %zero into %int8 layer %layer
          : tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xi32>, tensor<1xi32>, !int8
      // One key: its value, as it is stored.
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.attention
          ins(%x, %zero, %zero, %bf16 layer %layer : tensor<1x2xf32>, tensor<1xi32>, tensor<1xi32>, !bf16)
          outs(%out : tensor<1x2xf32>) scale = 1.0 -> tensor<1x2xf32>
      %z = ternary.attention
          ins(%x, %zero, %zero, %int8 layer %layer : tensor<1x2xf32>, tensor<1xi32>, tensor<1xi32>, !int8)
          outs(%out : tensor<1x2xf32>) scale = 1.0 -> tensor<1x2xf32>
      return %y, %z : tensor<1x2xf32>, tensor<1x2xf32>
    }
    // result: [[127, 0.5]]
    // result: [[127, 1]]
    ```
  }];
  let arguments = (ins Activations:$keys, Activations:$values, TokenIds:$positions,
                       TokenIds:$slots, Ternary_KVCacheType:$cache, Index:$layer);
  let assemblyFormat = [{
    $keys `,` $values `,` $positions `,` $slots `into` $cache `layer` $layer attr-dict
    `:` type($keys) `,` type($values) `,` type($positions) `,` type($slots) `,` type($cache)
  }];
  let hasVerifier = 1;
}

def Ternary_AttentionOp : Ternary_DestinationOp<"attention"> {
  let summary = "Causal attention of each token over its slot's keys and values";
  let description = [{
    Token n attends to positions 0..positions[n] of slot slots[n]. Query head h
    uses KV head h / (query heads / KV heads). See docs/numerics.md.

    - (C1) q and outs are [N, query heads * head_dim] with a number of query
      heads that is a multiple of the cache's heads; positions and slots are [N].
    - (C2) layer is below the cache's layers.

    ```mlir
    // Two query heads share the KV head. At position 0 there is one key to attend
    // to; at position 1 the first head prefers the second key, the other neither.
    !cache = !ternary.kv_cache<layers = 1, heads = 1, context = 4, head_dim = 2>
    func.func @f(%cache: !cache) -> tensor<2x4xf32> {
      %keys = arith.constant dense<[[0.0, 0.0], [1.0, 0.0]]> : tensor<2x2xf32>
      %values = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
      %positions = arith.constant dense<[0, 1]> : tensor<2xi32>
      %slots = arith.constant dense<[0, 0]> : tensor<2xi32>
      %layer = arith.constant 0 : index
      ternary.kv_update %keys, %values, %positions, %slots into %cache layer %layer
          : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2xi32>, tensor<2xi32>, !cache
      %q = arith.constant dense<[[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]> : tensor<2x4xf32>
      %out = tensor.empty() : tensor<2x4xf32>
      %y = ternary.attention
          ins(%q, %positions, %slots, %cache layer %layer
              : tensor<2x4xf32>, tensor<2xi32>, tensor<2xi32>, !cache)
          outs(%out : tensor<2x4xf32>) scale = 1.0 -> tensor<2x4xf32>
      return %y : tensor<2x4xf32>
    }
    // result: [[1, 2, 1, 2], [2.4621172, 3.4621172, 2, 3]]
    ```
  }];
  let arguments = (ins Activations:$q, TokenIds:$positions, TokenIds:$slots,
                       Ternary_KVCacheType:$cache, Index:$layer,
                       Activations:$outs, F32Attr:$scale);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $q `,` $positions `,` $slots `,` $cache `layer` $layer `:` type($q) `,`
              type($positions) `,` type($slots) `,` type($cache) `)`
    `outs` `(` $outs `:` type($outs) `)` `scale` `=` $scale attr-dict
    (`->` type($result)^)?
  }];
}

def Ternary_GatedActivationOp : Ternary_DestinationOp<"gated_activation", [WorksOnRows]> {
  let summary = "y = activation(gate) * up";
  let description = [{
    - (C1) gate, up and outs have the same shape.

    ```mlir
    func.func @f() -> tensor<1x2xf32> {
      %gate = arith.constant dense<[[2.0, -1.0]]> : tensor<1x2xf32>
      %up = arith.constant dense<[[3.0, 5.0]]> : tensor<1x2xf32>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.gated_activation relu2 ins(%gate, %up : tensor<1x2xf32>, tensor<1x2xf32>)
          outs(%out : tensor<1x2xf32>) -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[12, 0]]
    ```
  }];
  let arguments = (ins Activations:$gate, Activations:$up, Activations:$outs,
                       EnumAttr<Ternary_Dialect, Ternary_Activation, "activation">:$activation);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    $activation `ins` `(` $gate `,` $up `:` type($gate) `,` type($up) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_GatherRowsOp : Ternary_DestinationOp<"gather_rows"> {
  let summary = "y[i] = x[rows[i]]";
  let description = [{
    - (C1) x is [N, K], rows is [R], outs is [R, K].

    ```mlir
    func.func @f() -> tensor<1x2xf32> {
      %x = arith.constant dense<[[1.0, 2.0], [3.0, 4.0]]> : tensor<2x2xf32>
      %rows = arith.constant dense<[1]> : tensor<1xi32>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.gather_rows ins(%x, %rows : tensor<2x2xf32>, tensor<1xi32>)
          outs(%out : tensor<1x2xf32>) -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[3, 4]]
    ```
  }];
  let arguments = (ins Activations:$x, TokenIds:$rows, Activations:$outs);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    `ins` `(` $x `,` $rows `:` type($x) `,` type($rows) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_LinearOp : Ternary_DestinationOp<"linear"> {
  let summary = "y[n, m] = sum_k w[m, k] * x[n, k] in f32, a chain over k";
  let description = [{
    The head, and any layer that was not converted to ternary. With `groups` it
    computes the rows 16g .. 16g + 15 of the weight for each g in groups; the other
    columns of outs keep what they hold.

    - (C1) x is [N, K], weight [M, K], outs [N, W] with W >= M.

    ```mlir
    func.func @f() -> tensor<1x3xf32> {
      %x = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
      %w = arith.constant dense<[[0.5, 0.25], [1.0, -1.0], [3.0, 0.0]]> : tensor<3x2xbf16>
      %out = tensor.empty() : tensor<1x3xf32>
      %y = ternary.linear ins(%x, %w : tensor<1x2xf32>, tensor<3x2xbf16>)
          outs(%out : tensor<1x3xf32>) -> tensor<1x3xf32>
      return %y : tensor<1x3xf32>
    }
    // result: [[1, -1, 3]]
    ```

    ```mlir
    func.func @f() -> tensor<1x2xf32> {
      %x = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
      %w = arith.constant dense<1.0> : tensor<17x2xbf16>
      %groups = arith.constant dense<[1]> : tensor<1xi32>
      %y = arith.constant dense<0.5> : tensor<1x17xf32>
      %z = ternary.linear ins(%x, %w : tensor<1x2xf32>, tensor<17x2xbf16>)
          groups(%groups : tensor<1xi32>) outs(%y : tensor<1x17xf32>) -> tensor<1x17xf32>
      %0 = tensor.extract_slice %z[0, 15] [1, 2] [1, 1] : tensor<1x17xf32> to tensor<1x2xf32>
      return %0 : tensor<1x2xf32>
    }
    // result: [[0.5, 3]]
    ```
  }];
  let arguments = (ins Activations:$x, FloatMatrix:$weight,
                       Optional<TokenIds>:$groups, Activations:$outs,
                       OptionalAttr<Ternary_LayoutAttr>:$layout);
  let results = (outs Optional<Activations>:$result);
  let builders = [OpBuilder<(ins "::mlir::Value":$x, "::mlir::Value":$weight,
                                 "::mlir::Value":$outs), [{
    build($_builder, $_state, outs.getType(), x, weight, /*groups=*/nullptr,
          outs, /*layout=*/nullptr);
  }]>];
  let assemblyFormat = [{
    `ins` `(` $x `,` $weight `:` type($x) `,` type($weight) `)`
    (`groups` `(` $groups^ `:` type($groups) `)`)?
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_QuantizedLinearOp : Ternary_DestinationOp<"quantized_linear"> {
  let summary = "linear with weights and x rounded to integers";
  let description = [{
    Each row of the weight is cut into groups of columns, each a scale (q4: and
    a minimum) times integer codes; each row of x is one scale times 16-bit
    integers (`quantize_wide`). Sums of products are exact inside a group; over
    groups they are a chain of fma in f32 (docs/numerics.md). `bounded` asks for a
    table of how far each row may be from `linear` (compiler/Support/ErrorBound.h)
    in the weights section.

    - (C1) x is [N, K], weight [M, K], outs [N, W] with W >= M.

    ```mlir
    func.func @f() -> tensor<1x3xf32> {
      %x = arith.constant dense<[[32639.0, -2.0]]> : tensor<1x2xf32>
      %w = arith.constant dense<[[0.5, 0.5], [-127.0, 1.0], [0.0, 64.0]]> : tensor<3x2xbf16>
      %out = tensor.empty() : tensor<1x3xf32>
      %y = ternary.quantized_linear i8 ins(%x, %w : tensor<1x2xf32>, tensor<3x2xbf16>)
          outs(%out : tensor<1x3xf32>) -> tensor<1x3xf32>
      return %y : tensor<1x3xf32>
    }
    // result: [[16318.5, -4145155, -128]]
    ```
  }];
  let arguments = (ins Activations:$x, FloatMatrix:$weight, Activations:$outs,
                       Ternary_CodeFormatAttr:$format, UnitAttr:$bounded,
                       OptionalAttr<Ternary_CodeLayoutAttr>:$layout);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    $format (`bounded` $bounded^)?
    `ins` `(` $x `,` $weight `:` type($x) `,` type($weight) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_QuantizeWideOp : Ternary_DestinationOp<"quantize_wide", [SameVariadicResultSize, WorksOnRows]> {
  let summary = "Absmax quantisation of each row to 16 bits, as two signed bytes";
  let description = [{
    `scale = a / 32639` with `a = max(max|x|, 1e-30)`,
    `q = clamp(roundeven(x * (32639 / a)), -32639, 32639)` and
    `q = 256 * high + low`. sums holds the sum of q over each group of `group`
    columns, the last one of what is left. Columns beyond x's are zero.

    - (C1) x is [N, K]; high and low are [N, K'] with K' = K rounded up to 16;
      scale is [N].
    - (C2) sums is [N, K / group rounded up].

    ```mlir
    func.func @f() -> (tensor<1x16xi8>, tensor<1x16xi8>, tensor<1xf32>, tensor<1x1xi32>) {
      %x = arith.constant dense<[[32639.0, -129.0, 300.0]]> : tensor<1x3xf32>
      %0 = tensor.empty() : tensor<1x16xi8>
      %1 = tensor.empty() : tensor<1xf32>
      %2 = tensor.empty() : tensor<1x1xi32>
      %high, %low, %scale, %sums = ternary.quantize_wide group = 16 ins(%x : tensor<1x3xf32>)
          outs(%0, %0, %1, %2 : tensor<1x16xi8>, tensor<1x16xi8>, tensor<1xf32>, tensor<1x1xi32>)
          -> tensor<1x16xi8>, tensor<1x16xi8>, tensor<1xf32>, tensor<1x1xi32>
      return %high, %low, %scale, %sums : tensor<1x16xi8>, tensor<1x16xi8>, tensor<1xf32>, tensor<1x1xi32>
    }
    // result: [[127, -1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    // result: [[127, 127, 44, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]
    // result: [1]
    // result: [[32810]]
    ```
  }];
  let arguments = (ins Activations:$x, Quantised:$high_outs, Quantised:$low_outs,
                       TokenScales:$scale_outs, Accumulators:$sum_outs,
                       GroupSize:$group);
  let results = (outs Optional<Quantised>:$high, Optional<Quantised>:$low,
                      Optional<TokenScales>:$scale, Optional<Accumulators>:$sums);
  let assemblyFormat = [{
    `group` `=` $group `ins` `(` $x `:` type($x) `)`
    `outs` `(` $high_outs `,` $low_outs `,` $scale_outs `,` $sum_outs `:`
               type($high_outs) `,` type($low_outs) `,` type($scale_outs) `,`
               type($sum_outs) `)` attr-dict
    (`->` type($high)^ `,` type($low) `,` type($scale) `,` type($sums))?
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() {
      return ::mlir::MutableOperandRange(getOperation(), /*start=*/1, /*length=*/4);
    }
  }];
}

//===----------------------------------------------------------------------===//
// Loop level: packed weights
//===----------------------------------------------------------------------===//

def Ternary_PackedParameterOp : Ternary_Op<"packed_parameter", [Pure]> {
  let summary = "Bytes or floats of the artifact's weights section";
  let description = [{
    What a parameter becomes when it was written to the weights section, at the
    byte `offset`.

    - (C1) a constant offset is a multiple of 64.

    ```mlir
    // In a weights section whose byte i is i.
    func.func @f() -> tensor<4xi8> {
      %offset = arith.constant 64 : index
      %w = ternary.packed_parameter %offset : tensor<4xi8>
      return %w : tensor<4xi8>
    }
    // result: [64, 65, 66, 67]
    ```
  }];
  let arguments = (ins Index:$offset);
  let results = (outs AnyTypeOf<[AnyRankedTensor, AnyMemRef]>:$result);
  let assemblyFormat = "$offset attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Ternary_PackedMatmulOp : Ternary_DestinationOp<"packed_matmul"> {
  let summary = "matmul and rescale on packed weights";
  let description = [{
    `y[n, m] = f32(sum_k q[n, k] * w[m, k]) * (scales[m / 16] / scale[n])` with w the
    rows of all fused matrices, each padded with zero rows to a multiple of 16, packed in
    `layout`. n and k may be several indices each: positions and taps of windows. Codes
    c = w + 1 give `sum_k c * q - sum[n]`; sums in tables (l3) need no correction.

    With `group`, `y[n, m]` is the chain over groups g of columns of
    `fma(f32(sum_{k in g} q[n, k] * w[m, k]), scales[m / 16, g, m mod 16], .)`,
    times `1 / scale[n]`, and sum holds the sums of q in each group.

    - (C1) q is [N.., K'..], scale and sum [N..], outs [N.., W], W a multiple of 16. If
      there are several, K'.. are static and the last one is a multiple of 4.
    - (C2) `layout` packs trits; weights is that of W rows of K' columns, scales [W / 16].
    - (C3) with group sum is [N.., G] and scales [W / 16, G, 16], with G = K' / group
      rounded up.
    - (C4) tables, memory that the kernel fills and nobody else reads, is there
      if and only if the layout uses tables: [B, T] for B tokens at a time, a
      static number, with the T bytes that the layout needs for each.
    - (C5) a layout that uses tables has no group, as its cells of 9 columns would
      end inside groups, and q is a matrix.

    ```mlir
    // A strip of 16 rows: bits 0 and 1 of byte 4 * row + k are column k. A code
    // of 2 is a weight of 1.
    #i2 = #ternary.layout<i2, tile_rows = 64, lanes = 16, unroll = 4, tokens = 6, prefetch = 0>
    func.func @f() -> tensor<1x2xf32> {
      %q = arith.constant dense<[[1, 2, 3, 4]]> : tensor<1x4xi8>
      %scale = arith.constant dense<[2.0]> : tensor<1xf32>
      %sum = arith.constant dense<[10]> : tensor<1xi32>
      %weights = arith.constant dense<0x02> : tensor<64xi8>
      %scales = arith.constant dense<[0.5]> : tensor<1xf32>
      %out = tensor.empty() : tensor<1x16xf32>
      %y = ternary.packed_matmul #i2 ins(%q, %scale, %sum, %weights, %scales
              : tensor<1x4xi8>, tensor<1xf32>, tensor<1xi32>, tensor<64xi8>, tensor<1xf32>)
          outs(%out : tensor<1x16xf32>) -> tensor<1x16xf32>
      %0 = tensor.extract_slice %y[0, 14] [1, 2] [1, 1] : tensor<1x16xf32> to tensor<1x2xf32>
      return %0 : tensor<1x2xf32>
    }
    // result: [[2.5, 2.5]]
    ```
  }];
  let arguments = (ins PackedTokens:$q, PackedTokenScales:$scale, PackedTokenSums:$sum,
                       PackedBytes:$weights, PackedScales:$scales, PackedResults:$outs,
                       Optional<Quantised>:$tables, Ternary_LayoutAttr:$layout,
                       OptionalAttr<GroupSize>:$group);
  let results = (outs Optional<PackedResults>:$result);
  let assemblyFormat = [{
    $layout (`group` `=` $group^)?
    `ins` `(` $q `,` $scale `,` $sum `,` $weights `,` $scales `:` type($q) `,`
      type($scale) `,` type($sum) `,` type($weights) `,` type($scales) `)`
    `outs` `(` $outs `:` type($outs) `)` (`tables` `(` $tables^ `:` type($tables) `)`)?
    attr-dict (`->` type($result)^)?
  }];
}

def Ternary_PackedLinearOp : Ternary_DestinationOp<"packed_linear"> {
  let summary = "linear on packed weights";
  let description = [{
    With `groups`, some rows as in `linear`.

    - (C1) x is [N, K], outs [N, W].
    - (C2) `layout` packs floats; weights has the bytes that it needs for W rows
      (rounded up to tile_rows) of K columns (rounded up to 2).
    - (C3) with groups, tile_rows is 16: a group is a tile.

    ```mlir
    // The bf16 0x4040 is 3.
    #bf16 = #ternary.layout<bf16_pairs, tile_rows = 16, lanes = 16, unroll = 1, tokens = 4, prefetch = 0>
    func.func @f() -> tensor<1x3xf32> {
      %x = arith.constant dense<[[1.0, 2.0]]> : tensor<1x2xf32>
      %weights = arith.constant dense<0x40> : tensor<64xi8>
      %out = tensor.empty() : tensor<1x3xf32>
      %y = ternary.packed_linear #bf16 ins(%x, %weights : tensor<1x2xf32>, tensor<64xi8>)
          outs(%out : tensor<1x3xf32>) -> tensor<1x3xf32>
      return %y : tensor<1x3xf32>
    }
    // result: [[9, 9, 9]]
    ```
  }];
  let arguments = (ins Activations:$x, PackedBytes:$weights,
                       Optional<TokenIds>:$groups, Activations:$outs,
                       Ternary_LayoutAttr:$layout);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    $layout `ins` `(` $x `,` $weights `:` type($x) `,` type($weights) `)`
    (`groups` `(` $groups^ `:` type($groups) `)`)?
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

def Ternary_PackedQuantizedLinearOp : Ternary_DestinationOp<"packed_quantized_linear"> {
  let summary = "quantized_linear on packed codes and quantised activations";
  let description = [{
    - (C1) high and low are [N, K'], scale is [N], outs [N, W].
    - (C2) sums is [N, G] with G the number of the format's groups in K', and
      weights has the bytes that `layout` needs for W rows of K' columns.

    ```mlir
    // The scale of each row is the bf16 0x4040, 3; the codes are 0x40, so that
    // weights are 3 * (64 - 128).
    #i8 = #ternary.code_layout<i8, tile_rows = 16, lanes = 16, parts = 1, tokens = 1, prefetch = 0>
    func.func @f() -> tensor<1x2xf32> {
      %high = arith.constant dense<[[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]> : tensor<1x16xi8>
      %low = arith.constant dense<[[1, -6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]> : tensor<1x16xi8>
      %scale = arith.constant dense<[0.5]> : tensor<1xf32>
      %sums = arith.constant dense<[[251]]> : tensor<1x1xi32>
      %weights = arith.constant dense<0x40> : tensor<288xi8>
      %out = tensor.empty() : tensor<1x2xf32>
      %y = ternary.packed_quantized_linear #i8 ins(%high, %low, %scale, %sums, %weights
              : tensor<1x16xi8>, tensor<1x16xi8>, tensor<1xf32>, tensor<1x1xi32>, tensor<288xi8>)
          outs(%out : tensor<1x2xf32>) -> tensor<1x2xf32>
      return %y : tensor<1x2xf32>
    }
    // result: [[-24096, -24096]]
    ```
  }];
  let arguments = (ins Quantised:$high, Quantised:$low, TokenScales:$scale,
                       Accumulators:$sums, PackedBytes:$weights,
                       Activations:$outs, Ternary_CodeLayoutAttr:$layout);
  let results = (outs Optional<Activations>:$result);
  let assemblyFormat = [{
    $layout `ins` `(` $high `,` $low `,` $scale `,` $sums `,` $weights `:`
      type($high) `,` type($low) `,` type($scale) `,` type($sums) `,`
      type($weights) `)`
    `outs` `(` $outs `:` type($outs) `)` attr-dict (`->` type($result)^)?
  }];
}

//===----------------------------------------------------------------------===//
// Vector level: what a backend lowers
//===----------------------------------------------------------------------===//

def ByteVector : VectorOfRankAndType<[1], [I8]>;
def ShortVector : VectorOfRankAndType<[1], [I16]>;
def IntVector : VectorOfRankAndType<[1], [I32]>;
def TableVector : VectorOfRankAndType<[1], [I8, I16]>;

def Ternary_UnpackOp : Ternary_Op<"unpack", [Pure, SameOperandsAndResultType]> {
  let summary = "One 2-bit plane of packed bytes";
  let description = [{
    `plane` p selects bits 2p and 2p+1 of each byte: `(v >> 2p) & 3`. With
    `in_place` the field stays where it is, `v & (3 << 2p)`, 4^p times the code:
    one instruction less, undone on the sums.

    - (C1) plane is 0..3.

    ```mlir
    func.func @f() -> (vector<4xi8>, vector<4xi8>) {
      %bytes = arith.constant dense<[0, 0x04, 0x1b, 0x7f]> : vector<4xi8>
      %codes = ternary.unpack %bytes plane 1 : vector<4xi8>
      %in_place = ternary.unpack %bytes plane 1 in_place : vector<4xi8>
      return %codes, %in_place : vector<4xi8>, vector<4xi8>
    }
    // result: [0, 1, 2, 3]
    // result: [0, 4, 8, 12]
    ```
  }];
  let arguments = (ins ByteVector:$bytes, I32Attr:$plane, UnitAttr:$in_place);
  let results = (outs ByteVector:$codes);
  let assemblyFormat = "$bytes `plane` $plane (`in_place` $in_place^)? attr-dict `:` type($bytes)";
  let hasVerifier = 1;
}

def Ternary_UnpackT5Op : Ternary_Op<"unpack_t5",
    [Pure, AllTypesMatch<["bytes", "fields", "last"]>]> {
  let summary = "Packed bytes of t5 as the fields of four planes and the codes of the last";
  let description = [{
    With u = d_0 + 3 d_1 + 9 d_2 + 27 d_3 and each digit -1, 0 or 1, a byte is
    `|u| / 2 + 21 (d_4 + 1)`, plus 64 if u is odd and 128 if it is negative. The
    fields are those that `unpack` takes: bits 2p and 2p+1 are `d_p + 1`. The
    last plane is `d_4 + 1`.

    ```mlir
    func.func @f() -> (vector<4xi8>, vector<4xi8>) {
      // u = 0, 5 = 9 - 3 - 1, -5, 40 = 27 + 9 + 3 + 1; d_4 = 0, 0, -1, 1
      %bytes = arith.constant dense<[21, 87, 0xc2, 62]> : vector<4xi8>
      %fields, %last = ternary.unpack_t5 %bytes : vector<4xi8>
      %codes = ternary.unpack %fields plane 2 : vector<4xi8>
      return %codes, %last : vector<4xi8>, vector<4xi8>
    }
    // result: [1, 2, 0, 2]
    // result: [1, 1, 0, 2]
    ```
  }];
  let arguments = (ins ByteVector:$bytes);
  let results = (outs ByteVector:$fields, ByteVector:$last);
  let assemblyFormat = "$bytes attr-dict `:` type($bytes)";
}

def Ternary_UnpackT3Op : Ternary_Op<"unpack_t3",
    [Pure, AllTypesMatch<["magnitudes", "signs", "fields"]>]> {
  let summary = "Numbers of t3 as the fields of three planes";
  let description = [{
    v = d_0 + 3 d_1 + 9 d_2, each digit -1, 0 or 1, has its magnitude, at most 13,
    in the low four bits of a byte, and is negative if the top bit of the other is
    set. The fields are those that `unpack` takes: bits 2p and 2p+1 are `d_p + 1`.

    ```mlir
    func.func @f() -> (vector<4xi8>, vector<4xi8>) {
      // v = 0, 5 = 9 - 3 - 1, -5, 13 = 9 + 3 + 1
      %magnitudes = arith.constant dense<[0xf0, 0x05, 0x15, 0x0d]> : vector<4xi8>
      %signs = arith.constant dense<[0, 0x7f, 0x80, 0]> : vector<4xi8>
      %fields = ternary.unpack_t3 %magnitudes, %signs : vector<4xi8>
      %codes = ternary.unpack %fields plane 2 : vector<4xi8>
      return %fields, %codes : vector<4xi8>, vector<4xi8>
    }
    // result: [21, 32, 10, 42]
    // result: [1, 2, 0, 2]
    ```
  }];
  let arguments = (ins ByteVector:$magnitudes, ByteVector:$signs);
  let results = (outs ByteVector:$fields);
  let assemblyFormat = "$magnitudes `,` $signs attr-dict `:` type($magnitudes)";
}

def Ternary_DotOp : Ternary_Op<"dot", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc[i] += sum over j < 4 of codes[4i + j] * q[4i + j]";
  let description = [{
    codes are unsigned bytes, q signed bytes; the sum is exact in i32 (modulo
    2^32). Codes above what a backend's instructions take
    (`Backend::getMaxDotCode`) need a `wide` op.

    - (C1) codes and q have four times as many elements as acc.

    ```mlir
    func.func @f() -> vector<2xi32> {
      %acc = arith.constant dense<[100, 0]> : vector<2xi32>
      %codes = arith.constant dense<[0, 1, 2, 1, 2, 0, 0, 0]> : vector<8xi8>
      %q = arith.constant dense<[1, 2, 3, 4, -128, 6, 7, 8]> : vector<8xi8>
      %sum = ternary.dot %acc, %codes, %q : vector<2xi32>, vector<8xi8>, vector<8xi8>
      return %sum : vector<2xi32>
    }
    // result: [112, -256]
    ```
  }];
  let arguments = (ins IntVector:$acc, ByteVector:$codes, ByteVector:$q,
                       UnitAttr:$wide);
  let results = (outs IntVector:$result);
  let assemblyFormat = [{
    $acc `,` $codes `,` $q (`wide` $wide^)? attr-dict
    `:` type($acc) `,` type($codes) `,` type($q)
  }];
  let builders = [OpBuilder<(ins "::mlir::Value":$acc, "::mlir::Value":$codes,
                                 "::mlir::Value":$q), [{
    build($_builder, $_state, acc.getType(), acc, codes, q, /*wide=*/nullptr);
  }]>];
  let hasFolder = 1;
  let hasVerifier = 1;
}

def Ternary_DotSignedOp : Ternary_Op<"dot_signed", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc[i] += sum over j < 4 of codes[4i + j] * q[4i + j], codes signed";
  let description = [{
    `dot` of signed bytes, for backends whose instructions take codes as such
    (`Backend::getMaxDotCode` is 127).

    - (C1) codes and q have four times as many elements as acc.

    ```mlir
    func.func @f() -> vector<1xi32> {
      %acc = arith.constant dense<1000> : vector<1xi32>
      %codes = arith.constant dense<[-128, 0, 1, 127]> : vector<4xi8>
      %q = arith.constant dense<[-128, 5, -1, 2]> : vector<4xi8>
      %sum = ternary.dot_signed %acc, %codes, %q : vector<1xi32>, vector<4xi8>, vector<4xi8>
      return %sum : vector<1xi32>
    }
    // result: [17637]
    ```
  }];
  let arguments = (ins IntVector:$acc, ByteVector:$codes, ByteVector:$q);
  let results = (outs IntVector:$result);
  let assemblyFormat = [{
    $acc `,` $codes `,` $q attr-dict
    `:` type($acc) `,` type($codes) `,` type($q)
  }];
  let hasVerifier = 1;
}

def Ternary_DotPairsOp : Ternary_Op<"dot_pairs", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc[i] += sum over j < 2 of codes[2i + j] * q[2i + j]";
  let description = [{
    `dot` in 16 bits, half-way: codes are unsigned bytes of at most 128, so that
    a pair of products fits i16 (larger ones give an unspecified sum); q are
    signed bytes. The caller sees to it that the sums fit, as the layout's
    `chain` does; they count modulo 2^16.

    - (C1) codes and q have twice as many elements as acc.

    ```mlir
    func.func @f() -> vector<3xi16> {
      %acc = arith.constant dense<[100, 0, -32768]> : vector<3xi16>
      %codes = arith.constant dense<[1, 2, 128, 128, 0, 1]> : vector<6xi8>
      %q = arith.constant dense<[3, 4, -128, -128, 5, -1]> : vector<6xi8>
      %sum = ternary.dot_pairs %acc, %codes, %q : vector<3xi16>, vector<6xi8>, vector<6xi8>
      return %sum : vector<3xi16>
    }
    // result: [111, -32768, 32767]
    ```
  }];
  let arguments = (ins ShortVector:$acc, ByteVector:$codes, ByteVector:$q);
  let results = (outs ShortVector:$result);
  let assemblyFormat = "$acc `,` $codes `,` $q attr-dict `:` type($acc) `,` type($codes) `,` type($q)";
  let hasVerifier = 1;
}

def Ternary_AddPairsOp : Ternary_Op<"add_pairs", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc[i] += pairs[2i] + pairs[2i + 1]";
  let description = [{
    Signed 16-bit sums, widened: `add_pairs(acc, dot_pairs(0, codes, q))` is
    `dot(acc, codes, q)`. Exact in i32 (modulo 2^32).

    - (C1) pairs has twice as many elements as acc.

    ```mlir
    func.func @f() -> vector<2xi32> {
      %acc = arith.constant dense<[100, 0]> : vector<2xi32>
      %pairs = arith.constant dense<[1, -2, -32768, -32768]> : vector<4xi16>
      %sum = ternary.add_pairs %acc, %pairs : vector<2xi32>, vector<4xi16>
      return %sum : vector<2xi32>
    }
    // result: [99, -65536]
    ```
  }];
  let arguments = (ins IntVector:$acc, ShortVector:$pairs);
  let results = (outs IntVector:$result);
  let assemblyFormat = "$acc `,` $pairs attr-dict `:` type($acc) `,` type($pairs)";
  let hasVerifier = 1;
}

def Ternary_DotBlockOp : Ternary_Op<"dot_block", [SingleBlock, NoTerminator]> {
  let summary = "acc[p, n, i] += sum_k codes_p[i, k] * q[first + n, column + k]";
  let description = [{
    `dot` of 16 rows in each of some planes by `count` tokens, n < count, of
    which there is at least one, over B columns of q. With column 0 sums begin
    at zero, else at what acc holds. The codes of a plane are panels of 64
    columns, panel c those from column min(64 c, B - 64) on: byte 4 i + k mod 4
    of vector 16 c + j is that of row i and the j-th four of these columns. What
    overlaps the panel before has codes of zero. Codes are unsigned, q signed;
    sums are exact in i32 (modulo 2^32).

    `meanwhile` runs for each i < `work` at some time, which may be between the
    products: a matrix unit leaves those of vectors idle. It neither reads nor
    writes what the op writes, nor writes what it reads.

    - (C1) q is [N, K], K at least 64 and a multiple of 4.
    - (C2) codes is [P, 16 C, 64], C at most K / 64 rounded up, B = min(64 C, K),
      column + B at most K; acc is [P, T, 16] with T a multiple of 32 and at
      least count, of which the tokens beyond count are unspecified.

    ```mlir
    func.func @f(%q: memref<?x96xi8>, %codes: memref<4x32x64xi8>, %acc: memref<4x128x16xi32>, %n: index) {
      %c0 = arith.constant 0 : index
      ternary.dot_block %q[%c0, %c0] count %n, %codes into %acc
          : memref<?x96xi8>, memref<4x32x64xi8>, memref<4x128x16xi32>
      return
    }
    ```
  }];
  let arguments = (ins StridedMemRefRankOf<[I8], [2]>:$q, Index:$first, Index:$column,
                       Index:$count, StaticShapeMemRefOf<[I8]>:$codes,
                       StaticShapeMemRefOf<[I32]>:$acc,
                       DefaultValuedAttr<I64Attr, "0">:$work);
  let regions = (region MaxSizedRegion<1>:$meanwhile);
  let assemblyFormat = [{
    $q `[` $first `,` $column `]` `count` $count `,` $codes `into` $acc
    (`meanwhile` $work $meanwhile^)? attr-dict
    `:` type($q) `,` type($codes) `,` type($acc)
  }];
  let extraClassDeclaration = [{
    /// B of the description.
    int64_t getNumColumns();
    /// One iteration of `meanwhile`.
    void cloneWork(::mlir::OpBuilder &builder, ::mlir::Value index);
  }];
  let hasVerifier = 1;
}

def Ternary_LookupOp : Ternary_Op<"lookup", [Pure, AllTypesMatch<["indices", "result"]>]> {
  let summary = "result[i] = table[indices[i] mod size of table]";
  let description = [{
    Elements of table, indices and result are all i8 or all i16.

    - (C1) the table's size is a power of two, at most 256.
    - (C2) table and indices have elements of one type.

    ```mlir
    func.func @f() -> vector<3xi8> {
      %table = arith.constant dense<[10, 20, 30, 40]> : vector<4xi8>
      %indices = arith.constant dense<[1, 3, 5]> : vector<3xi8>
      %values = ternary.lookup %table, %indices : vector<4xi8>, vector<3xi8>
      return %values : vector<3xi8>
    }
    // result: [20, 40, 20]
    ```
  }];
  let arguments = (ins TableVector:$table, TableVector:$indices);
  let results = (outs TableVector:$result);
  let assemblyFormat = "$table `,` $indices attr-dict `:` type($table) `,` type($indices)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Fusion
//===----------------------------------------------------------------------===//

def Ternary_FusedRowsOp : Ternary_DestinationOp<"fused_rows",
    [AttrSizedOperandSegments, IsolatedFromAbove, SingleBlock, NoTerminator]> {
  let summary = "Ops that need no row but their own, one row after the other";
  let description = [{
    On memrefs only. The block's arguments are `ins`, `outs`, then one row for
    each result that nothing else reads, of stride 0: every row of it is the
    same memory, the worker's own.

    - (C1) The first of `ins` is [N, K]: it has the rows.
    - (C2) The first arguments of the block are those of the op; the others are
      `memref<?xKxf32, strided<[0, 1]>>`.
    - (C3) The block's ops of this dialect have the trait WorksOnRows (rms_norm,
      gated_activation, quantize_activations, quantize_wide), or are
      worker_scratch of a kernel that replaced one.

    ```mlir
    func.func @f(%x: memref<?x32xf32>, %w: memref<32xf32>, %q: memref<?x32xi8>,
                 %scale: memref<?xf32>, %sum: memref<?xi32>) {
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
    ```
  }];
  let arguments = (ins Variadic<AnyMemRef>:$ins, Variadic<AnyMemRef>:$outs);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `ins` `(` $ins `:` type($ins) `)` `outs` `(` $outs `:` type($outs) `)`
    $body attr-dict
  }];
  let extraClassDeclaration = [{
    ::mlir::MutableOperandRange getDpsInitsMutable() { return getOutsMutable(); }
    /// The operand that an argument of the block stands for; null if it is a
    /// row of a worker.
    ::mlir::Value getOperandOf(::mlir::Value argument);
  }];
}

//===----------------------------------------------------------------------===//
// Parallel execution
//===----------------------------------------------------------------------===//

def Ternary_ParallelForOp : Ternary_Op<"parallel_for"> {
  let summary = "Runs a body function on all items through the runtime's pool";
  let description = [{
    Calls `tercet_parallel_for(pool, body, context, items, work)`; the body is a
    function of the captures, then the first item, one past the last item, and
    the worker's scratch memory. `work` is about how many vector instructions an
    item takes, -1 if that is unknown.

    ```mlir
    func.func private @body(%x: f32, %begin: index, %end: index, %scratch: memref<16xf32>)
    func.func @f(%pool: !llvm.ptr, %x: f32, %n: index, %work: index) {
      ternary.parallel_for @body(%x) items %n work %work pool %pool : !llvm.ptr, (f32)
      return
    }
    ```
  }];
  let arguments = (ins FlatSymbolRefAttr:$body, AnyType:$pool, Index:$items,
                       Index:$work, Variadic<AnyType>:$captures);
  let assemblyFormat = [{
    $body `(` $captures `)` `items` $items `work` $work `pool` $pool attr-dict
    `:` type($pool) `,` `(` type($captures) `)`
  }];
}

def Ternary_WorkerScratchOp : Ternary_Op<"worker_scratch"> {
  let summary = "Private memory of the worker that runs the enclosing scf.parallel";
  let description = [{
    ```mlir
    func.func @f(%x: f32, %n: index) {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      scf.parallel (%item) = (%c0) to (%n) step (%c1) {
        %scratch = ternary.worker_scratch : memref<16xf32>
        memref.store %x, %scratch[%c0] : memref<16xf32>
      }
      return
    }
    ```
  }];
  let results = (outs MemRefRankOf<[F32, I8], [1]>:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

#endif // TERCET_DIALECT_TERNARY_OPS_TD
