// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What every op of the ternary dialect computes, as plain functions on arrays:
// slow, obvious, in the order of docs/numerics.md. Shapes are those that the
// ops' verifiers demand. Loops over independent outputs run in parallel, which
// changes no result.

#ifndef TERCET_COMPILER_REFERENCE_REFERENCEOPS_H
#define TERCET_COMPILER_REFERENCE_REFERENCEOPS_H

#include "compiler/Support/CodePacking.h"
#include "dialect/Ternary/Ternary.h"

#include "llvm/Support/Error.h"

#include <map>
#include <optional>
#include <vector>

namespace tercet::reference {

/// A row-major array; scalars have rank 0.
template <typename T> struct Array {
  Array() = default;
  explicit Array(llvm::ArrayRef<int64_t> shape)
      : shape(shape), data(mlir::ShapedType::getNumElements(shape)) {}
  Array(llvm::ArrayRef<int64_t> shape, std::vector<T> data)
      : shape(shape), data(std::move(data)) {}

  /// Row i of a matrix.
  llvm::ArrayRef<T> row(int64_t i) const {
    return llvm::ArrayRef(data).slice(i * shape[1], shape[1]);
  }
  llvm::MutableArrayRef<T> row(int64_t i) {
    return llvm::MutableArrayRef(data).slice(i * shape[1], shape[1]);
  }

  llvm::SmallVector<int64_t, 2> shape;
  std::vector<T> data;
};
using Floats = Array<float>;
using Ints = Array<int32_t>;
using Shorts = Array<int16_t>;
using Bytes = Array<int8_t>; ///< also trits
using Indices = Array<int64_t>;

/// Keys and values by slot and layer; grows with the highest position stored.
struct KVCache {
  /// As they are stored: rounded to bf16, or codes of int8. Row-major
  /// [position, heads * head_dim]; scales, which only int8 has, [position,
  /// heads].
  struct Rows {
    std::vector<float> keys, values, keyScales, valueScales;
  };
  ternary::KVElement element;
  int64_t heads, capacity, headDim;
  std::map<std::pair<int32_t, int64_t>, Rows> rows = {};

  explicit KVCache(ternary::KVCacheType type)
      : element(type.getElement()), heads(type.getHeads()),
        capacity(type.getCapacity()), headDim(type.getHeadDim()) {}
  int64_t getWidth() const { return heads * headDim; }
};

// BitLinear.

struct Quantised {
  Bytes q;
  Floats scale;
  Ints sum;
};
/// Columns of q from x's on are zero. With `group` sum is [N, groups].
Quantised quantizeActivations(const Floats &x, int64_t columns,
                              std::optional<int64_t> group = {});

/// Writes the columns of `acc` from `column` on: one per row of `weights`. With
/// `group` acc is [N, groups, W].
void matmul(const Bytes &q, const Bytes &weights, int64_t column, Ints &acc,
            std::optional<int64_t> group = {});

/// Writes the columns [begin, end) of `y`.
void rescale(const Ints &acc, const Floats &activationScale, float weightScale,
             int64_t begin, int64_t end, Floats &y);

/// The same for sums and scales [rows, groups] of groups: writes the columns of
/// `y` from `column` on, one per row.
void rescaleGroups(const Ints &acc, const Floats &activationScale,
                   const Floats &weightScales, int64_t column, Floats &y);

struct Trits {
  Bytes trits;
  float scale;
};
Trits absmeanQuantize(const Floats &latent);

// The rest of a transformer. Ids that come from outside are checked.

llvm::Expected<Floats> embedding(const Ints &tokens, const Floats &table);
Floats rmsNorm(const Floats &x, const Floats &weight, float epsilon);
llvm::Expected<Floats> rope(const Floats &x, const Ints &positions,
                            const Floats &table);
llvm::Error kvUpdate(const Floats &keys, const Floats &values,
                     const Ints &positions, const Ints &slots, KVCache &cache,
                     int64_t layer);
llvm::Expected<Floats> attention(const Floats &q, const Ints &positions,
                                 const Ints &slots, const KVCache &cache,
                                 int64_t layer, float scale);
Floats gatedActivation(ternary::Activation activation, const Floats &gate,
                       const Floats &up);
llvm::Expected<Floats> gatherRows(const Floats &x, const Ints &rows);
/// Columns of the result from the rows of `weight` on are zero.
Floats linear(const Floats &x, const Floats &weight, int64_t columns);
/// `linear` on the groups of 16 rows that are listed; y elsewhere.
llvm::Expected<Floats> linear(const Floats &x, const Floats &weight,
                              const Ints &groups, const Floats &y);

/// Digits of activations: q = 256 * high + low.
struct WideActivations {
  Bytes high, low;
  Floats scale;
  Ints sums;
};
WideActivations quantizeWide(const Floats &x, int64_t group);

/// Columns of the result from the rows of `weights` on are zero.
Floats quantizedLinear(const WideActivations &x, const CodeMatrix &weights,
                       int64_t columns);

// Packed weights.

Bytes unpackTrits(const Bytes &packed, ternary::LayoutAttr layout, int64_t rows,
                  int64_t columns);
/// [rows / 16, groups, 16] as [rows, groups].
Floats unpackGroupScales(const Floats &packed);
Floats unpackFloats(const Bytes &packed, ternary::LayoutAttr layout,
                    int64_t rows, int64_t columns);

// Vectors.

Bytes unpack(const Bytes &bytes, unsigned plane, bool inPlace);
std::pair<Bytes, Bytes> unpackT5(const Bytes &bytes);
Bytes unpackT3(const Bytes &magnitudes, const Bytes &signs);
Ints dot(const Ints &acc, const Bytes &codes, const Bytes &q);
Ints dotSigned(const Ints &acc, const Bytes &codes, const Bytes &q);
Shorts dotPairs(const Shorts &acc, const Bytes &codes, const Bytes &q);
Ints addPairs(const Ints &acc, const Shorts &pairs);
Bytes lookup(const Bytes &table, const Bytes &indices);
Shorts lookup(const Shorts &table, const Shorts &indices);

} // namespace tercet::reference

#endif // TERCET_COMPILER_REFERENCE_REFERENCEOPS_H
