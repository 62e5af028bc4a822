// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Target/Backend.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_SELECTLAYOUT
#include "compiler/Passes/Passes.h.inc"

namespace {

/// The head streams bf16 pairs: 64 rows by two pairs keep four chains of fma
/// busy at memory speed, and by four tokens sixteen. Tiles are read in address
/// order; software prefetch only displaces the hardware's
/// (tests/bench/KernelBench). A head of which groups of 16 rows are asked for
/// has tiles of them.
ternary::LayoutAttr getHeadLayout(ternary::LinearOp head) {
  return ternary::LayoutAttr::get(head.getContext(),
                                  ternary::Packing::BF16Pairs,
                                  head.getGroups() ? ternary::kRowGroup : 64,
                                  ternary::Schedule{.unroll = 2, .tokens = 4});
}

MatmulShape getShape(ternary::MatmulOp matmul) {
  return {cast<ShapedType>(matmul.getOuts().getType()).getShape().back(),
          cast<ShapedType>(matmul.getQ().getType()).getDimSize(1)};
}

struct SelectLayout : impl::SelectLayoutBase<SelectLayout> {
  using Base::Base;

  void runOnOperation() override {
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec) {
      getOperation().emitError(llvm::toString(spec.takeError()));
      return signalPassFailure();
    }
    std::optional<ternary::Packing> named = ternary::symbolizePacking(packing);
    if (packing != "auto" &&
        (!named || *named == ternary::Packing::BF16Pairs)) {
      getOperation().emitError("'" + packing + "' is no packing of trits");
      return signalPassFailure();
    }
    const Backend &backend = getBackend(*spec);
    ternary::Packing tritPacking =
        packing == "auto" ? backend.selectPacking(countTrits(), *spec) : *named;

    getOperation().walk([&](Operation *op) {
      if (auto matmul = dyn_cast<ternary::MatmulOp>(op)) {
        MatmulShape shape = getShape(matmul);
        matmul.setLayoutAttr(ternary::LayoutAttr::getTrits(
            &getContext(), tritPacking,
            backend.getSchedule(tritPacking, shape, *spec)));
        matmul.emitRemark()
            << shape.rows << "x" << shape.cols << ": " << *matmul.getLayout()
            << " (" << backend.getName() << " backend, " << spec->text << ")";
      } else if (auto head = dyn_cast<ternary::QuantizedLinearOp>(op)) {
        head.setLayoutAttr(
            backend.selectHeadLayout(&getContext(), head.getFormat(), *spec));
        head.emitRemark() << "head: " << *head.getLayout();
      } else if (auto linear = dyn_cast<ternary::LinearOp>(op)) {
        auto type = cast<ShapedType>(linear.getWeight().getType());
        auto get = linear.getWeight().getDefiningOp<ternary::GetParameterOp>();
        if (!get || !type.getElementType().isBF16())
          return;
        linear.setLayoutAttr(getHeadLayout(linear));
      }
    });
  }

private:
  int64_t countTrits() {
    int64_t numTrits = 0;
    getOperation().walk([&](ternary::MatmulOp matmul) {
      MatmulShape shape = getShape(matmul);
      numTrits += shape.rows * shape.cols;
    });
    return numTrits;
  }
};

} // namespace
} // namespace tercet
