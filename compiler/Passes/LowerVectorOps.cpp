// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_LOWERVECTOROPS
#include "compiler/Passes/Passes.h.inc"

namespace {

struct LowerVectorOps : impl::LowerVectorOpsBase<LowerVectorOps> {
  using Base::Base;

  LogicalResult initialize(MLIRContext *context) override {
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec)
      return emitError(UnknownLoc::get(context),
                       llvm::toString(spec.takeError()));
    RewritePatternSet set(context);
    const Backend &backend = getBackend(*spec);
    backend.populateVectorLowerings(set, *spec);
    if (!backend.hasFMA(*spec))
      populateFMALowering(set);
    populateGenericVectorLowerings(set);
    patterns = std::move(set);
    return success();
  }

  void runOnOperation() override {
    // A lowering may use other vector-level ops; nothing else is touched. The
    // first dot product of a chain comes first: two of them may be one.
    GreedyRewriteConfig config;
    config.setRegionSimplificationLevel(GreedySimplifyRegionLevel::Disabled)
        .enableFolding(false)
        .enableConstantCSE(false)
        .setUseTopDownTraversal(true);
    if (failed(applyPatternsGreedily(getOperation(), patterns, config)))
      signalPassFailure();
  }

  FrozenRewritePatternSet patterns;
};

} // namespace
} // namespace tercet
