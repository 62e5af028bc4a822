// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Where the greatest and least elements are.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

Tensor tercet::findEqual(B &b, Tensor x, Tensor best, int64_t axis, bool last,
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
      findEqual(b, x, best, *axis, b.getInt("select_last_index", 0));
  Dims dims = b.dims(position);
  if (!b.getInt("keepdims", 1))
    dims.erase(dims.begin() + *axis);
  return b.result(b.reshape(position, dims));
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

static const LoweringRow kRows[] = {
    {"ArgMax", lowerArg<true>},
    {"ArgMin", lowerArg<false>},
    {"TopK", lowerTopK},
};

ArrayRef<LoweringRow> tercet::getExtremesLowerings() { return kRows; }
