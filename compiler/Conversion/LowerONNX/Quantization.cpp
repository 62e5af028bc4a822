// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators on quantised tensors. Sums of products of integers are exact in
// i32.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"
#include "compiler/Conversion/LowerONNX/SmallFloat.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

/// A scale or zero point as it broadcasts with x: of the whole tensor, along
/// `axis`, or of blocks along it.
static FailureOr<Tensor> alongAxis(B &b, Tensor x, Tensor parameter,
                                   int64_t axis, int64_t block) {
  if (parameter.rank() == 0 ||
      (parameter.isStatic() && parameter.type().getNumElements() == 1))
    return b.reshape(parameter, {});
  FailureOr<int64_t> dim = b.normalizeAxis(axis, x.rank());
  if (failed(dim))
    return failure();
  if (parameter.rank() == 1) {
    Dims dims(x.rank() - *dim, b.dim(1));
    dims[0] = b.dim(parameter, 0);
    return b.reshape(parameter, dims);
  }
  if (parameter.rank() != x.rank() || block < 1)
    return b.error() << "a scale or zero point does not fit the operand";
  Dims dims = b.dims(x);
  return b.generate(dims, parameter.element, [&](ValueRange i) {
    B::Values at(i);
    at[*dim] = b.createOrFold<arith::DivUIOp>(i[*dim], b.index(block));
    return b.at(parameter, at);
  });
}

/// Least and greatest number of an integer type.
static std::pair<double, double> getRange(Type element) {
  unsigned width = element.getIntOrFloatBitWidth();
  if (element.isUnsignedInteger())
    return {0, double((uint64_t(1) << width) - 1)};
  double half = double(uint64_t(1) << (width - 1));
  return {-half, half - 1};
}

/// A float, rounded half to even, plus the zero point, in the range of
/// `element`.
static Value saturate(B &b, Value rounded, Value zeroPoint, Type element) {
  auto [low, high] = getRange(element);
  Type type = rounded.getType();
  Value shifted = zeroPoint ? b.add(rounded, zeroPoint) : rounded;
  shifted = b.min(b.max(shifted, b.number(low, type)), b.number(high, type));
  return b.castScalar(shifted, type, element);
}

/// round(x / scale) + zero point, saturated. `zeroPoint` may be missing.
static FailureOr<Tensor> quantize(B &b, Tensor x, Tensor scale,
                                  Tensor zeroPoint, Type element) {
  SmallVector<Tensor> operands = {x, scale};
  if (zeroPoint)
    operands.push_back(zeroPoint);
  return b.elementwise(operands, element, [&](ValueRange v) {
    Type type = b.getF32Type();
    Value quotient = b.div(b.castScalar(v[0], x.element, type),
                           b.castScalar(v[1], scale.element, type));
    Value point =
        zeroPoint ? b.castScalar(v[2], zeroPoint.element, type) : Value();
    if (isSmallFloat(element)) // rounds and saturates as it is stored
      return b.castScalar(point ? b.add(quotient, point) : quotient, type,
                          element);
    return saturate(b, math::RoundEvenOp::create(b, quotient), point, element);
  });
}

/// (x - zero point) * scale. `zeroPoint` may be missing.
static FailureOr<Tensor> dequantize(B &b, Tensor x, Tensor scale,
                                    Tensor zeroPoint, Type element) {
  SmallVector<Tensor> operands = {x, scale};
  if (zeroPoint)
    operands.push_back(zeroPoint);
  Type type = b.getF32Type();
  Type exact = x.isFloat() ? type : Type(b.getI32Type());
  return b.elementwise(operands, element, [&](ValueRange v) {
    Value number = b.castScalar(v[0], x.element, exact);
    if (zeroPoint)
      number = b.sub(number, b.castScalar(v[2], zeroPoint.element, exact));
    return b.castScalar(b.mul(b.castScalar(number, exact, type),
                              b.castScalar(v[1], scale.element, type)),
                        type, element);
  });
}

