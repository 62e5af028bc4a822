// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Items: tokens.
static void emitRMSNorm(RMSNormOp op, KernelBuilder &b) {
  Value x = op.getX(), y = op.getOuts();
  int64_t numColumns = getNumColumns(x);
  b.parallel(b.dim(x, 0), [&](Value token) {
    Value squares =
        b.forEachVector(numColumns, b.zeros(),
                        [&](Value column, int64_t lanes, ValueRange carried) {
                          Value v = b.load(x, {token, column}, lanes);
                          return KernelBuilder::Values{b.fma(v, v, carried[0])};
                        })[0];
    Value mean = b.div(b.sumLanes(squares), b.scalar(float(numColumns)));
    Value epsilon = b.scalar(op.getEpsilon().convertToFloat());
    Value r = b.broadcast(b.div(b.scalar(1), b.sqrt(b.add(mean, epsilon))));
    b.forEachVector(numColumns, [&](Value column, int64_t lanes) {
      Value v = b.load(x, {token, column}, lanes);
      Value w = b.load(op.getWeight(), column, lanes);
      b.store(b.mul(w, b.mul(v, r)), y, {token, column}, lanes);
    });
  });
}

void tercet::populateRMSNormPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<RMSNormOp>>(patterns.getContext(), emitRMSNorm);
}
