// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/WorkEstimate.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

using namespace mlir;

namespace {

/// Bytes of a vector register: on others the estimate is off by a factor.
constexpr int64_t kRegisterBytes = 32;

int64_t countInstructions(Operation &op) {
  if (op.hasTrait<OpTrait::ConstantLike>() ||
      op.hasTrait<OpTrait::IsTerminator>() || isa<ViewLikeOpInterface>(op))
    return 0;
  int64_t most = 1;
  auto count = [&](TypeRange types) {
    for (Type type : types)
      if (auto vector = dyn_cast<VectorType>(type);
          vector && vector.getElementType().isIntOrFloat())
        most = std::max<int64_t>(
            most, llvm::divideCeil(vector.getNumElements() *
                                       vector.getElementTypeBitWidth(),
                                   8 * kRegisterBytes));
  };
  count(op.getOperandTypes());
  count(op.getResultTypes());
  return most;
}

class Estimate {
public:
  explicit Estimate(scf::ParallelOp loop)
      : loop(loop), b(loop), loc(loop.getLoc()) {}

  /// Of one execution of `block`, or null.
  Value visit(Block &block) {
    int64_t straight = 0;
    SmallVector<Value> nested;
    for (Operation &op : block) {
      straight += countInstructions(op);
      Value trips;
      if (auto inner = dyn_cast<scf::ForOp>(op)) {
        trips = countTrips(inner);
        if (!trips)
          return {};
      } else if (isa<LoopLikeOpInterface>(op)) {
        return {};
      }
      for (Region &region : op.getRegions())
        for (Block &body : region) {
          Value work = visit(body);
          if (!work)
            return {};
          nested.push_back(trips ? multiply(work, trips) : work);
        }
    }
    Value sum = arith::ConstantIndexOp::create(b, loc, straight);
    for (Value work : nested)
      sum = b.createOrFold<arith::AddIOp>(loc, sum, work);
    return sum;
  }

private:
  Value multiply(Value a, Value c) {
    return b.createOrFold<arith::MulIOp>(loc, a, c);
  }

  Value countTrips(scf::ForOp inner) {
    Value lower = hoist(inner.getLowerBound());
    Value upper = hoist(inner.getUpperBound());
    Value step = hoist(inner.getStep());
    if (!lower || !upper || !step)
      return {};
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value range = b.createOrFold<arith::SubIOp>(loc, upper, lower);
    Value positive = b.createOrFold<arith::MaxSIOp>(loc, range, zero);
    return b.createOrFold<arith::DivUIOp>(loc, positive, step);
  }

  /// `value` in front of the loop, or null if it depends on the item.
  Value hoist(Value value) {
    if (Value known = hoisted.lookupOrNull(value))
      return known;
    if (value.getParentRegion()->isProperAncestor(&loop.getRegion()))
      return value;
    Operation *def = value.getDefiningOp();
    if (!def || def->getNumRegions() != 0 || !isPure(def))
      return {};
    for (Value operand : def->getOperands()) {
      Value outside = hoist(operand);
      if (!outside)
        return {};
      hoisted.map(operand, outside);
    }
    b.clone(*def, hoisted);
    return hoisted.lookup(value);
  }

  scf::ParallelOp loop;
  OpBuilder b;
  Location loc;
  IRMapping hoisted;
};

} // namespace

Value tercet::estimateWork(scf::ParallelOp loop) {
  return Estimate(loop).visit(*loop.getBody());
}
