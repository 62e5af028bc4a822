// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// One vector of x as digits; returns q. Lanes that x lacks are zeros, and
/// digits are stored for all 16: their rows are padded.
static Value emitDigits(QuantizeWideOp op, KernelBuilder &b, Value token,
                        Value column, int64_t lanes, Value factor) {
  Value v =
      b.roundEven(b.mul(b.load(op.getX(), {token, column}, lanes), factor));
  v = b.min(b.max(v, b.splat(-32639)), b.splat(32639));
  Value q = b.toInt(v);
  Value high = b.shiftRight(b.addInt(q, b.splatInt(128)), 8);
  b.store(b.truncateToI8(high), op.getHighOuts(), {token, column});
  b.store(b.truncateToI8(q), op.getLowOuts(), {token, column});
  return q;
}

/// Items: tokens.
static void emitQuantizeWide(QuantizeWideOp op, KernelBuilder &b) {
  Value x = op.getX();
  int64_t numColumns = getNumColumns(x), group = op.getGroup();
  b.parallel(b.dim(x, 0), [&](Value token) {
    Value largest =
        b.forEachVector(numColumns, b.zeros(),
                        [&](Value column, int64_t lanes, ValueRange carried) {
                          Value v = b.load(x, {token, column}, lanes);
                          return Values{b.max(b.abs(v), carried[0])};
                        })[0];
    Value range = b.max(b.maxLanes(largest), b.scalar(1e-30f));
    b.storeScalar(b.div(range, b.scalar(32639)), op.getScaleOuts(), token);
    Value factor = b.broadcast(b.div(b.scalar(32639), range));

    auto emitGroup = [&](Value number, int64_t columns) {
      Value sums = b.splatInt(0);
      for (int64_t column = 0; column < columns; column += kLanes) {
        Value first = b.addIndex(b.mulIndex(number, group), column);
        Value q = emitDigits(op, b, token, first,
                             std::min(kLanes, columns - column), factor);
        sums = b.addInt(sums, q);
      }
      b.storeScalar(b.sumIntLanes(sums), op.getSumOuts(), {token, number});
    };
    int64_t numGroups = numColumns / group;
    b.loop(b.index(0), b.index(numGroups), 1,
           [&](Value number) { emitGroup(number, group); });
    if (numColumns % group)
      emitGroup(b.index(numGroups), numColumns % group);
  });
}

void tercet::populateQuantizeWidePatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<QuantizeWideOp>>(patterns.getContext(),
                                              emitQuantizeWide);
}
