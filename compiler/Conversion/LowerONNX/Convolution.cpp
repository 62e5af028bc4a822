// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that move a window over the spatial dimensions: convolutions and
// pooling. A convolution is a chain over channels and then the window of fma,
// starting at zero or at the bias.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

//===----------------------------------------------------------------------===//
// Windows
//===----------------------------------------------------------------------===//

namespace {

/// How a window moves; one entry for each spatial dimension. Position o of the
/// result sees o * stride + k * dilation of the padded operand for k < kernel.
struct Window {
  SmallVector<int64_t> kernel, strides, dilations;
  Dims before, after; // padding
  Dims results;       // positions
  Dims excess;        // beyond the padding, where a last window is not complete

  int64_t rank() const { return kernel.size(); }
  int64_t reach(int64_t i) const { return (kernel[i] - 1) * dilations[i] + 1; }
};

} // namespace

static FailureOr<SmallVector<int64_t>>
getSpatial(B &b, StringRef name, size_t size, int64_t otherwise) {
  std::optional<ArrayRef<int64_t>> values = b.getInts(name);
  if (!values || values->empty())
    return SmallVector<int64_t>(size, otherwise);
  if (values->size() != size || llvm::any_of(*values, [&](int64_t value) {
        return value < (name == "pads" ? 0 : 1);
      }))
    return b.error() << "attribute " << name << " does not fit";
  return llvm::to_vector(*values);
}

static LogicalResult placePadding(B &b, Window &window, ArrayRef<Dim> spatial) {
  int64_t rank = window.rank();
  StringRef automatic = b.getString("auto_pad", "NOTSET");
  bool isSame = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
  FailureOr<SmallVector<int64_t>> pads =
      getSpatial(b, "pads", 2 * rank, /*otherwise=*/0);
  if (failed(pads))
    return failure();
  for (int64_t i = 0; i < rank; ++i) {
    Dim stride = b.dim(window.strides[i]);
    if (isSame) {
      Dim results = b.ceilDiv(spatial[i], stride);
      Dim needed = b.add(b.mul(b.sub(results, b.dim(1)), stride),
                         b.dim(window.reach(i)));
      Dim total = b.max(b.sub(needed, spatial[i]), b.dim(0));
      Dim less = b.div(total, b.dim(2)), more = b.sub(total, less);
      bool isUpper = automatic == "SAME_UPPER";
      window.before.push_back(isUpper ? less : more);
      window.after.push_back(isUpper ? more : less);
      continue;
    }
    bool isValid = automatic == "VALID";
    window.before.push_back(b.dim(isValid ? 0 : (*pads)[i]));
    window.after.push_back(b.dim(isValid ? 0 : (*pads)[rank + i]));
  }
  return success();
}

/// Reads the attributes of a convolution or pool. `kernel` is the window's size
/// where the node does not say it.
static FailureOr<Window> readWindow(B &b, Tensor x, ArrayRef<int64_t> kernel) {
  Window window;
  int64_t rank = x.rank() - 2;
  if (rank < 1)
    return b.error() << "an operand without spatial dimensions";
  Dims spatial = llvm::to_vector<6>(ArrayRef(b.dims(x)).drop_front(2));
  window.kernel = llvm::to_vector(b.getInts("kernel_shape").value_or(kernel));
  FailureOr<SmallVector<int64_t>> strides = getSpatial(b, "strides", rank, 1),
                                  dilations =
                                      getSpatial(b, "dilations", rank, 1);
  if (failed(strides) || failed(dilations))
    return failure();
  if (int64_t(window.kernel.size()) != rank ||
      llvm::any_of(window.kernel, [](int64_t k) { return k < 1; }))
    return b.error() << "the window does not fit the operand";
  window.strides = *strides;
  window.dilations = *dilations;
  if (failed(placePadding(b, window, spatial)))
    return failure();

  bool roundsUp = b.getInt("ceil_mode", 0);
  for (int64_t i = 0; i < rank; ++i) {
    Dim padded = b.add(spatial[i], b.add(window.before[i], window.after[i]));
    Dim stride = b.dim(window.strides[i]), reach = b.dim(window.reach(i));
    Dim room = b.sub(padded, reach);
    if (std::optional<int64_t> size = getConstantIntValue(room);
        size && *size < 0)
      return b.error() << "the window is larger than the padded operand";
    Dim steps = roundsUp ? b.ceilDiv(room, stride) : b.div(room, stride);
    if (roundsUp) // the last window begins inside or in the padding before
      steps = b.min(
          steps,
          b.div(b.sub(b.add(spatial[i], window.before[i]), b.dim(1)), stride));
    window.results.push_back(b.add(steps, b.dim(1)));
    window.excess.push_back(
        roundsUp ? b.max(b.sub(b.mul(steps, stride), room), b.dim(0))
                 : b.dim(0));
  }
  return window;
}

