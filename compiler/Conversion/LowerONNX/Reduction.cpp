// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that fold elements along dimensions: reductions, softmax, and the
// norms that are made of them.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
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

/// The number of elements along axes, as a scalar of compute type.
static Value countAlong(B &b, Tensor x, ArrayRef<int64_t> axes) {
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

/// Both operands broadcast, which shapes that derive from another cannot fail.
static Tensor combine(B &b, Tensor x, Tensor y, Type element, B::Body body) {
  return *b.elementwise({x, y}, element, body);
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
  if (areGiven && hasInput && !b.getConstantInts(b.input(1)))
    return splitByAxes(b, x);
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
  Tensor powers = combine(b, x, maximum, type, [&](ValueRange v) {
    return b.exp(b.sub(v[0], v[1]));
  });
  Tensor result = combine(b, reduceSum(b, powers, reduced->axes), maximum,
                          x.element, [&](ValueRange v) -> Value {
                            return b.add(math::LogOp::create(b, v[0]), v[1]);
                          });
  return setReduced(b, result, *reduced);
}

//===----------------------------------------------------------------------===//
// Positions of extremes
//===----------------------------------------------------------------------===//

/// The index along `axis`, of extent 1 in the result, of the elements that
/// equal `best`; `isAllowed` excludes others. Of several the first or last.
static Tensor findEqual(B &b, Tensor x, Tensor best, int64_t axis, bool last,
                        function_ref<Value(Value, ValueRange)> isAllowed) {
  int64_t rank = x.rank();
  Type i64 = b.getI64Type();
  Value none = last ? b.number(-1, i64) : b.highest(i64);
  Dims dims = b.dims(x), to = dims;
  to[axis] = b.dim(1);
  // Loops in the order of dimensions, the reduced one last.
  SmallVector<AffineExpr> xs(rank), outs(rank);
  SmallVector<unsigned> loops(rank);
  unsigned next = 0;
  for (int64_t i = 0; i < rank; ++i) {
    loops[i] = i == axis ? rank - 1 : next++;
    xs[i] = b.getAffineDimExpr(loops[i]);
    outs[i] = i == axis ? b.getAffineConstantExpr(0) : xs[i];
  }
  AffineMap in = AffineMap::get(rank, 0, xs, b.getContext()),
            out = AffineMap::get(rank, 0, outs, b.getContext());
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.back() = utils::IteratorType::reduction;
  return b.generic(
      {x, best}, b.fill(to, i64, none), {in, out, out}, iterators,
      [&](ValueRange v) -> Value {
        Value position = linalg::IndexOp::create(b, rank - 1);
        Value i = b.createOrFold<arith::IndexCastOp>(i64, position);
        Value left = b.load(v[0], x.element), right = b.load(v[1], x.element);
        Value isBest = b.compare(Compare::EQ, left, right);
        Values indices;
        for (unsigned loop : loops)
          indices.push_back(linalg::IndexOp::create(b, loop));
        if (isAllowed)
          isBest = arith::AndIOp::create(b, isBest, isAllowed(left, indices));
        Value candidate = b.select(isBest, i, none);
        return last ? b.max(candidate, v[2]) : b.min(candidate, v[2]);
      });
}

template <bool IsMax> static LogicalResult lowerArg(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), 0);
  if (failed(axis))
    return failure();
  Value identity = IsMax ? b.lowest(x.element) : b.highest(x.element);
  Tensor best =
      b.reduce(x, *axis, /*keep=*/true, x.element, identity, [&](ValueRange v) {
        return IsMax ? b.max(v[0], v[1], x.isUnsigned())
                     : b.min(v[0], v[1], x.isUnsigned());
      });
  Tensor position =
      findEqual(b, x, best, *axis, b.getInt("select_last_index", 0), nullptr);
  return setReduced(b, position, reduceAxes(b, x, *axis));
}

