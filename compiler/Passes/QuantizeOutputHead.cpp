// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_QUANTIZEOUTPUTHEAD
#include "compiler/Passes/Passes.h.inc"

namespace {

struct QuantizeOutputHead : impl::QuantizeOutputHeadBase<QuantizeOutputHead> {
  using Base::Base;

  void runOnOperation() override {
    std::optional<ternary::CodeFormat> format =
        ternary::symbolizeCodeFormat(this->format);
    if (!format) {
      getOperation().emitError("unknown format '") << this->format << "'";
      return signalPassFailure();
    }
    SmallVector<ternary::LinearOp> heads;
    getOperation().walk([&](ternary::LinearOp op) { heads.push_back(op); });
    for (ternary::LinearOp head : heads) {
      OpBuilder b(head);
      auto quantised = ternary::QuantizedLinearOp::create(
          b, head.getLoc(), head->getResultTypes(), head.getX(),
          head.getWeight(), head.getOuts(), *format, /*bounded=*/false,
          /*layout=*/nullptr);
      head->replaceAllUsesWith(quantised);
      head.erase();
    }
  }
};

} // namespace
} // namespace tercet