/// The window moves over the last dimensions but `trailing`.
static Tensor padFor(B &b, Tensor x, const Window &window, Value scalar,
                     int64_t trailing = 0) {
  int64_t leading = x.rank() - window.rank() - trailing;
  Dims before(leading, b.dim(0)), after(leading, b.dim(0));
  for (int64_t i = 0; i < window.rank(); ++i) {
    before.push_back(window.before[i]);
    after.push_back(b.add(window.after[i], window.excess[i]));
  }
  before.append(trailing, b.dim(0));
  after.append(trailing, b.dim(0));
  return b.pad(x, before, after, scalar);
}

/// Where the window's elements are: o * stride + k * dilation, with loops o
/// from `position` and k from `tap`.
static SmallVector<AffineExpr> windowExprs(B &b, const Window &window,
                                           int64_t position, int64_t tap) {
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < window.rank(); ++i)
    exprs.push_back(b.getAffineDimExpr(position + i) * window.strides[i] +
                    b.getAffineDimExpr(tap + i) * window.dilations[i]);
  return exprs;
}

static SmallVector<AffineExpr> dimExprs(B &b, int64_t first, int64_t count) {
  SmallVector<AffineExpr> exprs;
  for (int64_t i = 0; i < count; ++i)
    exprs.push_back(b.getAffineDimExpr(first + i));
  return exprs;
}

static void append(SmallVector<AffineExpr> &exprs,
                   const SmallVector<AffineExpr> &more) {
  exprs.append(more.begin(), more.end());
}

FailureOr<Tensor> tercet::gatherWindows(GraphBuilder &b, Tensor x,
                                        Value scalar) {
  FailureOr<Window> window = readWindow(b, x, {});
  if (failed(window))
    return failure();
  int64_t spatial = window->rank(), channels = x.size(1);
  // A row of the window is contiguous, unless it has gaps.
  bool hasRows = window->dilations.back() == 1;
  int64_t size = (hasRows ? window->kernel.back() : 1) * channels;
  int64_t alignedSize = llvm::alignTo(size, 4);
  window->after.back() =
      b.add(window->after.back(),
            b.dim(llvm::divideCeil(alignedSize - size, channels)));
  SmallVector<int64_t> permutation = llvm::to_vector(llvm::seq(x.rank()));
  std::rotate(permutation.begin() + 1, permutation.begin() + 2,
              permutation.end());
  x = padFor(b, b.transpose(x, permutation), *window, scalar, /*trailing=*/1);
  Dims lines = b.dims(x);
  lines.pop_back();
  lines.back() = b.mul(lines.back(), b.dim(channels));
  x = b.reshape(x, lines);

  Dims dims = {b.dim(x, 0)};
  dims.append(window->results);
  for (int64_t taps : ArrayRef(window->kernel).drop_back(hasRows))
    dims.push_back(b.dim(taps));
  dims.push_back(b.dim(alignedSize));
  int64_t rank = dims.size();
  SmallVector<AffineExpr> exprs = {b.getAffineDimExpr(0)};
  append(exprs, windowExprs(b, *window, 1, 1 + spatial));
  AffineExpr last = b.getAffineDimExpr(spatial) * window->strides.back();
  if (!hasRows)
    last = last + b.getAffineDimExpr(rank - 2) * window->dilations.back();
  exprs.back() = last * channels + b.getAffineDimExpr(rank - 1);
  AffineMap maps[] = {AffineMap::get(rank, 0, exprs, b.getContext()),
                      b.getMultiDimIdentityMap(rank)};
  SmallVector<utils::IteratorType> iterators(rank,
                                             utils::IteratorType::parallel);
  return b.generic(x, b.empty(dims, x.element), maps, iterators,
                   [](ValueRange v) { return v[0]; });
}

//===----------------------------------------------------------------------===//
// Convolutions
//===----------------------------------------------------------------------===//

/// A tensor whose dimension `axis` is split into `count` parts.
static Tensor splitDim(B &b, Tensor tensor, int64_t axis, int64_t count) {
  Dims dims = b.dims(tensor);
  dims[axis] = b.div(dims[axis], b.dim(count));
  dims.insert(dims.begin() + axis, b.dim(count));
  return b.reshape(tensor, dims);
}

