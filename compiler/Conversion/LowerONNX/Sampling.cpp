// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that read an image between its pixels, where data say.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

static Value toNumber(B &b, Value index, Type type) {
  Type i64 = b.getI64Type();
  return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, index), i64,
                      type);
}

static Value truncate(B &b, Value x) {
  return b.toIndex(b.castScalar(x, x.getType(), b.getI64Type()));
}

static Value floor(B &b, Value x) { return math::FloorOp::create(b, x); }

static Value clamp(B &b, Value x, Value low, Value high) {
  return b.min(b.max(x, low), high);
}

//===----------------------------------------------------------------------===//
// GridSample
//===----------------------------------------------------------------------===//

namespace {

/// How points of [-1, 1] in each dimension are looked up in x [N, C, ..].
class Sampler {
public:
  Sampler(B &b, Tensor x)
      : b(b), x(x), mode(b.getString("mode", "linear")),
        padding(b.getString("padding_mode", "zeros")),
        alignsCorners(b.getInt("align_corners", 0)) {
    // The names of version 16.
    mode = mode == "bilinear" ? "linear" : mode == "bicubic" ? "cubic" : mode;
  }

  /// Points are pixels already.
  static Sampler ofPixels(B &b, Tensor x) {
    Sampler sampler(b, x);
    sampler.takesPixels = true;
    return sampler;
  }

  LogicalResult check();
  /// Of channel at[1] of image at[0], in compute type.
  Value sample(ValueRange at, ValueRange point);

private:
  /// Pixels along one dimension, and what they contribute.
  struct Taps {
    Values indices, weights;
  };
  Taps getTaps(Value coordinate, Dim size);
  Value getCoordinate(Value coordinate, Value size);
  Value reflect(Value coordinate, Value size);
  /// The pixel for one that may be outside; null `weight` counts as 1.
  Value place(Value index, Value size, Value &weight);
  Value addUp(ArrayRef<Taps> taps, Values at);

