// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that take parts of a tensor, repeat it and put something around it.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

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
static Dims getNumbers(B &b, StringRef name, unsigned index) {
  Dims numbers;
  if (std::optional<ArrayRef<int64_t>> values = b.getInts(name)) {
    for (int64_t value : *values)
      numbers.push_back(b.dim(value));
    return numbers;
  }
  return b.has(index) ? b.toDims(b.input(index)) : numbers;
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
  Dims starts = getNumbers(b, "starts", 1), ends = getNumbers(b, "ends", 2);
  SmallVector<int64_t> axes, steps;
  for (auto [list, name, index, first] :
       {std::tuple(&axes, "axes", 3, 0), std::tuple(&steps, "steps", 4, 1)}) {
    if (std::optional<ArrayRef<int64_t>> values = b.getInts(name))
      *list = llvm::to_vector(*values);
    else if (b.has(index)) {
      std::optional<SmallVector<int64_t>> values =
          b.getConstantInts(b.input(index));
      if (!values)
        return sliceAtRunTime(b, x, starts, ends);
      *list = *values;
    } else
      for (size_t i = 0; i < starts.size(); ++i)
        list->push_back(first ? 1 : int64_t(i));
  }
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size())
    return b.error() << "starts, ends, axes and steps differ in number";

  Dims from = b.dims(x), offsets(x.rank(), b.dim(0)), sizes = from;
  SmallVector<int64_t> strides(x.rank(), 1);
  bool isBackward = false;
  for (auto [start, end, axis, step] : llvm::zip(starts, ends, axes, steps)) {
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
  Dims lengths = getNumbers(b, "split", 1);
  if (failed(axis))
    return failure();
  Dims dims = b.dims(x), offsets(x.rank(), b.dim(0));
  if (lengths.empty()) { // equal parts, but the last may be smaller
    Dim length = b.ceilDiv(dims[*axis], b.dim(b.numOutputs()));
    for (unsigned i = 0; i + 1 < b.numOutputs(); ++i)
      lengths.push_back(length);
    lengths.push_back(
        b.sub(dims[*axis], b.mul(length, b.dim(int64_t(b.numOutputs()) - 1))));
  }
  if (lengths.size() < b.numOutputs())
    return b.error() << "more outputs than parts";
  bool isShape = x.rank() == 1 && b.hasElements(x);
  Values elements = isShape ? b.elements(x) : Values();
  for (unsigned i = 0; i < b.numOutputs(); ++i) {
    Dim length = lengths[i];
    std::optional<int64_t> offset = getConstantIntValue(offsets[*axis]),
                           size = getConstantIntValue(length);
    dims[*axis] = length;
    if (isShape && offset && size && *size >= 0 &&
        size_t(*offset + *size) <= elements.size())
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
  Tensor like = b.empty(b.toDims(shape), x.element);
  FailureOr<Dims> dims = b.broadcastDims({x, like});
  return failed(dims) ? failure() : b.result(b.broadcastTo(x, *dims));
}

static LogicalResult lowerTile(B &b) {
  Tensor x = b.input(0), repeats = b.input(1);
  if (repeats.type().getNumElements() != x.rank())
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
  Dims pads = getNumbers(b, "pads", 1);
  Values axes;
  if (b.has(3)) {
    for (int64_t axis :
         b.getConstantInts(b.input(3)).value_or(SmallVector<int64_t>()))
      if (failed(b.normalizeAxis(axis, rank)))
        return failure();
    axes = b.getRuntimeAxes(rank, 3);
  } else {
    for (int64_t i = 0; i < rank; ++i)
      axes.push_back(b.index(i));
  }
  if (pads.size() != 2 * axes.size())
    return b.error() << "pads do not fit the operand";
  if (mode != "constant" && mode != "edge" && mode != "reflect" &&
      mode != "wrap")
    return b.error() << "mode '" << mode << "' is not supported";
  Dims before(rank, b.dim(0)), after(rank, b.dim(0)), dims = b.dims(x), to;
  for (auto [i, axis] : llvm::enumerate(axes))
    for (int64_t d = 0; d < rank; ++d) {
      Value isHere = b.compare(Compare::EQ, axis, b.index(d));
      auto choose = [&](Dim pad, Dim &old) {
        old = getAsOpFoldResult(b.select(isHere, b.index(pad), b.index(old)));
      };
      choose(pads[i], before[d]);
      choose(pads[axes.size() + i], after[d]);
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

/// Cuts off or adds as much at both ends of a dimension, of an odd number more
/// at the last.
static LogicalResult lowerCenterCropPad(B &b) {
  Tensor x = b.input(0);
  SmallVector<int64_t> axes = llvm::to_vector(
      b.getInts("axes").value_or(llvm::to_vector(llvm::seq(x.rank()))));
  Dims wanted = b.toDims(b.input(1));
  if (wanted.size() != axes.size())
    return b.error() << "the shape does not fit";
  Dims sizes = b.dims(x), offsets(x.rank(), b.dim(0)), before = offsets,
       after = offsets;
  for (auto [axis, to] : llvm::zip(axes, wanted)) {
    FailureOr<int64_t> d = b.normalizeAxis(axis, x.rank());
    if (failed(d))
      return failure();
    Dim cut = b.max(b.sub(sizes[*d], to), b.dim(0)),
        added = b.max(b.sub(to, sizes[*d]), b.dim(0));
    sizes[*d] = b.min(sizes[*d], to);
    offsets[*d] = b.div(cut, b.dim(2));
    before[*d] = b.div(added, b.dim(2));
    after[*d] = b.sub(added, before[*d]);
  }
  return b.result(b.pad(b.slice(x, offsets, sizes), before, after,
                        b.number(0, getStorageType(x.element))));
}

static LogicalResult lowerReverseSequence(B &b) {
  Tensor x = b.input(0), lengths = b.input(1);
  int64_t batch = b.getInt("batch_axis", 1), time = b.getInt("time_axis", 0);
  if (x.rank() < 2 || batch == time || std::min(batch, time) < 0 ||
      std::max(batch, time) > 1)
    return b.error() << "axes do not fit the operand";
  return b.result(b.generate(b.dims(x), x.element, [&](ValueRange i) {
    Value length = b.toIndex(b.at(lengths, i[batch]));
    Values at(i);
    at[time] = b.select(b.compare(Compare::LT, i[time], length),
                        b.sub(b.sub(length, b.index(1)), i[time]), i[time]);
    return b.at(x, at);
  }));
}

static const LoweringRow kRows[] = {
    {"CenterCropPad", lowerCenterCropPad},
    {"Expand", lowerExpand},
    {"Pad", lowerPad},
    {"ReverseSequence", lowerReverseSequence},
    {"Slice", lowerSlice},
    {"Split", lowerSplit},
    {"Tile", lowerTile},
};

ArrayRef<LoweringRow> tercet::getSliceLowerings() { return kRows; }
