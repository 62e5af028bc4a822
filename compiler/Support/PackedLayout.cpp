// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/PackedLayout.h"

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
  int64_t lane = 4 * (row % kRowGroup) + col % 4;
  if (tile < numTiles)
    return {tile * layout.getTileBytes(cols) +
                col / 4 * layout.getCell().bytes + lane,
            row % layout.getTileRows() / kRowGroup};
  int64_t strip = (row - numTiles * layout.getTileRows()) / kRowGroup;
  Cell cell = layout.getStripCell();
  return {numTiles * layout.getTileBytes(cols) +
              strip * layout.getStripBytes(cols) +
              col / cell.columns * cell.bytes + lane,
          col % cell.columns / 4};
}

int8_t tercet::decodeTrit(Packing packing, uint8_t byte, int64_t plane) {
  if (packing == Packing::T5)
    return getT5Trits(byte)[plane];
  assert(packing == Packing::I2 && "a packing of trits");
  return int8_t((byte >> (2 * plane) & 3) - 1);
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

/// Packs the cells of `cell.rows` rows from `firstRow`, over all of K. Planes
/// are `planeRows` rows and `planeCols` columns apart.
template <size_t numPlanes>
static void packCells(ArrayRef<int8_t> weights, int64_t cols, int64_t firstRow,
                      Cell cell, int64_t planeRows, int64_t planeCols,
                      uint32_t (*encode)(ArrayRef<uint32_t>), uint8_t *out) {
  // A block of cells is few cache lines of each source row: rows a power of two
  // apart then do not evict each other's lines.
  constexpr int64_t kBlock = 16;
  int64_t numCells = divideCeil(cols, cell.columns);
  for (int64_t block = 0; block < numCells; block += kBlock)
    for (int64_t lane = 0; lane < kRowGroup; ++lane)
      for (int64_t i = block, e = std::min(block + kBlock, numCells); i < e;
           ++i) {
        std::array<uint32_t, numPlanes> planes;
        for (size_t plane = 0; plane < numPlanes; ++plane)
          planes[plane] = encodeTrits(
              loadTrits(weights, cols, firstRow + lane + plane * planeRows,
                        i * cell.columns + plane * planeCols));
        support::endian::write32le(&out[i * cell.bytes + 4 * lane],
                                   encode(planes));
      }
}

void tercet::packTrits(LayoutAttr layout, ArrayRef<int8_t> weights,
                       int64_t cols, MutableArrayRef<uint8_t> out) {
  int64_t rows = weights.size() / cols, tileRows = layout.getTileRows();
  assert(weights.size() % cols == 0 && "whole rows");
  assert(int64_t(out.size()) == layout.getPackedBytes(rows, cols) &&
         "whole tiles and strips");
  auto pack = [&](int64_t row, Cell cell, int64_t planeRows, int64_t planeCols,
                  uint8_t *bytes) {
    if (layout.getPacking() == Packing::I2)
      packCells<4>(weights, cols, row, cell, planeRows, planeCols, encodeI2,
                   bytes);
    else
      packCells<5>(weights, cols, row, cell, planeRows, planeCols, encodeT5,
                   bytes);
  };
  int64_t row = 0;
  uint8_t *next = out.data();
  for (; row + tileRows <= rows; row += tileRows) {
    pack(row, layout.getCell(), kRowGroup, 0, next);
    next += layout.getTileBytes(cols);
  }
  for (; row < rows; row += kRowGroup) {
    pack(row, layout.getStripCell(), 0, 4, next);
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

int64_t tercet::getBF16Address(LayoutAttr layout, int64_t row, int64_t col,
                               int64_t cols) {
  int64_t tileRows = layout.getTileRows();
  return row / tileRows * layout.getTileBytes(cols) + col / 2 * tileRows * 4 +
         row % tileRows * 4 + col % 2 * 2;
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
