// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/PackedLayout.h"
#include "compiler/Support/BlockPacking.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

//===----------------------------------------------------------------------===//
// Trits
//===----------------------------------------------------------------------===//

TritAddress tercet::getTritAddress(LayoutAttr layout, int64_t row, int64_t col,
                                   int64_t rows, int64_t cols) {
  int64_t tile = row / layout.getTileRows();
  int64_t numTiles = rows / layout.getTileRows();
  int64_t first = tile * layout.getTileBytes(cols);
  int64_t plane = row % layout.getTileRows() / kRowGroup;
  Cell cell = layout.getCell();
  int64_t planeColumns = cell.columns / cell.steps;
  if (tile >= numTiles) {
    int64_t strip = (row - numTiles * layout.getTileRows()) / kRowGroup;
    first = numTiles * layout.getTileBytes(cols) +
            strip * layout.getStripBytes(cols);
    cell = layout.getStripCell();
    plane = col % (cell.columns / cell.steps) / planeColumns;
  }
  int64_t lane =
      first + col / cell.columns * cell.bytes + 4 * (row % kRowGroup);
  if (layout.usesTables())
    return {lane + 2 * plane, col % planeColumns};
  int64_t byte = lane + col % planeColumns;
  if (layout.getPacking() != Packing::T3)
    return {byte, plane};
  int64_t step = col % cell.columns / (cell.columns / cell.steps);
  return {byte + 64 * (1 + step / 2), plane, step, /*signs=*/byte};
}

/// As the magnitudes, the signs of even and odd steps are in different halves.
/// The first are at the top, where a kernel wants them.
static int64_t getT3SignBit(int64_t step) {
  return 7 - step / 2 - 4 * (step % 2);
}

int8_t tercet::decodeTrit(Packing packing, ArrayRef<uint8_t> packed,
                          TritAddress at) {
  uint8_t byte = packed[at.byte];
  switch (packing) {
  case Packing::I2:
    return int8_t((byte >> (2 * at.plane) & 3) - 1);
  case Packing::T5:
    return getT5Trits(byte)[at.plane];
  case Packing::T3:
    return getT3Trits(byte >> (at.step % 2 * 4) & 0xf,
                      packed[at.signs] >> getT3SignBit(at.step) & 1)[at.plane];
  case Packing::L3: {
    int code =
        support::endian::read16le(&packed[at.byte]) >> (at.plane / 3 * 5);
    return getT3Trits(code & 0xf, code >> 4 & 1)[at.plane % 3];
  }
  default:
    llvm_unreachable("no packing of trits");
  }
}

/// Four columns of one row as little-endian bytes; columns and rows beyond the
/// matrix are zero.
static uint32_t loadTrits(ArrayRef<int8_t> weights, int64_t cols, int64_t row,
                          int64_t col) {
  int64_t begin = row * cols + col;
  if (begin >= int64_t(weights.size()) || col >= cols)
    return 0;
  if (col + 4 <= cols)
    return support::endian::read32le(&weights[begin]);
  uint32_t word = 0;
  for (int64_t i = 0; col + i < cols; ++i)
    word |= uint32_t(uint8_t(weights[begin + i])) << (8 * i);
  return word;
}

/// Codes w + 1 of four trits: -1, 0, 1 are 3, 0, 1 modulo 4, so adding one to
/// the low two bits never carries into the next byte.
static uint32_t encodeTrits(uint32_t trits) {
  return ((trits & 0x03030303) + 0x01010101) & 0x03030303;
}

/// Four bytes from the codes of each plane: 2 bits a plane.
static uint32_t encodeI2(ArrayRef<uint32_t> planes) {
  return planes[0] | planes[1] << 2 | planes[2] << 4 | planes[3] << 6;
}

/// Byte by byte u + 40 = sum_{p<4} code_p 3^p <= 80, then what
/// `ternary::getT5Trits` says.
static uint32_t encodeT5(ArrayRef<uint32_t> planes) {
  uint32_t sums = 0;
  for (uint32_t codes : reverse(planes.drop_back()))
    sums = 3 * sums + codes;
  uint32_t bytes = 21 * planes.back();
  for (unsigned shift = 0; shift < 32; shift += 8) {
    int u = int(sums >> shift & 0xff) - 40, magnitude = std::abs(u);
    int byte = magnitude >> 1 | (magnitude & 1) << 6 | (u < 0) << 7;
    bytes += uint32_t(byte) << shift; // at most 0xc0 + 20 + 42: no carry
  }
  return bytes;
}

/// Byte by byte sum_p code_p 3^p <= 26, then less 13 as magnitude, and which
/// are negative, as bit 0.
static std::pair<uint32_t, uint32_t> encodeT3(ArrayRef<uint32_t> planes) {
  uint32_t sums = planes[0] + 3 * planes[1] + 9 * planes[2];
  // In bits 0..6 the difference, in bit 7 what tells its sign.
  uint32_t above = sums + 0x01010101u * (128 - 13);
  uint32_t below = 0x01010101u * (128 + 13) - sums;
  uint32_t negative = ~above >> 7 & 0x01010101;
  uint32_t mask = 0xff * negative;
  return {((above & ~mask) | (below & mask)) & 0x0f0f0f0f, negative};
}