/// One pass over the operand for each result, which comes after the one before
/// it in the order of values, then of positions.
static LogicalResult lowerTopK(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  bool largest = b.getInt("largest", 1);
  Dim k = b.version() < 10 ? b.dim(b.getInt("k", 1)) : b.toDims(b.input(1))[0];
  Type i64 = b.getI64Type();
  Dims to = b.dims(x), one = to;
  to[*axis] = k;
  one[*axis] = b.dim(1);
  Value identity = largest ? b.lowest(x.element) : b.highest(x.element);
  Tensor inits[] = {
      b.empty(to, x.element), b.empty(to, i64),
      b.fill(one, x.element,
             largest ? b.highest(x.element) : b.lowest(x.element)),
      b.fill(one, i64, b.number(-1, i64))};
  int64_t rank = x.rank();
  SmallVector<Tensor> results =
      b.loop(k, inits, [&](Value rankOfResult, ArrayRef<Tensor> carried) {
        Tensor last = carried[2], lastIndex = carried[3];
        auto isLeft = [&](Value value, ValueRange indices) -> Value {
          Values at(indices);
          at[*axis] = b.index(0);
          Value previous = b.load(b.at(last, at), x.element);
          Value position =
              b.createOrFold<arith::IndexCastOp>(i64, indices[*axis]);
          Value isWorse = b.compare(largest ? Compare::LT : Compare::GT, value,
                                    previous, x.isUnsigned());
          Value isEqual = arith::AndIOp::create(
              b, b.compare(Compare::EQ, value, previous),
              b.compare(Compare::GT, position, b.at(lastIndex, at)));
          return arith::OrIOp::create(b, isWorse, isEqual);
        };
        // What is left, the rest as the worst there is.
        Tensor left = b.generate(b.dims(x), x.element, [&](ValueRange i) {
          Value stored = b.at(x, i);
          return b.select(isLeft(b.load(stored, x.element), i), stored,
                          identity);
        });
        Tensor best = b.reduce(
            left, *axis, /*keep=*/true, x.element, identity, [&](ValueRange v) {
              return largest ? b.max(v[0], v[1], x.isUnsigned())
                             : b.min(v[0], v[1], x.isUnsigned());
            });
        Tensor position = findEqual(b, x, best, *axis, /*last=*/false, isLeft);
        Dims offsets(rank, b.dim(0));
        offsets[*axis] = rankOfResult;
        return SmallVector<Tensor>{b.insertSlice(best, carried[0], offsets),
                                   b.insertSlice(position, carried[1], offsets),
                                   best, position};
      });
  (void)b.result(b.withDims(results[0].value, to, x.element));
  return b.result(b.withDims(results[1].value, to, i64));
}

//===----------------------------------------------------------------------===//
// Softmax
//===----------------------------------------------------------------------===//

Tensor tercet::softmax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Type type = getComputeType(x.element);
  Tensor powers = combine(b, x, reduceMax(b, x, axes), type, [&](ValueRange v) {
    return b.exp(b.sub(v[0], v[1]));
  });
  return combine(b, powers, reduceSum(b, powers, axes), x.element,
                 [&](ValueRange v) { return b.div(v[0], v[1]); });
}

Tensor tercet::logSoftmax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Type type = getComputeType(x.element);
  Tensor shifted = combine(b, x, reduceMax(b, x, axes), type,
                           [&](ValueRange v) { return b.sub(v[0], v[1]); });
  Tensor powers =
      b.map(shifted, type, [&](ValueRange v) { return b.exp(v[0]); });
  return combine(b, shifted, reduceSum(b, powers, axes), x.element,
                 [&](ValueRange v) -> Value {
                   return b.sub(v[0], math::LogOp::create(b, v[1]));
                 });
}

/// Before version 13 all dimensions from `axis` on are one.
template <Tensor (*Function)(B &, Tensor, ArrayRef<int64_t>)>
static LogicalResult lowerSoftmax(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), b.version() < 13 ? 1 : -1);
  if (failed(axis))
    return failure();
  SmallVector<int64_t> axes = {*axis};
  if (b.version() < 13)
    axes = llvm::to_vector(llvm::seq(*axis, x.rank()));
  return b.result(Function(b, x, axes));
}

