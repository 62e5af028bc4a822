// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Operators that compute each element of the result from one element of each
// operand.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/LowerONNX.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

using B = GraphBuilder;
using Compare = GraphBuilder::Compare;

//===----------------------------------------------------------------------===//
// Forms
//===----------------------------------------------------------------------===//

/// result = Body(b, x)
template <auto Body> static LogicalResult unary(B &b) {
  Tensor x = b.input(0);
  return b.result(
      b.map(x, x.element, [&](ValueRange v) { return Body(b, v[0]); }));
}

/// result = Op(x)
template <typename Op> static LogicalResult mathOp(B &b) {
  return unary<[](B &b, Value x) { return b.createOrFold<Op>(x); }>(b);
}

/// bool result = Body(b, x)
template <auto Body> static LogicalResult predicate(B &b) {
  return b.result(b.map(b.input(0), b.getI1Type(),
                        [&](ValueRange v) -> Value { return Body(b, v[0]); }));
}

static LogicalResult setElementwise(B &b, ArrayRef<Tensor> operands,
                                    Type element, B::Body body) {
  FailureOr<Tensor> result = b.elementwise(operands, element, body);
  return failed(result) ? failure() : b.result(*result);
}

/// result = Body(b, x, y, whether they are unsigned)
template <auto Body> static LogicalResult binary(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  return setElementwise(b, {x, y}, x.element, [&](ValueRange v) -> Value {
    return Body(b, v[0], v[1], x.isUnsigned());
  });
}

template <auto Body> static LogicalResult comparison(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  return setElementwise(b, {x, y}, b.getI1Type(), [&](ValueRange v) -> Value {
    return Body(b, v[0], v[1], x.isUnsigned());
  });
}

template <Compare Predicate> static LogicalResult compare(B &b) {
  return comparison<[](B &b, Value x, Value y, bool isUnsigned) {
    return b.compare(Predicate, x, y, isUnsigned);
  }>(b);
}

template <typename Op> static LogicalResult bitwise(B &b) {
  return binary<[](B &b, Value x, Value y, bool) {
    return b.createOrFold<Op>(x, y);
  }>(b);
}

