// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that choose, repeat and move elements by index. An index that data
// hold is brought into range: what ONNX leaves undefined reads no foreign
// memory.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
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

//===----------------------------------------------------------------------===//
// Gather and scatter
//===----------------------------------------------------------------------===//

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
  if (batch + depth > x.rank() || batch > outer)
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
  int64_t outer = indices.rank() - 1;
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

//===----------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------===//

/// Brings an end of a slice into 0 .. size, or for a negative step one less.
static Dim clampEnd(B &b, Dim end, Dim size, bool isForward) {
  std::optional<int64_t> value = getConstantIntValue(end);
  if (value && *value < 0) {
    end = b.add(size, b.dim(std::max<int64_t>(*value, -(1ll << 40))));
  } else if (!value) {
    Value v = b.index(end);
    end = b.select(b.compare(Compare::LT, v, b.index(0)),
                   b.index(b.add(size, end)), v);
  } else if (isForward && *value == 0) {
    return end;
  } else if (isForward && *value >= (1ll << 31)) {
    return size;
  }
  Dim low = b.dim(isForward ? 0 : -1),
      high = isForward ? size : b.sub(size, b.dim(1));
  return b.min(b.max(end, low), high);
}

/// The numbers of an attribute, or of input `index`.
static FailureOr<Dims> getNumbers(B &b, StringRef name, unsigned index) {
  Dims numbers;
  if (std::optional<ArrayRef<int64_t>> values = b.getInts(name)) {
    for (int64_t value : *values)
      numbers.push_back(b.dim(value));
    return numbers;
  }
  if (!b.has(index))
    return numbers;
  if (!b.input(index).isStatic())
    return b.error() << "input " << index << " has no static shape";
  return b.toDims(b.input(index));
}

/// With axes or steps that only a run tells.
static LogicalResult sliceAtRunTime(B &b, Tensor x, ArrayRef<Dim> starts,
                                    ArrayRef<Dim> ends) {
  Value zero = b.index(0), one = b.index(1);
  Values axes, steps;
  if (b.has(3))
    axes = b.getRuntimeAxes(x.rank(), 3);
  else
    for (size_t i = 0; i < starts.size(); ++i)
      axes.push_back(b.index(int64_t(i)));
  if (b.has(4))
    for (Dim step : b.toDims(b.input(4)))
      steps.push_back(b.index(step));
  else
    steps.assign(starts.size(), one);
  if (axes.size() != starts.size() || ends.size() != starts.size() ||
      steps.size() != starts.size())
    return b.error() << "starts, ends, axes and steps differ in number";

  Values offsets, strides;
  Dims sizes;
  for (auto [d, extent] : llvm::enumerate(b.dims(x))) {
    Value size = b.index(extent), start = zero, end = size, step = one;
    for (auto [axis, s, e, t] : llvm::zip(axes, starts, ends, steps)) {
      Value isHere = b.compare(Compare::EQ, axis, b.index(int64_t(d)));
      start = b.select(isHere, b.index(s), start);
      end = b.select(isHere, b.index(e), end);
      step = b.select(isHere, t, step);
    }
    Value isForward = b.compare(Compare::GT, step, zero);
    Value shift = b.select(isForward, zero, one);
    auto clamp = [&](Value i, Value low) {
      i = b.select(b.compare(Compare::LT, i, zero), b.add(i, size), i);
      return b.min(b.max(i, low), b.sub(size, shift));
    };
    start = clamp(start, zero);
    end = clamp(end, b.sub(zero, shift));
    Value length = b.select(isForward, b.sub(end, start), b.sub(start, end));
    Value stride = b.max(b.select(isForward, step, b.sub(zero, step)), one);
    sizes.push_back(b.ceilDiv(b.max(Dim(length), b.dim(0)), Dim(stride)));
    offsets.push_back(start);
    strides.push_back(step);
  }
  return b.result(b.generate(sizes, x.element, [&](ValueRange i) {
    Values at;
    for (auto [index, offset, stride] : llvm::zip(i, offsets, strides))
      at.push_back(b.add(offset, b.mul(index, stride)));
    return b.at(x, at);
  }));
}