/// x [N, C, ...] padded already, w [M, C / groups, ...].
static Tensor convolveWindow(B &b, Tensor x, Tensor w, Tensor init,
                             const Window &window, int64_t groups) {
  int64_t spatial = window.rank();
  bool isMatmul = groups == 1;
  for (int64_t i = 0; i < spatial; ++i)
    isMatmul &= window.kernel[i] == 1 && window.strides[i] == 1;
  Dims results = b.dims(init);
  if (isMatmul) {
    Dim pixels = b.product(ArrayRef(results).drop_front(2));
    auto flatten = [&](Tensor t) {
      return b.reshape(t, {b.dim(t, 0), b.dim(t, 1), pixels});
    };
    Tensor rows = b.reshape(w, {b.dim(w, 0), b.dim(w, 1)});
    return b.reshape(
        batchMatmul(b, rows, flatten(x), flatten(init), /*numBatchDims=*/1),
        results);
  }
  // Loops: n, g, m, positions; c, window.
  x = splitDim(b, x, 1, groups);
  w = splitDim(b, w, 0, groups);
  init = splitDim(b, init, 1, groups);
  int64_t c = 3 + spatial, rank = c + 1 + spatial;
  SmallVector<AffineExpr> xs = {b.getAffineDimExpr(0), b.getAffineDimExpr(1),
                                b.getAffineDimExpr(c)};
  append(xs, windowExprs(b, window, 3, c + 1));
  SmallVector<AffineExpr> ws = {b.getAffineDimExpr(1), b.getAffineDimExpr(2)};
  append(ws, dimExprs(b, c, 1 + spatial));
  AffineMap maps[] = {
      AffineMap::get(rank, 0, xs, b.getContext()),
      AffineMap::get(rank, 0, ws, b.getContext()),
      AffineMap::get(rank, 0, dimExprs(b, 0, 3 + spatial), b.getContext())};
  SmallVector<utils::IteratorType> iterators(3 + spatial,
                                             utils::IteratorType::parallel);
  iterators.append(1 + spatial, utils::IteratorType::reduction);
  Tensor result = b.generic({x, w}, init, maps, iterators, [&](ValueRange v) {
    return b.fma(b.castScalar(b.load(v[1], w.element), w.element, init.element),
                 b.castScalar(b.load(v[0], x.element), x.element, init.element),
                 v[2]);
  });
  return b.reshape(result, results);
}

FailureOr<Tensor> tercet::convolve(GraphBuilder &b, Tensor x, Tensor w,
                                   Tensor bias, Type sumType) {
  if (x.rank() < 3 || w.rank() != x.rank())
    return b.error() << "ranks " << x.rank() << " and " << w.rank();
  ArrayRef<int64_t> kernel = w.type().getShape().drop_front(2);
  if (ShapedType::isDynamicShape(kernel))
    return b.error() << "weights without static shape are not supported";
  FailureOr<Window> window = readWindow(b, x, kernel);
  if (failed(window))
    return failure();
  int64_t groups = b.getInt("group", 1);
  if (groups < 1 || ArrayRef(window->kernel) != kernel)
    return b.error() << "attributes and weights do not fit";
  b.requireEqual(b.dim(x, 1), b.mul(b.dim(w, 1), b.dim(groups)),
                 "channels of operand and weights differ");
  Dims results = {b.dim(x, 0), b.dim(w, 0)};
  results.append(window->results);
  Tensor init;
  if (bias) {
    Dims channels(results.size() - 1, b.dim(1));
    channels[0] = b.dim(w, 0);
    init = b.broadcastTo(b.reshape(b.cast(bias, sumType), channels), results);
  } else {
    init = b.zeros(results, sumType);
  }
  Tensor padded = padFor(b, x, *window, b.number(0, getStorageType(x.element)));
  return convolveWindow(b, padded, w, init, *window, groups);
}

static LogicalResult lowerConv(B &b) {
  Tensor x = b.input(0);
  FailureOr<Tensor> result =
      convolve(b, x, b.input(1), b.has(2) ? b.input(2) : Tensor(),
               getComputeType(x.element));
  if (failed(result))
    return failure();
  return b.result(b.cast(*result, x.element));
}

