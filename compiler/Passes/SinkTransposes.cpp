// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"

#include "mlir/Analysis/SliceAnalysis.h"
#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/IndexingUtils.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_SINKTRANSPOSES
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Innermost extent of a transposed tensor from which on its readers fill
/// vectors without the transposition (LowerKernels/Generic.cpp).
constexpr int64_t kMinInnermost = 16;

/// Whether elements may be folded in any order, to the bit.
bool foldsInAnyOrder(linalg::GenericOp op) {
  SmallVector<Operation *> combiners;
  return matchReduction(op.getRegionOutputArgs(), 0, combiners) &&
         combiners.size() == 1 &&
         isa<arith::MaximumFOp, arith::MinimumFOp, arith::MaxSIOp,
             arith::MinSIOp, arith::MaxUIOp, arith::MinUIOp, arith::AddIOp>(
             combiners[0]);
}

/// Parallel loops that an operand has a dimension for.
int64_t countParallelLoops(linalg::GenericOp op, AffineMap map) {
  SmallVector<unsigned> parallel;
  op.getParallelDims(parallel);
  return llvm::count_if(parallel,
                        [&](unsigned dim) { return map.isFunctionOfDim(dim); });
}

/// An empty tensor with the dimensions in another order, filled as `init` is if
/// that is read.
Value permuteInit(RewriterBase &b, Location loc, Value init, bool isRead,
                  ArrayRef<int64_t> order) {
  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(b, loc, init);
  applyPermutationToVector(sizes, order);
  Value empty = tensor::EmptyOp::create(b, loc, sizes,
                                        getElementTypeOrSelf(init.getType()));
  if (!isRead)
    return empty;
  auto fill = init.getDefiningOp<linalg::FillOp>();
  return linalg::FillOp::create(b, loc, fill.value(), empty).getResult(0);
}

/// generic(transpose(x)) becomes transpose(generic(x)), and where the result
/// has fewer dimensions generic(x):
///
///   %t = linalg.transpose %x [0, 3, 1, 2]        NHWC to NCHW
///   %r = linalg.generic (n, c, h, w) -> (n, c, h, w) ins(%t)
///
///   %s = linalg.generic (n, h, w, c) -> (n, h, w, c) ins(%x)
///   %r = linalg.transpose %s [0, 3, 1, 2]
struct SinkBelowGeneric : OpRewritePattern<linalg::GenericOp> {
  using OpRewritePattern::OpRewritePattern;

  LogicalResult matchAndRewrite(linalg::GenericOp op,
                                PatternRewriter &rewriter) const override {
    if (!op.hasPureTensorSemantics() || op.getNumDpsInits() != 1 ||
        op.hasIndexSemantics())
      return rewriter.notifyMatchFailure(op, "form");
    if (op.getNumReductionLoops() > 0 && !foldsInAnyOrder(op))
      return rewriter.notifyMatchFailure(op, "folds in order");
    OpOperand *first = nullptr;
    linalg::TransposeOp transpose;
    for (OpOperand *operand : op.getDpsInputOperands()) {
      auto source = operand->get().getDefiningOp<linalg::TransposeOp>();
      if (source && !first) {
        first = operand;
        transpose = source;
      }
      bool isBroadcast =
          countParallelLoops(op, op.getMatchingIndexingMap(operand)) <
          op.getNumParallelLoops();
      if (!isBroadcast && op.getNumReductionLoops() == 0 &&
          (!source || source.getPermutation() != transpose.getPermutation()))
        return rewriter.notifyMatchFailure(op, "reads another order, too");
    }
    if (!first ||
        cast<ShapedType>(transpose.getInput().getType()).getShape().back() <
            kMinInnermost)
      return rewriter.notifyMatchFailure(op, "nothing to sink");
    return sink(op, *first, transpose.getPermutation(), rewriter);
  }

