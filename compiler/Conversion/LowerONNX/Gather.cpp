// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that gather and scatter elements by index. An index that data hold
// is brought into range: what ONNX leaves undefined reads no foreign memory.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

Value tercet::wrapIndex(B &b, Value integer, Dim size) {
  Value i = b.toIndex(integer), zero = b.index(0), extent = b.index(size);
  i = b.select(b.compare(Compare::LT, i, zero), b.add(i, extent), i);
  i = b.createOrFold<arith::MaxSIOp>(i, zero);
  return b.createOrFold<arith::MinSIOp>(i, b.sub(extent, b.index(1)));
}

static Values concatenate(ValueRange a, ValueRange b, ValueRange c = {}) {
  Values all(a);
  all.append(b.begin(), b.end());
  all.append(c.begin(), c.end());
  return all;
}

static LogicalResult lowerGather(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), 0);
  if (failed(axis))
    return failure();
  int64_t count = indices.rank();
  Dims from = b.dims(x), to(ArrayRef(from).take_front(*axis));
  to.append(b.dims(indices));
  to.append(from.begin() + *axis + 1, from.end());
  std::optional<SmallVector<int64_t>> known = b.getConstantInts(indices);
  if (known && x.rank() == 1 && b.hasElements(x) && count <= 1) {
    Values elements = b.elements(x), chosen;
    for (int64_t i : *known) {
      i = i < 0 ? i + int64_t(elements.size()) : i;
      if (i < 0 || i >= int64_t(elements.size()))
        return b.error() << "index " << i << " is out of range";
      chosen.push_back(elements[i]);
    }
    return b.result(
        b.fromElements(chosen, indices.type().getShape(), x.element));
  }
  return b.result(b.generate(to, x.element, [&](ValueRange i) {
    Value index =
        wrapIndex(b, b.at(indices, i.slice(*axis, count)), from[*axis]);
    return b.at(x, concatenate(i.take_front(*axis), index,
                               i.drop_front(*axis + count)));
  }));
}

static LogicalResult lowerGatherElements(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), 0);
  if (failed(axis))
    return failure();
  return b.result(b.generate(b.dims(indices), x.element, [&](ValueRange i) {
    Values from(i);
    from[*axis] = wrapIndex(b, b.at(indices, i), b.dim(x, *axis));
    return b.at(x, from);
  }));
}

/// The coordinates that the last dimension of `indices` holds, for dimensions
/// of x from `first` on.
static Values readCoordinates(B &b, Tensor x, Tensor indices, ValueRange at,
                              int64_t first) {
  Values coordinates;
  for (int64_t j = 0; j < indices.type().getShape().back(); ++j)
    coordinates.push_back(wrapIndex(
        b, b.at(indices, concatenate(at, b.index(j))), b.dim(x, first + j)));
  return coordinates;
}

static LogicalResult lowerGatherND(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  int64_t batch = b.getInt("batch_dims", 0);
  if (indices.rank() == 0 || indices.type().isDynamicDim(indices.rank() - 1))
    return b.error() << "coordinates of unknown size are not supported";
  int64_t depth = indices.size(indices.rank() - 1), outer = indices.rank() - 1;
  if (batch < 0 || batch > outer || batch + depth > x.rank())
    return b.error() << "coordinates do not fit the operand";
  Dims from = b.dims(x), to = b.dims(indices);
  to.pop_back();
  to.append(from.begin() + batch + depth, from.end());
  return b.result(b.generate(to, x.element, [&](ValueRange i) {
    Values at = readCoordinates(b, x, indices, i.take_front(outer), batch);
    return b.at(x, concatenate(i.take_front(batch), at, i.drop_front(outer)));
  }));
}

/// What an element becomes when `update` is scattered onto it.
static FailureOr<Value> scatterOnto(B &b, Tensor x, Value old, Value update) {
  StringRef reduction = b.getString("reduction", "none");
  if (reduction == "none")
    return update;
  Value left = b.load(old, x.element), right = b.load(update, x.element), sum;
  if (reduction == "add")
    sum = b.add(left, right);
  else if (reduction == "mul")
    sum = b.mul(left, right);
  else if (reduction == "max")
    sum = b.max(left, right, x.isUnsigned());
  else if (reduction == "min")
    sum = b.min(left, right, x.isUnsigned());
  else
    return b.error() << "reduction '" << reduction << "' is not supported";
  return b.store(sum, x.element);
}

/// Writes each element of `updates` to where `place` says, one after another.
static LogicalResult scatter(B &b, Tensor x, Tensor updates,
                             function_ref<Values(ValueRange indices)> place) {
  LogicalResult status = success();
  Tensor result = b.forEachIndex(
      b.dims(updates), x, [&](ValueRange indices, Tensor current) {
        Values at = place(indices);
        FailureOr<Value> value =
            scatterOnto(b, x, b.at(current, at), b.at(updates, indices));
        if (failed(value)) {
          status = failure();
          return current;
        }
        return Tensor{
            tensor::InsertOp::create(b, *value, current.value, at).getResult(),
            x.element};
      });
  if (failed(status))
    return failure();
  return b.result(b.withDims(result.value, b.dims(x), x.element));
}

static LogicalResult lowerScatterElements(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), 0);
  if (failed(axis))
    return failure();
  return scatter(b, x, b.input(2), [&](ValueRange i) {
    Values at(i);
    at[*axis] = wrapIndex(b, b.at(indices, i), b.dim(x, *axis));
    return at;
  });
}

static LogicalResult lowerScatterND(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  if (indices.rank() == 0 || indices.type().isDynamicDim(indices.rank() - 1))
    return b.error() << "coordinates of unknown size are not supported";
  int64_t outer = indices.rank() - 1, depth = indices.size(outer);
  if (depth > x.rank() || b.input(2).rank() != outer + x.rank() - depth)
    return b.error() << "coordinates or updates do not fit the operand";
  return scatter(b, x, b.input(2), [&](ValueRange i) {
    return concatenate(readCoordinates(b, x, indices, i.take_front(outer), 0),
                       i.drop_front(outer));
  });
}

/// A cache of keys or values with `update` written from given positions on.
static LogicalResult lowerTensorScatter(B &b) {
  Tensor x = b.input(0);
  bool isCircular = b.getString("mode", "linear") == "circular";
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -2);
  if (failed(axis))
    return failure();
  return scatter(b, x, b.input(1), [&](ValueRange i) {
    Values at(i);
    if (b.has(2))
      at[*axis] = b.add(at[*axis], b.toIndex(b.at(b.input(2), i[0])));
    Value size = b.index(b.dim(x, *axis));
    at[*axis] = isCircular
                    ? arith::RemUIOp::create(b, at[*axis], size).getResult()
                    : wrapIndex(b, at[*axis], b.dim(x, *axis));
    return at;
  });
}

static const LoweringRow kRows[] = {
    {"Gather", lowerGather},
    {"GatherElements", lowerGatherElements},
    {"GatherND", lowerGatherND},
    {"Scatter", lowerScatterElements},
    {"ScatterElements", lowerScatterElements},
    {"ScatterND", lowerScatterND},
    {"TensorScatter", lowerTensorScatter},
};

ArrayRef<LoweringRow> tercet::getGatherLowerings() { return kRows; }