/// Each channel [B, C, L] by itself; what a window sees before the first
/// element is a state, or zeros.
static LogicalResult lowerCausalConvWithState(B &b) {
  Tensor x = b.input(0), w = b.input(1);
  if (x.rank() != 3 || w.rank() != 3)
    return b.error() << "ranks " << x.rank() << " and " << w.rank();
  int64_t channels = w.size(0), size = w.size(2);
  if (ShapedType::isDynamic(channels) || ShapedType::isDynamic(size))
    return b.error() << "weights without static shape are not supported";
  StringRef activation = b.getString("activation", "none");
  bool isSilu = activation == "silu" || activation == "swish";
  if (!isSilu && activation != "none")
    return b.error() << "activation '" << activation << "' is not supported";
  Dims dims = b.dims(x), before = dims, none(3, b.dim(0)), offsets = none;
  before[2] = b.dim(size - 1);
  Tensor padded = b.has(3) ? b.concat({b.input(3), x}, 2)
                           : b.pad(x, {none[0], none[1], before[2]}, none,
                                   b.number(0, getStorageType(x.element)));
  Type type = getComputeType(x.element);
  Tensor init = b.has(2) ? b.broadcastTo(b.reshape(b.cast(b.input(2), type),
                                                   {b.dim(channels), b.dim(1)}),
                                         dims)
                         : b.zeros(dims, type);
  Window window = {{size},     {1},       {1},       {b.dim(0)},
                   {b.dim(0)}, {dims[2]}, {b.dim(0)}};
  Tensor result =
      b.cast(convolveWindow(b, padded, w, init, window, channels), x.element);
  (void)b.result(
      isSilu ? b.map(result, x.element,
                     [&](ValueRange v) { return b.mul(v[0], b.sigmoid(v[0])); })
             : result);
  offsets[2] = dims[2];
  return b.result(b.slice(padded, offsets, before));
}

/// w [C, M / groups, ...] with its window reversed as [M, C / groups, ...].
static Tensor reverseWindow(B &b, Tensor w, int64_t groups) {
  int64_t rank = w.rank();
  w = splitDim(b, w, 0, groups); // [G, C / G, M / G, ...]
  SmallVector<int64_t> order = llvm::to_vector(llvm::seq(rank + 1));
  std::swap(order[1], order[2]);
  w = b.transpose(w, order);
  Dims dims = b.dims(w), merged(dims);
  Tensor reversed = b.generate(dims, w.element, [&](ValueRange i) {
    B::Values from(i);
    for (int64_t d = 3; d <= rank; ++d)
      from[d] = b.index(b.sub(b.sub(dims[d], b.dim(1)), Dim(i[d])));
    return b.at(w, from);
  });
  merged[1] = b.mul(dims[0], dims[1]);
  merged.erase(merged.begin());
  return b.reshape(reversed, merged);
}

/// A convolution of the operand with zeros between its elements.
static LogicalResult lowerConvTranspose(B &b) {
  Tensor x = b.input(0), w = b.input(1);
  int64_t rank = x.rank() - 2, groups = b.getInt("group", 1);
  if (groups < 1)
    return b.error() << "group is " << groups;
  ArrayRef<int64_t> kernel = w.type().getShape().drop_front(2);
  if (ShapedType::isDynamicShape(kernel))
    return b.error() << "weights without static shape are not supported";
  FailureOr<SmallVector<int64_t>> strides = getSpatial(b, "strides", rank, 1),
                                  dilations =
                                      getSpatial(b, "dilations", rank, 1),
                                  extra = SmallVector<int64_t>(rank, 0),
                                  pads = getSpatial(b, "pads", 2 * rank, 0);
  if (std::optional<ArrayRef<int64_t>> given = b.getInts("output_padding");
      given && given->size() == size_t(rank))
    extra = llvm::to_vector(*given);
  if (failed(strides) || failed(dilations) || failed(pads))
    return failure();
  std::optional<ArrayRef<int64_t>> shape = b.getInts("output_shape");
  if (shape && int64_t(shape->size()) < rank)
    return b.error() << "output_shape does not fit the operand";
  StringRef automatic = b.getString("auto_pad", "NOTSET");

  Window window;
  window.kernel = llvm::to_vector(kernel);
  window.strides.assign(rank, 1);
  window.dilations = *dilations;
  window.excess.assign(rank, b.dim(0));
  Dims spread = {b.dim(x, 0), b.dim(x, 1)}, steps(2, b.dim(1));
  for (int64_t i = 0; i < rank; ++i) {
    Dim size = b.dim(x, 2 + i), stride = b.dim((*strides)[i]);
    Dim between =
        b.add(b.mul(b.max(b.sub(size, b.dim(1)), b.dim(0)), stride), b.dim(1));
    int64_t reach = window.reach(i);
    // What all taps reach, of which `pads` are cut off.
    Dim full = b.add(between, b.dim(reach - 1 + (*extra)[i]));
    Dim low = b.dim((*pads)[i]), high = b.dim((*pads)[rank + i]);
    if (shape || automatic.starts_with("SAME")) {
      Dim wanted = shape ? b.dim((*shape)[shape->size() - rank + i])
                         : b.mul(size, stride);
      // A result that no tap reaches the end of has zeros there.
      Dim total = b.sub(full, wanted), cut = b.max(total, b.dim(0));
      Dim less = b.div(cut, b.dim(2)), more = b.sub(cut, less);
      bool isUpper = automatic == "SAME_UPPER";
      low = isUpper ? less : more;
      high = b.sub(total, low);
    } else if (automatic == "VALID") {
      low = high = b.dim(0);
    }
    window.before.push_back(b.sub(b.dim(reach - 1), low));
    window.after.push_back(b.sub(b.dim(reach - 1 + (*extra)[i]), high));
    window.results.push_back(b.sub(full, b.add(low, high)));
    spread.push_back(between);
    steps.push_back(stride);
  }
  Tensor zeros = b.zeros(spread, x.element);
  Tensor dilated = b.insertSlice(x, zeros, Dims(x.rank(), b.dim(0)), steps);
  // Padding that is cut off further than taps reach is cut off the operand.
  Dims offsets(2, b.dim(0)), sizes = {spread[0], spread[1]};
  for (int64_t i = 0; i < rank; ++i) {
    Dim cutLow = b.max(b.sub(b.dim(0), window.before[i]), b.dim(0)),
        cutHigh = b.max(b.sub(b.dim(0), window.after[i]), b.dim(0));
    offsets.push_back(cutLow);
    sizes.push_back(b.sub(spread[2 + i], b.add(cutLow, cutHigh)));
    window.before[i] = b.max(window.before[i], b.dim(0));
    window.after[i] = b.max(window.after[i], b.dim(0));
  }
  dilated = b.slice(dilated, offsets, sizes);

  Type sumType = getComputeType(x.element);
  Tensor weights = reverseWindow(b, w, groups);
  Dims results = {b.dim(x, 0), b.dim(weights, 0)};
  results.append(window.results);
  Dims channels(results.size() - 1, b.dim(1));
  channels[0] = results[1];
  Tensor init =
      b.has(2) ? b.broadcastTo(b.reshape(b.cast(b.input(2), sumType), channels),
                               results)
               : b.zeros(results, sumType);
  Tensor padded =
      padFor(b, dilated, window, b.number(0, getStorageType(x.element)));
  Tensor result = convolveWindow(b, padded, weights, init, window, groups);
  return b.result(b.cast(result, x.element));
}