  B &b;
  Tensor x;
  StringRef mode, padding;
  bool alignsCorners, takesPixels = false;
};

LogicalResult Sampler::check() {
  if (mode != "nearest" && mode != "linear" && mode != "cubic")
    return b.error() << "mode '" << mode << "' is not supported";
  if (padding != "zeros" && padding != "border" && padding != "reflection")
    return b.error() << "padding_mode '" << padding << "' is not supported";
  return success();
}

/// Mirrored at the borders, which are the centers of the outer pixels or their
/// edges, until it is inside.
Value Sampler::reflect(Value coordinate, Value size) {
  Type type = coordinate.getType();
  auto number = [&](double value) { return b.number(value, type); };
  Value low = number(alignsCorners ? 0 : -0.5);
  Value span = alignsCorners ? b.sub(size, number(1)) : size;
  Value distance = b.abs(b.sub(coordinate, low));
  Value count = floor(b, b.div(distance, span));
  Value rest = b.sub(distance, b.mul(count, span));
  Value half = b.mul(count, number(0.5));
  Value isEven = b.compare(Compare::EQ, floor(b, half), half);
  return b.add(low, b.select(isEven, rest, b.sub(span, rest)));
}

Value Sampler::getCoordinate(Value coordinate, Value size) {
  if (takesPixels)
    return coordinate;
  Type type = coordinate.getType();
  auto number = [&](double value) { return b.number(value, type); };
  Value one = number(1), half = number(0.5);
  Value shifted = b.add(coordinate, one);
  if (alignsCorners)
    coordinate = b.mul(b.mul(shifted, half), b.sub(size, one));
  else
    coordinate = b.mul(b.sub(b.mul(shifted, size), one), half);
  if (mode == "nearest")
    coordinate = math::RoundEvenOp::create(b, coordinate);
  if (padding == "zeros")
    return coordinate;
  Value last = b.sub(size, one);
  Value low = number(alignsCorners ? 0 : -0.5),
        high = alignsCorners ? last : b.sub(size, half);
  Value isOutside =
      b.createOrFold<arith::OrIOp>(b.compare(Compare::LT, coordinate, low),
                                   b.compare(Compare::GT, coordinate, high));
  Value moved = padding == "border" ? clamp(b, coordinate, number(0), last)
                                    : reflect(coordinate, size);
  return b.select(isOutside, moved, coordinate);
}

Value Sampler::place(Value index, Value size, Value &weight) {
  Value zero = b.index(0), last = b.sub(size, b.index(1));
  if (padding == "zeros") {
    Value isInside = b.compare(Compare::LT, index, size, /*isUnsigned=*/true);
    weight = b.select(isInside, weight, b.number(0, weight.getType()));
  } else if (padding == "reflection") {
    Type type = weight.getType();
    index =
        truncate(b, reflect(toNumber(b, index, type), toNumber(b, size, type)));
  }
  return clamp(b, index, zero, last);
}

Sampler::Taps Sampler::getTaps(Value coordinate, Dim extent) {
  Type type = coordinate.getType();
  Value size = b.index(extent);
  coordinate = getCoordinate(coordinate, toNumber(b, size, type));
  Taps taps;
  Value base = floor(b, coordinate), fraction = b.sub(coordinate, base);
  int64_t first = 0;
  if (mode == "nearest") {
    taps.weights = {b.number(1, type)};
  } else if (mode == "linear") {
    taps.weights = linearWeights(b, fraction);
  } else {
    taps.weights = cubicWeights(b, fraction, /*a=*/-0.75);
    first = -1;
  }
  Value start = b.add(truncate(b, base), b.index(first));
  for (auto [k, weight] : llvm::enumerate(taps.weights)) {
    Value index = b.add(start, b.index(int64_t(k)));
    taps.indices.push_back(place(index, size, weight));
  }
  return taps;
}

/// One dimension after another, the last one first.
Value Sampler::addUp(ArrayRef<Taps> taps, Values at) {
  if (taps.empty())
    return b.load(b.at(x, at), x.element);
  Type type = getComputeType(x.element);
  Value sum;
  for (auto [index, weight] :
       llvm::zip(taps.front().indices, taps.front().weights)) {
    at.push_back(index);
    Value value = addUp(taps.drop_front(), at);
    at.pop_back();
    Value term = b.mul(value, b.castScalar(weight, weight.getType(), type));
    sum = sum ? b.add(sum, term) : term;
  }
  return sum;
}

Value Sampler::sample(ValueRange at, ValueRange point) {
  SmallVector<Taps> taps;
  for (auto [i, coordinate] : llvm::enumerate(point))
    taps.push_back(getTaps(coordinate, b.dim(x, 2 + i)));
  return addUp(taps, Values(at));
}

} // namespace

/// A point has its coordinates in the reverse order of dimensions.
static LogicalResult lowerGridSample(B &b) {
  Tensor x = b.input(0), grid = b.input(1);
  int64_t rank = x.rank(), spatial = rank - 2;
  if (rank < 3 || grid.rank() != rank)
    return b.error() << "operand and grid do not fit";
  b.requireEqual(b.dim(grid, rank - 1), b.dim(spatial),
                 "a point has another number of coordinates");
  b.requireEqual(b.dim(grid, 0), b.dim(x, 0), "operand and grid do not fit");
  Sampler sampler(b, x);
  if (failed(sampler.check()))
    return failure();
  Dims dims = b.dims(x);
  for (int64_t i = 0; i < spatial; ++i)
    dims[2 + i] = b.dim(grid, 1 + i);
  return b.result(b.generate(dims, x.element, [&](ValueRange i) {
    Values at = {i[0]}, point;
    llvm::append_range(at, i.drop_front(2));
    for (int64_t k = spatial - 1; k >= 0; --k) {
      at.push_back(b.index(k));
      point.push_back(b.load(b.at(grid, at), grid.element));
      at.pop_back();
    }
    return b.store(sampler.sample(i.take_front(2), point), x.element);
  }));
}