/// Any number of operands, folded from the left.
template <auto Body> static LogicalResult variadic(B &b) {
  SmallVector<Tensor> operands;
  for (unsigned i = 0; i < b.numInputs(); ++i)
    operands.push_back(b.input(i));
  Tensor first = operands.front();
  return setElementwise(b, operands, first.element, [&](ValueRange v) -> Value {
    Value result = v[0];
    for (Value next : v.drop_front())
      result = Body(b, result, next, first.isUnsigned());
    return result;
  });
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

/// Integer division that no operand makes trap: by 0 it gives some number.
static Value divide(B &b, Value x, Value y, bool isUnsigned) {
  if (isa<FloatType>(x.getType()))
    return b.div(x, y);
  Type type = x.getType();
  Value zero = b.number(0, type), one = b.number(1, type);
  Value isZero = b.compare(Compare::EQ, y, zero);
  if (isUnsigned)
    return b.div(x, b.select(isZero, one, y), true);
  Value isMinusOne = b.compare(Compare::EQ, y, b.number(-1, type));
  Value traps = b.createOrFold<arith::OrIOp>(isZero, isMinusOne);
  Value quotient = b.div(x, b.select(traps, one, y));
  return b.select(isMinusOne, b.neg(x), quotient);
}

/// The remainder has the sign of the dividend, or without `fmod` of the
/// divisor.
static LogicalResult lowerMod(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  bool fmod = b.getInt("fmod", 0);
  return setElementwise(b, {x, y}, x.element, [&](ValueRange v) -> Value {
    Value remainder;
    if (x.isFloat())
      remainder = arith::RemFOp::create(b, v[0], v[1]);
    else
      remainder =
          b.sub(v[0], b.mul(divide(b, v[0], v[1], x.isUnsigned()), v[1]));
    if (fmod || x.isUnsigned())
      return remainder;
    Value zero = b.number(0, remainder.getType());
    Value differs =
        arith::XOrIOp::create(b, b.compare(Compare::LT, remainder, zero),
                              b.compare(Compare::LT, v[1], zero));
    differs = arith::AndIOp::create(b, differs,
                                    b.compare(Compare::NE, remainder, zero));
    return b.select(differs, b.add(remainder, v[1]), remainder);
  });
}

/// Integers go through f64.
static LogicalResult lowerPow(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  std::optional<double> exponent = b.getConstantScalar(y);
  return setElementwise(b, {x, y}, x.element, [&](ValueRange v) -> Value {
    if (exponent == 2.0)
      return b.mul(v[0], v[0]);
    if (exponent == 3.0)
      return b.mul(b.mul(v[0], v[0]), v[0]);
    if (exponent == 0.5 && x.isFloat())
      return math::SqrtOp::create(b, v[0]);
    Type type = x.isFloat() ? getComputeType(x.element) : b.getF64Type();
    Value power = math::PowFOp::create(b, b.castScalar(v[0], x.element, type),
                                       b.castScalar(v[1], y.element, type));
    return b.castScalar(power, type, x.element);
  });
}

static LogicalResult lowerMean(B &b) {
  SmallVector<Tensor> operands;
  for (unsigned i = 0; i < b.numInputs(); ++i)
    operands.push_back(b.input(i));
  return setElementwise(b, operands, operands[0].element,
                        [&](ValueRange v) -> Value {
                          Value sum = v[0];
                          for (Value next : v.drop_front())
                            sum = b.add(sum, next);
                          return b.div(sum, b.number(v.size(), sum.getType()));
                        });
}

/// Bits that are shifted beyond the type are lost, however far.
static LogicalResult lowerBitShift(B &b) {
  Tensor x = b.input(0), y = b.input(1);
  bool isLeft = b.getString("direction", "") == "LEFT";
  return setElementwise(b, {x, y}, x.element, [&](ValueRange v) -> Value {
    Type type = v[0].getType();
    unsigned width = type.getIntOrFloatBitWidth();
    Value isWithin = b.compare(Compare::LT, v[1], b.number(width, type),
                               /*isUnsigned=*/true);
    if (!isLeft && !x.isUnsigned()) // further ones shift in the sign as well
      return arith::ShRSIOp::create(
          b, v[0], b.select(isWithin, v[1], b.number(width - 1, type)));
    Value shifted = isLeft ? arith::ShLIOp::create(b, v[0], v[1]).getResult()
                           : arith::ShRUIOp::create(b, v[0], v[1]).getResult();
    return b.select(isWithin, shifted, b.number(0, type));
  });
}

/// The bytes of each element as another type of that size.
static LogicalResult lowerBitCast(B &b) {
  Tensor x = b.input(0);
  FailureOr<Type> element = b.getElementType("to", x.element);
  if (failed(element))
    return failure();
  auto fillsBytes = [](Type type) {
    return type.isInteger(1) || type.getIntOrFloatBitWidth() >= 8;
  };
  Type stored = getStorageType(*element), from = getStorageType(x.element);
  if (!fillsBytes(x.element) || !fillsBytes(*element) ||
      stored.getIntOrFloatBitWidth() != from.getIntOrFloatBitWidth())
    return b.error() << "types of different sizes, or below 8 bits, are not "
                        "supported";
  if (stored == from)
    return b.result({x.value, *element});
  return b.result(b.generate(b.dims(x), *element, [&](ValueRange i) {
    return b.createOrFold<arith::BitcastOp>(stored, b.at(x, i));
  }));
}

static LogicalResult lowerClip(B &b) {
  Tensor x = b.input(0);
  SmallVector<Tensor> operands = {x};
  bool hasLow = false, hasHigh = false;
  if (b.version() < 11) {
    hasLow = hasHigh = true;
    operands.push_back(b.scalar(
        b.getFloat("min", std::numeric_limits<float>::lowest()), x.element));
    operands.push_back(b.scalar(
        b.getFloat("max", std::numeric_limits<float>::max()), x.element));
  } else {
    if ((hasLow = b.has(1)))
      operands.push_back(b.input(1));
    if ((hasHigh = b.has(2)))
      operands.push_back(b.input(2));
  }
  return setElementwise(b, operands, x.element, [&](ValueRange v) -> Value {
    Value result = v[0];
    if (hasLow)
      result = b.select(b.compare(Compare::LT, result, v[1], x.isUnsigned()),
                        v[1], result);
    if (hasHigh)
      result =
          b.select(b.compare(Compare::GT, result, v.back(), x.isUnsigned()),
                   v.back(), result);
    return result;
  });
}

static LogicalResult lowerWhere(B &b) {
  Tensor x = b.input(1);
  return setElementwise(
      b, {b.input(0), x, b.input(2)}, x.element,
      [&](ValueRange v) { return b.select(v[0], v[1], v[2]); });
}

static LogicalResult lowerIsInf(B &b) {
  bool negative = b.getInt("detect_negative", 1),
       positive = b.getInt("detect_positive", 1);
  return b.result(b.map(b.input(0), b.getI1Type(), [&](ValueRange v) -> Value {
    Value x = v[0], found = b.number(0, b.getI1Type());
    auto equals = [&](double value) {
      return b.compare(Compare::EQ, x, b.number(value, x.getType()));
    };
    if (negative)
      found = arith::OrIOp::create(b, found, equals(-INFINITY));
    if (positive)
      found = arith::OrIOp::create(b, found, equals(INFINITY));
    return found;
  }));
}

static Value lowerSign(B &b, Value x, bool isUnsigned) {
  Type type = x.getType();
  Value zero = b.number(0, type), one = b.number(1, type);
  Value positive =
      b.select(b.compare(Compare::GT, x, zero, isUnsigned), one, zero);
  if (isUnsigned)
    return positive;
  return b.select(b.compare(Compare::LT, x, zero), b.number(-1, type),
                  positive);
}

static LogicalResult lowerSign(B &b) {
  Tensor x = b.input(0);
  return b.result(b.map(x, x.element, [&](ValueRange v) {
    return lowerSign(b, v[0], x.isUnsigned());
  }));
}

static LogicalResult lowerCast(B &b) {
  FailureOr<Type> element = b.getElementType("to", {});
  return failed(element) ? failure() : b.result(b.cast(b.input(0), *element));
}

static LogicalResult lowerCastLike(B &b) {
  return b.result(b.cast(b.input(0), b.input(1).element));
}

static LogicalResult lowerIdentity(B &b) { return b.result(b.input(0)); }

/// In inference nothing is dropped.
static LogicalResult lowerDropout(B &b) {
  Tensor x = b.input(0);
  if (b.has(2) && b.getConstantScalar(b.input(2)) != 0.0)
    return b.error() << "training is not supported";
  (void)b.result(x);
  if (b.numOutputs() < 2)
    return success();
  Tensor mask = b.fill(b.dims(x), b.getI1Type(), b.number(1, b.getI8Type()));
  return b.result(mask);
}

//===----------------------------------------------------------------------===//
// Activations
//===----------------------------------------------------------------------===//

/// result = Body(b, x, alpha, beta) with the attributes of these names.
template <auto Body>
static LogicalResult activation(B &b, double alpha, double beta = 0,
                                StringRef second = "beta") {
  Tensor x = b.input(0);
  alpha = b.getFloat("alpha", alpha);
  beta = b.getFloat(second, beta);
  return b.result(b.map(x, x.element, [&](ValueRange v) -> Value {
    Type type = v[0].getType();
    return Body(b, v[0], b.number(alpha, type), b.number(beta, type));
  }));
}

static Value zeroOf(B &b, Value x) { return b.number(0, x.getType()); }

/// NaN stays NaN.
static Value relu(B &b, Value x) {
  return b.select(b.compare(Compare::LT, x, zeroOf(b, x)), zeroOf(b, x), x);
}

static Value clampToOne(B &b, Value x) {
  return b.min(b.max(x, zeroOf(b, x)), b.number(1, x.getType()));
}

static Value softplus(B &b, Value x) {
  // log(1 + exp(x)) without overflow
  Value tail = math::Log1pOp::create(b, b.exp(b.neg(b.abs(x))));
  return b.add(b.max(x, zeroOf(b, x)), tail);
}

static Value negativePart(B &b, Value x, Value negative) {
  return b.select(b.compare(Compare::LT, x, zeroOf(b, x)), negative, x);
}

static Value expMinusOne(B &b, Value x) { return math::ExpM1Op::create(b, x); }

static LogicalResult lowerPRelu(B &b) {
  Tensor x = b.input(0), slope = b.input(1);
  if (b.version() < 7 && slope.rank() == 1 && x.rank() > 1) { // of channels
    Dims dims(x.rank() - 1, b.dim(1));
    dims[0] = b.dim(slope, 0);
    slope = b.reshape(slope, dims);
  }
  return setElementwise(b, {x, slope}, x.element, [&](ValueRange v) {
    return negativePart(b, v[0], b.mul(v[1], v[0]));
  });
}

static LogicalResult lowerLeakyRelu(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value) {
    return negativePart(b, x, b.mul(alpha, x));
  }>(b, 0.01);
}
static LogicalResult lowerElu(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value) {
    return negativePart(b, x, b.mul(alpha, expMinusOne(b, x)));
  }>(b, 1);
}
static LogicalResult lowerSelu(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value gamma) {
    return b.mul(gamma, negativePart(b, x, b.mul(alpha, expMinusOne(b, x))));
  }>(b, 1.67326319217681884765625, 1.05070102214813232421875, "gamma");
}
static LogicalResult lowerCelu(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value) {
    return negativePart(b, x, b.mul(alpha, expMinusOne(b, b.div(x, alpha))));
  }>(b, 1);
}
static LogicalResult lowerHardSigmoid(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value beta) {
    return clampToOne(b, b.add(b.mul(alpha, x), beta));
  }>(b, 0.2, 0.5);
}
static LogicalResult lowerThresholdedRelu(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value) {
    return b.select(b.compare(Compare::GT, x, alpha), x, zeroOf(b, x));
  }>(b, 1);
}
static LogicalResult lowerSwish(B &b) {
  return activation<[](B &b, Value x, Value alpha, Value) {
    return b.mul(x, b.sigmoid(b.mul(alpha, x)));
  }>(b, 1);
}

