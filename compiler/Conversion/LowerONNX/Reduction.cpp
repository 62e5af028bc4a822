// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that fold elements along dimensions.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

static Value square(B &b, Value x) { return b.mul(x, x); }

//===----------------------------------------------------------------------===//
// Folds
//===----------------------------------------------------------------------===//

Tensor tercet::reduceSum(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Type type = getComputeType(x.element);
  return b.reduce(x, axes, /*keep=*/true, type, b.number(0, type),
                  [&](ValueRange v) { return b.add(v[0], v[1]); });
}

Tensor tercet::reduceMax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  return b.reduce(
      x, axes, /*keep=*/true, x.element, b.lowest(x.element),
      [&](ValueRange v) { return b.max(v[0], v[1], x.isUnsigned()); });
}

Value tercet::countAlong(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Dim count = b.dim(1);
  for (int64_t axis : axes)
    count = b.mul(count, b.dim(x, axis));
  Type i64 = b.getI64Type();
  return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, b.index(count)),
                      i64, getComputeType(x.element));
}

Tensor tercet::reduceMean(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Value count = countAlong(b, x, axes);
  Tensor sum = reduceSum(b, x, axes);
  return b.map(sum, sum.element,
               [&](ValueRange v) -> Value { return b.div(v[0], count); });
}

namespace {

/// What a node reduces: the operand, the axes of it, and the shape of the
/// result.
struct Reduction {
  Tensor x;
  SmallVector<int64_t> axes;
  Dims result;
};

} // namespace

/// The `count` extents whose `isReduced` does not hold, in their order.
static Dims chooseKept(B &b, ArrayRef<Dim> dims, ArrayRef<Value> isReduced,
                       int64_t count) {
  Dims kept(count, b.dim(1));
  Dim position = b.dim(0);
  for (auto [size, reduced] : llvm::zip(dims, isReduced)) {
    for (auto [j, extent] : llvm::enumerate(kept)) {
      Value isHere = b.compare(Compare::EQ, b.index(position), b.index(j));
      Value isLast = b.select(reduced, b.number(0, b.getI1Type()), isHere);
      extent =
          getAsOpFoldResult(b.select(isLast, b.index(size), b.index(extent)));
    }
    position = b.add(
        position, getAsOpFoldResult(b.select(reduced, b.index(0), b.index(1))));
  }
  return kept;
}

/// Axes that only the run knows: each dimension becomes two, one that is kept
/// and one that is reduced, of which one has extent 1.
static Reduction splitByAxes(B &b, Tensor x) {
  B::Values axes = b.getRuntimeAxes(x.rank(), 1), isReduced;
  Dims dims = b.dims(x), split, kept;
  Reduction reduced;
  for (int64_t i = 0; i < x.rank(); ++i) {
    Value isThis = b.number(0, b.getI1Type());
    for (Value axis : axes)
      isThis = b.createOrFold<arith::OrIOp>(
          isThis, b.compare(Compare::EQ, axis, b.index(i)));
    isReduced.push_back(isThis);
    auto choose = [&](Dim yes, Dim no) {
      return getAsOpFoldResult(b.select(isThis, b.index(yes), b.index(no)));
    };
    kept.push_back(choose(b.dim(1), dims[i]));
    split.append({kept.back(), choose(dims[i], b.dim(1))});
    reduced.axes.push_back(2 * i + 1);
  }
  reduced.x = b.reshape(x, split);
  reduced.result =
      b.getInt("keepdims", 1)
          ? kept
          : chooseKept(b, dims, isReduced, x.rank() - int64_t(axes.size()));
  b.requireEqual(b.product(reduced.result), b.product(kept),
                 "an axis is there twice, or does not exist");
  return reduced;
}

static Reduction reduceAxes(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Reduction reduced = {x, llvm::to_vector(axes), b.dims(x)};
  for (int64_t axis : axes)
    reduced.result[axis] = b.dim(1);
  if (!b.getInt("keepdims", 1))
    for (int64_t axis : llvm::reverse(axes))
      reduced.result.erase(reduced.result.begin() + axis);
  return reduced;
}