static LogicalResult lowerSlice(B &b) {
  Tensor x = b.input(0);
  FailureOr<Dims> starts = getNumbers(b, "starts", 1),
                  ends = getNumbers(b, "ends", 2);
  SmallVector<int64_t> axes, steps;
  if (failed(starts) || failed(ends))
    return failure();
  for (auto [list, name, index, first] :
       {std::tuple(&axes, "axes", 3, 0), std::tuple(&steps, "steps", 4, 1)}) {
    if (std::optional<ArrayRef<int64_t>> values = b.getInts(name))
      *list = llvm::to_vector(*values);
    else if (b.has(index)) {
      std::optional<SmallVector<int64_t>> values =
          b.getConstantInts(b.input(index));
      if (!values)
        return sliceAtRunTime(b, x, *starts, *ends);
      *list = *values;
    } else
      for (size_t i = 0; i < starts->size(); ++i)
        list->push_back(first ? 1 : int64_t(i));
  }
  if (ends->size() != starts->size() || axes.size() != starts->size() ||
      steps.size() != starts->size())
    return b.error() << "starts, ends, axes and steps differ in number";

  Dims from = b.dims(x), offsets(x.rank(), b.dim(0)), sizes = from;
  SmallVector<int64_t> strides(x.rank(), 1);
  bool isBackward = false;
  for (auto [start, end, axis, step] : llvm::zip(*starts, *ends, axes, steps)) {
    FailureOr<int64_t> i = b.normalizeAxis(axis, x.rank());
    if (failed(i))
      return failure();
    if (step == 0)
      return b.error() << "a step is 0";
    bool isForward = step > 0;
    isBackward |= !isForward;
    Dim size = from[*i];
    Dim begin = clampEnd(b, start, size, isForward);
    // Before the first element, which -1 from the end is not.
    bool isOpen = !isForward && getConstantIntValue(end) < -(1ll << 31);
    Dim stop = isOpen ? b.dim(-1) : clampEnd(b, end, size, isForward);
    Dim length = isForward ? b.sub(stop, begin) : b.sub(begin, stop);
    offsets[*i] = begin;
    sizes[*i] =
        b.ceilDiv(b.max(length, b.dim(0)), b.dim(isForward ? step : -step));
    strides[*i] = step;
  }
  std::optional<int64_t> offset, size;
  if (x.rank() == 1 && b.hasElements(x) &&
      (offset = getConstantIntValue(offsets[0])) &&
      (size = getConstantIntValue(sizes[0]))) {
    Values elements = b.elements(x), chosen;
    for (int64_t i = 0; i < *size; ++i)
      chosen.push_back(elements[*offset + i * strides[0]]);
    return b.result(b.fromElements(chosen, *size, x.element));
  }
  if (!isBackward) {
    Dims steps;
    for (int64_t stride : strides)
      steps.push_back(b.dim(stride));
    return b.result(b.slice(x, offsets, sizes, steps));
  }
  return b.result(b.generate(sizes, x.element, [&](ValueRange i) {
    Values at;
    for (auto [index, offset, stride] : llvm::zip(i, offsets, strides))
      at.push_back(b.index(b.add(offset, b.mul(Dim(index), b.dim(stride)))));
    return b.at(x, at);
  }));
}

