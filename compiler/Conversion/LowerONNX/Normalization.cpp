// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Norms.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

static Value square(B &b, Value x) { return b.mul(x, x); }

namespace {

/// Means over axes, in compute type.
struct Normalized {
  Tensor mean, variance, inverse, result;
};

} // namespace

/// (x - mean) / sqrt(variance + epsilon), or without `centers` x / sqrt(mean of
/// squares + epsilon).
static Normalized normalize(B &b, Tensor x, ArrayRef<int64_t> axes,
                            double epsilon, bool centers = true) {
  Type type = getComputeType(x.element);
  Normalized norm;
  Tensor centered = b.cast(x, type);
  if (centers) {
    norm.mean = reduceMean(b, x, axes);
    centered = b.combine(centered, norm.mean, type,
                         [&](ValueRange v) { return b.sub(v[0], v[1]); });
  }
  Value count = countAlong(b, x, axes);
  Tensor squares =
      b.reduce(centered, axes, /*keep=*/true, type, b.number(0, type),
               [&](ValueRange v) { return b.add(square(b, v[0]), v[1]); });
  norm.variance =
      b.map(squares, type, [&](ValueRange v) { return b.div(v[0], count); });
  norm.inverse = b.map(norm.variance, type, [&](ValueRange v) -> Value {
    Value variance = b.add(v[0], b.number(epsilon, type));
    return b.div(b.number(1, type), math::SqrtOp::create(b, variance));
  });
  norm.result = b.combine(centered, norm.inverse, type,
                          [&](ValueRange v) { return b.mul(v[0], v[1]); });
  return norm;
}

/// x * scale + bias; either may be missing.
static FailureOr<Tensor> scaleAndShift(B &b, Tensor x, Tensor scale,
                                       Tensor bias, Type element) {
  SmallVector<Tensor> operands = {x};
  if (scale)
    operands.push_back(b.cast(scale, x.element));
  if (bias)
    operands.push_back(b.cast(bias, x.element));
  return b.elementwise(operands, element, [&](ValueRange v) {
    Value result = v[0];
    if (scale)
      result = b.mul(result, v[1]);
    return bias ? b.add(result, v.back()) : result;
  });
}

template <bool Centers> static LogicalResult lowerLayerNorm(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(*axis, x.rank()));
  Normalized norm = normalize(b, x, axes, b.getFloat("epsilon", 1e-5), Centers);
  FailureOr<Tensor> result =
      scaleAndShift(b, norm.result, b.has(1) ? b.input(1) : Tensor(),
                    Centers && b.has(2) ? b.input(2) : Tensor(), x.element);
  if (failed(result))
    return failure();
  (void)b.result(*result);
  if (Centers)
    (void)b.result(norm.mean);
  return b.result(norm.inverse);
}

/// The norm of input + skip + bias, the last of which may be missing, and this
/// sum: SkipLayerNormalization of com.microsoft.
template <bool Centers> static LogicalResult lowerSkipLayerNorm(B &b) {
  unsigned beta = 3, bias = Centers ? 4 : 3;
  SmallVector<Tensor> terms = {b.input(0), b.input(1)};
  if (b.has(bias))
    terms.push_back(b.input(bias));
  Type element = terms[0].element;
  FailureOr<Tensor> sum = b.elementwise(terms, element, [&](ValueRange v) {
    Value sum = b.add(v[0], v[1]);
    return v.size() > 2 ? b.add(sum, v[2]) : sum;
  });
  if (failed(sum))
    return failure();
  Normalized norm =
      normalize(b, *sum, sum->rank() - 1, b.getFloat("epsilon", 1e-5), Centers);
  FailureOr<Tensor> result =
      scaleAndShift(b, norm.result, b.input(2),
                    Centers && b.has(beta) ? b.input(beta) : Tensor(), element);
  if (failed(result))
    return failure();
  (void)b.result(*result);
  (void)b.result(Centers ? norm.mean : Tensor());
  (void)b.result(norm.inverse);
  return b.result(*sum);
}

/// A tensor of channels as [C, 1, ...] beside one of `rank` dimensions.
static Tensor alongChannels(B &b, Tensor channels, int64_t rank) {
  Dims dims(std::max<int64_t>(rank - 1, 1), b.dim(1));
  dims[0] = b.dim(channels, 0);
  return b.reshape(channels, dims);
}