/// Of an operator whose axes are an attribute or its second input.
static FailureOr<Reduction> readReduction(B &b) {
  Tensor x = b.input(0);
  bool hasInput = b.has(1) && !b.getInts("axes");
  if (hasInput && !b.input(1).isStatic())
    return b.error() << "axes of unknown number are not supported";
  bool areGiven = hasInput ? b.input(1).type().getNumElements() > 0
                           : b.getInts("axes").has_value();
  if (areGiven && hasInput && !b.getConstantInts(b.input(1))) {
    if (b.input(1).type().getNumElements() > x.rank())
      return b.error() << "more axes than dimensions";
    return splitByAxes(b, x);
  }
  if (!areGiven && b.getInt("noop_with_empty_axes", 0))
    return reduceAxes(b, x, {});
  if (!areGiven)
    return reduceAxes(b, x, llvm::to_vector(llvm::seq(x.rank())));
  FailureOr<SmallVector<int64_t>> axes = b.getAxes(x.rank(), 1);
  if (failed(axes))
    return failure();
  return reduceAxes(b, x, *axes);
}

/// With the shape that the node asks for.
static LogicalResult setReduced(B &b, Tensor value, const Reduction &reduced) {
  return b.result(b.reshape(value, reduced.result));
}

template <auto Prepare, auto Finish> static LogicalResult lowerSum(B &b) {
  FailureOr<Reduction> reduced = readReduction(b);
  if (failed(reduced))
    return failure();
  Tensor x = reduced->x;
  Type type = getComputeType(x.element);
  Tensor sum =
      b.reduce(x, reduced->axes, /*keep=*/true, type, b.number(0, type),
               [&](ValueRange v) { return b.add(Prepare(b, v[0]), v[1]); });
  return setReduced(
      b,
      b.map(sum, x.element,
            [&](ValueRange v) -> Value { return Finish(b, v[0]); }),
      *reduced);
}

static Value same(B &, Value x) { return x; }

static LogicalResult lowerMean(B &b) {
  FailureOr<Reduction> reduced = readReduction(b);
  if (failed(reduced))
    return failure();
  Tensor x = reduced->x;
  return setReduced(b, b.cast(reduceMean(b, x, reduced->axes), x.element),
                    *reduced);
}

static LogicalResult lowerProd(B &b) {
  FailureOr<Reduction> reduced = readReduction(b);
  if (failed(reduced))
    return failure();
  Tensor x = reduced->x;
  Type type = getComputeType(x.element);
  Tensor product =
      b.reduce(x, reduced->axes, /*keep=*/true, type, b.number(1, type),
               [&](ValueRange v) { return b.mul(v[0], v[1]); });
  return setReduced(b, b.cast(product, x.element), *reduced);
}

template <bool IsMax> static LogicalResult lowerExtreme(B &b) {
  FailureOr<Reduction> reduced = readReduction(b);
  if (failed(reduced))
    return failure();
  Tensor x = reduced->x;
  Type element = x.element;
  if (element.isInteger(1)) // as numbers, which are 0 and 1
    x.element = b.getIntegerType(8, /*isSigned=*/false);
  Value identity = IsMax ? b.lowest(x.element) : b.highest(x.element);
  Tensor result = b.reduce(x, reduced->axes, /*keep=*/true, x.element, identity,
                           [&](ValueRange v) {
                             return IsMax ? b.max(v[0], v[1], x.isUnsigned())
                                          : b.min(v[0], v[1], x.isUnsigned());
                           });
  result.element = element;
  return setReduced(b, result, *reduced);
}