//===----------------------------------------------------------------------===//
// DeformConv
//===----------------------------------------------------------------------===//

/// Attribute `name`, of `size` numbers that are no less than `least`.
static FailureOr<SmallVector<int64_t>> getSpatial(B &b, StringRef name,
                                                  size_t size,
                                                  int64_t otherwise,
                                                  int64_t least) {
  std::optional<ArrayRef<int64_t>> values = b.getInts(name);
  if (!values || values->empty())
    return SmallVector<int64_t>(size, otherwise);
  if (values->size() != size ||
      llvm::any_of(*values, [&](int64_t value) { return value < least; }))
    return b.error() << "attribute " << name << " does not fit";
  return llvm::to_vector(*values);
}

/// A convolution whose taps lie where offsets [N, groups * taps * spatial,
/// positions] move them, times a mask [N, groups * taps, positions]: what they
/// see, [N, C, taps, positions], times the weights.
static LogicalResult lowerDeformConv(B &b) {
  Tensor x = b.input(0), w = b.input(1), offsets = b.input(2);
  Tensor bias = b.has(3) ? b.input(3) : Tensor(),
         mask = b.has(4) ? b.input(4) : Tensor();
  int64_t rank = x.rank(), spatial = rank - 2;
  if (rank < 3 || w.rank() != rank || offsets.rank() != rank ||
      (mask && mask.rank() != rank))
    return b.error() << "operands differ in rank";
  ArrayRef<int64_t> kernel = w.type().getShape().drop_front(2);
  if (ShapedType::isDynamicShape(kernel))
    return b.error() << "weights without static shape are not supported";
  if (std::optional<ArrayRef<int64_t>> given = b.getInts("kernel_shape");
      given && *given != kernel)
    return b.error() << "attributes and weights do not fit";
  FailureOr<SmallVector<int64_t>> strides =
                                      getSpatial(b, "strides", spatial, 1, 1),
                                  dilations =
                                      getSpatial(b, "dilations", spatial, 1, 1),
                                  pads =
                                      getSpatial(b, "pads", 2 * spatial, 0, 0);
  if (failed(strides) || failed(dilations) || failed(pads))
    return failure();
  int64_t groups = b.getInt("group", 1),
          offsetGroups = b.getInt("offset_group", 1);
  if (groups < 1 || offsetGroups < 1)
    return b.error() << "attributes and weights do not fit";
  int64_t numTaps = ShapedType::getNumElements(kernel);
  Dims operand = b.dims(x), rows = b.dims(w), positions;
  b.requireEqual(operand[1], b.mul(rows[1], b.dim(groups)),
                 "channels of operand and weights differ");
  Dim rowsOfGroup = b.div(rows[0], b.dim(groups));
  b.requireEqual(b.mul(rowsOfGroup, b.dim(groups)), rows[0],
                 "rows of the weights are no multiple of the groups");
  Dim channelsOfGroup = b.div(operand[1], b.dim(offsetGroups));
  b.requireEqual(b.mul(channelsOfGroup, b.dim(offsetGroups)), operand[1],
                 "channels are no multiple of the groups of offsets");
  for (auto [tensor, count] :
       {std::pair(offsets, numTaps * spatial), std::pair(mask, numTaps)})
    if (tensor) {
      b.requireEqual(b.dim(tensor, 0), operand[0], "operands do not fit");
      b.requireEqual(b.dim(tensor, 1), b.dim(offsetGroups * count),
                     "offsets or a mask do not fit the window");
    }
  for (int64_t i = 0; i < spatial; ++i) {
    Dim padded =
        b.add(operand[2 + i], b.dim((*pads)[i] + (*pads)[spatial + i]));
    Dim room = b.sub(padded, b.dim((kernel[i] - 1) * (*dilations)[i] + 1));
    positions.push_back(b.add(b.div(room, b.dim((*strides)[i])), b.dim(1)));
    for (Tensor tensor : {offsets, mask})
      if (tensor)
        b.requireEqual(b.dim(tensor, 2 + i), positions.back(),
                       "offsets or a mask do not fit the positions");
  }

  Type type = getComputeType(x.element);
  Sampler sampler = Sampler::ofPixels(b, x);
  Dims seen = {operand[0], operand[1], b.dim(numTaps)};
  seen.append(positions);
  Tensor samples = b.generate(seen, type, [&](ValueRange i) {
    Value group = b.createOrFold<arith::DivUIOp>(
        i[1], b.index(b.max(channelsOfGroup, b.dim(1))));
    Value tap = b.add(b.mul(group, b.index(numTaps)), i[2]), rest = i[2];
    Values at = {i[0], Value()}, point(spatial);
    llvm::append_range(at, i.drop_front(3));
    for (int64_t k = spatial - 1; k >= 0; --k) {
      Value size = b.index(kernel[k]),
            step = b.createOrFold<arith::RemUIOp>(rest, size);
      rest = b.createOrFold<arith::DivUIOp>(rest, size);
      Value pixel = b.add(b.mul(i[3 + k], b.index((*strides)[k])),
                          b.mul(step, b.index((*dilations)[k])));
      pixel = b.sub(pixel, b.index((*pads)[k]));
      at[1] = b.add(b.mul(tap, b.index(spatial)), b.index(k));
      point[k] = b.add(toNumber(b, pixel, type),
                       b.load(b.at(offsets, at), offsets.element));
    }
    Value sample = sampler.sample(i.take_front(2), point);
    if (!mask)
      return sample;
    at[1] = tap;
    return b.mul(sample, b.load(b.at(mask, at), mask.element));
  });

  Dim numPositions = b.product(positions),
      depth = b.mul(rows[1], b.dim(numTaps));
  Dims matrices = {operand[0], b.dim(groups), rowsOfGroup, numPositions},
       results = {operand[0], rows[0]};
  results.append(positions);
  Tensor init = b.zeros(matrices, type);
  if (bias)
    init = b.broadcastTo(b.reshape(b.cast(bias, type), {b.dim(1), b.dim(groups),
                                                        rowsOfGroup, b.dim(1)}),
                         matrices);
  Tensor sums = batchMatmul(
      b, b.reshape(w, {b.dim(1), b.dim(groups), rowsOfGroup, depth}),
      b.reshape(samples, {operand[0], b.dim(groups), depth, numPositions}),
      init, /*numBatchDims=*/2);
  return b.result(b.cast(b.reshape(sums, results), x.element));
}