static LogicalResult lowerQuantizeLinear(B &b) {
  Tensor x = b.input(0), scale = b.input(1), zeroPoint;
  Type element = b.getIntegerType(8, /*isSigned=*/false);
  if (b.has(2)) {
    zeroPoint = b.input(2);
    element = zeroPoint.element;
  }
  FailureOr<Type> asked = b.getElementType("output_dtype", element);
  if (failed(asked))
    return failure();
  if (!isSmallFloat(*asked) &&
      (!isa<IntegerType>(*asked) || asked->getIntOrFloatBitWidth() > 16))
    return b.error() << "quantisation to this type is not supported";
  int64_t axis = b.getInt("axis", 1), block = b.getInt("block_size", 0);
  FailureOr<Tensor> scales = alongAxis(b, x, scale, axis, block);
  if (failed(scales))
    return failure();
  if (zeroPoint) {
    FailureOr<Tensor> points = alongAxis(b, x, zeroPoint, axis, block);
    if (failed(points))
      return failure();
    zeroPoint = *points;
  }
  FailureOr<Tensor> result = quantize(b, x, *scales, zeroPoint, *asked);
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerDequantizeLinear(B &b) {
  Tensor x = b.input(0), scale = b.input(1), zeroPoint;
  if (!isSmallFloat(x.element) && !isa<IntegerType>(x.element))
    return b.error() << "dequantisation of this type is not supported";
  int64_t axis = b.getInt("axis", 1), block = b.getInt("block_size", 0);
  FailureOr<Tensor> scales = alongAxis(b, x, scale, axis, block);
  if (failed(scales))
    return failure();
  if (b.has(2)) {
    FailureOr<Tensor> points = alongAxis(b, x, b.input(2), axis, block);
    if (failed(points))
      return failure();
    zeroPoint = *points;
  }
  FailureOr<Type> element = b.getElementType("output_dtype", scale.element);
  if (failed(element))
    return failure();
  FailureOr<Tensor> result = dequantize(b, x, *scales, zeroPoint, *element);
  return failed(result) ? failure() : b.result(*result);
}

FailureOr<QuantizedTensor> tercet::quantizeDynamically(GraphBuilder &b,
                                                       Tensor x) {
  Type type = b.getF32Type(), ui8 = b.getIntegerType(8, /*isSigned=*/false);
  SmallVector<int64_t> axes = llvm::to_vector(llvm::seq(x.rank()));
  Value zero = b.number(0, type);
  Tensor high = b.reduce(x, axes, /*keep=*/false, type, zero,
                         [&](ValueRange v) { return b.max(v[0], v[1]); });
  Tensor low = b.reduce(x, axes, /*keep=*/false, type, zero,
                        [&](ValueRange v) { return b.min(v[0], v[1]); });
  // Zeros have any scale; as in onnxruntime it is 1.
  Tensor scale = b.combine(high, low, type, [&](ValueRange v) {
    Value range = b.sub(v[0], v[1]);
    return b.select(b.compare(Compare::EQ, range, zero), b.number(1, type),
                    b.div(range, b.number(255, type)));
  });
  Tensor zeroPoint = b.combine(low, scale, ui8, [&](ValueRange v) -> Value {
    Value point = b.div(b.neg(v[0]), v[1]);
    point = b.min(b.max(point, zero), b.number(255, type));
    return b.castScalar(math::RoundEvenOp::create(b, point), type, ui8);
  });
  FailureOr<Tensor> codes = quantize(b, x, scale, zeroPoint, ui8);
  if (failed(codes))
    return failure();
  return QuantizedTensor{*codes, scale, zeroPoint};
}

static LogicalResult lowerDynamicQuantizeLinear(B &b) {
  FailureOr<QuantizedTensor> result = quantizeDynamically(b, b.input(0));
  if (failed(result))
    return failure();
  (void)b.result(result->codes);
  (void)b.result(result->scale);
  return b.result(result->zeroPoint);
}

FailureOr<Tensor> tercet::subtractZeroPoint(GraphBuilder &b, Tensor x,
                                            Tensor zeroPoint) {
  Type i32 = b.getI32Type();
  if (!zeroPoint)
    return b.cast(x, i32);
  return b.elementwise({x, zeroPoint}, i32, [&](ValueRange v) {
    return b.sub(b.castScalar(v[0], x.element, i32),
                 b.castScalar(v[1], zeroPoint.element, i32));
  });
}

/// The zero points of rows of the left operand of a matmul, [M], as a column.
static Tensor asColumn(B &b, Tensor zeroPoint) {
  if (zeroPoint.rank() != 1 || B::isConstant(b.dim(zeroPoint, 0), 1))
    return zeroPoint;
  return b.unsqueeze(zeroPoint, 1);
}

static FailureOr<Tensor> integerMatmul(B &b, Tensor x, Tensor xZero, Tensor y,
                                       Tensor yZero) {
  FailureOr<Tensor> left =
      subtractZeroPoint(b, x, xZero ? asColumn(b, xZero) : Tensor());
  FailureOr<Tensor> right = subtractZeroPoint(b, y, yZero);
  if (failed(left) || failed(right))
    return failure();
  return matmul(b, *left, *right, b.getI32Type());
}

static Tensor inputOrNone(B &b, unsigned index) {
  return b.has(index) ? b.input(index) : Tensor();
}

static LogicalResult lowerMatMulInteger(B &b) {
  FailureOr<Tensor> result = integerMatmul(b, b.input(0), inputOrNone(b, 2),
                                           b.input(1), inputOrNone(b, 3));
  return failed(result) ? failure() : b.result(*result);
}

/// i32 sums times x scale * y scale / result scale, as codes.
static LogicalResult requantize(B &b, Tensor sums, Tensor xScale, Tensor yScale,
                                Tensor scale, Tensor zeroPoint) {
  Type type = b.getF32Type();
  Tensor operands[] = {sums, xScale, yScale, scale, zeroPoint};
  FailureOr<Tensor> result =
      b.elementwise(operands, zeroPoint.element, [&](ValueRange v) {
        Value factor = b.div(b.mul(b.castScalar(v[1], xScale.element, type),
                                   b.castScalar(v[2], yScale.element, type)),
                             b.castScalar(v[3], scale.element, type));
        Value scaled = b.mul(b.castScalar(v[0], sums.element, type), factor);
        return saturate(b, math::RoundEvenOp::create(b, scaled),
                        b.castScalar(v[4], zeroPoint.element, type),
                        zeroPoint.element);
      });
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerQLinearMatMul(B &b) {
  FailureOr<Tensor> sums =
      integerMatmul(b, b.input(0), b.input(2), b.input(3), b.input(5));
  if (failed(sums))
    return failure();
  return requantize(b, *sums, asColumn(b, b.input(1)), b.input(4), b.input(6),
                    b.input(7));
}

/// A parameter of weights, by output channel, beside [M, ...] with `rank`
/// dimensions.
static Tensor byChannel(B &b, Tensor parameter, int64_t rank) {
  if (parameter.rank() != 1)
    return parameter;
  Dims dims(rank, b.dim(1));
  dims[0] = b.dim(parameter, 0);
  return b.reshape(parameter, dims);
}

static LogicalResult lowerConvInteger(B &b) {
  Tensor x = b.input(0), w = b.input(1);
  FailureOr<Tensor> left = subtractZeroPoint(b, x, inputOrNone(b, 2));
  FailureOr<Tensor> right = subtractZeroPoint(
      b, w, b.has(3) ? byChannel(b, b.input(3), w.rank()) : Tensor());
  if (failed(left) || failed(right))
    return failure();
  FailureOr<Tensor> sums = convolve(b, *left, *right, Tensor(), b.getI32Type());
  return failed(sums) ? failure() : b.result(*sums);
}

static LogicalResult lowerQLinearConv(B &b) {
  Tensor x = b.input(0), w = b.input(3);
  FailureOr<Tensor> left = subtractZeroPoint(b, x, b.input(2));
  FailureOr<Tensor> right =
      subtractZeroPoint(b, w, byChannel(b, b.input(5), w.rank()));
  if (failed(left) || failed(right))
    return failure();
  FailureOr<Tensor> sums =
      convolve(b, *left, *right, inputOrNone(b, 8), b.getI32Type());
  if (failed(sums))
    return failure();
  return requantize(b, *sums, b.input(1),
                    byChannel(b, b.input(4), w.rank() - 1), b.input(6),
                    b.input(7));
}

/// x [.., K] times the transposed [N, K] that 2-, 4- or 8-bit codes, low bits
/// first, scales and zero points of blocks along K stand for.
static LogicalResult lowerMatMulNBits(B &b) {
  Tensor x = b.input(0), codes = b.input(1), scales = b.input(2);
  int64_t depth = b.getInt("K", 0), columns = b.getInt("N", 0),
          bits = b.getInt("bits", 4), block = b.getInt("block_size", 0);
  if ((bits != 2 && bits != 4 && bits != 8) || block < 16 || depth < 1 ||
      columns < 1 || !codes.isStatic() || !scales.isStatic())
    return b.error() << "attributes or operands are not supported";
  if (b.has(4))
    return b.error() << "g_idx is not supported";
  int64_t numBlocks = llvm::divideCeil(depth, block), perByte = 8 / bits;
  int64_t blockBytes = block / perByte;
  if (codes.type().getNumElements() != columns * numBlocks * blockBytes ||
      scales.type().getNumElements() != columns * numBlocks)
    return b.error() << "operands do not have the size of N rows of K codes";
  codes = b.reshape(codes, {b.dim(columns), b.dim(numBlocks * blockBytes)});
  scales = b.reshape(scales, {b.dim(columns), b.dim(numBlocks)});
  // Zero points are packed like codes, rows padded to whole bytes, or are
  // numbers of the type of x.
  Tensor points = inputOrNone(b, 3);
  bool arePacked = points && !points.isFloat();
  if (points)
    points = b.reshape(
        points,
        {b.dim(columns),
         b.dim(arePacked ? llvm::divideCeil(numBlocks, perByte) : numBlocks)});
  Type i32 = b.getI32Type(), f32 = b.getF32Type();
  auto unpack = [&](Tensor packed, Value row, Value position) {
    Value byte =
        b.at(packed,
             {row, b.createOrFold<arith::DivUIOp>(position, b.index(perByte))});
    Value shift =
        b.mul(b.createOrFold<arith::RemUIOp>(position, b.index(perByte)),
              b.index(bits));
    Value code =
        arith::ShRUIOp::create(b, b.castScalar(byte, packed.element, i32),
                               b.createOrFold<arith::IndexCastOp>(i32, shift));
    return b.castScalar(
        arith::AndIOp::create(b, code, b.number((1 << bits) - 1, i32)), i32,
        f32);
  };
  Tensor weights =
      b.generate({b.dim(depth), b.dim(columns)}, f32, [&](ValueRange i) {
        Value group = b.createOrFold<arith::DivUIOp>(i[0], b.index(block));
        Value code = unpack(codes, i[1], i[0]);
        Value point = b.number(1 << (bits - 1), f32);
        if (arePacked)
          point = unpack(points, i[1], group);
        else if (points)
          point =
              b.castScalar(b.load(b.at(points, {i[1], group}), points.element),
                           points.element, f32);
        Value scale =
            b.castScalar(b.load(b.at(scales, {i[1], group}), scales.element),
                         scales.element, f32);
        return b.mul(b.sub(code, point), scale);
      });
  FailureOr<Tensor> product = matmul(b, b.cast(x, f32), weights, f32);
  if (failed(product))
    return failure();
  if (b.has(5)) {
    product = b.elementwise({*product, b.cast(b.input(5), f32)}, f32,
                            [&](ValueRange v) { return b.add(v[0], v[1]); });
    if (failed(product))
      return failure();
  }
  return b.result(b.cast(*product, x.element));
}

static const LoweringRow kRows[] = {
    {"ConvInteger", lowerConvInteger},
    {"DequantizeLinear", lowerDequantizeLinear},
    {"DynamicQuantizeLinear", lowerDynamicQuantizeLinear},
    {"MatMulInteger", lowerMatMulInteger},
    {"QLinearConv", lowerQLinearConv},
    {"QLinearMatMul", lowerQLinearMatMul},
    {"QuantizeLinear", lowerQuantizeLinear},
    {"com.microsoft.DequantizeLinear", lowerDequantizeLinear},
    {"com.microsoft.MatMulNBits", lowerMatMulNBits},
    {"com.microsoft.QuantizeLinear", lowerQuantizeLinear},
};

ArrayRef<LoweringRow> tercet::getQuantizationLowerings() { return kRows; }
