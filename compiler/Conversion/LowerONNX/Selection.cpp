// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators whose results have as many elements as data say.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <cmath>

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

/// The axis that is given; without one x becomes flat.
static FailureOr<int64_t> getAxisOrFlatten(B &b, Tensor &x) {
  if (b.node()->hasAttr("axis"))
    return b.getAxis(x.rank(), 0);
  x = b.reshape(x, b.product(b.dims(x)));
  return int64_t(0);
}

static LogicalResult lowerCompress(B &b) {
  Tensor x = b.input(0), condition = b.input(1);
  FailureOr<int64_t> given = getAxisOrFlatten(b, x);
  if (failed(given))
    return failure();
  int64_t axis = *given;
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

//===----------------------------------------------------------------------===//
// Unique
//===----------------------------------------------------------------------===//

/// The first element of a 1-D tensor, as an index.
static Value getCount(B &b, Tensor tensor) {
  return b.toIndex(b.at(tensor, b.index(0)));
}

static Value toI64(B &b, Value index) {
  return b.createOrFold<arith::IndexCastOp>(b.getI64Type(), index);
}

static Tensor insert(B &b, Value scalar, Tensor into, ValueRange at) {
  return {tensor::InsertOp::create(b, scalar, into.value, at), into.element};
}

/// Numbers below `count` in the order of `isLess`, of equal ones the lower
/// first: runs are merged in pairs, until there is only one.
static Tensor sortNumbers(B &b, Dim count,
                          function_ref<Value(Value, Value)> isLess) {
  Type i64 = b.getI64Type();
  Value size = b.index(count), zero = b.index(0), one = b.index(1);
  auto isWithin = [&](ArrayRef<Tensor> carried) {
    return b.compare(Compare::LT, getCount(b, carried[1]), size);
  };
  auto merge = [&](ArrayRef<Tensor> carried) {
    Tensor runs = carried[0], next = b.integers({0, 0}, i64);
    Value width = getCount(b, carried[1]), pair = b.add(width, width);
    SmallVector<Tensor> merged = b.loop(
        count, {b.empty(count, i64), next},
        [&](Value i, ArrayRef<Tensor> carried) {
          Value first = b.sub(i, b.createOrFold<arith::RemUIOp>(i, pair));
          Value middle = b.min(b.add(first, width), size),
                end = b.min(b.add(first, pair), size);
          Value isFirst = b.compare(Compare::EQ, i, first);
          auto position = [&](Value side, Value start) {
            return b.select(isFirst, start, b.toIndex(b.at(carried[1], side)));
          };
          Value left = position(zero, first), right = position(one, middle);
          auto load = [&](Value at) {
            return b.at(runs, b.min(at, b.sub(size, one)));
          };
          Value l = load(left), r = load(right);
          Value isLeft = b.createOrFold<arith::AndIOp>(
              b.compare(Compare::LT, left, middle),
              b.createOrFold<arith::OrIOp>(
                  b.compare(Compare::EQ, right, end),
                  b.compare(Compare::EQ, isLess(b.toIndex(r), b.toIndex(l)),
                            b.number(0, b.getI1Type()))));
          Value step =
              b.createOrFold<arith::IndexCastUIOp>(b.getIndexType(), isLeft);
          left = b.add(left, step);
          right = b.add(right, b.sub(one, step));
          Tensor moved = insert(b, toI64(b, left), carried[1], zero);
          return SmallVector<Tensor>{
              insert(b, b.select(isLeft, l, r), carried[0], i),
              insert(b, toI64(b, right), moved, one)};
        });
    Tensor wider = b.integers({0}, i64);
    return SmallVector<Tensor>{merged[0],
                               insert(b, toI64(b, pair), wider, zero)};
  };
  Tensor numbers =
      b.generate(count, i64, [&](ValueRange i) { return toI64(b, i[0]); });
  return b.loopWhile({numbers, b.integers({1}, i64)}, isWithin, merge)[0];
}

/// Whether row i of a matrix comes before row j.
static Value isRowLess(B &b, Tensor x, Value i, Value j) {
  Type i64 = b.getI64Type();
  Value zero = b.number(0, i64);
  auto order = scf::ForOp::create(
      b, b.index(0), b.index(b.dim(x, 1)), b.index(1), zero,
      [&](OpBuilder &nested, Location, Value k, ValueRange carried) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(nested.saveInsertionPoint());
        Value left = b.load(b.at(x, {i, k}), x.element),
              right = b.load(b.at(x, {j, k}), x.element);
        auto isLess = [&](Value v, Value w) {
          return b.compare(Compare::LT, v, w, x.isUnsigned());
        };
        Value here =
            b.select(isLess(left, right), b.number(-1, i64),
                     b.select(isLess(right, left), b.number(1, i64), zero));
        Value isDecided = b.compare(Compare::NE, carried[0], zero);
        scf::YieldOp::create(b, b.select(isDecided, carried[0], here));
      });
  return b.compare(Compare::LT, order.getResult(0), zero);
}