/// By mean and variance of the batch, which running ones move towards.
static LogicalResult trainBatchNorm(B &b, Tensor x) {
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(x.rank()));
  axes.erase(axes.begin() + 1);
  Normalized norm = normalize(b, x, axes, b.getFloat("epsilon", 1e-5));
  FailureOr<Tensor> result =
      scaleAndShift(b, norm.result, alongChannels(b, b.input(1), x.rank()),
                    alongChannels(b, b.input(2), x.rank()), x.element);
  if (failed(result))
    return failure();
  (void)b.result(*result);
  double momentum = b.getFloat("momentum", 0.9);
  for (auto [index, ofBatch] : {std::pair(3, norm.mean), {4, norm.variance}}) {
    Tensor running = b.input(index);
    Tensor moved =
        b.combine(running, b.reshape(ofBatch, b.dims(running)), running.element,
                  [&](ValueRange v) {
                    Type type = v[0].getType();
                    Value now = b.castScalar(v[1], ofBatch.element, type);
                    return b.add(b.mul(v[0], b.number(momentum, type)),
                                 b.mul(now, b.number(1 - momentum, type)));
                  });
    (void)b.result(moved);
  }
  return success();
}

static LogicalResult lowerBatchNorm(B &b) {
  Tensor x = b.input(0);
  if (x.rank() < 2)
    return b.error() << "an operand without channels";
  if (b.getInt("training_mode", 0))
    return trainBatchNorm(b, x);
  if (b.isUsed(1))
    return b.error() << "training is not supported";
  Type type = getComputeType(x.element);
  // x * factor + offset, with both computed by channel.
  Tensor scale = b.cast(b.input(1), type), bias = b.cast(b.input(2), type),
         mean = b.cast(b.input(3), type), variance = b.cast(b.input(4), type);
  double epsilon = b.getFloat("epsilon", 1e-5);
  FailureOr<Tensor> factor =
      b.elementwise({scale, variance}, type, [&](ValueRange v) -> Value {
        return b.div(v[0], math::SqrtOp::create(
                               b, b.add(v[1], b.number(epsilon, type))));
      });
  if (failed(factor))
    return failure();
  FailureOr<Tensor> offset =
      b.elementwise({bias, mean, *factor}, type, [&](ValueRange v) {
        return b.sub(v[0], b.mul(v[1], v[2]));
      });
  if (failed(offset))
    return failure();
  FailureOr<Tensor> result = b.elementwise(
      {x, alongChannels(b, *factor, x.rank()),
       alongChannels(b, *offset, x.rank())},
      x.element, [&](ValueRange v) { return b.fma(v[0], v[1], v[2]); });
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerInstanceNorm(B &b) {
  Tensor x = b.input(0);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(2, x.rank()));
  Tensor norm = normalize(b, x, axes, b.getFloat("epsilon", 1e-5)).result;
  FailureOr<Tensor> result =
      scaleAndShift(b, norm, alongChannels(b, b.input(1), x.rank()),
                    alongChannels(b, b.input(2), x.rank()), x.element);
  return failed(result) ? failure() : b.result(*result);
}

