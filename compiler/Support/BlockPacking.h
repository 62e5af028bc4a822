// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Floats in blocks of codes, with 16 rows in lanes. The formulas are those of
// docs/packings.md.

#ifndef TERCET_COMPILER_SUPPORT_BLOCKPACKING_H
#define TERCET_COMPILER_SUPPORT_BLOCKPACKING_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// Whole rows of `cols` columns as they are in a file, in the layout's
/// encoding. They start at a tile; `out` has whole tiles and is zeros.
void packBlocks(ternary::LayoutAttr layout, llvm::ArrayRef<uint8_t> rows,
                int64_t cols, llvm::MutableArrayRef<uint8_t> out);

/// What a packed row stands for.
void unpackBlocks(ternary::LayoutAttr layout, llvm::ArrayRef<uint8_t> packed,
                  int64_t row, llvm::MutableArrayRef<float> floats);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_BLOCKPACKING_H