static LogicalResult lowerSplit(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), 0);
  FailureOr<Dims> lengths = getNumbers(b, "split", 1);
  if (failed(axis) || failed(lengths))
    return failure();
  Dims dims = b.dims(x), offsets(x.rank(), b.dim(0));
  if (lengths->empty()) { // equal parts, but the last may be smaller
    Dim length = b.ceilDiv(dims[*axis], b.dim(b.numOutputs()));
    for (unsigned i = 0; i + 1 < b.numOutputs(); ++i)
      lengths->push_back(length);
    lengths->push_back(
        b.sub(dims[*axis], b.mul(length, b.dim(int64_t(b.numOutputs()) - 1))));
  }
  if (lengths->size() < b.numOutputs())
    return b.error() << "more outputs than parts";
  bool isShape = x.rank() == 1 && b.hasElements(x);
  Values elements = isShape ? b.elements(x) : Values();
  for (unsigned i = 0; i < b.numOutputs(); ++i) {
    Dim length = (*lengths)[i];
    std::optional<int64_t> offset = getConstantIntValue(offsets[*axis]),
                           size = getConstantIntValue(length);
    dims[*axis] = length;
    if (isShape && offset && size)
      (void)b.result(b.fromElements(ArrayRef(elements).slice(*offset, *size),
                                    *size, x.element));
    else
      (void)b.result(b.slice(x, offsets, dims));
    offsets[*axis] = b.add(offsets[*axis], length);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Repetition and padding
//===----------------------------------------------------------------------===//

static LogicalResult lowerExpand(B &b) {
  Tensor x = b.input(0), shape = b.input(1);
  if (!shape.isStatic())
    return b.error() << "a result of unknown rank is not supported";
  Tensor like = b.empty(b.toDims(shape), x.element);
  FailureOr<Dims> dims = b.broadcastDims({x, like});
  return failed(dims) ? failure() : b.result(b.broadcastTo(x, *dims));
}

static LogicalResult lowerTile(B &b) {
  Tensor x = b.input(0), repeats = b.input(1);
  if (!repeats.isStatic() || repeats.type().getNumElements() != x.rank())
    return b.error() << "repeats do not fit the operand";
  Dims from = b.dims(x), to;
  for (auto [size, count] : llvm::zip(from, b.toDims(repeats)))
    to.push_back(b.mul(size, count));
  return b.result(b.generate(to, x.element, [&](ValueRange i) {
    Values at;
    for (auto [index, size] : llvm::zip(i, from))
      at.push_back(b.createOrFold<arith::RemUIOp>(index, b.index(size)));
    return b.at(x, at);
  }));
}

/// The index of the operand that padding of a mode repeats at `i`, which may be
/// outside.
static Value foldIndex(B &b, Value i, Dim size, StringRef mode) {
  Value n = b.index(size), one = b.index(1), zero = b.index(0);
  if (mode == "edge")
    return b.createOrFold<arith::MinSIOp>(
        b.createOrFold<arith::MaxSIOp>(i, zero), b.sub(n, one));
  Value period = n;
  if (mode == "reflect")
    period =
        b.createOrFold<arith::MaxSIOp>(b.mul(b.sub(n, one), b.index(2)), one);
  Value rest = arith::RemSIOp::create(b, i, period);
  rest =
      b.select(b.compare(Compare::LT, rest, zero), b.add(rest, period), rest);
  if (mode == "wrap")
    return rest;
  return b.select(b.compare(Compare::LT, rest, n), rest, b.sub(period, rest));
}

static LogicalResult lowerPad(B &b) {
  Tensor x = b.input(0);
  int64_t rank = x.rank();
  StringRef mode = b.getString("mode", "constant");
  FailureOr<Dims> pads = getNumbers(b, "pads", 1);
  if (failed(pads))
    return failure();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(rank));
  if (b.has(3)) {
    std::optional<SmallVector<int64_t>> given = b.getConstantInts(b.input(3));
    if (!given)
      return b.error() << "axes that are no constant are not supported";
    axes = *given;
  }
  if (pads->size() != 2 * axes.size())
    return b.error() << "pads do not fit the operand";
  if (mode != "constant" && mode != "edge" && mode != "reflect" &&
      mode != "wrap")
    return b.error() << "mode '" << mode << "' is not supported";
  Dims before(rank, b.dim(0)), after(rank, b.dim(0)), dims = b.dims(x), to;
  for (auto [i, axis] : llvm::enumerate(axes)) {
    FailureOr<int64_t> dim = b.normalizeAxis(axis, rank);
    if (failed(dim))
      return failure();
    before[*dim] = (*pads)[i];
    after[*dim] = (*pads)[axes.size() + i];
  }
  for (int64_t i = 0; i < rank; ++i)
    to.push_back(b.max(b.add(dims[i], b.add(before[i], after[i])), b.dim(0)));
  Value filler = b.number(0, getStorageType(x.element));
  if (b.has(2))
    filler = b.at(b.reshape(b.input(2), {}), {});
  else if (b.version() < 11)
    filler = b.store(
        b.number(b.getFloat("value", 0), getComputeType(x.element)), x.element);
  auto isPositive = [](Dim pad) {
    std::optional<int64_t> value = getConstantIntValue(pad);
    return value && *value >= 0;
  };
  if (mode == "constant" && llvm::all_of(before, isPositive) &&
      llvm::all_of(after, isPositive))
    return b.result(b.pad(x, before, after, filler));
  return b.result(b.generate(to, x.element, [&](ValueRange i) {
    Values at;
    Value isInside = b.number(1, b.getI1Type());
    for (int64_t d = 0; d < rank; ++d) {
      Value position = b.sub(i[d], b.index(before[d]));
      if (mode != "constant") {
        at.push_back(foldIndex(b, position, dims[d], mode));
        continue;
      }
      isInside = b.createOrFold<arith::AndIOp>(
          isInside, b.compare(Compare::LT, position, b.index(dims[d]), true));
      at.push_back(foldIndex(b, position, dims[d], "edge"));
    }
    return b.select(isInside, b.at(x, at), filler);
  }));
}

