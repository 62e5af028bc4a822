// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Resize and Upsample: one dimension after another, since all interpolations
// are separable.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Values = GraphBuilder::Values;
using Compare = GraphBuilder::Compare;

Values tercet::linearWeights(B &b, Value t) {
  return {b.sub(b.number(1, t.getType()), t), t};
}

Values tercet::cubicWeights(B &b, Value t, double a) {
  auto number = [&](double value) { return b.number(value, t.getType()); };
  // Keys' kernel at 1 + t, t, 1 - t and 2 - t.
  auto inner = [&](Value x) { // ((a + 2) x - (a + 3)) x^2 + 1
    return b.add(
        b.mul(b.sub(b.mul(number(a + 2), x), number(a + 3)), b.mul(x, x)),
        number(1));
  };
  auto outer = [&](Value x) { // ((a x - 5 a) x + 8 a) x - 4 a
    Value value = b.sub(b.mul(number(a), x), number(5 * a));
    value = b.add(b.mul(value, x), number(8 * a));
    return b.sub(b.mul(value, x), number(4 * a));
  };
  Value one = number(1), rest = b.sub(one, t);
  return {outer(b.add(t, one)), inner(t), inner(rest), outer(b.add(rest, one))};
}

namespace {

/// How one dimension is resized; floats are f32.
struct Axis {
  Dim from, to;
  Value scale;      // to / from, as the node has it
  Value exact;      // from * scale, of which `to` is the whole part
  Value start, end; // of the region, with tf_crop_and_resize
};

class Resizer {
public:
  explicit Resizer(B &b)
      : b(b), mode(b.getString("mode", "nearest")),
        transformation(
            b.getString("coordinate_transformation_mode",
                        b.version() < 11 ? "asymmetric" : "half_pixel")),
        nearest(b.getString("nearest_mode",
                            b.version() < 11 ? "floor" : "round_prefer_floor")),
        excludesOutside(b.getInt("exclude_outside", 0)),
        antialiases(b.getInt("antialias", 0)),
        cubic(b.getFloat("cubic_coeff_a", -0.75)) {}

  LogicalResult check();
  Tensor resize(Tensor x, int64_t dim, const Axis &axis) {
    return antialiases ? blur(x, dim, axis) : interpolate(x, dim, axis);
  }

private:
  Tensor interpolate(Tensor x, int64_t dim, const Axis &axis);
  Tensor blur(Tensor x, int64_t dim, const Axis &axis);
  /// The weight of a neighbour at a distance.
  Value weigh(Value distance);

  Value f32(Value index) {
    Type i64 = b.getI64Type();
    return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, index), i64,
                        b.getF32Type());
  }
  Value number(double value) { return b.number(value, b.getF32Type()); }
  Value toIndex(Value number) {
    return b.toIndex(b.castScalar(number, b.getF32Type(), b.getI64Type()));
  }
  Value floor(Value x) { return math::FloorOp::create(b, x); }
  Value ceil(Value x) { return math::CeilOp::create(b, x); }

  /// Where an element of the result is in the operand.
  Value getCoordinate(Value position, const Axis &axis);
  Value roundCoordinate(Value coordinate);

  B &b;
  StringRef mode, transformation, nearest;
  bool excludesOutside, antialiases;
  double cubic;
};

LogicalResult Resizer::check() {
  if (mode != "nearest" && mode != "linear" && mode != "cubic")
    return b.error() << "mode '" << mode << "' is not supported";
  if (antialiases && mode == "nearest")
    return b.error() << "mode 'nearest' has no antialias";
  if (antialiases && transformation == "tf_crop_and_resize")
    return b.error() << "tf_crop_and_resize with antialias is not supported";
  for (StringRef known :
       {"half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel",
        "tf_half_pixel_for_nn", "tf_crop_and_resize", "half_pixel_symmetric"})
    if (transformation == known)
      return success();
  return b.error() << "coordinate_transformation_mode '" << transformation
                   << "' is not supported";
}