/// Blocks [N, C * taps, positions] added up where a window of a convolution
/// sees them: an element of the image is the sum of the taps that lie on it.
static LogicalResult lowerCol2Im(B &b) {
  Tensor x = b.input(0);
  Dims image = b.toDims(b.input(1)), taps = b.toDims(b.input(2));
  int64_t rank = image.size();
  if (x.rank() != 3 || rank < 1 || int64_t(taps.size()) != rank)
    return b.error() << "operand, image and block do not fit";
  FailureOr<SmallVector<int64_t>> strides = getSpatial(b, "strides", rank, 1),
                                  dilations =
                                      getSpatial(b, "dilations", rank, 1),
                                  pads = getSpatial(b, "pads", 2 * rank, 0);
  if (failed(strides) || failed(dilations) || failed(pads))
    return failure();
  Dims positions;
  for (int64_t i = 0; i < rank; ++i) {
    Dim padded = b.add(image[i], b.dim((*pads)[i] + (*pads)[rank + i]));
    Dim reach = b.mul(b.sub(taps[i], b.dim(1)), b.dim((*dilations)[i]));
    Dim room = b.sub(padded, b.add(reach, b.dim(1)));
    b.require(b.compare(Compare::GE, b.index(room), b.index(0)),
              "a block is larger than the padded image");
    positions.push_back(b.add(b.div(room, b.dim((*strides)[i])), b.dim(1)));
  }
  Dim window = b.product(taps);
  b.require(b.compare(Compare::GT, b.index(window), b.index(0)),
            "a block is empty");
  Dim channels = b.div(b.dim(x, 1), window);
  b.requireEqual(b.mul(channels, window), b.dim(x, 1),
                 "the operand has another number of blocks");
  b.requireEqual(b.product(positions), b.dim(x, 2),
                 "the operand has another number of blocks");

  // Loops: n, c, image; taps. The operand is there for its shape.
  int64_t tap = 2 + rank, numLoops = tap + rank;
  Dims results = {b.dim(x, 0), channels};
  results.append(image);
  AffineMap all = b.getMultiDimIdentityMap(numLoops);
  AffineMap maps[] = {all.getMinorSubMap(rank), all.getMajorSubMap(tap)};
  SmallVector<utils::IteratorType> iterators(tap,
                                             utils::IteratorType::parallel);
  iterators.append(rank, utils::IteratorType::reduction);
  Type type = getComputeType(x.element);
  Tensor sums = b.generic(
      b.empty(taps, type), b.zeros(results, type), maps, iterators,
      [&](ValueRange v) {
        B::Values loops;
        for (int64_t i = 0; i < numLoops; ++i)
          loops.push_back(linalg::IndexOp::create(b, i));
        Value row = loops[1], column = b.index(0), zero = b.index(0);
        Value isThere = b.number(1, b.getI1Type());
        for (int64_t i = 0; i < rank; ++i) {
          Value first = b.sub(b.add(loops[2 + i], b.index((*pads)[i])),
                              b.mul(loops[tap + i], b.index((*dilations)[i])));
          Value isInside = b.compare(Compare::GE, first, zero);
          first = b.max(first, zero);
          Value stride = b.index((*strides)[i]), count = b.index(positions[i]),
                position = b.createOrFold<arith::DivUIOp>(first, stride),
                rest = b.createOrFold<arith::RemUIOp>(first, stride);
          for (Value holds : {isInside, b.compare(Compare::EQ, rest, zero),
                              b.compare(Compare::LT, position, count)})
            isThere = b.createOrFold<arith::AndIOp>(isThere, holds);
          position = b.min(position, b.sub(count, b.index(1)));
          row = b.add(b.mul(row, b.index(taps[i])), loops[tap + i]);
          column = b.add(b.mul(column, count), position);
        }
        Value value = b.load(b.at(x, {loops[0], row, column}), x.element);
        return b.select(isThere, b.add(v[1], value), v[1]);
      });
  return b.result(b.cast(sums, x.element));
}

