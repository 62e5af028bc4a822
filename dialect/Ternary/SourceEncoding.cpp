// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "dialect/Ternary/SourceEncoding.h"
#include "dialect/Ternary/Ternary.h"

#include "llvm/ADT/bit.h"
#include "llvm/Support/MathExtras.h"

using namespace llvm;
using namespace tercet::ternary;

EncodingInfo tercet::ternary::getEncodingInfo(Encoding encoding) {
  switch (encoding) {
  case Encoding::F32:
    return {false, 1, 4};
  case Encoding::F16:
  case Encoding::BF16:
    return {false, 1, 2};
  case Encoding::Q4_0:
    return {false, 32, 18};
  case Encoding::Q4_1:
    return {false, 32, 20};
  case Encoding::Q5_0:
    return {false, 32, 22};
  case Encoding::Q5_1:
    return {false, 32, 24};
  case Encoding::Q8_0:
    return {false, 32, 34};
  case Encoding::Q4_K:
    return {false, 256, 144};
  case Encoding::Q5_K:
    return {false, 256, 176};
  case Encoding::Q6_K:
    return {false, 256, 210};
  case Encoding::HFPacked:
    return {true, 1, 0}; // getSourceSize() knows
  case Encoding::I2S:
  case Encoding::I2SRows:
  case Encoding::I2SArm:
    return {true, 4, 1, /*rowBytes=*/0, /*tailBytes=*/32};
  case Encoding::TQ1_0:
    return {true, 256, 54};
  case Encoding::TQ2_0:
    return {true, 256, 66};
  case Encoding::IQ1_BN:
    return {true, 64, 13, /*rowBytes=*/2};
  case Encoding::IQ2_BN:
    return {true, 64, 16, /*rowBytes=*/4};
  }
  llvm_unreachable("unknown encoding");
}

/// Elements or rows that share bytes, so that a tensor has a multiple of them.
static int64_t getElementMultiple(Encoding encoding) {
  return encoding == Encoding::I2S      ? 128
         : encoding == Encoding::I2SArm ? 64
                                        : 1;
}
static int64_t getRowMultiple(Encoding encoding) {
  return encoding == Encoding::HFPacked || encoding == Encoding::I2SRows ? 4
                                                                         : 1;
}