Value Resizer::getCoordinate(Value position, const Axis &axis) {
  Value half = number(0.5), one = number(1);
  Value from = f32(b.index(axis.from)), to = axis.exact;
  if (transformation == "asymmetric")
    return b.div(position, axis.scale);
  if (transformation == "align_corners") {
    Value isOne = b.compare(Compare::EQ, to, one);
    Value steps = b.select(isOne, one, b.sub(to, one));
    return b.select(isOne, number(0),
                    b.div(b.mul(position, b.sub(from, one)), steps));
  }
  if (transformation == "tf_half_pixel_for_nn")
    return b.div(b.add(position, half), axis.scale);
  if (transformation == "tf_crop_and_resize") {
    Value last = b.sub(from, one);
    Value isOne = b.compare(Compare::EQ, to, one);
    Value steps = b.select(isOne, one, b.sub(to, one));
    Value span = b.mul(b.sub(axis.end, axis.start), last);
    Value inside =
        b.add(b.mul(axis.start, last), b.div(b.mul(position, span), steps));
    Value middle = b.mul(b.mul(half, b.add(axis.start, axis.end)), last);
    return b.select(isOne, middle, inside);
  }
  Value center = b.sub(b.div(b.add(position, half), axis.scale), half);
  if (transformation == "pytorch_half_pixel")
    return b.select(b.compare(Compare::GT, to, one), center, number(0));
  if (transformation == "half_pixel_symmetric") {
    // What rounding cut off is distributed to both ends.
    Value adjustment = b.div(f32(b.index(axis.to)), to);
    Value middle = b.div(from, number(2));
    return b.add(b.mul(middle, b.sub(one, adjustment)), center);
  }
  return center;
}

Value Resizer::roundCoordinate(Value x) {
  if (nearest == "floor")
    return floor(x);
  if (nearest == "ceil")
    return ceil(x);
  if (nearest == "round_prefer_ceil")
    return floor(b.add(x, number(0.5)));
  return ceil(b.sub(x, number(0.5)));
}

Value Resizer::weigh(Value distance) {
  Value x = b.abs(distance);
  if (mode == "linear")
    return b.max(b.sub(number(1), x), number(0));
  // Those of a point that is `fraction` behind the first of its neighbours.
  Value fraction = b.sub(x, floor(x));
  Values weights = cubicWeights(b, fraction, cubic);
  Value isInner = b.compare(Compare::LT, x, number(1)),
        isOuter = b.compare(Compare::LT, x, number(2));
  return b.select(isInner, weights[1],
                  b.select(isOuter, weights[0], number(0)));
}

/// Where a dimension shrinks, a point has as many more neighbours as it does,
/// with weights that are as much wider. They add up to 1; those beyond the
/// border are what is there.
Tensor Resizer::blur(Tensor x, int64_t dim, const Axis &axis) {
  Type single = b.getF32Type();
  Value scale = b.min(axis.scale, number(1));
  Value reach = number(mode == "linear" ? 1 : 2);
  // The first is `reach / scale` before the one that the point is behind.
  Value before =
      b.createOrFold<math::CeilOp>(b.sub(b.div(reach, scale), number(1)));
  Value first = toIndex(before);
  Dim taps = b.add(b.mul(getAsOpFoldResult(first), b.dim(2)), b.dim(2));
  Value last = b.index(b.sub(axis.from, b.dim(1)));
  auto getBase = [&](Value position) {
    Value coordinate = getCoordinate(f32(position), axis);
    return std::pair(coordinate, floor(coordinate));
  };
  auto getIndex = [&](Value base, Value tap) {
    return b.add(b.sub(toIndex(base), first), tap);
  };
  Tensor weights = b.generate({axis.to, taps}, single, [&](ValueRange i) {
    auto [coordinate, base] = getBase(i[0]);
    Value offset = b.sub(f32(i[1]), before);
    Value distance = b.add(b.sub(base, coordinate), offset);
    Value weight = weigh(b.mul(distance, scale));
    if (!excludesOutside)
      return weight;
    Value isInside = b.compare(Compare::LE, getIndex(base, i[1]), last, true);
    return b.select(isInside, weight, number(0));
  });
  weights = b.combine(weights, reduceSum(b, weights, 1), single,
                      [&](ValueRange v) { return b.div(v[0], v[1]); });

  Type work = x.isFloat() ? getComputeType(x.element) : single;
  int64_t rank = x.rank();
  Dims dims = b.dims(x);
  dims[dim] = axis.to;
  AffineExpr pair[] = {b.getAffineDimExpr(dim), b.getAffineDimExpr(rank)};
  AffineMap maps[] = {AffineMap::get(rank + 1, 0, pair, b.getContext()),
                      b.getMultiDimIdentityMap(rank + 1).getMajorSubMap(rank)};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.push_back(utils::IteratorType::reduction);
  Tensor sums = b.generic(
      weights, b.zeros(dims, work), maps, iterators, [&](ValueRange v) {
        Values at;
        for (int64_t i = 0; i < rank; ++i)
          at.push_back(linalg::IndexOp::create(b, i));
        Value index =
            getIndex(getBase(at[dim]).second, linalg::IndexOp::create(b, rank));
        at[dim] = b.min(b.max(index, b.index(0)), last);
        Value value =
            b.castScalar(b.load(b.at(x, at), x.element), x.element, work);
        return b.fma(value, b.castScalar(v[0], single, work), v[1]);
      });
  if (x.isFloat())
    return b.cast(sums, x.element);
  return b.map(sums, x.element, [&](ValueRange v) {
    return b.castScalar(math::RoundEvenOp::create(b, v[0]), work, x.element);
  });
}

