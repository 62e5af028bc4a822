// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

/// Memory of the worker as so many rows of stride 0.
static void mapRows(FusedRowsOp op, KernelBuilder &b, Value numRows,
                    IRMapping &mapping) {
  auto rows = op.getBody().getArguments().drop_front(op->getNumOperands());
  auto getSize = [](Value row) {
    return llvm::alignTo(getNumColumns(row) * sizeof(float), 64);
  };
  int64_t size = 0;
  for (Value row : rows)
    size += getSize(row);
  if (size == 0)
    return;
  Value bytes = b.workerBytes(size);
  int64_t offset = 0;
  for (Value row : rows) {
    int64_t numColumns = getNumColumns(row);
    Value memory =
        b.view(MemRefType::get(numColumns, b.getF32Type()), bytes, offset);
    SmallVector<OpFoldResult> sizes = {numRows, b.getIndexAttr(numColumns)};
    SmallVector<OpFoldResult> strides = {b.getIndexAttr(0), b.getIndexAttr(1)};
    mapping.map(row, memref::ReinterpretCastOp::create(
                         b, cast<MemRefType>(row.getType()), memory,
                         OpFoldResult(b.getIndexAttr(0)), sizes, strides)
                         .getResult());
    offset += getSize(row);
  }
}

/// Items: rows. The kernels of the block, which are lowered by now, one after
/// the other for each row.
static void emitFusedRows(FusedRowsOp op, KernelBuilder &b) {
  Value numRows = b.dim(op.getIns()[0], 0);
  b.parallel(numRows, [&](Value row) {
    IRMapping mapping;
    for (auto [argument, operand] :
         llvm::zip(op.getBody().getArguments(), op->getOperands()))
      mapping.map(argument, operand);
    mapRows(op, b, numRows, mapping);
    for (Operation &inner : op.getBody().front()) {
      auto kernel = dyn_cast<scf::ParallelOp>(inner);
      if (!kernel) {
        b.clone(inner, mapping);
        continue;
      }
      mapping.map(kernel.getInductionVars()[0], row);
      for (Operation &step : kernel.getBody()->without_terminator())
        b.clone(step, mapping);
    }
  });
}

void tercet::populateFusedRowsPatterns(RewritePatternSet &patterns) {
  patterns.add<KernelPattern<FusedRowsOp>>(patterns.getContext(),
                                           emitFusedRows);
}
