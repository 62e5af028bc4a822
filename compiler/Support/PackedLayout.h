// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where packed weights live: addresses and packers of every layout. The
// formulas are those of docs/packings.md; kernels index by the same ones.

#ifndef TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H
#define TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

//===----------------------------------------------------------------------===//
// Trits
//===----------------------------------------------------------------------===//

/// Of one trit: its byte, and its place among those that share the byte. Of t3
/// the byte has two steps, and another one the signs of all. Of l3 it is the
/// first byte of a word, and its place in the word.
struct TritAddress {
  int64_t byte, plane, step = 0, signs = 0;
};
TritAddress getTritAddress(ternary::LayoutAttr layout, int64_t row, int64_t col,
                           int64_t rows, int64_t cols);

/// The trit at an address of a packed matrix.
int8_t decodeTrit(ternary::Packing packing, llvm::ArrayRef<uint8_t> packed,
                  TritAddress at);

/// Packs whole rows of `cols` trits -1, 0, 1, row-major: as many tiles as there
/// are, then strips, the last with rows of zeros up to 16. `out` has exactly
/// their bytes, so tiles and strips may be packed apart, in parallel.
void packTrits(ternary::LayoutAttr layout, llvm::ArrayRef<int8_t> weights,
               int64_t cols, llvm::MutableArrayRef<uint8_t> out);

/// Of weight scales of groups, [rows / 16, groups, 16] whatever the packing.
int64_t getGroupScaleIndex(int64_t row, int64_t group, int64_t numGroups);

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

/// The byte of a bf16, f16 or f32.
int64_t getFloatAddress(ternary::LayoutAttr layout, int64_t row, int64_t col,
                        int64_t cols);

/// `weights` holds the bit patterns of whole rows of `cols` columns, row-major,
/// that start at a tile; rows that the last tile lacks are packed as zeros.
void packBF16Pairs(llvm::ArrayRef<uint16_t> weights, int64_t cols,
                   int64_t tileRows, llvm::MutableArrayRef<uint8_t> out);

/// Whole rows of `cols` columns as they are in a file, in the encoding of the
/// layout's name: f16, f32 or blocks. Rows that the last tile lacks are zeros.
void packFloats(ternary::LayoutAttr layout, llvm::ArrayRef<uint8_t> rows,
                int64_t cols, llvm::MutableArrayRef<uint8_t> out);

/// A whole row of a packed matrix of floats, widened.
void unpackFloats(ternary::LayoutAttr layout, llvm::ArrayRef<uint8_t> packed,
                  int64_t row, llvm::MutableArrayRef<float> floats);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_PACKEDLAYOUT_H
