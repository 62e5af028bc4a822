// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/BlockWeights.h"

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
        b.dim(op.getX(), 0),
        std::min(layout.getTokens(), b.options.accumulators),
        [&](Value token, int64_t numTokens) { emitTokens(token, numTokens); });
  }
  void emitTokens(Value token, int64_t numTokens);
  void emitRegisterTile(Value group, int64_t count);
  Values emitFloats(Values sums);
  Values emitCells(Value cell, int64_t count, int64_t numLanes,
                   ValueRange sums);
  Value loadCell(Value cell, int64_t group);
  Value getColumn(Value cell, int64_t i);
  Values emitBlocks(Values sums);
  Values emitGroup(Value block, Value group, ValueRange sums);
  void prefetch(Value address);

  /// Where a row group of the register tile is behind the first tile.
  Value getTileOffset(int64_t group) {
    return b.mulIndex(b.divIndex(b.addIndex(firstGroup, group), groupsPerTile),
                      layout.getTileBytes(numColumns));
  }
  /// The first of its rows in its tile.
  Value getFirstRow(int64_t group) {
    return b.mulIndex(b.remIndex(b.addIndex(firstGroup, group), groupsPerTile),
                      kLanes);
  }
  /// Multiplies a column, lane `lane` of `numLanes` from `first` on, of some
  /// row groups with all tokens.
  void addColumn(ArrayRef<Value> weights, int64_t group, Value first,
                 int64_t lane, int64_t numLanes, Values &sums) {
    for (int64_t t = 0; t < numTokens; ++t) {
      Value x = b.broadcastLane(op.getX(), {b.addIndex(firstToken, t), first},
                                lane, numLanes);
      for (auto [g, weight] : llvm::enumerate(weights)) {
        Value &sum = sums[t * numGroups + group + g];
        sum = b.fma(weight, x, sum);
      }
    }
  }

  PackedLinearOp op;
  KernelBuilder &b;
  LayoutAttr layout;
  int64_t numColumns, numRows, groupsPerTile;

  // The tiles of an item.
  Value firstTile;
  int64_t numTiles;
  // The register tile: numGroups * numTokens chains, row groups first.
  Value firstToken, firstGroup;
  int64_t numGroups, numTokens;
};

} // namespace

/// `count` columns from those of `firstCell` on, whose x are loaded `numLanes`
/// at a time. Where a lane of them is an operand of fma, there is one row group
/// after the other: few weights wait for their x in registers. Those of the
/// next one are loaded before the products, for an in-order core to wait less.
Values PackedLinearKernel::emitCells(Value firstCell, int64_t count,
                                     int64_t numLanes, ValueRange sums) {
  Values result(sums.begin(), sums.end());
  int64_t cellColumns = layout.getCell().columns;
  int64_t groupsInTurn = numLanes > 1 ? 1 : numGroups;
  int64_t turnsOfCell = numGroups / groupsInTurn;
  int64_t numTurns = llvm::divideCeil(count, cellColumns) * turnsOfCell;
  auto loadTurn = [&](int64_t turn) {
    Value cell = b.addIndex(firstCell, turn / turnsOfCell);
    int64_t group = turn % turnsOfCell * groupsInTurn;
    Values cells;
    for (int64_t g = group; g < group + groupsInTurn; ++g)
      cells.push_back(loadCell(cell, g));
    return cells;
  };
  auto multiplyTurn = [&](int64_t turn, ValueRange cells) {
    int64_t first = turn / turnsOfCell * cellColumns;
    for (int64_t i = 0; i < std::min(cellColumns, count - first); ++i) {
      Values weights;
      for (Value loaded : cells)
        weights.push_back(getColumn(loaded, i));
      int64_t column = first + i;
      addColumn(weights, turn % turnsOfCell * groupsInTurn,
                b.addIndex(b.mulIndex(firstCell, cellColumns),
                           column / numLanes * numLanes),
                column % numLanes, numLanes, result);
    }
  };
  int64_t ahead = numLanes > 1 ? 1 : 0;
  SmallVector<Values> loaded;
  for (int64_t turn = 0; turn < numTurns; ++turn) {
    for (int64_t next = loaded.size(), e = std::min(turn + ahead + 1, numTurns);
         next < e; ++next)
      loaded.push_back(loadTurn(next));
    multiplyTurn(turn, loaded[turn]);
  }
  return result;
}

/// One or two columns of a row group.
Value PackedLinearKernel::loadCell(Value cell, int64_t group) {
  Cell size = layout.getCell();
  Value offset =
      b.addIndex(getTileOffset(group),
                 b.mulIndex(getFirstRow(group), size.bytes / size.rows));
  Value address =
      b.addIndex(b.mulIndex(firstTile, layout.getTileBytes(numColumns)),
                 b.mulIndex(cell, size.bytes));
  address = b.addIndex(address, offset);
  bool isHalf = layout.getPacking() == Packing::F16;
  Value loaded =
      b.loadBytes(isHalf ? VectorType::get(kLanes, b.getF16Type()) : b.ints(),
                  op.getWeights(), address);
  prefetch(address);
  return loaded;
}