static LogicalResult lowerSwiGLU(B &b) {
  Tensor gate = b.input(0), value = b.input(1);
  float alpha = b.getFloat("alpha", 1);
  return setElementwise(
      b, {gate, value}, gate.element, [&](ValueRange v) -> Value {
        Value scaled = b.mul(b.number(alpha, v[0].getType()), v[0]);
        return b.mul(b.mul(v[0], b.sigmoid(scaled)), v[1]);
      });
}

static LogicalResult lowerShrink(B &b) {
  Tensor x = b.input(0);
  double lambda = b.getFloat("lambd", 0.5), bias = b.getFloat("bias", 0);
  return b.result(b.map(x, x.element, [&](ValueRange v) -> Value {
    Type type = v[0].getType();
    Value offset = b.number(bias, type);
    Value above = b.select(b.compare(Compare::GT, v[0], b.number(lambda, type)),
                           b.sub(v[0], offset), b.number(0, type));
    return b.select(b.compare(Compare::LT, v[0], b.number(-lambda, type)),
                    b.add(v[0], offset), above);
  }));
}

static Value gelu(B &b, Value x, bool isTanh) {
  auto c = [&](double value) { return b.number(value, x.getType()); };
  Value half = b.mul(c(0.5), x), inner;
  if (isTanh) {
    Value cube = b.mul(b.mul(x, x), x);
    inner = math::TanhOp::create(
        b, b.mul(c(0.7978845608028654), b.add(x, b.mul(c(0.044715), cube))));
  } else {
    inner = math::ErfOp::create(b, b.mul(x, c(0.7071067811865476)));
  }
  return b.mul(half, b.add(c(1), inner));
}

