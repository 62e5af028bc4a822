// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Float matrices as integer codes: how a row is rounded, and where codes and
// scales of a packed matrix live. The formulas are those of docs/packings.md.

#ifndef TERCET_COMPILER_SUPPORT_CODEPACKING_H
#define TERCET_COMPILER_SUPPORT_CODEPACKING_H

#include "dialect/Ternary/Ternary.h"

namespace tercet {

/// A group of a row: its weights are `scale * (code - zero) + minimum`. Both
/// floats are bf16s, and the minimum is 0 where the format has none.
struct CodeGroup {
  float scale = 0, minimum = 0;
};

/// Rounds at most a group of one row's weights to codes.
CodeGroup encodeGroup(ternary::CodeFormat format, llvm::ArrayRef<float> weights,
                      llvm::MutableArrayRef<uint8_t> codes);

/// Codes [rows, columns] and groups [rows, columns / group rounded up].
struct CodeMatrix {
  CodeMatrix(ternary::CodeFormat format, int64_t rows, int64_t columns);

  llvm::MutableArrayRef<uint8_t> codesOf(int64_t row);
  llvm::MutableArrayRef<CodeGroup> groupsOf(int64_t row);
  llvm::ArrayRef<uint8_t> codesOf(int64_t row) const;
  llvm::ArrayRef<CodeGroup> groupsOf(int64_t row) const;

  ternary::CodeFormat format;
  int64_t rows, columns, groupsPerRow;
  std::vector<uint8_t> codes;
  std::vector<CodeGroup> groups;
};

/// Columns of packed rows of `columns` columns, those of `quantize_wide`.
int64_t getPaddedColumns(int64_t columns);

/// Rounds whole rows of `columns` columns, row-major. The matrix has padded
/// columns, with codes of 0.
CodeMatrix encodeRows(ternary::CodeFormat format, llvm::ArrayRef<float> weights,
                      int64_t columns);

/// A row's codes of a chunk, at its lane of the first of 16 rows' vectors,
/// which are zeros. Of the last chunk some columns may be missing, four at a
/// time.
void packChunk(ternary::CodeChunk chunk, llvm::ArrayRef<uint8_t> codes,
               uint8_t *out);

/// The code of a column of the chunk at a row's lane.
uint8_t readChunk(ternary::CodeChunk chunk, const uint8_t *packed,
                  int64_t column);

/// Whole tiles; rows and columns beyond the matrix are zeros. `out` has exactly
/// their bytes, so disjoint ranges of tiles may be packed in parallel.
void packCodes(ternary::CodeLayoutAttr layout, const CodeMatrix &matrix,
               llvm::MutableArrayRef<uint8_t> out);

/// The inverse.
CodeMatrix unpackCodes(ternary::CodeLayoutAttr layout,
                       llvm::ArrayRef<uint8_t> packed, int64_t rows,
                       int64_t columns);

/// Where a row's scale of a group is, a bf16 before its minimum.
int64_t getScaleAddress(ternary::CodeLayoutAttr layout, int64_t row,
                        int64_t group, int64_t columns);

/// Where a row's lane of the first vector of the chunk of a column is.
int64_t getChunkAddress(ternary::CodeLayoutAttr layout, int64_t row,
                        int64_t column, int64_t columns);

} // namespace tercet

#endif // TERCET_COMPILER_SUPPORT_CODEPACKING_H