static Tensor hardmax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  // As one dimension, the last.
  Dims dims = b.dims(x);
  SmallVector<int64_t> order, inverse(x.rank());
  for (int64_t i = 0; i < x.rank(); ++i)
    if (!llvm::is_contained(axes, i))
      order.push_back(i);
  order.append(axes.begin(), axes.end());
  for (auto [to, from] : llvm::enumerate(order))
    inverse[from] = to;
  Tensor moved = b.transpose(x, order);
  Dims movedDims = b.dims(moved);
  size_t outer = x.rank() - axes.size();
  Dims flat(ArrayRef(movedDims).take_front(outer));
  flat.push_back(b.product(ArrayRef(movedDims).drop_front(outer)));
  Tensor rows = b.reshape(moved, flat);
  int64_t last = rows.rank() - 1;
  Tensor first = findEqual(b, rows, reduceMax(b, rows, last), last,
                           /*last=*/false, nullptr);
  Tensor hot = b.generate(flat, x.element, [&](ValueRange i) {
    Values at(i);
    at[last] = b.index(0);
    Value isHot = b.compare(Compare::EQ, b.toIndex(b.at(first, at)), i[last]);
    return b.store(b.castScalar(isHot, b.getI1Type(), x.element), x.element);
  });
  return b.transpose(b.reshape(hot, movedDims), inverse);
}

//===----------------------------------------------------------------------===//
// Norms
//===----------------------------------------------------------------------===//

namespace {

/// Means over axes, in compute type.
struct Normalized {
  Tensor mean, inverse, result;
};

} // namespace

/// (x - mean) / sqrt(variance + epsilon), or without `centers` x / sqrt(mean of
/// squares + epsilon).
static Normalized normalize(B &b, Tensor x, ArrayRef<int64_t> axes,
                            double epsilon, bool centers = true) {
  Type type = getComputeType(x.element);
  Normalized norm;
  Tensor centered = b.cast(x, type);
  if (centers) {
    norm.mean = reduceMean(b, x, axes);
    centered = combine(b, centered, norm.mean, type,
                       [&](ValueRange v) { return b.sub(v[0], v[1]); });
  }
  Value count = countAlong(b, x, axes);
  Tensor squares =
      b.reduce(centered, axes, /*keep=*/true, type, b.number(0, type),
               [&](ValueRange v) { return b.add(square(b, v[0]), v[1]); });
  norm.inverse = b.map(squares, type, [&](ValueRange v) -> Value {
    Value variance = b.add(b.div(v[0], count), b.number(epsilon, type));
    return b.div(b.number(1, type), math::SqrtOp::create(b, variance));
  });
  norm.result = combine(b, centered, norm.inverse, type,
                        [&](ValueRange v) { return b.mul(v[0], v[1]); });
  return norm;
}

/// x * scale + bias; either may be missing.
static FailureOr<Tensor> scaleAndShift(B &b, Tensor x, Tensor scale,
                                       Tensor bias, Type element) {
  SmallVector<Tensor> operands = {x};
  if (scale)
    operands.push_back(b.cast(scale, x.element));
  if (bias)
    operands.push_back(b.cast(bias, x.element));
  return b.elementwise(operands, element, [&](ValueRange v) {
    Value result = v[0];
    if (scale)
      result = b.mul(result, v[1]);
    return bias ? b.add(result, v.back()) : result;
  });
}

template <bool Centers> static LogicalResult lowerLayerNorm(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(*axis, x.rank()));
  Normalized norm = normalize(b, x, axes, b.getFloat("epsilon", 1e-5), Centers);
  FailureOr<Tensor> result =
      scaleAndShift(b, norm.result, b.has(1) ? b.input(1) : Tensor(),
                    Centers && b.has(2) ? b.input(2) : Tensor(), x.element);
  if (failed(result))
    return failure();
  (void)b.result(*result);
  if (Centers)
    (void)b.result(norm.mean);
  return b.result(norm.inverse);
}