/// Points of [-1, 1], the pixels of an image, times a matrix of each image.
static LogicalResult lowerAffineGrid(B &b) {
  Tensor theta = b.input(0);
  Dims size = b.toDims(b.input(1));
  int64_t spatial = int64_t(size.size()) - 2;
  if (theta.rank() != 3 || spatial < 1)
    return b.error() << "operand and size do not fit";
  b.requireEqual(b.dim(theta, 1), b.dim(spatial), "a matrix does not fit");
  b.requireEqual(b.dim(theta, 2), b.dim(spatial + 1), "a matrix does not fit");
  bool alignsCorners = b.getInt("align_corners", 0);
  Type type = getComputeType(theta.element);
  Value one = b.number(1, type);
  Dims dims = {size[0]};
  dims.append(size.begin() + 2, size.end());
  dims.push_back(b.dim(spatial));
  return b.result(b.generate(dims, theta.element, [&](ValueRange i) {
    Value row = i.back(), sum;
    auto load = [&](int64_t column) {
      return b.load(b.at(theta, {i[0], row, b.index(column)}), theta.element);
    };
    for (int64_t k = 0; k < spatial; ++k) { // x is the last dimension
      Value at = toNumber(b, i[spatial - k], type);
      Value count = toNumber(b, b.index(size[1 + spatial - k]), type);
      Value steps = alignsCorners ? b.sub(count, one) : count;
      Value twice = b.add(at, at);
      if (!alignsCorners)
        twice = b.add(twice, one);
      Value term = b.mul(load(k), b.sub(b.div(twice, steps), one));
      sum = sum ? b.add(sum, term) : term;
    }
    return b.store(b.add(sum, load(spatial)), theta.element);
  }));
}

