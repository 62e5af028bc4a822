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

/// Whether the op looks at neither indices nor memory: what has vectors of
/// lanes in its kernel (LowerKernels/Generic.cpp), and keeps them when it is
/// fused.
bool hasVectorBody(linalg::GenericOp op) {
  return llvm::all_of(op.getBody()->without_terminator(), [](Operation &op) {
    return OpTrait::hasElementwiseMappableTraits(&op) ||
           op.hasTrait<OpTrait::ConstantLike>();
  });
}

/// Whether the op computes each element of its result from the elements at the
/// same place.
bool isElementwise(linalg::GenericOp op) {
  return op.getNumParallelLoops() == op.getNumLoops() && hasVectorBody(op);
}

/// How far an expression moves with a loop.
int64_t getStride(AffineExpr expr, unsigned loop, unsigned numLoops) {
  SmallVector<AffineExpr> zero(numLoops,
                               getAffineConstantExpr(0, expr.getContext())),
      one(zero);
  one[loop] = getAffineConstantExpr(1, expr.getContext());
  auto evaluate = [&](ArrayRef<AffineExpr> loops) {
    return cast<AffineConstantExpr>(expr.replaceDims(loops)).getValue();
  };
  return evaluate(one) - evaluate(zero);
}

/// Whether every iteration reads an element of its own: each loop moves along
/// one dimension, in steps beyond what the smaller ones of it reach.
bool readsOnce(linalg::GenericOp op, AffineMap map) {
  SmallVector<int64_t> extents = op.getStaticLoopRanges();
  unsigned numLoops = 0;
  for (AffineExpr expr : map.getResults()) {
    SmallVector<std::pair<int64_t, int64_t>> moves; // stride, extent
    for (auto [loop, extent] : llvm::enumerate(extents))
      if (expr.isFunctionOfDim(loop))
        moves.push_back({getStride(expr, loop, extents.size()), extent});
    llvm::sort(moves);
    for (size_t i = 1; i < moves.size(); ++i) {
      auto [stride, extent] = moves[i - 1];
      if (stride < 1 || ShapedType::isDynamic(extent) ||
          stride * extent > moves[i].first)
        return false;
    }
    numLoops += moves.size();
  }
  return numLoops == extents.size();
}

/// A producer that nobody else reads, and whose elements are read once. One
/// that adds to what its result holds, as does a matmul whose reduction had
/// extent 1, would stay a result of the fused op. The order of a sum is that of
/// its operand, which the producer must therefore read in the same order.
bool saves(OpOperand *operand) {
  auto producer = operand->get().getDefiningOp<linalg::GenericOp>();
  auto consumer = dyn_cast<linalg::GenericOp>(operand->getOwner());
  if (!producer || !consumer || !producer->hasOneUse() ||
      !isElementwise(producer) || !hasVectorBody(consumer) ||
      producer.payloadUsesValueFromOperand(producer.getDpsInitOperand(0)))
    return false;
  AffineMap map = consumer.getMatchingIndexingMap(operand);
  if (consumer.getNumReductionLoops() == 0)
    return map.isPermutation();
  SmallVector<AffineMap> reads = producer.getIndexingMapsArray();
  reads.pop_back(); // of the result
  return readsOnce(consumer, map) &&
         llvm::any_of(reads,
                      [](AffineMap read) { return read.isIdentity(); }) &&
         llvm::all_of(reads, [](AffineMap read) {
           return read.isIdentity() || read.getNumResults() < read.getNumDims();
         });
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

/// A transposition of what is computed elementwise, so that it can be fused:
/// its kernel transposes vectors in registers, whatever it computes with them.
struct GeneralizeTranspose : OpRewritePattern<linalg::TransposeOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(linalg::TransposeOp op,
                                PatternRewriter &rewriter) const override {
    auto producer = op.getInput().getDefiningOp<linalg::GenericOp>();
    if (!producer || !producer->hasOneUse() || !isElementwise(producer))
      return rewriter.notifyMatchFailure(op, "nothing to fuse with");
    return linalg::generalizeNamedOp(rewriter, op);
  }
};

struct FuseElementwise : impl::FuseElementwiseBase<FuseElementwise> {
  void runOnOperation() override {
    RewritePatternSet drops(&getContext());
    linalg::ControlDropUnitDims options;
    options.controlFn = getDroppableLoops;
    linalg::populateFoldUnitExtentDimsPatterns(drops, options);
    RewritePatternSet patterns(&getContext());
    patterns.add<GeneralizeTranspose>(&getContext());
    linalg::populateElementwiseOpsFusionPatterns(patterns, saves);
    if (failed(applyPatternsGreedily(getOperation(), std::move(drops))) ||
        failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tercet