/// A tensor of channels as [C, 1, ...] beside one of `rank` dimensions.
static Tensor alongChannels(B &b, Tensor channels, int64_t rank) {
  Dims dims(std::max<int64_t>(rank - 1, 1), b.dim(1));
  dims[0] = b.dim(channels, 0);
  return b.reshape(channels, dims);
}

static LogicalResult lowerBatchNorm(B &b) {
  Tensor x = b.input(0);
  if (b.getInt("training_mode", 0) || b.isUsed(1))
    return b.error() << "training is not supported";
  if (x.rank() < 2)
    return b.error() << "an operand without channels";
  Type type = getComputeType(x.element);
  // x * factor + offset, with both computed by channel.
  Tensor scale = b.cast(b.input(1), type), bias = b.cast(b.input(2), type),
         mean = b.cast(b.input(3), type), variance = b.cast(b.input(4), type);
  double epsilon = b.getFloat("epsilon", 1e-5);
  FailureOr<Tensor> factor =
      b.elementwise({scale, variance}, type, [&](ValueRange v) -> Value {
        return b.div(v[0], math::SqrtOp::create(
                               b, b.add(v[1], b.number(epsilon, type))));
      });
  if (failed(factor))
    return failure();
  FailureOr<Tensor> offset =
      b.elementwise({bias, mean, *factor}, type, [&](ValueRange v) {
        return b.sub(v[0], b.mul(v[1], v[2]));
      });
  if (failed(offset))
    return failure();
  FailureOr<Tensor> result = b.elementwise(
      {x, alongChannels(b, *factor, x.rank()),
       alongChannels(b, *offset, x.rank())},
      x.element, [&](ValueRange v) { return b.fma(v[0], v[1], v[2]); });
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerInstanceNorm(B &b) {
  Tensor x = b.input(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(2, x.rank()));
  Tensor norm = normalize(b, x, axes, b.getFloat("epsilon", 1e-5)).result;
  FailureOr<Tensor> result =
      scaleAndShift(b, norm, alongChannels(b, b.input(1), x.rank()),
                    alongChannels(b, b.input(2), x.rank()), x.element);
  return failed(result) ? failure() : b.result(*result);
}

/// Before version 21 scale and bias are those of groups.
static LogicalResult lowerGroupNorm(B &b) {
  Tensor x = b.input(0);
  int64_t groups = b.getInt("num_groups", 1);
  Dims dims = b.dims(x);
  Dim group = b.dim(groups), size = b.div(dims[1], group);
  Dims grouped = {dims[0], group,
                  b.mul(size, b.product(ArrayRef(dims).drop_front(2)))};
  Tensor norm =
      normalize(b, b.reshape(x, grouped), {2}, b.getFloat("epsilon", 1e-5))
          .result;
  bool ofGroups = b.version() < 21;
  auto widen = [&](Tensor t) { return b.reshape(t, {b.dim(t, 0), b.dim(1)}); };
  if (ofGroups) {
    FailureOr<Tensor> result =
        scaleAndShift(b, norm, widen(b.input(1)), widen(b.input(2)), x.element);
    return failed(result) ? failure() : b.result(b.reshape(*result, dims));
  }
  FailureOr<Tensor> result = scaleAndShift(
      b, b.reshape(norm, dims), alongChannels(b, b.input(1), x.rank()),
      alongChannels(b, b.input(2), x.rank()), x.element);
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerMeanVarianceNorm(B &b) {
  Tensor x = b.input(0);
  std::optional<ArrayRef<int64_t>> given = b.getInts("axes");
  SmallVector<int64_t> axes = {0, 2, 3};
  if (given)
    axes = llvm::to_vector(*given);
  for (int64_t &axis : axes) {
    FailureOr<int64_t> normalized = b.normalizeAxis(axis, x.rank());
    if (failed(normalized))
      return failure();
    axis = *normalized;
  }
  return b.result(b.cast(normalize(b, x, axes, 1e-9).result, x.element));
}

static LogicalResult lowerLpNorm(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  bool isAbsolute = b.getInt("p", 2) == 1;
  Type type = getComputeType(x.element);
  Tensor sum = b.reduce(
      x, *axis, /*keep=*/true, type, b.number(0, type), [&](ValueRange v) {
        return b.add(isAbsolute ? b.abs(v[0]) : square(b, v[0]), v[1]);
      });
  // Where the norm is zero, so are the elements.
  return b.result(combine(b, x, sum, x.element, [&](ValueRange v) -> Value {
    Value norm = isAbsolute ? v[1] : math::SqrtOp::create(b, v[1]).getResult();
    Value zero = b.number(0, type);
    return b.select(b.compare(Compare::EQ, norm, zero), zero,
                    b.div(v[0], norm));
  }));
}

/// Divides by a power of the sum of squares of neighbouring channels.
static LogicalResult lowerLRN(B &b) {
  Tensor x = b.input(0);
  int64_t size = b.getInt("size", 1), rank = x.rank();
  double alpha = b.getFloat("alpha", 1e-4), beta = b.getFloat("beta", 0.75),
         bias = b.getFloat("bias", 1);
  Type type = getComputeType(x.element);
  Dims before(rank, b.dim(0)), after = before;
  before[1] = b.dim((size - 1) / 2);
  after[1] = b.dim(size - 1 - (size - 1) / 2);
  Tensor padded = b.pad(b.cast(x, type), before, after, b.number(0, type));
  SmallVector<AffineExpr> in, out;
  for (int64_t i = 0; i < rank; ++i) {
    out.push_back(b.getAffineDimExpr(i));
    in.push_back(i == 1 ? out[i] + b.getAffineDimExpr(rank) : out[i]);
  }
  AffineMap maps[] = {
      AffineMap::get(rank + 1, 0, in, b.getContext()),
      AffineMap::get(rank + 1, 0, b.getAffineDimExpr(rank), b.getContext()),
      AffineMap::get(rank + 1, 0, out, b.getContext())};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.push_back(utils::IteratorType::reduction);
  Tensor sums = b.generic(
      {padded, b.empty(b.dim(size), type)}, b.zeros(b.dims(x), type), maps,
      iterators, [&](ValueRange v) { return b.add(square(b, v[0]), v[2]); });
  return b.result(combine(b, x, sums, x.element, [&](ValueRange v) -> Value {
    Value base = b.add(b.number(bias, type),
                       b.mul(b.number(alpha / double(size), type), v[1]));
    return b.div(v[0], math::PowFOp::create(b, base, b.number(beta, type)));
  }));
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
        Tensor now = combine(
            b, before, b.slice(x, offsets, one), type, [&](ValueRange v) {
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
    {"ArgMax", lowerArg<true>},
    {"ArgMin", lowerArg<false>},
    {"BatchNormalization", lowerBatchNorm},
    {"CumProd", lowerCumulative<true>},
    {"CumSum", lowerCumulative<false>},
    {"GroupNormalization", lowerGroupNorm},
    {"Hardmax", lowerSoftmax<hardmax>},
    {"InstanceNormalization", lowerInstanceNorm},
    {"LRN", lowerLRN},
    {"LayerNormalization", lowerLayerNorm<true>},
    {"LogSoftmax", lowerSoftmax<logSoftmax>},
    {"LpNormalization", lowerLpNorm},
    {"MeanVarianceNormalization", lowerMeanVarianceNorm},
    {"RMSNormalization", lowerLayerNorm<false>},
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
    {"SimplifiedLayerNormalization", lowerLayerNorm<false>},
    {"Softmax", lowerSoftmax<softmax>},
    {"TopK", lowerTopK},
};

ArrayRef<LoweringRow> tercet::getReductionLowerings() { return kRows; }