Tensor Resizer::interpolate(Tensor x, int64_t dim, const Axis &axis) {
  Dims dims = b.dims(x);
  dims[dim] = axis.to;
  Type compute = getComputeType(x.element);
  bool isInteger = !x.isFloat();
  Type work = isInteger ? b.getF32Type() : compute;
  Value last = b.index(b.sub(axis.from, b.dim(1)));
  auto clamp = [&](Value index) {
    index = b.createOrFold<arith::MaxSIOp>(index, b.index(0));
    return b.createOrFold<arith::MinSIOp>(index, last);
  };
  double outside = b.getFloat("extrapolation_value", 0);
  return b.generate(dims, x.element, [&](ValueRange i) -> Value {
    Value coordinate = getCoordinate(f32(i[dim]), axis);
    Values at(i);
    auto load = [&](Value index) {
      at[dim] = clamp(index);
      return b.castScalar(b.load(b.at(x, at), x.element), x.element, work);
    };
    Value result;
    if (mode == "nearest") {
      at[dim] = clamp(toIndex(roundCoordinate(coordinate)));
      result = b.castScalar(b.load(b.at(x, at), x.element), x.element, work);
    } else {
      Value base = floor(coordinate);
      Value fraction = b.sub(coordinate, base);
      Values weights = mode == "linear" ? linearWeights(b, fraction)
                                        : cubicWeights(b, fraction, cubic);
      int64_t first = mode == "linear" ? 0 : -1;
      Value start = b.add(toIndex(base), b.index(first));
      Value sum = number(0), total = number(0);
      for (auto [k, weight] : llvm::enumerate(weights)) {
        Value index = b.add(start, b.index(int64_t(k)));
        if (excludesOutside) {
          Value isInside = b.compare(Compare::LE, index, last, true);
          weight = b.select(isInside, weight, number(0));
          total = b.add(total, weight);
        }
        Value factor = b.castScalar(weight, b.getF32Type(), work);
        Value term = b.mul(load(index), factor);
        sum = k == 0 ? term : b.add(sum, term);
      }
      result = excludesOutside
                   ? b.div(sum, b.castScalar(total, b.getF32Type(), work))
                   : sum;
    }
    if (transformation == "tf_crop_and_resize") {
      Value low = b.compare(Compare::LT, coordinate, number(0));
      Value high = b.compare(Compare::GT, coordinate, f32(last));
      result = b.select(b.createOrFold<arith::OrIOp>(low, high),
                        b.number(outside, work), result);
    }
    if (isInteger && mode != "nearest")
      result = math::RoundEvenOp::create(b, result);
    return b.store(b.castScalar(result, work, x.element), x.element);
  });
}

} // namespace

/// Sizes that keep the aspect ratio: all scales are the least or greatest.
static void keepAspectRatio(B &b, StringRef policy, Dims from, Dims &sizes,
                            Values &scales) {
  Value best;
  Type f32 = b.getF32Type(), i64 = b.getI64Type();
  for (Value scale : scales)
    best = !best                    ? scale
           : policy == "not_larger" ? b.min(best, scale)
                                    : b.max(best, scale);
  for (auto [size, extent, scale] : llvm::zip(sizes, from, scales)) {
    Value exact = b.mul(
        b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, b.index(extent)),
                     i64, f32),
        best);
    Value rounded = math::FloorOp::create(b, b.add(exact, b.number(0.5, f32)));
    size = getAsOpFoldResult(b.toIndex(b.castScalar(rounded, f32, i64)));
    scale = best;
  }
}

