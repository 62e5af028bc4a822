// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What an integer form of a float matrix stores. The formulas are those of
// docs/packings.md.

#ifndef TERCET_DIALECT_TERNARY_CODEFORMAT_H
#define TERCET_DIALECT_TERNARY_CODEFORMAT_H

#include <cstdint>

namespace tercet::ternary {

enum class CodeFormat : uint32_t;

/// A weight is `scale * (code - zero)`, or with a minimum `scale * code +
/// minimum`; scale and minimum are bf16s of `group` columns of a row.
struct CodeFormatInfo {
  int64_t bits;
  int64_t group;
  bool hasMinimum;

  int64_t numCodes() const { return int64_t(1) << bits; }
  int64_t zero() const { return hasMinimum ? 0 : numCodes() / 2; }
  /// Bytes of the scale, and minimum, of a row in a group.
  int64_t scaleSize() const { return hasMinimum ? 4 : 2; }
  /// 16 rows share 64-byte vectors: `planes` codes (of 4 columns each) a lane
  /// fill whole bytes, which makes a chunk.
  int64_t planes() const { return bits == 8 ? 1 : bits == 4 ? 2 : 4; }
  int64_t chunkColumns() const { return 4 * planes(); }
  int64_t chunkSize() const { return 16 * chunkColumns() * bits / 8; }
};

CodeFormatInfo getCodeFormatInfo(CodeFormat format);

} // namespace tercet::ternary

#endif // TERCET_DIALECT_TERNARY_CODEFORMAT_H
