// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an integer form of a float matrix stores. The formulas are those of
// docs/packings.md.

#ifndef TERCET_DIALECT_TERNARY_CODEFORMAT_H
#define TERCET_DIALECT_TERNARY_CODEFORMAT_H

#include <cstdint>

namespace tercet::ternary {

enum class CodeFormat : uint32_t;

/// Codes of 8, 6 or 4 bits. 16 rows share 64-byte vectors: `planes` codes (of 4
/// columns each) a lane fill whole bytes, which makes a chunk.
struct CodeChunk {
  int64_t bits;

  int64_t numCodes() const { return int64_t(1) << bits; }
  int64_t planes() const { return bits == 8 ? 1 : bits == 4 ? 2 : 4; }
  int64_t chunkColumns() const { return 4 * planes(); }
  int64_t chunkSize() const { return 16 * chunkColumns() * bits / 8; }
};

/// A weight is `scale * (code - zero)`, or with a minimum `scale * code +
/// minimum`; scale and minimum are bf16s of `group` columns of a row.
struct CodeFormatInfo : CodeChunk {
  int64_t group;
  bool hasMinimum;

  int64_t zero() const { return hasMinimum ? 0 : numCodes() / 2; }
  /// Bytes of the scale, and minimum, of a row in a group.
  int64_t scaleSize() const { return hasMinimum ? 4 : 2; }
};

CodeFormatInfo getCodeFormatInfo(CodeFormat format);

/// Floats in blocks of consecutive elements of a row, as ggml has them: codes,
/// of which each group of columns has a scale and an offset, `scale * code +
/// offset`. `bits` are those of a code in packed weights. There T rows of a
/// tile share the block: f16s of each row, int8s of each group and row, codes.
struct BlockFormat : CodeChunk {
  int64_t columns, group;
  int64_t zero = 0; ///< the code of 0, where the offset follows from the scale
  bool hasOffset = false; ///< stored beside the scale

  /// Whether the scales and offsets of groups are integers times the block's.
  bool hasGroupScales() const { return columns != group; }
  int64_t groups() const { return columns / group; }

  /// Bytes of the codes of a group.
  int64_t groupCodesSize(int64_t tileRows) const {
    return tileRows * group * bits / 8;
  }
  /// Where these start.
  int64_t codesOffset(int64_t tileRows, int64_t group) const {
    int64_t scales = 2 + (hasGroupScales() ? groups() : 0);
    return tileRows * scales * (hasOffset ? 2 : 1) +
           group * groupCodesSize(tileRows);
  }
  /// Where the int8s of a group start.
  int64_t groupScalesOffset(int64_t tileRows, int64_t group) const {
    return tileRows * (2 + group) * (hasOffset ? 2 : 1);
  }
  int64_t size(int64_t tileRows) const {
    return codesOffset(tileRows, groups());
  }
};

} // namespace tercet::ternary

#endif // TERCET_DIALECT_TERNARY_CODEFORMAT_H
