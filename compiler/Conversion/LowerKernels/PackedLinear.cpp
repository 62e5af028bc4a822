// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// One item: `streams` tiles of rows, or a tile (each that is left, or those
/// listed); all tokens. 16 rows are in lanes, so each row's chain over k stays
/// in its lane; row groups and tokens are independent chains beside each other.
/// A tile is read from memory once: further blocks of tokens find it in the
/// cache.
class PackedLinearKernel {
public:
  PackedLinearKernel(PackedLinearOp op, KernelBuilder &b)
      : op(op), b(b), layout(op.getLayout()),
        numColumns(getNumColumns(op.getX())),
        numRows(getNumColumns(op.getOuts())),
        groupsPerTile(layout.getTileRows() / kLanes) {}

  void emit() {
    if (Value groups = op.getGroups())
      return b.parallel(b.dim(groups, 0), [&](Value item) {
        emitTiles(b.toIndex(b.loadScalar(groups, item)), /*count=*/1);
      });
    int64_t numTiles = llvm::divideCeil(numRows, layout.getTileRows());
    int64_t streams = layout.getStreams();
    auto emitStreams = [&](Value item) {
      emitTiles(b.mulIndex(item, streams), streams);
    };
    auto emitSingle = [&](Value item) {
      emitTiles(b.addIndex(item, numTiles / streams * streams), /*count=*/1);
    };
    b.parallel(
        {{numTiles / streams, emitStreams}, {numTiles % streams, emitSingle}});
  }

private:
  void emitTiles(Value tile, int64_t count) {
    firstTile = tile;
    numTiles = count;
    b.blockedLoop(
        b.dim(op.getX(), 0), layout.getTokens(),
        [&](Value token, int64_t numTokens) { emitTokens(token, numTokens); });
  }
  void emitTokens(Value token, int64_t numTokens);
  Values emitPair(Value pair, bool hasOdd, ValueRange sums);

  PackedLinearOp op;
  KernelBuilder &b;
  LayoutAttr layout;
  int64_t numColumns, numRows, groupsPerTile;

  // The tiles of an item.
  Value firstTile;
  int64_t numTiles;
  // The register tile: numGroups * numTokens chains, row groups first.
  Value firstToken;
  int64_t firstGroup, numGroups, numTokens;
};

} // namespace

/// Columns 2 * pair and, with `hasOdd`, 2 * pair + 1.
Values PackedLinearKernel::emitPair(Value pair, bool hasOdd, ValueRange sums) {
  int64_t tileRows = layout.getTileRows();
  int64_t tileBytes = layout.getTileBytes(numColumns);
  Value address = b.addIndex(b.mulIndex(firstTile, tileBytes),
                             b.mulIndex(pair, tileRows * 4));
  Values words;
  for (int64_t group = firstGroup; group < firstGroup + numGroups; ++group) {
    int64_t offset =
        group / groupsPerTile * tileBytes + group % groupsPerTile * kLanes * 4;
    words.push_back(
        b.loadBytes(b.ints(), op.getWeights(), b.addIndex(address, offset)));
    if (numTokens == 1 && layout.getPrefetch())
      b.prefetch(op.getWeights(),
                 b.addIndex(address, offset + layout.getPrefetch()));
  }
  Values result(sums.begin(), sums.end());
  for (int64_t odd = 0; odd <= int64_t(hasOdd); ++odd) {
    Values weights;
    for (Value word : words)
      weights.push_back(b.bitcast(
          b.floats(), odd ? b.andInt(word, b.splatInt(int32_t(0xffff0000)))
                          : b.shiftLeft(word, 16)));
    Value column = b.addIndex(b.mulIndex(pair, 2), odd);
    for (int64_t t = 0; t < numTokens; ++t) {
      Value x = b.broadcast(
          b.loadScalar(op.getX(), {b.addIndex(firstToken, t), column}));
      for (int64_t g = 0; g < numGroups; ++g) {
        Value &sum = result[t * numGroups + g];
        sum = b.fma(weights[g], x, sum);
      }
    }
  }
  return result;
}

void PackedLinearKernel::emitTokens(Value token, int64_t count) {
  firstToken = token;
  numTokens = count;
  firstGroup = 0;
  int64_t maxGroups = std::max<int64_t>(1, b.options.accumulators / count);
  for (int64_t groups : splitEvenly(numTiles * groupsPerTile, maxGroups)) {
    numGroups = groups;
    int64_t unroll = std::max<int64_t>(1, layout.getUnroll());
    int64_t numPairs = numColumns / 2, unrolledEnd = numPairs / unroll * unroll;
    Values sums =
        b.loop(b.index(0), b.index(unrolledEnd), unroll,
               Values(numGroups * numTokens, b.zeros()),
               [&](Value pair, ValueRange carried) {
                 Values sums(carried.begin(), carried.end());
                 for (int64_t u = 0; u < unroll; ++u)
                   sums = emitPair(b.addIndex(pair, u), /*hasOdd=*/true, sums);
                 return sums;
               });
    for (int64_t pair = unrolledEnd; pair < numPairs; ++pair)
      sums = emitPair(b.index(pair), /*hasOdd=*/true, sums);
    // The odd half of the last word is no column: 0 * x would be harmless, but
    // x has nothing there.
    if (numColumns % 2)
      sums = emitPair(b.index(numPairs), /*hasOdd=*/false, sums);

    for (int64_t g = 0; g < numGroups; ++g) {
      Value row = b.addIndex(b.mulIndex(firstTile, layout.getTileRows()),
                             (firstGroup + g) * kLanes);
      for (int64_t t = 0; t < numTokens; ++t) {
        Value sum = sums[t * numGroups + g];
        SmallVector<Value> indices = {b.addIndex(firstToken, t), row};
        if (numRows % layout.getTileRows() == 0)
          b.store(sum, op.getOuts(), indices);
        else
          b.storeFirst(sum, b.subIndex(b.index(numRows), row), op.getOuts(),
                       indices);
      }
    }
    firstGroup += numGroups;
  }
}

void tercet::populatePackedLinearPatterns(RewritePatternSet &patterns,
                                          KernelOptions options) {
  patterns.add<KernelPattern<PackedLinearOp>>(
      patterns.getContext(),
      +[](PackedLinearOp op, KernelBuilder &b) {
        PackedLinearKernel(op, b).emit();
      },
      options);
}