namespace {
/// Rows over all of K: those of a tile, or of a strip. Planes are `planeRows`
/// rows and `planeCols` columns apart.
struct CellRows {
  ArrayRef<int8_t> weights;
  int64_t cols, firstRow;
  Cell cell;
  int64_t planeRows, planeCols;

  /// The codes of each plane in four columns of a lane.
  template <size_t numPlanes>
  std::array<uint32_t, numPlanes> getCodes(int64_t lane, int64_t col) const {
    std::array<uint32_t, numPlanes> planes;
    for (size_t plane = 0; plane < numPlanes; ++plane)
      planes[plane] = encodeTrits(loadTrits(weights, cols,
                                            firstRow + lane + plane * planeRows,
                                            col + plane * planeCols));
    return planes;
  }

  /// `pack` is called for each lane of each cell, of which it gets the first
  /// column and the place of its bytes.
  template <typename Pack> void forEachLane(uint8_t *out, Pack pack) const {
    // A block of cells is few cache lines of each source row: rows a power of
    // two apart then do not evict each other's lines.
    int64_t block = divideCeil(64, cell.columns);
    int64_t numCells = divideCeil(cols, cell.columns);
    for (int64_t begin = 0; begin < numCells; begin += block)
      for (int64_t lane = 0; lane < kRowGroup; ++lane)
        for (int64_t i = begin, e = std::min(begin + block, numCells); i < e;
             ++i)
          pack(lane, i * cell.columns, &out[i * cell.bytes + 4 * lane]);
  }
};
} // namespace

template <size_t numPlanes>
static void packBytes(const CellRows &rows,
                      uint32_t (*encode)(ArrayRef<uint32_t>), uint8_t *out) {
  rows.forEachLane(out, [&](int64_t lane, int64_t col, uint8_t *bytes) {
    support::endian::write32le(bytes,
                               encode(rows.getCodes<numPlanes>(lane, col)));
  });
}

static void packT3(const CellRows &rows, uint8_t *out) {
  int64_t stepColumns = rows.cell.columns / rows.cell.steps;
  rows.forEachLane(out, [&](int64_t lane, int64_t col, uint8_t *bytes) {
    uint32_t signs = 0;
    for (int64_t step = 0; step < rows.cell.steps && col < rows.cols;
         step += 2) {
      uint32_t nibbles = 0;
      for (int64_t half = 0; half < 2; ++half, col += stepColumns) {
        auto [magnitudes, negative] = encodeT3(rows.getCodes<3>(lane, col));
        nibbles |= magnitudes << (4 * half);
        signs |= negative << getT3SignBit(step + half);
      }
      support::endian::write32le(bytes + 64 * (1 + step / 2), nibbles);
    }
    support::endian::write32le(bytes, signs);
  });
}

/// Nine columns of one row: three codes of 5 bits, each the sign and magnitude
/// of a base-3 number; columns and rows beyond the matrix are zero.
static uint16_t encodeL3(ArrayRef<int8_t> weights, int64_t cols, int64_t row,
                         int64_t col) {
  constexpr int kFactors[] = {1, 3, 9};
  if (row * cols >= int64_t(weights.size()) || col >= cols)
    return 0;
  ArrayRef<int8_t> trits =
      weights.slice(row * cols + col, std::min<int64_t>(9, cols - col));
  std::array<int, 3> values = {};
  for (auto [i, trit] : enumerate(trits))
    values[i / 3] += kFactors[i % 3] * trit;
  uint16_t word = 0;
  for (auto [i, value] : enumerate(values))
    word |= (value < 0 ? 0x10 | -value : value) << (5 * i);
  return word;
}

static void packL3(const CellRows &rows, uint8_t *out) {
  rows.forEachLane(out, [&](int64_t lane, int64_t col, uint8_t *bytes) {
    for (int64_t plane = 0; plane < 2; ++plane)
      support::endian::write16le(
          bytes + 2 * plane,
          encodeL3(rows.weights, rows.cols,
                   rows.firstRow + lane + plane * rows.planeRows,
                   col + plane * rows.planeCols));
  });
}