//===----------------------------------------------------------------------===//
// RoiAlign
//===----------------------------------------------------------------------===//

namespace {

/// One side of a region: where it starts, and what a bin of the result is.
struct Side {
  Value start, binSize;
  Value numSamples; // of a bin; an index
};

class RegionSampler {
public:
  RegionSampler(B &b, Tensor rois) : b(b), rois(rois), f32(b.getF32Type()) {}

  /// Of dimension 2 + k of an image, which has `numBins`.
  Side getSide(Value region, int64_t k, int64_t numBins);
  /// Values and weights of the two pixels that a sample lies between.
  std::pair<Values, Values> locate(const Side &side, Value bin, Value sample,
                                   Dim extent);

private:
  B &b;
  Tensor rois;
  Type f32;
};

Side RegionSampler::getSide(Value region, int64_t k, int64_t numBins) {
  bool isHalfPixel =
      b.version() >= 16 && b.getString("coordinate_transformation_mode",
                                       "half_pixel") == "half_pixel";
  Value scale = b.number(b.getFloat("spatial_scale", 1), f32),
        offset = b.number(isHalfPixel ? 0.5 : 0, f32);
  auto load = [&](int64_t column) { // x1, y1, x2, y2
    Value stored = b.at(rois, {region, b.index(column)});
    Value value = b.castScalar(b.load(stored, rois.element), rois.element, f32);
    return b.sub(b.mul(value, scale), offset);
  };
  Value start = load(1 - k), length = b.sub(load(3 - k), start);
  if (!isHalfPixel)
    length = b.max(length, b.number(1, f32));
  Value binSize = b.div(length, b.number(double(numBins), f32));
  Value numSamples;
  if (int64_t ratio = b.getInt("sampling_ratio", 0); ratio > 0)
    numSamples = b.index(ratio);
  else
    numSamples = truncate(b, math::CeilOp::create(b, binSize));
  return {start, binSize, b.max(numSamples, b.index(0))};
}

std::pair<Values, Values> RegionSampler::locate(const Side &side, Value bin,
                                                Value sample, Dim extent) {
  auto number = [&](double value) { return b.number(value, f32); };
  auto toFloat = [&](Value index) { return toNumber(b, index, f32); };
  Value middle = b.mul(b.add(toFloat(sample), number(0.5)), side.binSize);
  Value at = b.add(b.add(side.start, b.mul(toFloat(bin), side.binSize)),
                   b.div(middle, toFloat(side.numSamples)));
  Value size = b.index(extent), last = b.sub(size, b.index(1));
  Value isOutside =
      b.createOrFold<arith::OrIOp>(b.compare(Compare::LT, at, number(-1)),
                                   b.compare(Compare::GT, at, toFloat(size)));
  at = clamp(b, at, number(0), toFloat(last));
  Value low = clamp(b, truncate(b, at), b.index(0), last);
  Values weights = linearWeights(b, b.sub(at, toFloat(low)));
  for (Value &weight : weights)
    weight = b.select(isOutside, number(0), weight);
  return {{low, b.min(b.add(low, b.index(1)), last)}, weights};
}

} // namespace