/// A column of a cell as floats.
Value PackedLinearKernel::getColumn(Value cell, int64_t i) {
  switch (layout.getPacking()) {
  case Packing::F32:
    return b.bitcast(b.floats(), cell);
  case Packing::F16:
    return b.widen(cell);
  default:
    return b.bitcast(b.floats(),
                     i ? b.andInt(cell, b.splatInt(int32_t(0xffff0000)))
                       : b.shiftLeft(cell, 16));
  }
}

void PackedLinearKernel::prefetch(Value address) {
  if (numTokens == 1 && layout.getPrefetch())
    b.prefetch(op.getWeights(), b.addIndex(address, layout.getPrefetch()));
}

Values PackedLinearKernel::emitFloats(Values sums) {
  int64_t cellColumns = layout.getCell().columns;
  int64_t unroll = std::max<int64_t>(1, layout.getUnroll());
  int64_t numCells = numColumns / cellColumns;
  int64_t unrolledEnd = numCells / unroll * unroll;
  int64_t numLanes = std::gcd(cellColumns * unroll, b.numBroadcastLanes());
  sums =
      b.loop(b.index(0), b.index(unrolledEnd), unroll, sums,
             [&](Value cell, ValueRange carried) {
               return emitCells(cell, cellColumns * unroll, numLanes, carried);
             });
  // The odd half of a last pair is no column: 0 * x would be harmless, but x
  // has nothing there.
  return emitCells(b.index(unrolledEnd), numColumns - cellColumns * unrolledEnd,
                   /*numLanes=*/1, sums);
}

Values PackedLinearKernel::emitBlocks(Values sums) {
  BlockFormat format = *layout.getBlockFormat();
  return b.loop(b.index(0), b.index(numColumns / format.columns), 1, sums,
                [&](Value block, ValueRange carried) {
                  return b.loop(b.index(0), b.index(format.groups()), 1,
                                carried, [&](Value group, ValueRange carried) {
                                  return emitGroup(block, group, carried);
                                });
                });
}

/// A group of columns. Some row groups take turns after four of them, so that
/// one's chain runs beside another's; where registers are few, it is one.
Values PackedLinearKernel::emitGroup(Value block, Value group,
                                     ValueRange sums) {
  Values result(sums.begin(), sums.end());
  BlockFormat format = *layout.getBlockFormat();
  BlockWeights weights(b, layout, op.getWeights(), kLanes);
  Value address =
      b.addIndex(b.mulIndex(firstTile, layout.getTileBytes(numColumns)),
                 b.mulIndex(block, layout.getCell().bytes));
  Value firstColumn = b.addIndex(b.mulIndex(block, format.columns),
                                 b.mulIndex(group, format.group));
  int64_t numLanes = b.numBroadcastLanes();
  int64_t inTurn = std::max<int64_t>(1, b.options.accumulators / 4);
  for (int64_t first = 0; first < numGroups; first += inTurn) {
    SmallVector<BlockWeights::Group> groups;
    for (int64_t g = first; g < std::min(first + inTurn, numGroups); ++g)
      groups.push_back(weights.loadGroup(b.addIndex(address, getTileOffset(g)),
                                         group, getFirstRow(g)));
    for (int64_t column = 0; column < format.group; column += 4)
      for (auto [g, ofGroup] : llvm::enumerate(groups)) {
        Value codes = weights.loadCodes(ofGroup, column);
        if (column % format.chunkColumns() == 0)
          for (int64_t line = 0; line < format.chunkSize(); line += 64)
            prefetch(b.addIndex(weights.getChunk(ofGroup, column), line));
        for (int64_t i = 0; i < 4; ++i)
          addColumn(weights.decode(ofGroup, codes, i), first + g,
                    b.addIndex(firstColumn, column + i / numLanes * numLanes),
                    i % numLanes, numLanes, result);
      }
  }
  return result;
}

/// A group of columns in blocks is a lot of code, which equal register tiles of
/// row groups share.
void PackedLinearKernel::emitTokens(Value token, int64_t count) {
  firstToken = token;
  numTokens = count;
  int64_t maxGroups = std::max<int64_t>(1, b.options.accumulators / count);
  auto tiles = splitEvenly(numTiles * groupsPerTile, maxGroups);
  if (layout.getBlockFormat() && llvm::all_equal(tiles)) {
    b.loop(b.index(0), b.index(numTiles * groupsPerTile), tiles.front(),
           [&](Value group) { emitRegisterTile(group, tiles.front()); });
    return;
  }
  int64_t group = 0;
  for (int64_t groups : tiles) {
    emitRegisterTile(b.index(group), groups);
    group += groups;
  }
}

void PackedLinearKernel::emitRegisterTile(Value group, int64_t count) {
  firstGroup = group;
  numGroups = count;
  Values zeros(numGroups * numTokens, b.zeros());
  Values sums = layout.getBlockFormat() ? emitBlocks(zeros) : emitFloats(zeros);
  for (int64_t g = 0; g < numGroups; ++g) {
    Value row = b.addIndex(
        b.addIndex(b.mulIndex(firstTile, layout.getTileRows()), g * kLanes),
        b.mulIndex(firstGroup, kLanes));
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
