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
/// (tests/bench/KernelBench).
ternary::LayoutAttr getHeadLayout(MLIRContext *context) {
  return ternary::LayoutAttr::get(context, ternary::Packing::BF16Pairs,
                                  /*tileRows=*/64, /*lanes=*/16, /*unroll=*/2,
                                  /*tokens=*/4, /*prefetch=*/0,
                                  /*inPlace=*/false);
}

struct SelectLayout : impl::SelectLayoutBase<SelectLayout> {
  using Base::Base;

  void runOnOperation() override {
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec) {
      getOperation().emitError(llvm::toString(spec.takeError()));
      return signalPassFailure();
    }
    const Backend &backend = getBackend(*spec);

    getOperation().walk([&](Operation *op) {
      if (auto matmul = dyn_cast<ternary::MatmulOp>(op)) {
        MatmulShape shape = {
            cast<ShapedType>(matmul.getOuts().getType()).getDimSize(1),
            cast<ShapedType>(matmul.getQ().getType()).getDimSize(1)};
        matmul.setLayoutAttr(backend.selectLayout(&getContext(), shape, *spec));
        matmul.emitRemark()
            << shape.rows << "x" << shape.cols << ": " << *matmul.getLayout()
            << " (" << backend.getName() << " backend, " << spec->text << ")";
      } else if (auto linear = dyn_cast<ternary::LinearOp>(op)) {
        auto type = cast<ShapedType>(linear.getWeight().getType());
        auto get = linear.getWeight().getDefiningOp<ternary::GetParameterOp>();
        if (!get || !type.getElementType().isBF16())
          return;
        linear.setLayoutAttr(getHeadLayout(&getContext()));
      }
    });
  }
};

} // namespace
} // namespace tercet
