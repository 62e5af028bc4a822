// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_FUSEELEMENTWISE
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Whether the op computes each element of its result from the elements at the
/// same place, without a look at indices or memory: what has vectors of lanes
/// in its kernel (LowerKernels/Generic.cpp), and keeps them when it is fused.
bool isElementwise(linalg::GenericOp op) {
  return op.getNumParallelLoops() == op.getNumLoops() &&
         llvm::all_of(op.getBody()->without_terminator(), [](Operation &op) {
           return OpTrait::hasElementwiseMappableTraits(&op) ||
                  op.hasTrait<OpTrait::ConstantLike>();
         });
}

/// A producer that nobody else reads, and whose elements are read once.
bool saves(OpOperand *operand) {
  auto producer = operand->get().getDefiningOp<linalg::GenericOp>();
  auto consumer = dyn_cast<linalg::GenericOp>(operand->getOwner());
  return producer && consumer && producer->hasOneUse() &&
         isElementwise(producer) && isElementwise(consumer) &&
         consumer.getMatchingIndexingMap(operand).isIdentity();
}

struct FuseElementwise : impl::FuseElementwiseBase<FuseElementwise> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    linalg::populateElementwiseOpsFusionPatterns(patterns, saves);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tercet
