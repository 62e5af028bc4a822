// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_LOWERBITLINEAR
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Quantised rows are padded with zeros to this many columns: four steps of a
/// dot product of four, so that unrolled kernels need no tail.
constexpr int64_t kColumnGroup = 16;

void lower(ternary::BitLinearOp op) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  auto xType = cast<RankedTensorType>(op.getX().getType());
  int64_t cols = llvm::alignTo(xType.getDimSize(1), kColumnGroup);
  int64_t width = cast<ShapedType>(op.getOuts().getType()).getDimSize(1);
  OpFoldResult numTokens = tensor::getMixedSize(b, loc, op.getX(), 0);
  auto empty = [&](ArrayRef<int64_t> trailing, Type element) -> Value {
    SmallVector<OpFoldResult> sizes = {numTokens};
    for (int64_t size : trailing)
      sizes.push_back(b.getIndexAttr(size));
    return tensor::EmptyOp::create(b, loc, sizes, element);
  };

  SmallVector<int64_t> groups; // their number, if there are any
  if (std::optional<int64_t> group = op.getGroup())
    groups.push_back(llvm::divideCeil(xType.getDimSize(1), *group));
  SmallVector<Value> outs = {empty({cols}, b.getI8Type()),
                             empty({}, b.getF32Type()),
                             empty(groups, b.getI32Type())};
  SmallVector<Type> types = llvm::to_vector(ValueRange(outs).getTypes());
  auto quantised = ternary::QuantizeActivationsOp::create(
      b, loc, types[0], types[1], types[2], op.getX(), outs[0], outs[1],
      outs[2], op.getGroupAttr());
  groups.push_back(width);
  Value acc = empty(groups, b.getI32Type());
  acc = ternary::MatmulOp::create(b, loc, acc.getType(), quantised.getQ(),
                                  op.getWeights(), acc, op.getGroupAttr(),
                                  /*layout=*/nullptr)
            .getResult();
  SmallVector<int64_t> rows;
  for (Value weight : op.getWeights())
    rows.push_back(cast<ShapedType>(weight.getType()).getDimSize(0));
  Value result = ternary::RescaleOp::create(b, loc, op.getOuts().getType(), acc,
                                            quantised.getScale(),
                                            op.getScales(), op.getOuts(), rows)
                     .getResult();
  op.getResult().replaceAllUsesWith(result);
  op.erase();
}

struct LowerBitLinear : impl::LowerBitLinearBase<LowerBitLinear> {
  void runOnOperation() override {
    SmallVector<ternary::BitLinearOp> ops;
    getOperation().walk([&](ternary::BitLinearOp op) { ops.push_back(op); });
    for (ternary::BitLinearOp op : ops)
      lower(op);
  }
};

} // namespace
} // namespace tercet
