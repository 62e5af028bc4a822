// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/CodePacking.h"

#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

#include <cmath>

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

//===----------------------------------------------------------------------===//
// Rounding
//===----------------------------------------------------------------------===//

/// To the nearest bf16, ties to even, of a finite value.
static float roundToBF16(float value) {
  uint32_t bits = bit_cast<uint32_t>(value);
  return bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

namespace {
/// Rounding to the codes of a given scale.
class Rounder {
public:
  Rounder(CodeFormatInfo info, CodeGroup group)
      : group(group), inverse(group.scale == 0 ? 0 : 1 / group.scale),
        low(-float(info.zero())), high(low + float(info.numCodes() - 1)) {}

  /// The code nearest to a weight, less zero.
  float operator()(float weight) const {
    // Adding it rounds to an integer, ties to even: unlike nearbyint, in
    // vectors on every machine that this may run on.
    constexpr float round = 0x1.8p23f;
    float steps = (weight - group.minimum) * inverse;
    steps = steps > low ? steps : low;
    steps = steps < high ? steps : high;
    return steps + round - round;
  }

  /// Sum of squared errors, in lanes that may be a vector.
  float getError(ArrayRef<float> weights) const {
    float sums[8] = {};
    size_t i = 0;
    for (; i + 8 <= weights.size(); i += 8)
      for (size_t lane = 0; lane < 8; ++lane)
        sums[lane] += getSquare(weights[i + lane]);
    for (; i < weights.size(); ++i)
      sums[i % 8] += getSquare(weights[i]);
    float total = 0;
    for (float sum : sums)
      total += sum;
    return total;
  }

private:
  float getSquare(float weight) const {
    float error = group.scale * (*this)(weight) + group.minimum - weight;
    return error * error;
  }

  CodeGroup group;
  float inverse, low, high;
};
} // namespace

/// The smallest and the largest weight, in lanes that may be a vector. The sign
/// of a zero shows in the scale: that of the first and the last.
static std::pair<float, float> getRange(ArrayRef<float> weights) {
  float lows[8], highs[8];
  std::fill_n(lows, 8, weights.front());
  std::fill_n(highs, 8, weights.back());
  size_t i = 0;
  for (; i + 8 <= weights.size(); i += 8)
    for (size_t lane = 0; lane < 8; ++lane) {
      float weight = weights[i + lane];
      lows[lane] = weight < lows[lane] ? weight : lows[lane];
      highs[lane] = weight > highs[lane] ? weight : highs[lane];
    }
  for (; i < weights.size(); ++i) {
    lows[0] = std::min(lows[0], weights[i]);
    highs[0] = std::max(highs[0], weights[i]);
  }
  return {*std::min_element(lows, lows + 8),
          *std::max_element(highs, highs + 8)};
}

/// Scales worth trying: the widest covers every weight, narrower ones clamp a
/// few and round the others more finely.
static SmallVector<CodeGroup> getCandidates(CodeFormatInfo info,
                                            ArrayRef<float> weights) {
  SmallVector<CodeGroup> candidates;
  auto [low, high] = getRange(weights);
  if (info.hasMinimum) {
    float middle = (low + high) / 2, reach = (high - low) / 2;
    for (int i = 0; i <= 8; ++i) {
      float narrowed = reach * (1 - float(i) / 32);
      candidates.push_back(
          {roundToBF16(2 * narrowed / float(info.numCodes() - 1)),
           roundToBF16(middle - narrowed)});
    }
    return candidates;
  }
  // The codes reach one further down than up: the largest weight is on the far
  // side, or (a scale of the other sign) on the near one.
  float largest = std::fabs(low) > std::fabs(high) ? low : high;
  for (int i = 0; i <= (info.bits == 8 ? 3 : 16); ++i) {
    float far = float(info.zero()) * (1 - float(i) / 128);
    candidates.push_back({roundToBF16(-largest / far)});
    candidates.push_back({roundToBF16(largest / (far - 1))});
  }
  return candidates;
}

CodeGroup tercet::encodeGroup(CodeFormat format, ArrayRef<float> weights,
                              MutableArrayRef<uint8_t> codes) {
  CodeFormatInfo info = getCodeFormatInfo(format);
  CodeGroup best;
  float smallest = INFINITY;
  for (CodeGroup candidate : getCandidates(info, weights)) {
    float error = Rounder(info, candidate).getError(weights);
    if (error < smallest) {
      smallest = error;
      best = candidate;
    }
  }
  Rounder round(info, best);
  int zero = int(info.zero());
  for (size_t i = 0; i < weights.size(); ++i)
    codes[i] = uint8_t(int(round(weights[i])) + zero);
  return best;
}

CodeMatrix::CodeMatrix(CodeFormat format, int64_t rows, int64_t columns)
    : format(format), rows(rows), columns(columns),
      groupsPerRow(divideCeil(columns, getCodeFormatInfo(format).group)),
      codes(rows * columns), groups(rows * groupsPerRow) {}

MutableArrayRef<uint8_t> CodeMatrix::codesOf(int64_t row) {
  return MutableArrayRef(codes).slice(row * columns, columns);
}
ArrayRef<uint8_t> CodeMatrix::codesOf(int64_t row) const {
  return ArrayRef(codes).slice(row * columns, columns);
}
MutableArrayRef<CodeGroup> CodeMatrix::groupsOf(int64_t row) {
  return MutableArrayRef(groups).slice(row * groupsPerRow, groupsPerRow);
}
ArrayRef<CodeGroup> CodeMatrix::groupsOf(int64_t row) const {
  return ArrayRef(groups).slice(row * groupsPerRow, groupsPerRow);
}

int64_t tercet::getPaddedColumns(int64_t columns) {
  return alignTo(columns, kRowGroup);
}

CodeMatrix tercet::encodeRows(CodeFormat format, ArrayRef<float> weights,
                              int64_t columns) {
  CodeMatrix matrix(format, weights.size() / columns,
                    getPaddedColumns(columns));
  int64_t group = getCodeFormatInfo(format).group;
  for (int64_t row = 0; row < matrix.rows; ++row)
    for (int64_t first = 0; first < columns; first += group) {
      int64_t count = std::min(group, columns - first);
      matrix.groupsOf(row)[first / group] =
          encodeGroup(format, weights.slice(row * columns + first, count),
                      matrix.codesOf(row).slice(first, count));
    }
  return matrix;
}

//===----------------------------------------------------------------------===//
// Packing
//===----------------------------------------------------------------------===//

/// Where the scales of a tile's group start.
static int64_t getGroupAddress(CodeLayoutAttr layout, int64_t row,
                               int64_t group, int64_t columns) {
  int64_t size = getCodeFormatInfo(layout.getFormat()).group;
  return row / layout.getTileRows() * layout.getTileSize(columns) +
         group * layout.getGroupSize(size);
}

int64_t tercet::getScaleAddress(CodeLayoutAttr layout, int64_t row,
                                int64_t group, int64_t columns) {
  return getGroupAddress(layout, row, group, columns) +
         row % layout.getTileRows() *
             getCodeFormatInfo(layout.getFormat()).scaleSize();
}

int64_t tercet::getChunkAddress(CodeLayoutAttr layout, int64_t row,
                                int64_t column, int64_t columns) {
  CodeFormatInfo info = getCodeFormatInfo(layout.getFormat());
  int64_t tileRows = layout.getTileRows();
  int64_t chunk = column % info.group / info.chunkColumns();
  return getGroupAddress(layout, row, column / info.group, columns) +
         tileRows * info.scaleSize() +
         (chunk * (tileRows / kRowGroup) + row % tileRows / kRowGroup) *
             info.chunkSize() +
         4 * (row % kRowGroup);
}

static uint16_t toBF16(float value) { return bit_cast<uint32_t>(value) >> 16; }
static float fromBF16(const uint8_t *bytes) {
  return bit_cast<float>(uint32_t(support::endian::read16le(bytes)) << 16);
}

/// Four neighbouring columns are neighbouring bytes: a plane is a word.
void tercet::packChunk(CodeChunk info, ArrayRef<uint8_t> codes, uint8_t *out) {
  using support::endian::read32le, support::endian::write32le;
  auto add = [](uint8_t *to, uint32_t word) {
    write32le(to, read32le(to) | word);
  };
  for (unsigned plane = 0; 4 * plane < codes.size(); ++plane) {
    uint32_t word = read32le(&codes[4 * plane]);
    switch (info.bits) {
    case 8:
      write32le(out, word);
      break;
    case 4:
      add(out, word << 4 * plane);
      break;
    case 6:
      add(out + 64 * (plane / 2), (word & 0x0f0f0f0f) << 4 * (plane % 2));
      add(out + 128, (word >> 4 & 0x03030303) << 2 * plane);
      break;
    }
  }
}

uint8_t tercet::readChunk(CodeChunk chunk, const uint8_t *packed,
                          int64_t column) {
  int64_t plane = column / 4;
  packed += column % 4;
  switch (chunk.bits) {
  case 8:
    return packed[0];
  case 4:
    return packed[0] >> 4 * plane & 15;
  default:
    return (packed[64 * (plane / 2)] >> 4 * (plane % 2) & 15) |
           (packed[128] >> 2 * plane & 3) << 4;
  }
}

void tercet::packCodes(CodeLayoutAttr layout, const CodeMatrix &matrix,
                       MutableArrayRef<uint8_t> out) {
  assert(layout.getFormat() == matrix.format && "codes of another format");
  assert(int64_t(out.size()) == layout.getSize(matrix.rows, matrix.columns) &&
         "whole tiles");
  CodeFormatInfo info = getCodeFormatInfo(matrix.format);
  fill(out, 0);
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (auto [i, group] : enumerate(matrix.groupsOf(row))) {
      uint8_t *scale = &out[getScaleAddress(layout, row, i, matrix.columns)];
      support::endian::write16le(scale, toBF16(group.scale));
      if (info.hasMinimum)
        support::endian::write16le(scale + 2, toBF16(group.minimum));
    }
    int64_t stride = layout.getTileRows() / kRowGroup * info.chunkSize();
    for (int64_t first = 0; first < matrix.columns; first += info.group) {
      auto codes = matrix.codesOf(row).slice(
          first, std::min(info.group, matrix.columns - first));
      int64_t at = getChunkAddress(layout, row, first, matrix.columns);
      for (; !codes.empty(); at += stride) {
        auto chunk = codes.take_front(info.chunkColumns());
        packChunk(info, chunk, &out[at]);
        codes = codes.drop_front(chunk.size());
      }
    }
  }
}

CodeMatrix tercet::unpackCodes(CodeLayoutAttr layout, ArrayRef<uint8_t> packed,
                               int64_t rows, int64_t columns) {
  CodeFormatInfo info = getCodeFormatInfo(layout.getFormat());
  CodeMatrix matrix(layout.getFormat(), rows, columns);
  for (int64_t row = 0; row < rows; ++row) {
    for (auto [i, group] : enumerate(matrix.groupsOf(row))) {
      const uint8_t *scale = &packed[getScaleAddress(layout, row, i, columns)];
      group.scale = fromBF16(scale);
      if (info.hasMinimum)
        group.minimum = fromBF16(scale + 2);
    }
    for (auto [column, code] : enumerate(matrix.codesOf(row)))
      code = readChunk(info,
                       &packed[getChunkAddress(layout, row, column, columns)],
                       int64_t(column) % info.group % info.chunkColumns());
  }
  return matrix;
}
