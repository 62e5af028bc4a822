// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Items: tokens.
static void emitQuantizeActivations(QuantizeActivationsOp op,
                                    KernelBuilder &b) {
  Value x = op.getX(), q = op.getQOuts();
  int64_t numColumns = getNumColumns(x), paddedColumns = getNumColumns(q);
  b.parallel(b.dim(x, 0), [&](Value token) {
    Value largest = b.forEachVector(
        numColumns, b.zeros(),
        [&](Value column, int64_t lanes, ValueRange carried) {
          Value v = b.load(x, {token, column}, lanes);
          return KernelBuilder::Values{b.max(b.abs(v), carried[0])};
        })[0];
    Value s = b.div(b.scalar(127), b.max(b.maxLanes(largest), b.scalar(1e-5f)));
    Value scale = b.broadcast(s);
    // The padding of q falls out of the last vector where it fits: lanes that
    // x lacks load as zero.
    auto stored = [&](int64_t lanes) {
      return lanes == kLanes ||
                     paddedColumns >= int64_t(llvm::alignTo(numColumns, kLanes))
                 ? kLanes
                 : paddedColumns % kLanes;
    };
    // Quantises columns; returns their sum.
    auto quantise = [&](Value first, int64_t count) {
      Value sums = b.forEachVector(
          count, b.splatInt(0),
          [&](Value offset, int64_t lanes, ValueRange carried) {
            Value column = b.addIndex(first, offset);
            Value v = b.mul(b.load(x, {token, column}, lanes), scale);
            v = b.max(b.roundEven(v), b.splat(-128));
            Value codes = b.toInt(b.min(v, b.splat(127)));
            b.store(b.truncateToI8(codes), q, {token, column}, stored(lanes));
            return KernelBuilder::Values{b.addInt(codes, carried[0])};
          })[0];
      return b.sumIntLanes(sums);
    };
    if (std::optional<int64_t> group = op.getGroup()) {
      int64_t numGroups = numColumns / *group;
      auto quantiseGroup = [&](Value number, int64_t count) {
        Value sum = quantise(b.mulIndex(number, *group), count);
        b.storeScalar(sum, op.getSumOuts(), {token, number});
      };
      b.loop(b.index(0), b.index(numGroups), 1,
             [&](Value number) { quantiseGroup(number, *group); });
      if (int64_t rest = numColumns % *group)
        quantiseGroup(b.index(numGroups), rest);
    } else {
      Value sum = quantise(b.index(0), numColumns);
      b.storeScalar(sum, op.getSumOuts(), token);
    }
    for (int64_t column = llvm::alignTo(numColumns, kLanes);
         column < paddedColumns; column += kLanes)
      b.store(b.truncateToI8(b.splatInt(0)), q, {token, b.index(column)},
              std::min(kLanes, paddedColumns - column));
    b.storeScalar(s, op.getScaleOuts(), token);
  });
}

void tercet::populateQuantizeActivationsPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<QuantizeActivationsOp>>(patterns.getContext(),
                                                     emitQuantizeActivations);
}
