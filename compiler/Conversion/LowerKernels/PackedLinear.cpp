// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

#include <numeric>

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
  Values emitColumns(Value pair, int64_t count, int64_t numLanes,
                     ValueRange sums);
  Value loadWords(Value pair, int64_t group);

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

/// `count` columns from 2 * pair on, whose x are loaded `numLanes` at a time.
/// Where a lane of them is an operand of fma, there is one row group after the
/// other: few weights wait for their x in registers.
Values PackedLinearKernel::emitColumns(Value firstPair, int64_t count,
                                       int64_t numLanes, ValueRange sums) {
  Values result(sums.begin(), sums.end());
  int64_t groupsInTurn = numLanes > 1 ? 1 : numGroups;
  for (int64_t first = 0; first < count; first += 2)
    for (int64_t group = 0; group < numGroups; group += groupsInTurn) {
      Values words;
      for (int64_t g = group; g < group + groupsInTurn; ++g)
        words.push_back(loadWords(b.addIndex(firstPair, first / 2), g));
      for (int64_t i = first; i < std::min(first + 2, count); ++i) {
        Values weights;
        for (Value word : words)
          weights.push_back(
              b.bitcast(b.floats(),
                        i % 2 ? b.andInt(word, b.splatInt(int32_t(0xffff0000)))
                              : b.shiftLeft(word, 16)));
        Value column =
            b.addIndex(b.mulIndex(firstPair, 2), i / numLanes * numLanes);
        for (int64_t t = 0; t < numTokens; ++t) {
          Value x =
              b.broadcastLane(op.getX(), {b.addIndex(firstToken, t), column},
                              i % numLanes, numLanes);
          for (auto [g, weight] : llvm::enumerate(weights)) {
            Value &sum = result[t * numGroups + group + g];
            sum = b.fma(weight, x, sum);
          }
        }
      }
    }
  return result;
}

/// Two columns of a row group.
Value PackedLinearKernel::loadWords(Value pair, int64_t group) {
  int64_t tileBytes = layout.getTileBytes(numColumns);
  group += firstGroup;
  int64_t offset =
      group / groupsPerTile * tileBytes + group % groupsPerTile * kLanes * 4;
  Value address = b.addIndex(b.mulIndex(firstTile, tileBytes),
                             b.mulIndex(pair, layout.getTileRows() * 4));
  Value words =
      b.loadBytes(b.ints(), op.getWeights(), b.addIndex(address, offset));
  if (numTokens == 1 && layout.getPrefetch())
    b.prefetch(op.getWeights(),
               b.addIndex(address, offset + layout.getPrefetch()));
  return words;
}

void PackedLinearKernel::emitTokens(Value token, int64_t count) {
  firstToken = token;
  numTokens = count;
  firstGroup = 0;
  int64_t maxGroups = std::max<int64_t>(1, b.options.accumulators / count);
  for (int64_t groups : splitEvenly(numTiles * groupsPerTile, maxGroups)) {
    numGroups = groups;
    int64_t unroll = std::max<int64_t>(1, layout.getUnroll());
    int64_t unrolledEnd = numColumns / 2 / unroll * unroll;
    int64_t numLanes = std::gcd(2 * unroll, b.numBroadcastLanes());
    Values sums =
        b.loop(b.index(0), b.index(unrolledEnd), unroll,
               Values(numGroups * numTokens, b.zeros()),
               [&](Value pair, ValueRange carried) {
                 return emitColumns(pair, 2 * unroll, numLanes, carried);
               });
    // The odd half of a last word is no column: 0 * x would be harmless, but x
    // has nothing there.
    sums = emitColumns(b.index(unrolledEnd), numColumns - 2 * unrolledEnd,
                       /*numLanes=*/1, sums);

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
