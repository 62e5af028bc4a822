// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the bytes of a checkpoint say in each encoding. Rows are made of blocks
// of consecutive elements; bytes have any alignment.

#ifndef TERCET_DIALECT_TERNARY_SOURCEENCODING_H
#define TERCET_DIALECT_TERNARY_SOURCEENCODING_H

#include "dialect/Ternary/CodeFormat.h"

#include "llvm/ADT/ArrayRef.h"
#include <optional>

namespace tercet::ternary {

enum class Encoding : uint32_t;

struct EncodingInfo {
  bool isTernary; ///< codes of trits, and perhaps their scales; else floats
  int64_t blockSize, blockBytes;
  int64_t rowBytes = 0;  ///< in front of the blocks of each row
  int64_t tailBytes = 0; ///< behind the last row
};

EncodingInfo getEncodingInfo(Encoding encoding);

/// Bytes of a tensor; nothing when the encoding cannot hold its shape, or 64
/// bits not their number.
std::optional<int64_t> getSourceSize(Encoding encoding,
                                     llvm::ArrayRef<int64_t> shape);

/// Nothing for encodings without blocks of floats.
std::optional<BlockFormat> getBlockFormat(Encoding encoding);

/// A block as it is stored: f16s, signed integers of groups, unsigned codes.
struct FloatBlock {
  uint16_t scale, offset;
  uint8_t scales[16] = {}, offsets[16] = {};
  uint8_t codes[256];
};

FloatBlock readBlock(Encoding encoding, const uint8_t *bytes);

/// The floats that its codes stand for, `scale * code + offset`: products are
/// exact, and the sum is rounded once. The numbers that ggml dequantises to,
/// but that none is -0.
void decodeBlock(const BlockFormat &format, const FloatBlock &block,
                 llvm::MutableArrayRef<float> floats);

/// Elements from `begin` on, row-major, of an encoding of floats.
void decodeFloats(Encoding encoding, const uint8_t *bytes, int64_t begin,
                  llvm::MutableArrayRef<float> floats);

/// Row `row` of a ternary encoding's [rows, trits.size()] matrix. False if it
/// has the code 3, which is no trit and is decoded to 2.
bool decodeTrits(Encoding encoding, const uint8_t *bytes, int64_t rows,
                 int64_t row, llvm::MutableArrayRef<int8_t> trits);

/// Scales from `begin` on, row-major, of a ternary encoding that keeps
/// `numScales` of them among the codes: one for each row, or for each block.
void decodeScales(Encoding encoding, llvm::ArrayRef<uint8_t> bytes,
                  int64_t numScales, int64_t begin,
                  llvm::MutableArrayRef<float> scales);

/// Whether it does so: neither HFPacked nor I2_S.
bool hasInlineScales(Encoding encoding);

} // namespace tercet::ternary

#endif // TERCET_DIALECT_TERNARY_SOURCEENCODING_H
