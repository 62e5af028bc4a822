// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace tercet;

/// Elementwise on f32 rows: what linalg.add is, and any linalg.generic like it.
static bool isElementwiseOnRows(linalg::LinalgOp op) {
  return op.getNumLoops() == 2 && op.getNumParallelLoops() == 2 &&
         op.hasPureBufferSemantics() &&
         llvm::all_of(op.getIndexingMapsArray(),
                      [](AffineMap map) { return map.isIdentity(); }) &&
         llvm::all_of(op->getOperandTypes(),
                      [](Type type) {
                        auto memref = cast<MemRefType>(type);
                        return memref.getElementType().isF32() &&
                               memref.isLastDimUnitStride() &&
                               !memref.isDynamicDim(1);
                      }) &&
         llvm::all_of(op.getBlock()->without_terminator(),
                      [](Operation &op) {
                        return OpTrait::hasElementwiseMappableTraits(&op);
                      }) &&
         op.getNumDpsInits() == 1;
}

/// The scalar body of `op` on vectors of 16 columns.
static Value emitBody(linalg::LinalgOp op, KernelBuilder &b, Value row,
                      Value column, int64_t lanes) {
  IRMapping mapping;
  for (OpOperand &operand : op->getOpOperands())
    if (op.payloadUsesValueFromOperand(&operand))
      mapping.map(op.getMatchingBlockArgument(&operand),
                  b.load(operand.get(), {row, column}, lanes));
  for (Operation &inner : op.getBlock()->without_terminator()) {
    for (Value operand : inner.getOperands())
      if (!mapping.contains(operand)) // defined outside
        mapping.map(operand, b.broadcast(operand));
    Operation *vectorised = b.clone(inner, mapping);
    for (Value result : vectorised->getResults())
      result.setType(VectorType::get(kLanes, result.getType()));
  }
  Value result =
      mapping.lookupOrDefault(op.getBlock()->getTerminator()->getOperand(0));
  return isa<VectorType>(result.getType()) ? result : b.broadcast(result);
}

namespace {

/// Items: rows.
struct ElementwisePattern : OpInterfaceRewritePattern<linalg::LinalgOp> {
  using OpInterfaceRewritePattern::OpInterfaceRewritePattern;

  LogicalResult matchAndRewrite(linalg::LinalgOp op,
                                PatternRewriter &rewriter) const override {
    if (!isElementwiseOnRows(op))
      return rewriter.notifyMatchFailure(op, "not elementwise on f32 rows");
    KernelBuilder b(op, rewriter);
    Value y = op.getDpsInits()[0];
    b.parallel(b.dim(y, 0), [&](Value row) {
      b.forEachVector(getNumColumns(y), [&](Value column, int64_t lanes) {
        b.store(emitBody(op, b, row, column, lanes), y, {row, column}, lanes);
      });
    });
    rewriter.eraseOp(op);
    return success();
  }
};

} // namespace

void tercet::populateElementwisePatterns(RewritePatternSet &patterns) {
  patterns.add<ElementwisePattern>(patterns.getContext());
}