void tercet::packTrits(LayoutAttr layout, ArrayRef<int8_t> weights,
                       int64_t cols, MutableArrayRef<uint8_t> out) {
  int64_t rows = weights.size() / cols, tileRows = layout.getTileRows();
  assert(weights.size() % cols == 0 && "whole rows");
  assert(int64_t(out.size()) == layout.getPackedBytes(rows, cols) &&
         "whole tiles and strips");
  auto pack = [&](const CellRows &rows, uint8_t *bytes) {
    switch (layout.getPacking()) {
    case Packing::I2:
      return packBytes<4>(rows, encodeI2, bytes);
    case Packing::T5:
      return packBytes<5>(rows, encodeT5, bytes);
    case Packing::T3:
      return packT3(rows, bytes);
    case Packing::L3:
      return packL3(rows, bytes);
    default:
      llvm_unreachable("no packing of trits");
    }
  };
  Cell cell = layout.getCell();
  int64_t planeColumns = cell.columns / cell.steps, row = 0;
  uint8_t *next = out.data();
  for (; row + tileRows <= rows; row += tileRows) {
    pack({weights, cols, row, cell, kRowGroup, 0}, next);
    next += layout.getTileBytes(cols);
  }
  for (; row < rows; row += kRowGroup) {
    pack({weights, cols, row, layout.getStripCell(), 0, planeColumns}, next);
    next += layout.getStripBytes(cols);
  }
}

int64_t tercet::getGroupScaleIndex(int64_t row, int64_t group,
                                   int64_t numGroups) {
  return (row / kRowGroup * numGroups + group) * kRowGroup + row % kRowGroup;
}

//===----------------------------------------------------------------------===//
// Floats
//===----------------------------------------------------------------------===//

int64_t tercet::getFloatAddress(LayoutAttr layout, int64_t row, int64_t col,
                                int64_t cols) {
  int64_t tileRows = layout.getTileRows();
  Cell cell = layout.getCell();
  int64_t rowBytes = cell.bytes / tileRows;
  return row / tileRows * layout.getTileBytes(cols) +
         col / cell.columns * cell.bytes + row % tileRows * rowBytes +
         col % cell.columns * 2;
}

void tercet::packBF16Pairs(ArrayRef<uint16_t> weights, int64_t cols,
                           int64_t tileRows, MutableArrayRef<uint8_t> out) {
  int64_t numRows = weights.size() / cols;
  int64_t numPairs = divideCeil(cols, 2);
  int64_t tileSize = numPairs * tileRows * 4;
  assert(weights.size() % cols == 0 && "whole rows");
  assert(int64_t(out.size()) ==
             int64_t(divideCeil(numRows, tileRows)) * tileSize &&
         "whole tiles");
  constexpr int64_t kBlock = 16; // pairs: one cache line of each source row
  for (int64_t tile = 0; tile * tileSize < int64_t(out.size()); ++tile)
    for (int64_t block = 0; block < numPairs; block += kBlock)
      for (int64_t inTile = 0; inTile < tileRows; ++inTile) {
        int64_t row = tile * tileRows + inTile;
        for (int64_t j = block, e = std::min(block + kBlock, numPairs); j < e;
             ++j) {
          uint32_t low = 0, high = 0;
          if (row < numRows) {
            low = weights[row * cols + 2 * j];
            high = 2 * j + 1 < cols ? weights[row * cols + 2 * j + 1] : 0;
          }
          support::endian::write32le(
              &out[tile * tileSize + (j * tileRows + inTile) * 4],
              low | high << 16);
        }
      }
}

/// Elements as they are in a file, of a type of their size.
template <typename T>
static void packElements(LayoutAttr layout, ArrayRef<uint8_t> rows,
                         int64_t cols, MutableArrayRef<uint8_t> out) {
  int64_t numRows = int64_t(rows.size() / sizeof(T)) / cols;
  for (int64_t row = 0; row < numRows; ++row) {
    const uint8_t *from = &rows[row * cols * sizeof(T)];
    uint8_t *to = &out[getFloatAddress(layout, row, 0, cols)];
    for (int64_t col = 0; col < cols; ++col, from += sizeof(T)) {
      memcpy(to, from, sizeof(T));
      to += layout.getCell().bytes;
    }
  }
}

void tercet::packFloats(LayoutAttr layout, ArrayRef<uint8_t> rows, int64_t cols,
                        MutableArrayRef<uint8_t> out) {
  fill(out, 0);
  switch (layout.getPacking()) {
  case Packing::F32:
    return packElements<uint32_t>(layout, rows, cols, out);
  case Packing::F16:
    return packElements<uint16_t>(layout, rows, cols, out);
  default:
    return packBlocks(layout, rows, cols, out);
  }
}

void tercet::unpackFloats(LayoutAttr layout, ArrayRef<uint8_t> packed,
                          int64_t row, MutableArrayRef<float> floats) {
  if (layout.getBlockFormat())
    return unpackBlocks(layout, packed, row, floats);
  Encoding encoding = layout.getPacking() == Packing::F32   ? Encoding::F32
                      : layout.getPacking() == Packing::F16 ? Encoding::F16
                                                            : Encoding::BF16;
  for (auto [col, value] : enumerate(floats))
    decodeFloats(encoding,
                 &packed[getFloatAddress(layout, row, col, floats.size())],
                 /*begin=*/0, value);
}
