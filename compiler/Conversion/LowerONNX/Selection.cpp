// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators whose results have as many elements as data say.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

/// Flat positions where `isChosen` holds, [1 .. count], of a 1-D tensor.
static Tensor findPositions(B &b, Tensor x,
                            function_ref<Value(Value stored)> isChosen) {
  Type i64 = b.getI64Type();
  Tensor flags = b.generate(b.dims(x), i64, [&](ValueRange i) {
    return b.castScalar(isChosen(b.at(x, i)), b.getI1Type(), i64);
  });
  Tensor total = b.reduce(flags, {0}, /*keep=*/false, i64, b.number(0, i64),
                          [&](ValueRange v) { return b.add(v[0], v[1]); });
  Dim count = b.toDims(total)[0];
  // A position that is not chosen is overwritten by the next that is; there is
  // room for one more at the end.
  Tensor positions = b.zeros(b.add(count, b.dim(1)), i64);
  Tensor next = b.integers({0}, i64);
  SmallVector<Tensor> results = b.loop(
      b.dim(x, 0), {positions, next}, [&](Value i, ArrayRef<Tensor> carried) {
        Value zero = b.index(0), at = b.at(carried[1], zero);
        Value position = b.createOrFold<arith::IndexCastOp>(i64, i);
        Value filled = tensor::InsertOp::create(b, position, carried[0].value,
                                                b.toIndex(at));
        Value after = tensor::InsertOp::create(b, b.add(at, b.at(flags, i)),
                                               carried[1].value, zero);
        return SmallVector<Tensor>{{filled, i64}, {after, i64}};
      });
  return b.slice(results[0], b.dim(0), count);
}

static LogicalResult lowerNonZero(B &b) {
  Tensor x = b.input(0);
  Dims dims = b.dims(x);
  Tensor flat = b.reshape(x, b.product(dims));
  Tensor positions = findPositions(b, flat, [&](Value stored) {
    Value value = b.load(stored, x.element);
    if (x.element.isInteger(1))
      return value;
    return b.compare(Compare::NE, value, b.number(0, value.getType()));
  });
  Dim rank = b.dim(std::max<int64_t>(x.rank(), 1));
  if (dims.empty())
    dims.push_back(b.dim(1));
  return b.result(b.generate(
      {rank, b.dim(positions, 0)}, b.getI64Type(), [&](ValueRange i) {
        Value position = b.toIndex(b.at(positions, i[1])), result;
        for (int64_t d = dims.size() - 1; d >= 0; --d) {
          Value size = b.index(b.max(dims[d], b.dim(1)));
          Value index = b.createOrFold<arith::RemUIOp>(position, size);
          position = b.createOrFold<arith::DivUIOp>(position, size);
          result = result ? b.select(b.compare(Compare::EQ, i[0], b.index(d)),
                                     index, result)
                          : index;
        }
        return b.createOrFold<arith::IndexCastOp>(b.getI64Type(), result);
      }));
}

static LogicalResult lowerCompress(B &b) {
  Tensor x = b.input(0), condition = b.input(1);
  int64_t axis = 0;
  if (b.node()->hasAttr("axis")) {
    FailureOr<int64_t> given = b.getAxis(x.rank(), 0);
    if (failed(given))
      return failure();
    axis = *given;
  } else {
    x = b.reshape(x, b.product(b.dims(x)));
  }
  Tensor positions = findPositions(b, condition, [&](Value stored) {
    return b.load(stored, b.getI1Type());
  });
  Dims dims = b.dims(x);
  dims[axis] = b.dim(positions, 0);
  return b.result(b.generate(dims, x.element, [&](ValueRange i) {
    Values at(i);
    at[axis] = wrapIndex(b, b.at(positions, i[axis]), b.dim(x, axis));
    return b.at(x, at);
  }));
}

static const LoweringRow kRows[] = {
    {"Compress", lowerCompress},
    {"NonZero", lowerNonZero},
};

ArrayRef<LoweringRow> tercet::getSelectionLowerings() { return kRows; }