namespace {

/// Of each group of equal elements the first position and the size; of each
/// element its group.
struct Groups {
  Tensor first, sizes, members;
};

} // namespace

/// In the order of their elements. `numbers` are those of elements, sorted.
static Groups findGroups(B &b, Dim count, Tensor numbers,
                         function_ref<Value(Value, Value)> isLess) {
  Type i64 = b.getI64Type();
  Value zero = b.index(0), one = b.index(1);
  SmallVector<Tensor> results = b.loop(
      count,
      {b.empty(count, i64), b.empty(count, i64), b.empty(count, i64),
       b.integers({0}, i64)},
      [&](Value i, ArrayRef<Tensor> carried) {
        Value before = b.max(b.sub(i, one), zero);
        Value here = b.toIndex(b.at(numbers, i)),
              previous = b.toIndex(b.at(numbers, before));
        Value isNew = b.createOrFold<arith::OrIOp>(
            b.compare(Compare::EQ, i, zero), isLess(previous, here));
        Value total = getCount(b, carried[3]);
        total = b.select(isNew, b.add(total, one), total);
        Value group = b.sub(total, one);
        Value first = b.select(isNew, toI64(b, here), b.at(carried[0], group));
        Value size = b.select(isNew, b.number(0, i64), b.at(carried[1], group));
        return SmallVector<Tensor>{
            insert(b, first, carried[0], group),
            insert(b, b.add(size, b.number(1, i64)), carried[1], group),
            insert(b, toI64(b, group), carried[2], here),
            insert(b, toI64(b, total), carried[3], zero)};
      });
  Dim total = b.toDims(results[3])[0], none = b.dim(0);
  return {b.slice(results[0], none, total), b.slice(results[1], none, total),
          results[2]};
}

static LogicalResult lowerUnique(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> given = getAxisOrFlatten(b, x);
  if (failed(given))
    return failure();
  int64_t axis = *given;
  SmallVector<int64_t> order = llvm::to_vector(llvm::seq(x.rank()));
  std::rotate(order.begin(), order.begin() + axis, order.begin() + axis + 1);
  Dims dims = b.dims(x);
  Tensor moved = b.transpose(x, order);
  Tensor rows = b.reshape(
      moved, {dims[axis], b.product(ArrayRef(b.dims(moved)).drop_front())});
  auto isLess = [&](Value i, Value j) { return isRowLess(b, rows, i, j); };
  Groups groups =
      findGroups(b, dims[axis], sortNumbers(b, dims[axis], isLess), isLess);
  Dim total = b.dim(groups.first, 0);
  if (!b.getInt("sorted", 1)) {
    // In the order of their first elements.
    Type i64 = b.getI64Type();
    Tensor numbers = sortNumbers(b, total, [&](Value i, Value j) {
      return b.compare(Compare::LT, b.at(groups.first, i),
                       b.at(groups.first, j));
    });
    auto pick = [&](Tensor tensor, Tensor indices) {
      return b.generate(b.dims(indices), i64, [&](ValueRange i) {
        return b.at(tensor, wrapIndex(b, b.at(indices, i), b.dim(tensor, 0)));
      });
    };
    Tensor places = b.loop(total, b.empty(total, i64),
                           [&](Value i, ArrayRef<Tensor> carried) {
                             Value number = b.toIndex(b.at(numbers, i));
                             return SmallVector<Tensor>{
                                 insert(b, toI64(b, i), carried[0], number)};
                           })[0];
    groups = {pick(groups.first, numbers), pick(groups.sizes, numbers),
              pick(places, groups.members)};
  }
  dims[axis] = total;
  (void)b.result(b.generate(dims, x.element, [&](ValueRange i) {
    Values at(i);
    at[axis] = wrapIndex(b, b.at(groups.first, i[axis]), b.dim(x, axis));
    return b.at(x, at);
  }));
  (void)b.result(groups.first);
  (void)b.result(groups.members);
  return b.result(groups.sizes);
}

//===----------------------------------------------------------------------===//
// NonMaxSuppression
//===----------------------------------------------------------------------===//

namespace {

struct Box {
  Value low[2], high[2];
};

} // namespace

static Box loadBox(B &b, Tensor boxes, Value batch, Value i) {
  Value c[4];
  for (int64_t k = 0; k < 4; ++k)
    c[k] = b.at(boxes, {batch, i, b.index(k)});
  Box box;
  bool isCentered = b.getInt("center_point_box", 0);
  for (int k : {0, 1}) {
    if (isCentered) {
      Value half = b.mul(c[k + 2], b.number(0.5, c[k].getType()));
      box.low[k] = b.sub(c[k], half);
      box.high[k] = b.add(c[k], half);
    } else {
      box.low[k] = b.min(c[k], c[k + 2]);
      box.high[k] = b.max(c[k], c[k + 2]);
    }
  }
  return box;
}

static Value getArea(B &b, const Box &box) {
  return b.mul(b.sub(box.high[0], box.low[0]), b.sub(box.high[1], box.low[1]));
}