std::optional<int64_t> tercet::ternary::getSourceSize(Encoding encoding,
                                                      ArrayRef<int64_t> shape) {
  EncodingInfo info = getEncodingInfo(encoding);
  int64_t rows = 1, columns = shape.empty() ? 1 : shape.back(), count, size;
  for (int64_t extent : shape.empty() ? shape : shape.drop_back())
    if (extent < 0 || MulOverflow(rows, extent, rows))
      return std::nullopt;
  if (columns < 0 || MulOverflow(rows, columns, count) ||
      columns % info.blockSize != 0 || rows % getRowMultiple(encoding) != 0 ||
      count % getElementMultiple(encoding) != 0)
    return std::nullopt;
  if (encoding == Encoding::HFPacked)
    return count / 4;
  int64_t rowSize;
  if (MulOverflow(columns / info.blockSize, info.blockBytes, rowSize) ||
      AddOverflow(rowSize, info.rowBytes, rowSize) ||
      MulOverflow(rows, rowSize, size) ||
      AddOverflow(size, info.tailBytes, size))
    return std::nullopt;
  return size;
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

/// Bytes have any alignment; memcpy of one element is a plain load.
template <typename T> static T load(const uint8_t *bytes) {
  T element;
  memcpy(&element, bytes, sizeof(T));
  return element;
}

static float widen(float value) { return value; }

namespace {
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
} // namespace

static float widen(BF16 value) {
  return bit_cast<float>(uint32_t(value.bits) << 16);
}

/// Multiplying by 2^112 rebases the exponent and normalises subnormals, both
/// exactly; only infinities and NaNs need their exponent completed.
static float widen(F16 value) {
  uint32_t magnitude = uint32_t(value.bits & 0x7fff) << 13;
  uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  if ((value.bits & 0x7c00) == 0x7c00)
    bits |= 0x7f800000;
  return bit_cast<float>(bits | uint32_t(value.bits & 0x8000) << 16);
}

static float loadF16(const uint8_t *bytes) { return widen(load<F16>(bytes)); }

template <typename T>
static void widenElements(const uint8_t *bytes, MutableArrayRef<float> floats) {
  for (float &result : floats) {
    result = widen(load<T>(bytes));
    bytes += sizeof(T);
  }
}

//===----------------------------------------------------------------------===//
// Floats in blocks, as ggml defines them
//===----------------------------------------------------------------------===//

std::optional<BlockFormat> tercet::ternary::getBlockFormat(Encoding encoding) {
  switch (encoding) {
  case Encoding::Q4_0:
    return BlockFormat{{4}, 32, 32, /*zero=*/8};
  case Encoding::Q4_1:
    return BlockFormat{{4}, 32, 32, /*zero=*/0, /*hasOffset=*/true};
  case Encoding::Q5_0:
    return BlockFormat{{6}, 32, 32, /*zero=*/16};
  case Encoding::Q5_1:
    return BlockFormat{{6}, 32, 32, /*zero=*/0, /*hasOffset=*/true};
  case Encoding::Q8_0:
    return BlockFormat{{8}, 32, 32, /*zero=*/128};
  case Encoding::Q4_K:
    return BlockFormat{{4}, 256, 32, /*zero=*/0, /*hasOffset=*/true};
  case Encoding::Q5_K:
    return BlockFormat{{6}, 256, 32, /*zero=*/0, /*hasOffset=*/true};
  case Encoding::Q6_K:
    return BlockFormat{{6}, 256, 16, /*zero=*/32};
  default:
    return std::nullopt;
  }
}

/// 16 bytes of two codes: element i in the low nibble, i + 16 in the high.
static void readNibbles(const uint8_t *bytes, uint8_t *codes) {
  for (int64_t i = 0; i < 16; ++i) {
    codes[i] = bytes[i] & 15;
    codes[i + 16] = bytes[i] >> 4;
  }
}

/// A word of the fifth bits of 32 elements, then the others as nibbles.
static void readFiveBits(const uint8_t *bytes, uint8_t *codes) {
  readNibbles(bytes + 4, codes);
  for (int64_t i = 0; i < 32; ++i)
    codes[i] |= (load<uint32_t>(bytes) >> i & 1) << 4;
}

/// Twelve bytes of six bits each: the low six bits of scales 0..3, of minima
/// 0..3, then a nibble each of scales and minima 4..7, whose high two bits are
/// on top of the first eight bytes.
static void readScalesAndMinima(const uint8_t *packed, FloatBlock &block) {
  for (int64_t j = 0; j < 4; ++j) {
    block.scales[j] = packed[j] & 63;
    block.offsets[j] = packed[4 + j] & 63;
    block.scales[4 + j] = (packed[8 + j] & 15) | (packed[j] >> 6) << 4;
    block.offsets[4 + j] = packed[8 + j] >> 4 | (packed[4 + j] >> 6) << 4;
  }
}

/// 256 elements of four bits: of 64, the first 32 in the low nibbles of 32
/// bytes, the others in the high nibbles.
static void readFourBits(const uint8_t *bytes, uint8_t *codes) {
  for (int64_t j = 0; j < 8; ++j)
    for (int64_t i = 0; i < 32; ++i)
      *codes++ = bytes[j / 2 * 32 + i] >> j % 2 * 4 & 15;
}

/// Two times 128 elements of 64 bytes of nibbles and 32 of upper bit pairs:
/// quarter q has nibbles of byte i + 32 * (q % 2), the high ones if q >= 2, and
/// pair q of byte i.
static void readSixBits(const uint8_t *bytes, uint8_t *codes) {
  for (int64_t half = 0; half < 2; ++half)
    for (int64_t q = 0; q < 4; ++q)
      for (int64_t i = 0; i < 32; ++i) {
        int low = bytes[64 * half + 32 * (q % 2) + i] >> q / 2 * 4 & 15;
        int high = bytes[128 + 32 * half + i] >> 2 * q & 3;
        *codes++ = low | high << 4;
      }
}

FloatBlock tercet::ternary::readBlock(Encoding encoding, const uint8_t *bytes) {
  constexpr uint16_t sign = 0x8000;
  FloatBlock block;
  block.scale = load<uint16_t>(bytes);
  block.offset = load<uint16_t>(bytes + 2); // where the format has one
  switch (encoding) {
  case Encoding::Q4_0: // d, codes
    readNibbles(bytes + 2, block.codes);
    break;
  case Encoding::Q4_1: // d, m, codes
    readNibbles(bytes + 4, block.codes);
    break;
  case Encoding::Q5_0:
    readFiveBits(bytes + 2, block.codes);
    break;
  case Encoding::Q5_1:
    readFiveBits(bytes + 4, block.codes);
    break;
  case Encoding::Q8_0: // d, signed codes
    for (int64_t i = 0; i < 32; ++i)
      block.codes[i] = bytes[2 + i] ^ 0x80;
    break;
  case Encoding::Q4_K: // d, dmin, scales and minima, codes
    block.offset ^= sign;
    readScalesAndMinima(bytes + 4, block);
    readFourBits(bytes + 16, block.codes);
    break;
  case Encoding::Q5_K: // with 32 bytes of fifth bits: bit j of byte i
    block.offset ^= sign;
    readScalesAndMinima(bytes + 4, block);
    readFourBits(bytes + 48, block.codes);
    for (int64_t i = 0; i < 256; ++i)
      block.codes[i] |= (bytes[16 + i % 32] >> i / 32 & 1) << 4;
    break;
  case Encoding::Q6_K: // codes, 16 signed scales, d
    block.scale = load<uint16_t>(bytes + 208);
    memcpy(block.scales, bytes + 192, 16);
    readSixBits(bytes, block.codes);
    break;
  default:
    llvm_unreachable("no encoding of blocks of floats");
  }
  return block;
}

void tercet::ternary::decodeBlock(const BlockFormat &format,
                                  const FloatBlock &block,
                                  MutableArrayRef<float> floats) {
  float scale = widen(F16{block.scale}), offset = widen(F16{block.offset});
  for (int64_t group = 0; group < format.groups(); ++group) {
    float ofGroup = scale, add = offset;
    if (format.hasGroupScales()) {
      ofGroup *= float(int8_t(block.scales[group]));
      add *= float(int8_t(block.offsets[group]));
    }
    if (!format.hasOffset)
      add = -float(format.zero) * ofGroup;
    for (int64_t i = group * format.group, e = i + format.group; i < e; ++i)
      floats[i] = ofGroup * float(block.codes[i]) + add;
  }
}

void tercet::ternary::decodeFloats(Encoding encoding, const uint8_t *bytes,
                                   int64_t begin,
                                   MutableArrayRef<float> floats) {
  EncodingInfo info = getEncodingInfo(encoding);
  bytes += begin / info.blockSize * info.blockBytes;
  if (encoding == Encoding::F32)
    return widenElements<float>(bytes, floats);
  if (encoding == Encoding::F16)
    return widenElements<F16>(bytes, floats);
  if (encoding == Encoding::BF16)
    return widenElements<BF16>(bytes, floats);

  BlockFormat format = *getBlockFormat(encoding);
  float block[256];
  for (size_t skip = begin % info.blockSize; !floats.empty(); skip = 0) {
    decodeBlock(format, readBlock(encoding, bytes),
                MutableArrayRef(block, format.columns));
    size_t size = std::min<size_t>(info.blockSize - skip, floats.size());
    std::copy_n(block + skip, size, floats.begin());
    floats = floats.drop_front(size);
    bytes += info.blockBytes;
  }
}

//===----------------------------------------------------------------------===//
// Trits
//===----------------------------------------------------------------------===//

/// Decodes the codes (w + 1) in bits 2 * Plane of each byte; returns false if
/// one is 3. Written for the vectoriser: no branch, a constant shift.
template <int Plane>
static bool decodePlane(const uint8_t *bytes, size_t size, int8_t *trits) {
  uint8_t invalid = 0;
  for (size_t i = 0; i < size; ++i) {
    uint8_t code = (bytes[i] >> (2 * Plane)) & 3;
    invalid |= code & (code >> 1);
    trits[i] = int8_t(code - 1);
  }
  return !invalid;
}

static bool decodePlane(int64_t plane, const uint8_t *bytes, size_t size,
                        int8_t *trits) {
  static constexpr decltype(&decodePlane<0>) decode[] = {
      decodePlane<0>, decodePlane<1>, decodePlane<2>, decodePlane<3>};
  return decode[plane](bytes, size, trits);
}

/// Decodes a base-3 digit of each byte, the one that `power` = 3^n moves to the
/// top. A byte is its number times 256 / 3^5, rounded up.
static void decodeDigit(uint8_t power, const uint8_t *bytes, size_t size,
                        int8_t *trits) {
  for (size_t i = 0; i < size; ++i)
    trits[i] = int8_t((uint8_t(bytes[i] * power) * 3 >> 8) - 1);
}

static constexpr uint8_t kPowersOf3[] = {1, 3, 9, 27, 81};

/// The codes of a matrix without regard to rows: 4 * width elements share
/// `width` bytes, the first `width` of them their upper bits.
static bool decodeI2S(const uint8_t *bytes, int64_t width, int64_t element,
                      MutableArrayRef<int8_t> trits) {
  bool valid = true;
  while (!trits.empty()) {
    int64_t column = element % width, plane = 3 - element / width % 4;
    size_t size = std::min<size_t>(width - column, trits.size());
    valid &= decodePlane(plane, bytes + element / (4 * width) * width + column,
                         size, trits.data());
    trits = trits.drop_front(size);
    element += int64_t(size);
  }
  return valid;
}

/// 64 bytes in two halves of four planes, then the scale.
static bool decodeTQ20(const uint8_t *block, int8_t *trits) {
  bool valid = true;
  for (int64_t i = 0; i < 8; ++i)
    valid &= decodePlane(i % 4, block + i / 4 * 32, 32, trits + 32 * i);
  return valid;
}

/// 32 bytes of five digits, 16 of five, 4 of four, then the scale.
static bool decodeTQ10(const uint8_t *block, int8_t *trits) {
  for (int64_t n = 0; n < 5; ++n) {
    decodeDigit(kPowersOf3[n], block, 32, trits + 32 * n);
    decodeDigit(kPowersOf3[n], block + 32, 16, trits + 160 + 16 * n);
  }
  for (int64_t n = 0; n < 4; ++n)
    decodeDigit(kPowersOf3[n], block + 48, 4, trits + 240 + 4 * n);
  return true;
}

static bool decodeIQ2BN(const uint8_t *block, int8_t *trits) {
  bool valid = true;
  for (int64_t plane = 0; plane < 4; ++plane)
    valid &= decodePlane(plane, block, 16, trits + 16 * plane);
  return valid;
}

/// 16 elements are five digits each of three bytes, lowest first, and one of
/// the last byte.
static bool decodeIQ1BN(const uint8_t *block, int8_t *trits) {
  for (int64_t i = 0; i < 4; ++i, trits += 16) {
    for (int64_t j = 0; j < 15; ++j)
      decodeDigit(kPowersOf3[4 - j % 5], block + 3 * i + j / 5, 1, trits + j);
    decodeDigit(kPowersOf3[4 - i], block + 12, 1, trits + 15);
  }
  return true;
}

/// Where the scale is, in a block of TQ*_0 and in a row of IQ*_BN.
static int64_t getScaleOffset(Encoding encoding) {
  return encoding == Encoding::TQ1_0   ? 52
         : encoding == Encoding::TQ2_0 ? 64
                                       : 0;
}

static float decodeScale(Encoding encoding, const uint8_t *at) {
  at += getScaleOffset(encoding);
  return encoding == Encoding::IQ2_BN ? load<float>(at) : loadF16(at);
}

/// A scale of zero makes zeros of its codes, whatever they are.
template <typename Decoder>
static bool decodeScaledBlocks(Encoding encoding, Decoder decode,
                               const uint8_t *bytes, int64_t row,
                               MutableArrayRef<int8_t> trits) {
  EncodingInfo info = getEncodingInfo(encoding);
  auto numBlocks = int64_t(trits.size()) / info.blockSize;
  const uint8_t *block =
      bytes + row * (info.rowBytes + numBlocks * info.blockBytes);
  bool ofRow = info.rowBytes != 0;
  if (ofRow && decodeScale(encoding, block) == 0)
    return std::fill(trits.begin(), trits.end(), 0), true;
  block += info.rowBytes;
  bool valid = true;
  for (int64_t i = 0; i < numBlocks; ++i, block += info.blockBytes) {
    int8_t *result = trits.data() + i * info.blockSize;
    if (!ofRow && decodeScale(encoding, block) == 0)
      std::fill_n(result, info.blockSize, 0);
    else
      valid &= decode(block, result);
  }
  return valid;
}

bool tercet::ternary::decodeTrits(Encoding encoding, const uint8_t *bytes,
                                  int64_t rows, int64_t row,
                                  MutableArrayRef<int8_t> trits) {
  auto columns = int64_t(trits.size());
  switch (encoding) {
  case Encoding::HFPacked: {
    int64_t packedRows = rows / 4;
    return decodePlane(row / packedRows, bytes + row % packedRows * columns,
                       columns, trits.data());
  }
  case Encoding::I2S:
    return decodeI2S(bytes, 32, row * columns, trits);
  case Encoding::I2SArm:
    return decodeI2S(bytes, 16, row * columns, trits);
  case Encoding::I2SRows:
    return decodePlane(3 - row % 4, bytes + row / 4 * columns, columns,
                       trits.data());
  case Encoding::TQ1_0:
    return decodeScaledBlocks(encoding, decodeTQ10, bytes, row, trits);
  case Encoding::TQ2_0:
    return decodeScaledBlocks(encoding, decodeTQ20, bytes, row, trits);
  case Encoding::IQ1_BN:
    return decodeScaledBlocks(encoding, decodeIQ1BN, bytes, row, trits);
  case Encoding::IQ2_BN:
    return decodeScaledBlocks(encoding, decodeIQ2BN, bytes, row, trits);
  default:
    llvm_unreachable("no encoding of trits");
  }
}

int64_t SourceAttr::getStoredRow(int64_t row, int64_t rows) const {
  if (getRotaryHeads() == 0)
    return row;
  int64_t half = rows / getRotaryHeads() / 2;
  int64_t head = row / (2 * half), index = row % (2 * half);
  return head * 2 * half + index % half * 2 + index / half;
}

bool tercet::ternary::hasInlineScales(Encoding encoding) {
  return encoding == Encoding::TQ1_0 || encoding == Encoding::TQ2_0 ||
         encoding == Encoding::IQ1_BN || encoding == Encoding::IQ2_BN;
}

void tercet::ternary::decodeScales(Encoding encoding, ArrayRef<uint8_t> bytes,
                                   int64_t numScales, int64_t begin,
                                   MutableArrayRef<float> scales) {
  int64_t stride = int64_t(bytes.size()) / numScales; // a block or a row
  const uint8_t *at = bytes.data() + begin * stride;
  for (float &scale : scales) {
    scale = decodeScale(encoding, at);
    at += stride;
  }
}
