// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

/// Items: groups of 16 rows (all, or those listed), all tokens. Row-major
/// weights have to be gathered into lanes element by element; `packed_linear`
/// is the fast form.
static void emitLinear(LinearOp op, KernelBuilder &b) {
  constexpr int64_t kTokens = 4; // share a gathered vector
  Value x = op.getX(), weight = op.getWeight(), y = op.getOuts();
  int64_t numColumns = getNumColumns(x);
  int64_t numRows = cast<ShapedType>(weight.getType()).getDimSize(0);
  int64_t numGroups = llvm::divideCeil(numRows, kLanes);
  b.parallelGroups(op.getGroups(), numGroups, [&](Value group) {
    Value firstRow = b.mulIndex(group, kLanes);
    // Lanes beyond the last row repeat it and are not stored.
    Values rows;
    for (int64_t lane = 0; lane < kLanes; ++lane)
      rows.push_back(
          b.minIndex(b.addIndex(firstRow, lane), b.index(numRows - 1)));
    auto emitTokens = [&](Value token, int64_t numTokens) {
      Values sums = b.loop(
          b.index(0), b.index(numColumns), 1, Values(numTokens, b.zeros()),
          [&](Value k, ValueRange carried) {
            Values elements, sums;
            for (Value row : rows)
              elements.push_back(b.loadScalar(weight, {row, k}));
            Value weights = b.widen(b.fromElements(elements));
            for (int64_t t = 0; t < numTokens; ++t) {
              Value v = b.loadScalar(x, {b.addIndex(token, t), k});
              sums.push_back(b.fma(weights, b.broadcast(v), carried[t]));
            }
            return sums;
          });
      for (int64_t t = 0; t < numTokens; ++t) {
        SmallVector<Value> indices = {b.addIndex(token, t), firstRow};
        if (numRows % kLanes == 0)
          b.store(sums[t], y, indices);
        else
          b.storeFirst(sums[t], b.subIndex(b.index(numRows), firstRow), y,
                       indices);
      }
    };
    b.blockedLoop(b.dim(x, 0), kTokens, emitTokens);
  });
}

void tercet::populateLinearPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<LinearOp>>(patterns.getContext(), emitLinear);
}