//===----------------------------------------------------------------------===//
// Pooling
//===----------------------------------------------------------------------===//

/// Folds the elements of each window of x, which is padded already.
static Tensor pool(B &b, Tensor x, const Window &window, Type element,
                   Value identity, B::Body combine) {
  int64_t spatial = window.rank(), leading = x.rank() - spatial;
  int64_t tap = leading + spatial, rank = tap + spatial;
  SmallVector<AffineExpr> xs = dimExprs(b, 0, leading);
  append(xs, windowExprs(b, window, leading, tap));
  AffineMap maps[] = {
      AffineMap::get(rank, 0, xs, b.getContext()),
      AffineMap::get(rank, 0, dimExprs(b, tap, spatial), b.getContext()),
      AffineMap::get(rank, 0, dimExprs(b, 0, tap), b.getContext())};
  Dims results = llvm::to_vector<6>(ArrayRef(b.dims(x)).take_front(leading));
  results.append(window.results);
  Dims taps;
  for (int64_t size : window.kernel)
    taps.push_back(b.dim(size));
  SmallVector<utils::IteratorType> iterators(tap,
                                             utils::IteratorType::parallel);
  iterators.append(spatial, utils::IteratorType::reduction);
  // The second operand is there for its shape.
  return b.generic({x, b.empty(taps, element)},
                   b.fill(results, element, identity), maps, iterators,
                   [&](ValueRange v) {
                     Value values[] = {b.castScalar(b.load(v[0], x.element),
                                                    x.element, element),
                                       b.load(v[2], element)};
                     return b.store(combine(values), element);
                   });
}

/// Flat positions of the maxima in the operand, of equal ones the first.
static Tensor findMaxima(B &b, Tensor x, Tensor maxima, const Window &window) {
  int64_t spatial = window.rank(), leading = x.rank() - spatial;
  int64_t rank = leading + 2 * spatial;
  bool isColumnMajor = b.getInt("storage_order", 0);
  Dims dims = b.dims(x);
  SmallVector<AffineExpr> outs = dimExprs(b, 0, leading + spatial);
  Dims taps;
  for (int64_t size : window.kernel)
    taps.push_back(b.dim(size));
  AffineMap out = AffineMap::get(rank, 0, outs, b.getContext());
  AffineMap maps[] = {out,
                      AffineMap::get(rank, 0,
                                     dimExprs(b, leading + spatial, spatial),
                                     b.getContext()),
                      out};
  SmallVector<utils::IteratorType> iterators(leading + spatial,
                                             utils::IteratorType::parallel);
  iterators.append(spatial, utils::IteratorType::reduction);
  Type i64 = b.getI64Type();
  Value none = b.number(-1, i64);
  return b.generic(
      {maxima, b.empty(taps, x.element)}, b.fill(b.dims(maxima), i64, none),
      maps, iterators, [&](ValueRange v) {
        B::Values loops, at;
        for (int64_t i = 0; i < rank; ++i)
          loops.push_back(linalg::IndexOp::create(b, i));
        Value flat = b.index(0), isInside = b.number(1, b.getI1Type());
        for (int64_t i = 0; i < leading; ++i) {
          at.push_back(loops[i]);
          flat = b.add(b.mul(flat, b.index(dims[i])), loops[i]);
        }
        B::Values positions;
        for (int64_t i = 0; i < spatial; ++i) {
          Value position =
              b.add(b.mul(loops[leading + i], b.index(window.strides[i])),
                    b.mul(loops[leading + spatial + i],
                          b.index(window.dilations[i])));
          position = b.sub(position, b.index(window.before[i]));
          Value last = b.index(b.sub(dims[leading + i], b.dim(1)));
          // Unsigned: what is before the first is beyond the last.
          isInside = b.createOrFold<arith::AndIOp>(
              isInside, b.compare(Compare::LE, position, last, true));
          positions.push_back(position);
          at.push_back(b.min(position, last, true));
        }
        for (int64_t i = 0; i < spatial; ++i) {
          int64_t j = isColumnMajor ? spatial - 1 - i : i;
          flat = b.add(b.mul(flat, b.index(dims[leading + j])), positions[j]);
        }
        Value isMaximum = b.compare(Compare::EQ, b.load(b.at(x, at), x.element),
                                    b.load(v[0], x.element));
        Value isFirst = b.compare(Compare::EQ, v[2], none);
        Value isFound = b.createOrFold<arith::AndIOp>(
            b.createOrFold<arith::AndIOp>(isInside, isMaximum), isFirst);
        return b.select(isFound, b.createOrFold<arith::IndexCastOp>(i64, flat),
                        v[2]);
      });
}