/// The mean or maximum of samples of each bin of a region.
static LogicalResult lowerRoiAlign(B &b) {
  Tensor x = b.input(0), rois = b.input(1), images = b.input(2);
  if (x.rank() != 4 || rois.rank() != 2)
    return b.error() << "operand or regions are of another rank";
  StringRef mode = b.getString("mode", "avg");
  if (mode != "avg" && mode != "max")
    return b.error() << "mode '" << mode << "' is not supported";
  bool isMax = mode == "max";
  Type f32 = b.getF32Type(), i64 = b.getI64Type();
  int64_t numBins[] = {b.getInt("output_height", 1),
                       b.getInt("output_width", 1)};
  Dims dims = {b.dim(rois, 0), b.dim(x, 1), b.dim(numBins[0]),
               b.dim(numBins[1])};
  RegionSampler sampler(b, rois);
  // As many samples as the region that has most; it has fewer itself.
  Dims taps;
  for (int64_t k : {0, 1}) {
    Tensor counts = b.generate(dims[0], i64, [&](ValueRange i) {
      Side side = sampler.getSide(i[0], k, numBins[k]);
      return b.createOrFold<arith::IndexCastOp>(i64, side.numSamples);
    });
    Tensor most = b.reduce(counts, {0}, /*keep=*/true, i64, b.number(0, i64),
                           [&](ValueRange v) { return b.max(v[0], v[1]); });
    taps.push_back(b.toDims(most)[0]);
  }
  Value least = b.number(isMax ? -INFINITY : 0, f32);
  AffineMap all = b.getMultiDimIdentityMap(6);
  AffineMap maps[] = {all.getMinorSubMap(2), all.getMajorSubMap(4)};
  SmallVector<utils::IteratorType> iterators(4, utils::IteratorType::parallel);
  iterators.append(2, utils::IteratorType::reduction);
  Tensor folded = b.generic(
      b.empty(taps, f32), b.fill(dims, f32, least), maps, iterators,
      [&](ValueRange v) -> Value {
        Values i;
        for (int64_t k = 0; k < 6; ++k)
          i.push_back(linalg::IndexOp::create(b, k));
        Value image = wrapIndex(b, b.at(images, i[0]), b.dim(x, 0));
        Value isThere = b.number(1, b.getI1Type()), sum;
        Values indices[2], weights[2];
        for (int64_t k : {0, 1}) {
          Side side = sampler.getSide(i[0], k, numBins[k]);
          isThere = b.createOrFold<arith::AndIOp>(
              isThere, b.compare(Compare::LT, i[4 + k], side.numSamples));
          std::tie(indices[k], weights[k]) =
              sampler.locate(side, i[2 + k], i[4 + k], b.dim(x, 2 + k));
        }
        for (int row : {0, 1})
          for (int column : {0, 1}) {
            Value stored =
                b.at(x, {image, i[1], indices[0][row], indices[1][column]});
            Value value =
                b.castScalar(b.load(stored, x.element), x.element, f32);
            Value term =
                b.mul(b.mul(weights[0][row], weights[1][column]), value);
            sum = !sum ? term : isMax ? b.max(sum, term) : b.add(sum, term);
          }
        Value next = isMax ? b.max(v[1], sum) : b.add(v[1], sum);
        return b.select(isThere, next, v[1]);
      });
  return b.result(b.generate(dims, x.element, [&](ValueRange i) {
    Value value = b.at(folded, i), count = b.index(1);
    for (int64_t k : {0, 1})
      count = b.mul(count, sampler.getSide(i[0], k, numBins[k]).numSamples);
    Value isEmpty = b.compare(Compare::EQ, count, b.index(0));
    count = toNumber(b, b.max(count, b.index(1)), f32);
    if (!isMax)
      value = b.div(value, count);
    value = b.select(isEmpty, b.number(0, f32), value);
    return b.store(b.castScalar(value, f32, x.element), x.element);
  }));
}

static const LoweringRow kRows[] = {
    {"AffineGrid", lowerAffineGrid},
    {"DeformConv", lowerDeformConv},
    {"GridSample", lowerGridSample},
    {"RoiAlign", lowerRoiAlign},
};

ArrayRef<LoweringRow> tercet::getSamplingLowerings() { return kRows; }
