// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Items: tokens. The table's row stays in registers over the heads.
static void emitRope(RopeOp op, KernelBuilder &b) {
  Value x = op.getX(), y = op.getOuts(), table = op.getTable();
  int64_t headDim = getNumColumns(table), half = headDim / 2;
  b.parallel(b.dim(x, 0), [&](Value token) {
    Value position = b.toIndex(b.loadScalar(op.getPositions(), token));
    for (int64_t i = 0; i < half; i += kLanes) {
      int64_t lanes = std::min(kLanes, half - i);
      Value cosine = b.load(table, {position, b.index(i)}, lanes);
      Value sine = b.load(table, {position, b.index(half + i)}, lanes);
      b.loop(b.index(0), b.index(getNumColumns(x)), headDim, [&](Value head) {
        Value first = b.addIndex(head, i), second = b.addIndex(head, half + i);
        Value x1 = b.load(x, {token, first}, lanes);
        Value x2 = b.load(x, {token, second}, lanes);
        Value y1 = b.fma(x1, cosine, b.neg(b.mul(x2, sine)));
        Value y2 = b.fma(x2, cosine, b.mul(x1, sine));
        b.store(y1, y, {token, first}, lanes);
        b.store(y2, y, {token, second}, lanes);
      });
    }
  });
}

void tercet::populateRopePatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<RopeOp>>(patterns.getContext(), emitRope);
}