static LogicalResult lowerGelu(B &b) {
  Tensor x = b.input(0);
  bool isTanh = b.getString("approximate", "none") == "tanh";
  return b.result(
      b.map(x, x.element, [&](ValueRange v) { return gelu(b, v[0], isTanh); }));
}

/// Of x + bias, which may be missing: BiasGelu and FastGelu of com.microsoft.
template <bool IsTanh> static LogicalResult lowerBiasGelu(B &b) {
  SmallVector<Tensor> operands = {b.input(0)};
  if (b.has(1))
    operands.push_back(b.input(1));
  FailureOr<Tensor> result =
      b.elementwise(operands, operands[0].element, [&](ValueRange v) {
        return gelu(b, v.size() > 1 ? b.add(v[0], v[1]) : v[0], IsTanh);
      });
  return failed(result) ? failure() : b.result(*result);
}

static LogicalResult lowerQuickGelu(B &b) {
  Tensor x = b.input(0);
  double alpha = b.getFloat("alpha", 1.702);
  return b.result(b.map(x, x.element, [&](ValueRange v) {
    return b.mul(v[0], b.sigmoid(b.mul(b.number(alpha, v[0].getType()), v[0])));
  }));
}

//===----------------------------------------------------------------------===//
// The table
//===----------------------------------------------------------------------===//