/// Before version 21 scale and bias are those of groups.
static LogicalResult lowerGroupNorm(B &b) {
  Tensor x = b.input(0);
  int64_t groups = b.getInt("num_groups", 1);
  Dims dims = b.dims(x);
  Dim group = b.dim(groups), size = b.div(dims[1], group);
  Dims grouped = {dims[0], group,
                  b.mul(size, b.product(ArrayRef(dims).drop_front(2)))};
  Tensor norm =
      normalize(b, b.reshape(x, grouped), {2}, b.getFloat("epsilon", 1e-5))
          .result;
  bool ofGroups = b.version() < 21;
  auto widen = [&](Tensor t) { return b.reshape(t, {b.dim(t, 0), b.dim(1)}); };
  if (ofGroups) {
    FailureOr<Tensor> result =
        scaleAndShift(b, norm, widen(b.input(1)), widen(b.input(2)), x.element);
    return failed(result) ? failure() : b.result(b.reshape(*result, dims));
  }
  FailureOr<Tensor> result = scaleAndShift(
      b, b.reshape(norm, dims), alongChannels(b, b.input(1), x.rank()),
      alongChannels(b, b.input(2), x.rank()), x.element);
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerMeanVarianceNorm(B &b) {
  Tensor x = b.input(0);
  std::optional<ArrayRef<int64_t>> given = b.getInts("axes");
  SmallVector<int64_t> axes = {0, 2, 3};
  if (given)
    axes = llvm::to_vector(*given);
  for (int64_t &axis : axes) {
    FailureOr<int64_t> normalized = b.normalizeAxis(axis, x.rank());
    if (failed(normalized))
      return failure();
    axis = *normalized;
  }
  return b.result(b.cast(normalize(b, x, axes, 1e-9).result, x.element));
}

static LogicalResult lowerLpNorm(B &b) {
  Tensor x = b.input(0);
  FailureOr<int64_t> axis = b.getAxis(x.rank(), -1);
  if (failed(axis))
    return failure();
  bool isAbsolute = b.getInt("p", 2) == 1;
  Type type = getComputeType(x.element);
  Tensor sum = b.reduce(
      x, *axis, /*keep=*/true, type, b.number(0, type), [&](ValueRange v) {
        return b.add(isAbsolute ? b.abs(v[0]) : square(b, v[0]), v[1]);
      });
  // Where the norm is zero, so are the elements.
  return b.result(b.combine(x, sum, x.element, [&](ValueRange v) -> Value {
    Value norm = isAbsolute ? v[1] : math::SqrtOp::create(b, v[1]).getResult();
    Value zero = b.number(0, type);
    return b.select(b.compare(Compare::EQ, norm, zero), zero,
                    b.div(v[0], norm));
  }));
}

/// Divides by a power of the sum of squares of neighbouring channels.
static LogicalResult lowerLRN(B &b) {
  Tensor x = b.input(0);
  int64_t size = b.getInt("size", 1), rank = x.rank();
  double alpha = b.getFloat("alpha", 1e-4), beta = b.getFloat("beta", 0.75),
         bias = b.getFloat("bias", 1);
  Type type = getComputeType(x.element);
  Dims before(rank, b.dim(0)), after = before;
  before[1] = b.dim((size - 1) / 2);
  after[1] = b.dim(size - 1 - (size - 1) / 2);
  Tensor padded = b.pad(b.cast(x, type), before, after, b.number(0, type));
  SmallVector<AffineExpr> in, out;
  for (int64_t i = 0; i < rank; ++i) {
    out.push_back(b.getAffineDimExpr(i));
    in.push_back(i == 1 ? out[i] + b.getAffineDimExpr(rank) : out[i]);
  }
  AffineMap maps[] = {
      AffineMap::get(rank + 1, 0, in, b.getContext()),
      AffineMap::get(rank + 1, 0, b.getAffineDimExpr(rank), b.getContext()),
      AffineMap::get(rank + 1, 0, out, b.getContext())};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  iterators.push_back(utils::IteratorType::reduction);
  Tensor sums = b.generic(
      {padded, b.empty(b.dim(size), type)}, b.zeros(b.dims(x), type), maps,
      iterators, [&](ValueRange v) { return b.add(square(b, v[0]), v[2]); });
  return b.result(b.combine(x, sums, x.element, [&](ValueRange v) -> Value {
    Value base = b.add(b.number(bias, type),
                       b.mul(b.number(alpha / double(size), type), v[1]));
    return b.div(v[0], math::PowFOp::create(b, base, b.number(beta, type)));
  }));
}

static const LoweringRow kRows[] = {
    {"BatchNormalization", lowerBatchNorm},
    {"GroupNormalization", lowerGroupNorm},
    {"InstanceNormalization", lowerInstanceNorm},
    {"LRN", lowerLRN},
    {"LayerNormalization", lowerLayerNorm<true>},
    {"LpNormalization", lowerLpNorm},
    {"MeanVarianceNormalization", lowerMeanVarianceNorm},
    {"RMSNormalization", lowerLayerNorm<false>},
    {"SimplifiedLayerNormalization", lowerLayerNorm<false>},
    {"com.microsoft.SkipLayerNormalization", lowerSkipLayerNorm<true>},
    {"com.microsoft.SkipSimplifiedLayerNormalization",
     lowerSkipLayerNorm<false>},
};

ArrayRef<LoweringRow> tercet::getNormalizationLowerings() { return kRows; }