static LogicalResult lowerReverseSequence(B &b) {
  Tensor x = b.input(0), lengths = b.input(1);
  int64_t batch = b.getInt("batch_axis", 1), time = b.getInt("time_axis", 0);
  if (x.rank() < 2 || batch == time || std::max(batch, time) > 1)
    return b.error() << "axes do not fit the operand";
  return b.result(b.generate(b.dims(x), x.element, [&](ValueRange i) {
    Value length = b.toIndex(b.at(lengths, i[batch]));
    Values at(i);
    at[time] = b.select(b.compare(Compare::LT, i[time], length),
                        b.sub(b.sub(length, b.index(1)), i[time]), i[time]);
    return b.at(x, at);
  }));
}

/// Blocks of pixels become channels or the other way round: both are a
/// transposition of [N, b, b, C, H, W] or [N, C, b, b, H, W].
static LogicalResult moveBlocks(B &b, bool toDepth) {
  Tensor x = b.input(0);
  int64_t block = b.getInt("blocksize", 0);
  if (x.rank() != 4 || block < 1)
    return b.error() << "operand or blocksize do not fit";
  Dims dims = b.dims(x);
  Dim size = b.dim(block), area = b.dim(block * block);
  bool isCRD = b.getString("mode", "DCR") == "CRD";
  if (toDepth) {
    Dim height = b.div(dims[2], size), width = b.div(dims[3], size);
    x = b.reshape(x, {dims[0], dims[1], height, size, width, size});
    x = isCRD ? b.transpose(x, {0, 1, 3, 5, 2, 4})
              : b.transpose(x, {0, 3, 5, 1, 2, 4});
    return b.result(
        b.reshape(x, {dims[0], b.mul(dims[1], area), height, width}));
  }
  Dim depth = b.div(dims[1], area);
  if (isCRD) {
    x = b.reshape(x, {dims[0], depth, size, size, dims[2], dims[3]});
    x = b.transpose(x, {0, 1, 4, 2, 5, 3});
  } else {
    x = b.reshape(x, {dims[0], size, size, depth, dims[2], dims[3]});
    x = b.transpose(x, {0, 3, 4, 1, 5, 2});
  }
  return b.result(b.reshape(
      x, {dims[0], depth, b.mul(dims[2], size), b.mul(dims[3], size)}));
}

//===----------------------------------------------------------------------===//
// New tensors
//===----------------------------------------------------------------------===//

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
    Values at = concatenate(i.take_front(*axis), i.drop_front(*axis + 1));
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

//===----------------------------------------------------------------------===//
// Results whose size depends on data
//===----------------------------------------------------------------------===//

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
    {"ConstantOfShape", lowerConstantOfShape},
    {"DepthToSpace", [](B &b) { return moveBlocks(b, false); }},
    {"Expand", lowerExpand},
    {"EyeLike", lowerEyeLike},
    {"Gather", lowerGather},
    {"GatherElements", lowerGatherElements},
    {"GatherND", lowerGatherND},
    {"NonZero", lowerNonZero},
    {"OneHot", lowerOneHot},
    {"Pad", lowerPad},
    {"Range", lowerRange},
    {"ReverseSequence", lowerReverseSequence},
    {"Scatter", lowerScatterElements},
    {"ScatterElements", lowerScatterElements},
    {"ScatterND", lowerScatterND},
    {"Slice", lowerSlice},
    {"SpaceToDepth", [](B &b) { return moveBlocks(b, true); }},
    {"Split", lowerSplit},
    {"TensorScatter", lowerTensorScatter},
    {"Tile", lowerTile},
    {"Trilu", lowerTrilu},
};

ArrayRef<LoweringRow> tercet::getIndexingLowerings() { return kRows; }
