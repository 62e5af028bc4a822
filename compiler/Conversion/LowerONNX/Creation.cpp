// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that make tensors of numbers, extents and positions.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

static LogicalResult lowerConstantOfShape(B &b) {
  Tensor shape = b.input(0);
  if (!shape.isStatic())
    return b.error() << "a result of unknown rank is not supported";
  Tensor value = b.scalar(0, b.getF32Type());
  if (auto given = b.node()->getAttrOfType<ElementsAttr>("value"))
    value = b.reshape(b.constant(given), {});
  return b.result(b.broadcastTo(value, b.toDims(shape)));
}

static LogicalResult lowerRange(B &b) {
  Tensor start = b.input(0);
  Value values[3];
  for (int i : {0, 1, 2})
    values[i] = b.load(b.at(b.reshape(b.input(i), {}), {}), start.element);
  auto [first, limit, delta] = values;
  Dim count;
  if (start.isFloat()) {
    Value steps = math::CeilOp::create(b, b.div(b.sub(limit, first), delta));
    count = b.toIndex(b.castScalar(steps, start.element, b.getI64Type()));
  } else {
    // Rounded up, of either sign: floor((limit - first - 1) / delta) + 1.
    Value zero = b.number(0, delta.getType()),
          one = b.number(1, delta.getType());
    Value isUp = b.compare(Compare::GT, delta, zero);
    Value span = b.select(isUp, b.sub(limit, first), b.sub(first, limit));
    Value step = b.select(isUp, delta, b.neg(delta));
    step = b.max(step, one);
    span = b.max(span, zero);
    count = getAsOpFoldResult(
        b.toIndex(b.div(b.add(span, b.sub(step, one)), step)));
  }
  count = b.max(count, b.dim(0));
  if (std::optional<int64_t> size = getConstantIntValue(count);
      size && *size <= 64) {
    Values elements;
    Value next = first;
    for (int64_t i = 0; i < *size; ++i, next = b.add(next, delta))
      elements.push_back(b.store(next, start.element));
    return b.result(b.fromElements(elements, *size, start.element));
  }
  return b.result(b.generate(count, start.element, [&](ValueRange i) {
    Value position =
        b.castScalar(b.createOrFold<arith::IndexCastOp>(b.getI64Type(), i[0]),
                     b.getI64Type(), start.element);
    return b.store(b.add(first, b.mul(position, delta)), start.element);
  }));
}

static LogicalResult lowerEyeLike(B &b) {
  Tensor x = b.input(0);
  if (x.rank() != 2)
    return b.error() << "the operand is no matrix";
  FailureOr<Type> element = b.getElementType("dtype", x.element);
  if (failed(element))
    return failure();
  int64_t k = b.getInt("k", 0);
  return b.result(b.generate(b.dims(x), *element, [&](ValueRange i) {
    Value isOne = b.compare(Compare::EQ, b.add(i[0], b.index(k)), i[1]);
    return b.store(b.castScalar(isOne, b.getI1Type(), *element), *element);
  }));
}

static LogicalResult lowerOneHot(B &b) {
  Tensor indices = b.cast(b.input(0), b.getI64Type()), values = b.input(2);
  Tensor depth = b.cast(b.reshape(b.input(1), {}), b.getI64Type());
  FailureOr<int64_t> axis = b.getAxis(indices.rank() + 1, -1);
  if (failed(axis))
    return failure();
  Dim size = b.toDims(depth)[0];
  Dims dims = b.dims(indices);
  dims.insert(dims.begin() + *axis, size);
  return b.result(b.generate(dims, values.element, [&](ValueRange i) {
    Values at(i);
    at.erase(at.begin() + *axis);
    Value hot = b.toIndex(b.at(indices, at));
    hot = b.select(b.compare(Compare::LT, hot, b.index(0)),
                   b.add(hot, b.index(size)), hot);
    return b.select(b.compare(Compare::EQ, hot, i[*axis]),
                    b.at(values, b.index(1)), b.at(values, b.index(0)));
  }));
}

static LogicalResult lowerTrilu(B &b) {
  Tensor x = b.input(0);
  if (x.rank() < 2)
    return b.error() << "the operand is no matrix";
  bool isUpper = b.getInt("upper", 1);
  Value k =
      b.has(1) ? b.toIndex(b.at(b.reshape(b.input(1), {}), {})) : b.index(0);
  Value zero = b.number(0, getStorageType(x.element));
  return b.result(b.generate(b.dims(x), x.element, [&](ValueRange i) {
    Value diagonal = b.add(i[x.rank() - 2], k), column = i[x.rank() - 1];
    Value isKept = isUpper ? b.compare(Compare::GE, column, diagonal)
                           : b.compare(Compare::LE, column, diagonal);
    return b.select(isKept, b.at(x, i), zero);
  }));
}

static const LoweringRow kRows[] = {
    {"ConstantOfShape", lowerConstantOfShape},
    {"EyeLike", lowerEyeLike},
    {"OneHot", lowerOneHot},
    {"Range", lowerRange},
    {"Trilu", lowerTrilu},
};

ArrayRef<LoweringRow> tercet::getCreationLowerings() { return kRows; }
