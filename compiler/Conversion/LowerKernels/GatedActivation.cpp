// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

static Value activate(KernelBuilder &b, Activation activation, Value gate) {
  switch (activation) {
  case Activation::ReLU2: {
    Value r = b.max(gate, b.zeros());
    return b.mul(r, r);
  }
  case Activation::SiLU:
    return b.div(gate, b.add(b.splat(1), b.exp(b.neg(gate))));
  }
  llvm_unreachable("unknown activation");
}

/// Items: tokens.
static void emitGatedActivation(GatedActivationOp op, KernelBuilder &b) {
  Value gate = op.getGate(), up = op.getUp(), y = op.getOuts();
  b.parallel(b.dim(gate, 0), [&](Value token) {
    b.forEachVector(getNumColumns(gate), [&](Value column, int64_t lanes) {
      Value activated =
          activate(b, op.getActivation(), b.load(gate, {token, column}, lanes));
      b.store(b.mul(activated, b.load(up, {token, column}, lanes)), y,
              {token, column}, lanes);
    });
  });
}

void tercet::populateGatedActivationPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<GatedActivationOp>>(patterns.getContext(),
                                                 emitGatedActivation);
}