/// Whether the common area is more than `limit` of what both cover.
static Value doesOverlap(B &b, const Box &x, const Box &y, Value limit) {
  Value zero = b.number(0, limit.getType());
  Box common;
  for (int k : {0, 1}) {
    common.low[k] = b.max(x.low[k], y.low[k]);
    common.high[k] = b.max(b.min(x.high[k], y.high[k]), common.low[k]);
  }
  Value area = getArea(b, common);
  Value all = b.sub(b.add(getArea(b, x), getArea(b, y)), area);
  return b.createOrFold<arith::AndIOp>(
      b.compare(Compare::GT, area, zero),
      b.compare(Compare::GT, b.div(area, all), limit));
}

/// Of each class the box with the greatest score, then of those that do not
/// overlap it, and so on.
static LogicalResult lowerNonMaxSuppression(B &b) {
  Tensor boxes = b.input(0), scores = b.input(1);
  if (boxes.rank() != 3 || scores.rank() != 3)
    return b.error() << "boxes or scores are of another rank than 3";
  Dims dims = b.dims(scores);
  b.requireEqual(b.dim(boxes, 0), dims[0], "boxes and scores do not fit");
  b.requireEqual(b.dim(boxes, 1), dims[2], "boxes and scores do not fit");
  b.requireEqual(b.dim(boxes, 2), b.dim(4), "a box has 4 coordinates");
  Type f32 = b.getF32Type(), i64 = b.getI64Type();
  auto scalar = [&](unsigned index, double otherwise) {
    return b.has(index) ? b.at(b.reshape(b.input(index), {}), {})
                        : b.number(otherwise, f32);
  };
  Value limit = scalar(3, 0), none = b.number(-INFINITY, f32),
        threshold = scalar(4, -INFINITY), zero = b.index(0), one = b.index(1);
  Dim most = b.dim(0), n = dims[2];
  if (b.has(2))
    most = b.max(b.min(b.toDims(b.reshape(b.input(2), {}))[0], n), b.dim(0));
  Dim classes = b.mul(dims[0], dims[1]);
  Tensor selected = b.empty({b.mul(classes, most), b.dim(3)}, i64);
  SmallVector<Tensor> results = b.loop(
      classes, {selected, b.integers({0}, i64)},
      [&](Value number, ArrayRef<Tensor> carried) {
        Value batch = b.createOrFold<arith::DivUIOp>(number, b.index(dims[1])),
              label = b.createOrFold<arith::RemUIOp>(number, b.index(dims[1]));
        // The scores of boxes that are left.
        Tensor left = b.generate(n, f32, [&](ValueRange i) {
          Value score = b.at(scores, {batch, label, i[0]});
          return b.select(b.compare(Compare::GT, score, threshold), score,
                          none);
        });
        Value limitOfClass = b.add(getCount(b, carried[1]), b.index(most));
        SmallVector<Tensor> results = b.loopWhile(
            {carried[0], carried[1], left, reduceMax(b, left, 0)},
            [&](ArrayRef<Tensor> carried) {
              return b.createOrFold<arith::AndIOp>(
                  b.compare(Compare::GT, b.at(carried[3], zero), none),
                  b.compare(Compare::LT, getCount(b, carried[1]),
                            limitOfClass));
            },
            [&](ArrayRef<Tensor> carried) {
              auto [selected, count, left, best] =
                  std::tie(carried[0], carried[1], carried[2], carried[3]);
              Tensor position = findEqual(b, left, best, 0, /*last=*/false);
              Value at = wrapIndex(b, b.at(position, zero), n),
                    row = getCount(b, count);
              Box box = loadBox(b, boxes, batch, at);
              Tensor next = b.generate(n, f32, [&](ValueRange i) {
                Value isGone = b.createOrFold<arith::OrIOp>(
                    b.compare(Compare::EQ, i[0], at),
                    doesOverlap(b, box, loadBox(b, boxes, batch, i[0]), limit));
                return b.select(isGone, none, b.at(left, i));
              });
              Tensor chosen = selected;
              Value values[] = {batch, label, at};
              for (auto [k, value] : llvm::enumerate(values))
                chosen = insert(b, toI64(b, value), chosen,
                                {row, b.index(int64_t(k))});
              return SmallVector<Tensor>{
                  chosen, insert(b, toI64(b, b.add(row, one)), count, zero),
                  next, reduceMax(b, next, 0)};
            });
        return SmallVector<Tensor>{results[0], results[1]};
      });
  Dim total = b.toDims(results[1])[0];
  return b.result(b.slice(results[0], {b.dim(0), b.dim(0)}, {total, b.dim(3)}));
}

static const LoweringRow kRows[] = {
    {"Compress", lowerCompress},
    {"NonMaxSuppression", lowerNonMaxSuppression},
    {"NonZero", lowerNonZero},
    {"Unique", lowerUnique},
};

ArrayRef<LoweringRow> tercet::getSelectionLowerings() { return kRows; }
