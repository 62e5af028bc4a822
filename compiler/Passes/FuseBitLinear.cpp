// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/MapVector.h"
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

/// One bit_linear with the matrices of all `siblings`:
///   %q = bit_linear ins(%x, %wq ..), %k = bit_linear ins(%x, %wk ..)
/// becomes
///   %qk = bit_linear ins(%x, %wq, %wk ..)
///   %q = tensor.extract_slice %qk[0, 0] .., %k = .. %qk[0, o_1]
void fuse(ArrayRef<ternary::BitLinearOp> siblings) {
  ternary::BitLinearOp first = siblings.front();
  OpBuilder b(first);
  Location loc = first.getLoc();
  SmallVector<Value> weights, scales;
  SmallVector<int64_t> rows;
  for (ternary::BitLinearOp op : siblings)
    for (auto [weight, scale] : llvm::zip(op.getWeights(), op.getScales())) {
      hoistDefinition(weight, first);
      hoistDefinition(scale, first);
      weights.push_back(weight);
      scales.push_back(scale);
      rows.push_back(cast<ShapedType>(weight.getType()).getDimSize(0));
    }
  SmallVector<int64_t> offsets = ternary::getColumnOffsets(rows);
  int64_t width = llvm::alignTo(offsets.back(), ternary::kRowGroup);

  Value numTokens = tensor::DimOp::create(b, loc, first.getX(), 0);
  Value empty = tensor::EmptyOp::create(
      b, loc, ArrayRef<OpFoldResult>{numTokens, b.getIndexAttr(width)},
      b.getF32Type());
  Value fused = ternary::BitLinearOp::create(b, loc, empty.getType(), first.getX(),
                                             weights, scales, empty)
                    .getResult();

  size_t matrix = 0;
  for (ternary::BitLinearOp op : siblings) {
    Value slice = tensor::ExtractSliceOp::create(
        b, op.getLoc(), fused,
        ArrayRef<OpFoldResult>{b.getIndexAttr(0), b.getIndexAttr(offsets[matrix])},
        ArrayRef<OpFoldResult>{numTokens, b.getIndexAttr(rows[matrix])},
        ArrayRef<OpFoldResult>{b.getIndexAttr(1), b.getIndexAttr(1)});
    matrix += op.getWeights().size();
    op.getResult().replaceAllUsesWith(slice);
  }
  for (ternary::BitLinearOp op : siblings)
    op.erase();
}

struct FuseBitLinear : impl::FuseBitLinearBase<FuseBitLinear> {
  void runOnOperation() override {
    for (Block &block : getOperation().getBody()) {
      llvm::MapVector<Value, SmallVector<ternary::BitLinearOp>> siblings;
      for (auto op : block.getOps<ternary::BitLinearOp>())
        if (op.getWeights().size() == 1 && op.getResult())
          siblings[op.getX()].push_back(op);
      for (auto &[x, ops] : siblings) {
        int64_t width = cast<ShapedType>(ops[0].getOuts().getType()).getDimSize(1);
        if (ops.size() > 1 || width % ternary::kRowGroup != 0)
          fuse(ops);
      }
    }
  }
};

} // namespace
} // namespace tercet
