// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where packed weights live: sizes, addresses and packers of every layout. The
// formulas are those of docs/packings.md; kernels index by the same ones.

#ifndef TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H
#define TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// Bytes of a packed [rows, cols] matrix: whole tiles.
int64_t getPackedSize(ternary::LayoutAttr layout, int64_t rows, int64_t cols);

/// Bytes of one tile of `layout.getTileRows()` rows.
int64_t getPackedTileSize(ternary::LayoutAttr layout, int64_t cols);

/// A weight's byte, and for sub-byte layouts its lowest bit there.
struct PackedAddress {
  uint64_t byte;
  unsigned bit;
};
PackedAddress getPackedAddress(ternary::LayoutAttr layout, int64_t row,
                               int64_t col, int64_t cols);

/// Rows of an i2 tile: a vector of 64 bytes holds four planes of 16 rows.
inline constexpr int64_t kI2TileRows = 64;

// Packers. `weights` holds whole rows of `cols` columns, row-major, that start
// at a tile; the last tile may lack rows, which are packed as zeros. `out` has
// exactly the bytes of those tiles, so disjoint ranges of tiles may be packed
// in parallel.

/// Trits -1, 0, 1.
void packI2(llvm::ArrayRef<int8_t> weights, int64_t cols,
            llvm::MutableArrayRef<uint8_t> out);

/// bf16 bit patterns.
void packBF16Pairs(llvm::ArrayRef<uint16_t> weights, int64_t cols,
                   int64_t tileRows, llvm::MutableArrayRef<uint8_t> out);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H