static const LoweringRow kRows[] = {
    {"Abs",
     [](B &b) {
       if (b.input(0).isUnsigned())
         return b.result(b.input(0));
       return unary<[](B &b, Value x) { return b.abs(x); }>(b);
     }},
    {"Acos", mathOp<math::AcosOp>},
    {"Acosh", mathOp<math::AcoshOp>},
    {"Add", binary<[](B &b, Value x, Value y, bool) { return b.add(x, y); }>},
    {"And", bitwise<arith::AndIOp>},
    {"Asin", mathOp<math::AsinOp>},
    {"Asinh", mathOp<math::AsinhOp>},
    {"Atan", mathOp<math::AtanOp>},
    {"Atanh", mathOp<math::AtanhOp>},
    {"BitCast", lowerBitCast},
    {"BitShift", lowerBitShift},
    {"BitwiseAnd", bitwise<arith::AndIOp>},
    {"BitwiseNot", unary<[](B &b, Value x) -> Value {
       return b.createOrFold<arith::XOrIOp>(x, b.number(-1, x.getType()));
     }>},
    {"BitwiseOr", bitwise<arith::OrIOp>},
    {"BitwiseXor", bitwise<arith::XOrIOp>},
    {"Cast", lowerCast},
    {"CastLike", lowerCastLike},
    {"Ceil", mathOp<math::CeilOp>},
    {"Celu", lowerCelu},
    {"Clip", lowerClip},
    {"Cos", mathOp<math::CosOp>},
    {"Cosh", mathOp<math::CoshOp>},
    {"Div", binary<divide>},
    {"Dropout", lowerDropout},
    {"Elu", lowerElu},
    {"Equal", compare<Compare::EQ>},
    {"Erf", mathOp<math::ErfOp>},
    {"Exp", mathOp<math::ExpOp>},
    {"Floor", mathOp<math::FloorOp>},
    {"Gelu", lowerGelu},
    {"Greater", compare<Compare::GT>},
    {"GreaterOrEqual", compare<Compare::GE>},
    {"HardSigmoid", lowerHardSigmoid},
    {"HardSwish", unary<[](B &b, Value x) {
       Value inner = b.add(b.mul(b.number(1.0 / 6, x.getType()), x),
                           b.number(0.5, x.getType()));
       return b.mul(x, clampToOne(b, inner));
     }>},
    {"Identity", lowerIdentity},
    {"IsInf", lowerIsInf},
    {"IsNaN",
     predicate<[](B &b, Value x) { return b.compare(Compare::NE, x, x); }>},
    {"LeakyRelu", lowerLeakyRelu},
    {"Less", compare<Compare::LT>},
    {"LessOrEqual", compare<Compare::LE>},
    {"Log", mathOp<math::LogOp>},
    {"Max", variadic<[](B &b, Value x, Value y, bool isUnsigned) {
       return b.max(x, y, isUnsigned);
     }>},
    {"Mean", lowerMean},
    {"Min", variadic<[](B &b, Value x, Value y, bool isUnsigned) {
       return b.min(x, y, isUnsigned);
     }>},
    {"Mish", unary<[](B &b, Value x) {
       return b.mul(x, math::TanhOp::create(b, softplus(b, x)));
     }>},
    {"Mod", lowerMod},
    {"Mul", binary<[](B &b, Value x, Value y, bool) { return b.mul(x, y); }>},
    {"Neg", unary<[](B &b, Value x) { return b.neg(x); }>},
    {"Not", unary<[](B &b, Value x) -> Value {
       return b.createOrFold<arith::XOrIOp>(x, b.number(1, x.getType()));
     }>},
    {"Or", bitwise<arith::OrIOp>},
    {"PRelu", lowerPRelu},
    {"Pow", lowerPow},
    {"Reciprocal",
     unary<[](B &b, Value x) { return b.div(b.number(1, x.getType()), x); }>},
    {"Relu", unary<relu>},
    {"Round", mathOp<math::RoundEvenOp>},
    {"Selu", lowerSelu},
    {"Shrink", lowerShrink},
    {"Sigmoid", unary<[](B &b, Value x) { return b.sigmoid(x); }>},
    {"Sign", lowerSign},
    {"Sin", mathOp<math::SinOp>},
    {"Sinh", mathOp<math::SinhOp>},
    {"Softplus", unary<softplus>},
    {"Softsign", unary<[](B &b, Value x) {
       return b.div(x, b.add(b.number(1, x.getType()), b.abs(x)));
     }>},
    {"Sqrt", mathOp<math::SqrtOp>},
    {"Sub", binary<[](B &b, Value x, Value y, bool) { return b.sub(x, y); }>},
    {"Sum", variadic<[](B &b, Value x, Value y, bool) { return b.add(x, y); }>},
    {"SwiGLU", lowerSwiGLU},
    {"Swish", lowerSwish},
    {"Tan", mathOp<math::TanOp>},
    {"Tanh", mathOp<math::TanhOp>},
    {"ThresholdedRelu", lowerThresholdedRelu},
    {"Where", lowerWhere},
    {"Xor", bitwise<arith::XOrIOp>},
    {"com.microsoft.BiasGelu", lowerBiasGelu<false>},
    {"com.microsoft.FastGelu", lowerBiasGelu<true>},
    {"com.microsoft.Gelu", lowerGelu},
    {"com.microsoft.QuickGelu", lowerQuickGelu},
};

ArrayRef<LoweringRow> tercet::getElementwiseLowerings() { return kRows; }
