// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Items: gathered rows.
static void emitGatherRows(GatherRowsOp op, KernelBuilder &b) {
  Value x = op.getX(), y = op.getOuts();
  b.parallel(b.dim(op.getRows(), 0), [&](Value item) {
    Value row = b.toIndex(b.loadScalar(op.getRows(), item));
    b.forEachVector(getNumColumns(x), [&](Value column, int64_t lanes) {
      b.store(b.load(x, {row, column}, lanes), y, {item, column}, lanes);
    });
  });
}

void tercet::populateGatherRowsPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<GatherRowsOp>>(patterns.getContext(),
                                            emitGatherRows);
}
