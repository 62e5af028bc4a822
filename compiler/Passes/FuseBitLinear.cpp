// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/SmallVectorExtras.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_FUSEBITLINEAR
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Moves the pure ops that define `value` before `point`. Weights and scales
/// depend on no activation, so they can always move up.
void hoistDefinition(Value value, Operation *point) {
  Operation *def = value.getDefiningOp();
  if (!def || def->getBlock() != point->getBlock() ||
      def->isBeforeInBlock(point))
    return;
  assert(isPure(def) && "weights come from parameters");
  for (Value operand : def->getOperands())
    hoistDefinition(operand, point);
  def->moveBefore(point);
}

/// Columns of the result; those beyond the last matrix are unspecified.
int64_t getWidth(ternary::BitLinearOp op) {
  return cast<ShapedType>(op.getOuts().getType()).getDimSize(1);
}

/// One bit_linear with the matrices of all `siblings`, one matrix each:
///   %q = bit_linear ins(%x, %wq ..), %k = bit_linear ins(%x, %wk ..)
/// becomes
///   %qk = bit_linear ins(%x, %wq, %wk ..)
///   %q = tensor.extract_slice %qk[0, 0] .., %k = .. %qk[0, o_1]
void fuse(ArrayRef<ternary::BitLinearOp> siblings) {
  ternary::BitLinearOp first = siblings.front();
  OpBuilder b(first);
  Location loc = b.getFusedLoc(llvm::map_to_vector(
      siblings, [](ternary::BitLinearOp op) { return op.getLoc(); }));
  SmallVector<Value> weights, scales;
  SmallVector<int64_t> rows;
  for (ternary::BitLinearOp op : siblings) {
    weights.push_back(op.getWeights()[0]);
    scales.push_back(op.getScales()[0]);
    hoistDefinition(weights.back(), first);
    hoistDefinition(scales.back(), first);
    rows.push_back(cast<ShapedType>(weights.back().getType()).getDimSize(0));
  }
  SmallVector<int64_t> offsets = ternary::getColumnOffsets(rows);
  int64_t width = offsets.back();
  for (auto [op, offset] : llvm::zip(siblings, offsets))
    width = std::max(width, offset + getWidth(op));
  width = llvm::alignTo(width, ternary::kRowGroup);

  OpFoldResult numTokens = tensor::getMixedSize(b, loc, first.getX(), 0);
  Value empty = tensor::EmptyOp::create(
      b, loc, ArrayRef<OpFoldResult>{numTokens, b.getIndexAttr(width)},
      b.getF32Type());
  Value fused =
      ternary::BitLinearOp::create(b, loc, empty.getType(), first.getX(),
                                   weights, scales, empty, first.getGroupAttr())
          .getResult();

  for (size_t i = 0; i < siblings.size(); ++i) {
    ternary::BitLinearOp op = siblings[i];
    Value slice = tensor::ExtractSliceOp::create(
        b, op.getLoc(), fused,
        ArrayRef<OpFoldResult>{b.getIndexAttr(0), b.getIndexAttr(offsets[i])},
        ArrayRef<OpFoldResult>{numTokens, b.getIndexAttr(getWidth(op))},
        ArrayRef<OpFoldResult>{b.getIndexAttr(1), b.getIndexAttr(1)});
    op.getResult().replaceAllUsesWith(slice);
  }
  for (ternary::BitLinearOp op : siblings)
    op.erase();
}

struct FuseBitLinear : impl::FuseBitLinearBase<FuseBitLinear> {
  void runOnOperation() override {
    for (Block &block : getOperation().getBody()) {
      // Of the same input, whose sums are those of the same columns.
      llvm::MapVector<std::pair<Value, Attribute>,
                      SmallVector<ternary::BitLinearOp>>
          siblings;
      for (auto op : block.getOps<ternary::BitLinearOp>())
        if (op.getWeights().size() == 1 && op.getResult() &&
            !ShapedType::isDynamic(getWidth(op)))
          siblings[{op.getX(), op.getGroupAttr()}].push_back(op);
      for (auto &[key, ops] : siblings)
        if (ops.size() > 1 || getWidth(ops[0]) % ternary::kRowGroup != 0)
          fuse(ops);
    }
  }
};

} // namespace
} // namespace tercet
