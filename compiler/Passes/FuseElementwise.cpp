// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "llvm/ADT/SmallBitVector.h"

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

/// A producer that nobody else reads, and whose elements are read once. One
/// that adds to what its result holds, as does a matmul whose reduction had
/// extent 1, would stay a result of the fused op.
bool saves(OpOperand *operand) {
  auto producer = operand->get().getDefiningOp<linalg::GenericOp>();
  auto consumer = dyn_cast<linalg::GenericOp>(operand->getOwner());
  return producer && consumer && producer->hasOneUse() &&
         isElementwise(producer) && isElementwise(consumer) &&
         !producer.payloadUsesValueFromOperand(producer.getDpsInitOperand(0)) &&
         consumer.getMatchingIndexingMap(operand).isIdentity();
}

/// Loops that may go where their extent is 1: not that of a window's position,
/// without which the loop over the window would have to see all of the operand.
SmallVector<unsigned> getDroppableLoops(Operation *op) {
  auto generic = dyn_cast<linalg::GenericOp>(op);
  if (!generic)
    return {};
  llvm::SmallBitVector droppable(generic.getNumLoops(), true);
  for (OpOperand &operand : generic->getOpOperands())
    for (auto [size, expr] :
         llvm::zip(generic.getShape(&operand),
                   generic.getMatchingIndexingMap(&operand).getResults()))
      if (size != 1 && !isa<AffineDimExpr>(expr))
        for (unsigned loop = 0; loop < droppable.size(); ++loop)
          if (expr.isFunctionOfDim(loop))
            droppable.reset(loop);
  return llvm::to_vector(
      llvm::map_range(droppable.set_bits(), [](int i) { return unsigned(i); }));
}

struct FuseElementwise : impl::FuseElementwiseBase<FuseElementwise> {
  void runOnOperation() override {
    RewritePatternSet drops(&getContext());
    linalg::ControlDropUnitDims options;
    options.controlFn = getDroppableLoops;
    linalg::populateFoldUnitExtentDimsPatterns(drops, options);
    RewritePatternSet patterns(&getContext());
    linalg::populateElementwiseOpsFusionPatterns(patterns, saves);
    if (failed(applyPatternsGreedily(getOperation(), std::move(drops))) ||
        failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tercet