static LogicalResult lowerMaxPool(B &b) {
  Tensor x = b.input(0);
  FailureOr<Window> window = readWindow(b, x, {});
  if (failed(window))
    return failure();
  Tensor padded = padFor(b, x, *window, b.lowest(x.element));
  Tensor maxima =
      pool(b, padded, *window, x.element, b.lowest(x.element),
           [&](ValueRange v) { return b.max(v[0], v[1], x.isUnsigned()); });
  (void)b.result(maxima);
  if (b.numOutputs() < 2)
    return success();
  return b.result(findMaxima(b, x, maxima, *window));
}

/// Elements at the flat positions that a MaxPool found them at, zeros between.
static LogicalResult lowerMaxUnpool(B &b) {
  Tensor x = b.input(0), indices = b.input(1);
  int64_t rank = x.rank() - 2;
  std::optional<ArrayRef<int64_t>> kernel = b.getInts("kernel_shape");
  if (rank < 1 || !kernel || int64_t(kernel->size()) != rank)
    return b.error() << "the window does not fit the operand";
  FailureOr<SmallVector<int64_t>> strides = getSpatial(b, "strides", rank, 1),
                                  pads = getSpatial(b, "pads", 2 * rank, 0);
  if (failed(strides) || failed(pads))
    return failure();
  Dims from = b.dims(x), dims = from;
  for (int64_t i = 0; i < rank; ++i)
    dims[2 + i] =
        b.add(b.mul(b.sub(from[2 + i], b.dim(1)), b.dim((*strides)[i])),
              b.dim((*kernel)[i] - (*pads)[i] - (*pads)[rank + i]));
  Dim size = b.product(dims);
  Tensor flat = b.forEachIndex(
      from, b.zeros(size, x.element), [&](ValueRange i, Tensor current) {
        Value at = wrapIndex(b, b.at(indices, i), size);
        return Tensor{
            tensor::InsertOp::create(b, b.at(x, i), current.value, at),
            x.element};
      });
  Tensor result = b.reshape(b.withDims(flat.value, size, x.element), dims);
  if (!b.has(2))
    return b.result(result);
  Dims to = b.toDims(b.input(2)), after, none(x.rank(), b.dim(0));
  if (int64_t(to.size()) != x.rank())
    return b.error() << "output_shape does not fit the operand";
  for (auto [size, wanted] : llvm::zip(dims, to)) {
    b.require(b.compare(Compare::LE, b.index(size), b.index(wanted)),
              "output_shape is smaller than what is unpooled");
    after.push_back(b.sub(wanted, size));
  }
  return b.result(
      b.pad(result, none, after, b.number(0, getStorageType(x.element))));
}

/// Sums of windows of x, padded with `padding`.
static Tensor sumWindows(B &b, Tensor x, const Window &window, double padding) {
  Type sumType = getComputeType(x.element);
  Tensor padded =
      padFor(b, x, window,
             b.store(b.number(padding, getComputeType(x.element)), x.element));
  return pool(b, padded, window, sumType, b.number(0, sumType),
              [&](ValueRange v) { return b.add(v[0], v[1]); });
}

