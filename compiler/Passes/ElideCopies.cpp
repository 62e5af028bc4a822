// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/BufferPlacement.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace mlir;

using namespace tercet;

namespace {

Value getRoot(Value buffer) {
  while (auto view = buffer.getDefiningOp<ViewLikeOpInterface>())
    buffer = view.getViewSource();
  return buffer;
}

/// Whether `op` may write memory that `root` is a name of.
bool mayWrite(Operation &op, Value root) {
  if (op.getNumRegions() && !isa<linalg::LinalgOp>(op))
    return true;
  std::optional<SmallVector<MemoryEffects::EffectInstance>> effects =
      getEffectsRecursively(&op);
  return !effects ||
         llvm::any_of(*effects,
                      [&](const MemoryEffects::EffectInstance &effect) {
                        return isa<MemoryEffects::Write>(effect.getEffect()) &&
                               (!effect.getValue() ||
                                getRoot(effect.getValue()) == root);
                      });
}

/// Whether `op` reads `buffer` with any strides but that of its last dimension.
bool readsStrided(Operation *op, Value buffer) {
  auto matmul = dyn_cast<ternary::PackedMatmulOp>(op);
  return matmul && (matmul.getQ() == buffer || matmul.getScale() == buffer);
}

struct Copy {
  linalg::GenericOp op;
  Value source, result;
  AffineMap map; ///< of the source, from dimensions of the result
};

/// A copy into an allocation that nothing else writes, and that ops read which
/// take any strides, while the source stays as it is.
std::optional<Copy> matchCopy(linalg::GenericOp op) {
  if (!op.hasPureBufferSemantics() || op.getNumDpsInputs() != 1 ||
      op.getNumDpsInits() != 1 || op.getNumReductionLoops() ||
      op.getBody()->getTerminator()->getOperand(0) !=
          op.getBody()->getArgument(0))
    return std::nullopt;
  Copy copy = {op, op.getDpsInputs()[0], op.getDpsInits()[0],
               op.getIndexingMapsArray()[0]};
  auto source = dyn_cast<MemRefType>(copy.source.getType());
  if (!source || !source.getLayout().isIdentity() ||
      !copy.result.getDefiningOp<memref::AllocOp>() ||
      !op.getIndexingMapsArray()[1].isIdentity())
    return std::nullopt;
  Operation *last = op;
  for (Operation *user : copy.result.getUsers()) {
    if (user == op || isa<memref::DimOp>(user))
      continue;
    if (!readsStrided(user, copy.result) || user->getBlock() != op->getBlock())
      return std::nullopt;
    if (last->isBeforeInBlock(user))
      last = user;
  }
  Value root = getRoot(copy.source);
  for (auto next = std::next(op->getIterator()); &*next != last; ++next)
    if (mayWrite(*next, root))
      return std::nullopt;
  return copy;
}

/// How far each dimension of the result moves in the source; the product of
/// what is inside of a dimension of the source, times its factors in the map.
SmallVector<OpFoldResult> computeStrides(OpBuilder &b, Copy copy) {
  Location loc = copy.op.getLoc();
  AffineExpr zero = b.getAffineConstantExpr(0);
  auto evaluate = [&](AffineExpr expr, unsigned loop) {
    SmallVector<AffineExpr> dims(copy.map.getNumDims(), zero);
    dims[loop] = b.getAffineConstantExpr(1);
    return cast<AffineConstantExpr>(expr.replaceDims(dims)).getValue();
  };
  auto fold = [&](auto build, OpFoldResult x, OpFoldResult y) {
    return getAsOpFoldResult(build(getValueOrCreateConstantIndexOp(b, loc, x),
                                   getValueOrCreateConstantIndexOp(b, loc, y)));
  };
  auto add = [&](OpFoldResult x, OpFoldResult y) {
    return fold(
        [&](Value x, Value y) {
          return b.createOrFold<arith::AddIOp>(loc, x, y);
        },
        x, y);
  };
  auto multiply = [&](OpFoldResult x, OpFoldResult y) {
    return fold(
        [&](Value x, Value y) {
          return b.createOrFold<arith::MulIOp>(loc, x, y);
        },
        x, y);
  };
  SmallVector<OpFoldResult> strides(copy.map.getNumDims(), b.getIndexAttr(0)),
      sizes = memref::getMixedSizes(b, loc, copy.source);
  OpFoldResult step = b.getIndexAttr(1);
  for (int64_t dim = copy.map.getNumResults() - 1; dim >= 0; --dim) {
    for (unsigned loop = 0; loop < copy.map.getNumDims(); ++loop)
      if (int64_t factor = evaluate(copy.map.getResult(dim), loop))
        strides[loop] =
            add(strides[loop], multiply(step, b.getIndexAttr(factor)));
    if (dim > 0)
      step = multiply(step, sizes[dim]);
  }
  return strides;
}

/// Before, with %x of 30 lines of 30 pixels:
///
///   %windows = memref.alloc() : memref<28x28x3x3xi8>
///   linalg.generic (oh, ow, r, c) -> (oh + r, ow + c) ins(%x) outs(%windows)
///   ternary.packed_matmul ins(%windows, ..)
///
/// After:
///
///   %windows = memref.reinterpret_cast %x, strides [30, 1, 30, 1]
///   ternary.packed_matmul ins(%windows, ..)
void elide(Copy copy) {
  OpBuilder b(copy.op);
  Location loc = copy.op.getLoc();
  Value view = memref::ReinterpretCastOp::create(
      b, loc, copy.source, OpFoldResult(b.getIndexAttr(0)),
      memref::getMixedSizes(b, loc, copy.result), computeStrides(b, copy));
  Operation *alloc = copy.result.getDefiningOp();
  copy.op.erase();
  for (OpOperand &use : llvm::make_early_inc_range(alloc->getUses()))
    if (readsStrided(use.getOwner(), use.get()))
      use.set(view);
  if (alloc->use_empty())
    alloc->erase();
}

} // namespace

void tercet::elideCopies(Operation *function) {
  SmallVector<linalg::GenericOp> generics;
  function->walk([&](linalg::GenericOp op) { generics.push_back(op); });
  for (linalg::GenericOp op : generics)
    if (std::optional<Copy> copy = matchCopy(op))
      elide(*copy);
}
