// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Softmax and what is like it.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

Tensor tercet::softmax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Type type = getComputeType(x.element);
  Tensor powers = b.combine(x, reduceMax(b, x, axes), type, [&](ValueRange v) {
    return b.exp(b.sub(v[0], v[1]));
  });
  return b.combine(powers, reduceSum(b, powers, axes), x.element,
                   [&](ValueRange v) { return b.div(v[0], v[1]); });
}

Tensor tercet::logSoftmax(B &b, Tensor x, ArrayRef<int64_t> axes) {
  Type type = getComputeType(x.element);
  Tensor shifted = b.combine(x, reduceMax(b, x, axes), type,
                             [&](ValueRange v) { return b.sub(v[0], v[1]); });
  Tensor powers =
      b.map(shifted, type, [&](ValueRange v) { return b.exp(v[0]); });
  return b.combine(shifted, reduceSum(b, powers, axes), x.element,
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
  Tensor first =
      findEqual(b, rows, reduceMax(b, rows, last), last, /*last=*/false);
  Tensor hot = b.generate(flat, x.element, [&](ValueRange i) {
    Values at(i);
    at[last] = b.index(0);
    Value isHot = b.compare(Compare::EQ, b.toIndex(b.at(first, at)), i[last]);
    return b.store(b.castScalar(isHot, b.getI1Type(), x.element), x.element);
  });
  return b.transpose(b.reshape(hot, movedDims), inverse);
}

static const LoweringRow kRows[] = {
    {"Hardmax", lowerSoftmax<hardmax>},
    {"LogSoftmax", lowerSoftmax<logSoftmax>},
    {"Softmax", lowerSoftmax<softmax>},
};

ArrayRef<LoweringRow> tercet::getSoftmaxLowerings() { return kRows; }