static bool isOne(Value scale) {
  APFloat value(0.0f);
  return matchPattern(scale, m_ConstantFloat(&value)) &&
         value.isExactlyValue(1);
}

static LogicalResult lowerResize(B &b) {
  Tensor x = b.input(0);
  bool isUpsample = b.version() < 10 || b.numInputs() == 2;
  unsigned scalesInput = isUpsample ? 1 : 2;
  Resizer resizer(b);
  if (failed(resizer.check()))
    return failure();
  Type f32 = b.getF32Type(), i64 = b.getI64Type();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(x.rank()));
  if (std::optional<ArrayRef<int64_t>> given = b.getInts("axes"))
    axes = llvm::to_vector(*given);
  for (int64_t &axis : axes) {
    FailureOr<int64_t> normalized = b.normalizeAxis(axis, x.rank());
    if (failed(normalized))
      return failure();
    axis = *normalized;
  }
  Dims all = b.dims(x), from, sizes;
  for (int64_t axis : axes)
    from.push_back(all[axis]);
  auto toFloat = [&](Dim dim) {
    return b.castScalar(b.createOrFold<arith::IndexCastOp>(i64, b.index(dim)),
                        i64, f32);
  };
  Values scales, exact;
  auto isGiven = [&](unsigned index) {
    return b.has(index) && b.input(index).type().getNumElements() > 0;
  };
  if (auto given = b.node()->getAttrOfType<DenseF32ArrayAttr>("scales"))
    for (float scale : given.asArrayRef())
      scales.push_back(b.number(scale, f32));
  else if (isGiven(scalesInput))
    for (Value scale : b.elements(b.input(scalesInput)))
      scales.push_back(b.castScalar(scale, b.input(scalesInput).element, f32));
  if (!scales.empty()) {
    if (scales.size() != axes.size())
      return b.error() << "scales do not fit the operand";
    for (auto [scale, size] : llvm::zip(scales, from)) {
      exact.push_back(b.mul(toFloat(size), scale));
      Value floor = b.createOrFold<math::FloorOp>(exact.back());
      sizes.push_back(
          getAsOpFoldResult(b.toIndex(b.castScalar(floor, f32, i64))));
    }
  } else {
    if (!isGiven(3))
      return b.error() << "neither scales nor sizes";
    sizes = b.toDims(b.input(3));
    if (sizes.size() != axes.size())
      return b.error() << "sizes do not fit the operand";
    for (auto [to, size] : llvm::zip(sizes, from))
      scales.push_back(b.div(toFloat(to), toFloat(size)));
    StringRef policy = b.getString("keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch")
      keepAspectRatio(b, policy, from, sizes, scales);
    for (Dim size : sizes)
      exact.push_back(toFloat(size));
  }
  Values region;
  if (b.getString("coordinate_transformation_mode", "") ==
      "tf_crop_and_resize") {
    if (!isGiven(1))
      return b.error() << "tf_crop_and_resize without roi";
    if (b.input(1).type().getNumElements() != 2 * int64_t(axes.size()))
      return b.error() << "roi does not fit the operand";
    for (Value end : b.elements(b.input(1)))
      region.push_back(b.castScalar(b.load(end, b.input(1).element),
                                    b.input(1).element, f32));
  }
  Tensor result = x;
  for (auto [i, dim] : llvm::enumerate(axes)) {
    Axis axis = {from[i], sizes[i], scales[i], exact[i], {}, {}};
    if (!region.empty()) {
      axis.start = region[i];
      axis.end = region[axes.size() + i];
    } else if (axis.from == axis.to && isOne(scales[i])) {
      continue;
    }
    result = resizer.resize(result, dim, axis);
  }
  return b.result(result);
}

static const LoweringRow kRows[] = {
    {"Resize", lowerResize},
    {"Upsample", lowerResize},
};

ArrayRef<LoweringRow> tercet::getResizeLowerings() { return kRows; }
