// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Support/BlockPacking.h"
#include "compiler/Support/CodePacking.h"
#include "dialect/Ternary/SourceEncoding.h"

#include "llvm/Support/Endian.h"

using namespace llvm;
using namespace tercet;
using namespace tercet::ternary;
using support::endian::read16le, support::endian::write16le;

namespace {
/// What a row has of a block: of a tile that starts at `tile`.
class BlockRow {
public:
  BlockRow(LayoutAttr layout, const BlockFormat &format, int64_t row,
           int64_t block, int64_t cols)
      : format(format), tileRows(layout.getTileRows()), inTile(row % tileRows),
        begin(row / tileRows * layout.getTileBytes(cols) +
              block * format.size(tileRows)) {}

  int64_t scale() const { return begin + 2 * inTile; }
  int64_t offset() const { return scale() + 2 * tileRows; }
  int64_t groupScale(int64_t group) const {
    return begin + format.groupScalesOffset(tileRows, group) + inTile;
  }
  int64_t groupOffset(int64_t group) const {
    return groupScale(group) + tileRows;
  }
  /// The first chunk of codes of a group.
  int64_t codes(int64_t group) const {
    return begin + format.codesOffset(tileRows, group) +
           inTile / kRowGroup * format.chunkSize() + 4 * (inTile % kRowGroup);
  }
  /// Between chunks.
  int64_t stride() const { return tileRows / kRowGroup * format.chunkSize(); }

private:
  const BlockFormat &format;
  int64_t tileRows, inTile, begin;
};
} // namespace

static void packBlock(const BlockFormat &format, const FloatBlock &block,
                      const BlockRow &at, MutableArrayRef<uint8_t> out) {
  write16le(&out[at.scale()], block.scale);
  if (format.hasOffset)
    write16le(&out[at.offset()], block.offset);
  for (int64_t group = 0; group < format.groups(); ++group) {
    if (format.hasGroupScales()) {
      out[at.groupScale(group)] = block.scales[group];
      if (format.hasOffset)
        out[at.groupOffset(group)] = block.offsets[group];
    }
    auto codes =
        ArrayRef(block.codes).slice(group * format.group, format.group);
    for (int64_t to = at.codes(group); !codes.empty(); to += at.stride()) {
      packChunk(format, codes.take_front(format.chunkColumns()), &out[to]);
      codes = codes.drop_front(format.chunkColumns());
    }
  }
}

void tercet::packBlocks(LayoutAttr layout, ArrayRef<uint8_t> rows, int64_t cols,
                        MutableArrayRef<uint8_t> out) {
  Encoding encoding = *layout.getBlockEncoding();
  BlockFormat format = *getBlockFormat(encoding);
  int64_t blocksPerRow = cols / format.columns;
  int64_t blockBytes = getEncodingInfo(encoding).blockBytes;
  assert(cols % format.columns == 0 && "whole blocks");
  for (int64_t i = 0, e = int64_t(rows.size()) / blockBytes; i < e; ++i)
    packBlock(format, readBlock(encoding, &rows[i * blockBytes]),
              {layout, format, i / blocksPerRow, i % blocksPerRow, cols}, out);
}

static FloatBlock unpackBlock(const BlockFormat &format, const BlockRow &at,
                              ArrayRef<uint8_t> packed) {
  FloatBlock block;
  block.scale = read16le(&packed[at.scale()]);
  block.offset = format.hasOffset ? read16le(&packed[at.offset()]) : 0;
  for (int64_t group = 0; group < format.groups(); ++group) {
    if (format.hasGroupScales()) {
      block.scales[group] = packed[at.groupScale(group)];
      if (format.hasOffset)
        block.offsets[group] = packed[at.groupOffset(group)];
    }
    for (int64_t i = 0; i < format.group; ++i) {
      int64_t chunk = i / format.chunkColumns();
      block.codes[group * format.group + i] =
          readChunk(format, &packed[at.codes(group) + chunk * at.stride()],
                    i % format.chunkColumns());
    }
  }
  return block;
}

void tercet::unpackBlocks(LayoutAttr layout, ArrayRef<uint8_t> packed,
                          int64_t row, MutableArrayRef<float> floats) {
  BlockFormat format = *layout.getBlockFormat();
  int64_t cols = int64_t(floats.size());
  for (int64_t block = 0; block < cols / format.columns; ++block) {
    BlockRow at(layout, format, row, block, cols);
    decodeBlock(format, unpackBlock(format, at, packed),
                floats.slice(block * format.columns, format.columns));
  }
}
