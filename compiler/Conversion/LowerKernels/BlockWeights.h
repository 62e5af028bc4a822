// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Packed codes as kernels read them: rows in lanes, four columns a lane
// (docs/packings.md).

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_BLOCKWEIGHTS_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_BLOCKWEIGHTS_H

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// A plane's codes of `lanes` rows as bytes, from the chunk at an address.
mlir::Value loadCodes(KernelBuilder &b, ternary::CodeChunk chunk,
                      mlir::Value packed, mlir::Value address, int64_t plane,
                      int64_t lanes);

/// Weights of a tile of floats in blocks, `lanes` rows a vector.
class BlockWeights {
public:
  using Value = mlir::Value;

  BlockWeights(KernelBuilder &b, ternary::LayoutAttr layout, Value packed,
               int64_t lanes)
      : b(b), format(*layout.getBlockFormat()), tileRows(layout.getTileRows()),
        lanes(lanes), packed(packed) {}

  /// What rows have of a group of columns: weights are `scale * code + offset`.
  struct Group {
    /// For codes that are byte 0, 1 or 2 of a word, and not shifted down.
    Value scales[3];
    Value offset;
    Value codes; ///< address
  };
  /// Of the block of a tile at address `block`; `row` is the first in the tile.
  Group loadGroup(Value block, Value group, Value row);

  /// Address of the chunk that has a column of the group.
  Value getChunk(const Group &group, int64_t column);
  /// The codes of four columns, from `column` of the group on.
  Value loadCodes(const Group &group, int64_t column);
  /// The weights of the i-th of them, f32.
  Value decode(const Group &group, Value codes, int64_t i);

private:
  mlir::VectorType floats() {
    return mlir::VectorType::get(lanes, b.getF32Type());
  }
  Value splat(float value);
  /// Whether a dot product takes a code out of its word and makes a float of
  /// it.
  bool usesDots() { return b.options.dotsBytes && !format.hasOffset; }

  KernelBuilder &b;
  const ternary::BlockFormat format;
  const int64_t tileRows, lanes;
  const Value packed;
};

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_BLOCKWEIGHTS_H