  LogicalResult sink(linalg::GenericOp op, OpOperand &first,
                     ArrayRef<int64_t> permutation,
                     PatternRewriter &rewriter) const {
    OpOperand &init = *op.getDpsInitsMutable().begin();
    AffineMap read = op.getMatchingIndexingMap(&first),
              written = op.getMatchingIndexingMap(&init);
    SmallVector<int64_t> order = invertPermutationVector(permutation);
    bool isPermuted = written.getNumResults() == permutation.size();
    if (!written.isProjectedPermutation() ||
        written.getNumResults() > permutation.size())
      return rewriter.notifyMatchFailure(op, "another form of result");
    bool isInitRead = op.payloadUsesValueFromOperand(&init);
    if (isPermuted) {
      for (auto [from, to] :
           llvm::zip_equal(read.getResults(), written.getResults()))
        if (!from.isFunctionOfDim(cast<AffineDimExpr>(to).getPosition()))
          return rewriter.notifyMatchFailure(op, "transposes by itself");
      if (isInitRead && !init.get().getDefiningOp<linalg::FillOp>())
        return rewriter.notifyMatchFailure(op, "adds to a tensor");
    }

    SmallVector<Value> inputs;
    SmallVector<AffineMap> maps = op.getIndexingMapsArray();
    auto permuteMap = [&](OpOperand &operand) {
      AffineMap &map = maps[operand.getOperandNumber()];
      SmallVector<AffineExpr> exprs(map.getResults());
      applyPermutationToVector(exprs, order);
      map = AffineMap::get(map.getNumDims(), 0, exprs, op.getContext());
    };
    for (OpOperand *operand : op.getDpsInputOperands()) {
      auto source = operand->get().getDefiningOp<linalg::TransposeOp>();
      bool isSunk = source && source.getPermutation() == permutation;
      inputs.push_back(isSunk ? source.getInput() : operand->get());
      if (isSunk)
        permuteMap(*operand);
    }
    Location loc = op.getLoc();
    Value outs = init.get();
    if (isPermuted) {
      outs = permuteInit(rewriter, loc, outs, isInitRead, order);
      permuteMap(init);
    }
    auto sunk =
        linalg::GenericOp::create(rewriter, loc, outs.getType(), inputs, outs,
                                  maps, op.getIteratorTypesArray());
    rewriter.cloneRegionBefore(op.getRegion(), sunk.getRegion(),
                               sunk.getRegion().end());
    sunk = interchange(sunk, maps[first.getOperandNumber()], rewriter);
    if (!isPermuted) {
      rewriter.replaceOp(op, sunk);
      return success();
    }
    Value empty = tensor::EmptyOp::create(
        rewriter, loc, tensor::getMixedSizes(rewriter, loc, init.get()),
        getElementTypeOrSelf(outs.getType()));
    rewriter.replaceOpWithNewOp<linalg::TransposeOp>(op, sunk.getResult(0),
                                                     empty, permutation);
    return success();
  }

  /// The loops in the order of the result's dimensions, then of the operand's.
  linalg::GenericOp interchange(linalg::GenericOp op, AffineMap read,
                                PatternRewriter &rewriter) const {
    llvm::SetVector<unsigned> order;
    AffineMap written =
        op.getMatchingIndexingMap(&*op.getDpsInitsMutable().begin());
    for (AffineMap map : {written, read})
      for (AffineExpr expr : map.getResults())
        for (unsigned dim = 0; dim < op.getNumLoops(); ++dim)
          if (expr.isFunctionOfDim(dim))
            order.insert(dim);
    for (unsigned dim = 0; dim < op.getNumLoops(); ++dim)
      order.insert(dim);
    return *linalg::interchangeGenericOp(rewriter, op, order.getArrayRef());
  }
};

struct SinkTransposes : impl::SinkTransposesBase<SinkTransposes> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<SinkBelowGeneric>(&getContext());
    linalg::TransposeOp::getCanonicalizationPatterns(patterns, &getContext());
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
} // namespace tercet