/// log(sum(exp(x))) with the maximum taken out.
static LogicalResult lowerLogSumExp(B &b) {
  FailureOr<Reduction> reduced = readReduction(b);
  if (failed(reduced))
    return failure();
  Tensor x = reduced->x;
  Tensor maximum = reduceMax(b, x, reduced->axes);
  Type type = getComputeType(x.element);
  Tensor powers = b.combine(
      x, maximum, type, [&](ValueRange v) { return b.exp(b.sub(v[0], v[1])); });
  Tensor result = b.combine(reduceSum(b, powers, reduced->axes), maximum,
                            x.element, [&](ValueRange v) -> Value {
                              return b.add(math::LogOp::create(b, v[0]), v[1]);
                            });
  return setReduced(b, result, *reduced);
}

/// Running sums or products along `axis`, one slice after another.
template <bool IsProduct>
static Tensor accumulateAlong(B &b, Tensor x, int64_t axis) {
  bool isExclusive = b.getInt("exclusive", 0),
       isReverse = b.getInt("reverse", 0);
  Type type = getComputeType(x.element);
  Dims dims = b.dims(x), one = dims;
  one[axis] = b.dim(1);
  Tensor inits[] = {b.empty(dims, x.element),
                    b.fill(one, type, b.number(IsProduct ? 1 : 0, type))};
  SmallVector<Tensor> results =
      b.loop(dims[axis], inits, [&](Value i, ArrayRef<Tensor> carried) {
        Dims offsets(x.rank(), b.dim(0));
        offsets[axis] =
            isReverse ? b.sub(b.sub(dims[axis], b.dim(1)), Dim(i)) : Dim(i);
        Tensor before = b.withDims(carried[1].value, one, type);
        Tensor now = b.combine(
            before, b.slice(x, offsets, one), type, [&](ValueRange v) {
              return IsProduct ? b.mul(v[0], v[1]) : b.add(v[0], v[1]);
            });
        Tensor written = b.cast(isExclusive ? before : now, x.element);
        return SmallVector<Tensor>{b.insertSlice(written, carried[0], offsets),
                                   now};
      });
  return b.withDims(results[0].value, dims, x.element);
}

template <bool IsProduct> static LogicalResult lowerCumulative(B &b) {
  auto accumulate = accumulateAlong<IsProduct>;
  Tensor x = b.input(0);
  if (std::optional<double> given = b.getConstantScalar(b.input(1))) {
    FailureOr<int64_t> axis = b.normalizeAxis(int64_t(*given), x.rank());
    return failed(axis) ? failure() : b.result(accumulate(b, x, *axis));
  }
  // One of the dimensions, which a run tells.
  Value axis = b.getRuntimeAxes(x.rank(), 1)[0];
  std::function<Value(int64_t)> choose = [&](int64_t i) -> Value {
    if (i + 1 == x.rank())
      return accumulate(b, x, i).value;
    auto branch = scf::IfOp::create(b, x.value.getType(),
                                    b.compare(Compare::EQ, axis, b.index(i)),
                                    /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(branch.thenBlock());
    scf::YieldOp::create(b, accumulate(b, x, i).value);
    b.setInsertionPointToStart(branch.elseBlock());
    scf::YieldOp::create(b, choose(i + 1));
    return branch.getResult(0);
  };
  return b.result(b.withDims(choose(0), b.dims(x), x.element));
}

static const LoweringRow kRows[] = {
    {"CumProd", lowerCumulative<true>},
    {"CumSum", lowerCumulative<false>},
    {"ReduceL1", lowerSum<[](B &b, Value x) { return b.abs(x); }, same>},
    {"ReduceL2", lowerSum<square,
                          [](B &b, Value x) -> Value {
                            return math::SqrtOp::create(b, x);
                          }>},
    {"ReduceLogSum", lowerSum<same,
                              [](B &b, Value x) -> Value {
                                return math::LogOp::create(b, x);
                              }>},
    {"ReduceLogSumExp", lowerLogSumExp},
    {"ReduceMax", lowerExtreme<true>},
    {"ReduceMean", lowerMean},
    {"ReduceMin", lowerExtreme<false>},
    {"ReduceProd", lowerProd},
    {"ReduceSum", lowerSum<same, same>},
    {"ReduceSumSquare", lowerSum<square, same>},
};

ArrayRef<LoweringRow> tercet::getReductionLowerings() { return kRows; }