static LogicalResult lowerAveragePool(B &b) {
  Tensor x = b.input(0);
  FailureOr<Window> window = readWindow(b, x, {});
  if (failed(window))
    return failure();
  Tensor sums = sumWindows(b, x, *window, 0);
  // How many elements a window has: of ones, the sum.
  Window counted = *window;
  Dims spatial = llvm::to_vector<6>(ArrayRef(b.dims(x)).drop_front(2));
  if (b.getInt("count_include_pad", 0))
    for (int64_t i = 0; i < counted.rank(); ++i) {
      spatial[i] =
          b.add(spatial[i], b.add(window->before[i], window->after[i]));
      counted.before[i] = counted.after[i] = b.dim(0);
    }
  Type sumType = sums.element;
  Tensor ones = b.fill(spatial, sumType, b.number(1, sumType));
  Tensor counts = sumWindows(b, ones, counted, 0);
  FailureOr<Tensor> means =
      b.elementwise({sums, counts}, x.element,
                    [&](ValueRange v) { return b.div(v[0], v[1]); });
  return failed(means) ? failure() : b.result(*means);
}

static Value power(B &b, Value x, int64_t p) {
  if (p == 1)
    return b.abs(x);
  if (p == 2)
    return b.mul(x, x);
  return math::PowFOp::create(b, b.abs(x), b.number(double(p), x.getType()));
}

static Value root(B &b, Value x, int64_t p) {
  if (p == 1)
    return x;
  if (p == 2)
    return math::SqrtOp::create(b, x);
  return math::PowFOp::create(b, x, b.number(1.0 / double(p), x.getType()));
}

static LogicalResult lowerLpPool(B &b) {
  Tensor x = b.input(0);
  int64_t p = b.getInt("p", 2);
  FailureOr<Window> window = readWindow(b, x, {});
  if (failed(window))
    return failure();
  Tensor powers = b.map(x, getComputeType(x.element),
                        [&](ValueRange v) { return power(b, v[0], p); });
  return b.result(b.map(sumWindows(b, powers, *window, 0), x.element,
                        [&](ValueRange v) { return root(b, v[0], p); }));
}

/// Folds all spatial dimensions.
static LogicalResult
lowerGlobal(B &b, function_ref<Value(Value)> prepare, Value identity,
            B::Body combine, function_ref<Value(Value, Value count)> finish) {
  Tensor x = b.input(0);
  if (x.rank() < 3)
    return b.error() << "an operand without spatial dimensions";
  Type sumType = getComputeType(x.element);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq<int64_t>(2, x.rank()));
  Dim size = b.product(ArrayRef(b.dims(x)).drop_front(2));
  Tensor folded =
      b.reduce(x, axes, /*keep=*/true, sumType, identity, [&](ValueRange v) {
        Value values[] = {prepare(v[0]), v[1]};
        return combine(values);
      });
  Value count = b.castScalar(
      b.createOrFold<arith::IndexCastOp>(b.getI64Type(), b.index(size)),
      b.getI64Type(), sumType);
  return b.result(b.map(folded, x.element,
                        [&](ValueRange v) { return finish(v[0], count); }));
}

static LogicalResult lowerGlobalAveragePool(B &b) {
  return lowerGlobal(
      b, [](Value v) { return v; },
      b.number(0, getComputeType(b.input(0).element)),
      [&](ValueRange v) { return b.add(v[0], v[1]); },
      [&](Value sum, Value count) { return b.div(sum, count); });
}

static LogicalResult lowerGlobalMaxPool(B &b) {
  return lowerGlobal(
      b, [](Value v) { return v; },
      b.lowest(getComputeType(b.input(0).element)),
      [&](ValueRange v) { return b.max(v[0], v[1]); },
      [&](Value maximum, Value) { return maximum; });
}

static LogicalResult lowerGlobalLpPool(B &b) {
  int64_t p = b.getInt("p", 2);
  return lowerGlobal(
      b, [&](Value v) { return power(b, v, p); },
      b.number(0, getComputeType(b.input(0).element)),
      [&](ValueRange v) { return b.add(v[0], v[1]); },
      [&](Value sum, Value) { return root(b, sum, p); });
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

static const LoweringRow kRows[] = {
    {"AveragePool", lowerAveragePool},
    {"CausalConvWithState", lowerCausalConvWithState},
    {"Col2Im", lowerCol2Im},
    {"Conv", lowerConv},
    {"ConvTranspose", lowerConvTranspose},
    {"GlobalAveragePool", lowerGlobalAveragePool},
    {"GlobalLpPool", lowerGlobalLpPool},
    {"GlobalMaxPool", lowerGlobalMaxPool},
    {"LpPool", lowerLpPool},
    {"MaxPool", lowerMaxPool},
    {"MaxUnpool", lowerMaxUnpool},
};

ArrayRef<LoweringRow> tercet::getConvolutionLowerings() { return kRows; }
