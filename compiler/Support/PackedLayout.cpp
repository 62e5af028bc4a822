// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/PackedLayout.h"

#include "llvm/Support/Endian.h"
#include "llvm/Support/MathExtras.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;

static constexpr int64_t kLanes = 16;

int64_t tercet::getPackedTileSize(LayoutAttr layout, int64_t cols) {
  switch (layout.getPacking()) {
  case Packing::I2:
    assert(layout.getTileRows() == kI2TileRows && "i2 tiles have 64 rows");
    return divideCeil(cols, 4) * kI2TileRows;
  case Packing::BF16Pairs:
    assert(layout.getTileRows() % kLanes == 0 && "16 rows a vector");
    return divideCeil(cols, 2) * layout.getTileRows() * 4;
  }
  llvm_unreachable("unknown packing");
}

int64_t tercet::getPackedSize(LayoutAttr layout, int64_t rows, int64_t cols) {
  return divideCeil(rows, layout.getTileRows()) *
         getPackedTileSize(layout, cols);
}

PackedAddress tercet::getPackedAddress(LayoutAttr layout, int64_t row,
                                       int64_t col, int64_t cols) {
  int64_t tileRows = layout.getTileRows();
  int64_t tile = row / tileRows * getPackedTileSize(layout, cols);
  int64_t inTile = row % tileRows;
  switch (layout.getPacking()) {
  case Packing::I2:
    return {
        uint64_t(tile + col / 4 * kI2TileRows + 4 * (row % kLanes) + col % 4),
        unsigned(inTile / kLanes * 2)};
  case Packing::BF16Pairs:
    return {uint64_t(tile + col / 2 * tileRows * 4 + inTile * 4 + col % 2 * 2),
            0};
  }
  llvm_unreachable("unknown packing");
}

/// Four columns of one row as little-endian bytes; columns and rows beyond the
/// matrix are zero.
static uint32_t loadTrits(ArrayRef<int8_t> weights, int64_t cols, int64_t row,
                          int64_t col) {
  int64_t begin = row * cols + col;
  if (begin >= int64_t(weights.size()))
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

void tercet::packI2(ArrayRef<int8_t> weights, int64_t cols,
                    MutableArrayRef<uint8_t> out) {
  int64_t numSteps = divideCeil(cols, 4);
  int64_t tileSize = numSteps * kI2TileRows;
  assert(weights.size() % cols == 0 && "whole rows");
  assert(int64_t(out.size()) ==
             int64_t(divideCeil(weights.size(), cols * kI2TileRows)) *
                 tileSize &&
         "whole tiles");
  // A block of steps is one cache line of each source row, and 1 KB of output:
  // rows a power of two apart then do not evict each other's lines.
  constexpr int64_t kBlock = 16;
  for (int64_t tile = 0; tile * tileSize < int64_t(out.size()); ++tile)
    for (int64_t block = 0; block < numSteps; block += kBlock)
      for (int64_t lane = 0; lane < kLanes; ++lane)
        for (int64_t k = block, e = std::min(block + kBlock, numSteps); k < e;
             ++k) {
          int64_t row = tile * kI2TileRows + lane;
          uint32_t word = 0;
          for (int64_t plane = 0; plane < 4; ++plane)
            word |= encodeTrits(
                        loadTrits(weights, cols, row + plane * kLanes, 4 * k))
                    << (2 * plane);
          support::endian::write32le(
              &out[tile * tileSize + k * kI2TileRows + 4 * lane], word);
        }
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
