// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerONNX/SmallFloat.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

#include <cmath>

using namespace mlir;
using namespace tercet;

constexpr int kF32Fraction = 23, kF32Bias = 127;
constexpr uint32_t kF32Sign = 1u << 31, kF32Inf = 0x7f800000;

namespace {

/// A sign, an exponent and `numFraction` bits; exponent 0 is that of
/// subnormals.
struct Format {
  explicit Format(FloatType type);

  int width, numFraction, minExponent;
  uint32_t largest;            // magnitude of the greatest finite number
  std::optional<uint32_t> inf; // magnitude
  std::optional<uint32_t> nan; // of all bits
  bool hasNegativeZero;

  uint32_t magnitudeMask() const { return (1u << (width - 1)) - 1; }
  int bias() const { return 1 - minExponent; }
};

Format::Format(FloatType type) {
  const llvm::fltSemantics &semantics = type.getFloatSemantics();
  auto bits = [](const APFloat &value) {
    return uint32_t(value.bitcastToAPInt().getZExtValue());
  };
  width = type.getWidth();
  numFraction = APFloat::semanticsPrecision(semantics) - 1;
  minExponent = APFloat::semanticsMinExponent(semantics);
  largest = bits(APFloat::getLargest(semantics));
  if (APFloat::semanticsHasInf(semantics))
    inf = bits(APFloat::getInf(semantics));
  if (APFloat::semanticsHasNaN(semantics))
    nan = bits(APFloat::getNaN(semantics));
  hasNegativeZero = !isa<Float8E4M3FNUZType, Float8E5M2FNUZType>(type);
}

/// i32 and f32 scalars.
struct Words {
  explicit Words(ImplicitLocOpBuilder &b) : b(b) {}

  using Compare = arith::CmpIPredicate;

  Value word(uint32_t value) {
    return arith::ConstantIntOp::create(b, int32_t(value), 32);
  }
  Value number(double value) {
    return arith::ConstantOp::create(b, b.getF32FloatAttr(float(value)));
  }
  Value add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(x, y); }
  Value sub(Value x, Value y) { return b.createOrFold<arith::SubIOp>(x, y); }
  Value mask(Value x, uint32_t bits) {
    return b.createOrFold<arith::AndIOp>(x, word(bits));
  }
  Value merge(Value x, Value y) { return b.createOrFold<arith::OrIOp>(x, y); }
  Value shiftLeft(Value x, int bits) {
    return b.createOrFold<arith::ShLIOp>(x, word(bits));
  }
  Value shiftRight(Value x, int bits) {
    return b.createOrFold<arith::ShRUIOp>(x, word(bits));
  }
  Value toFloat(Value bits) {
    return b.createOrFold<arith::BitcastOp>(b.getF32Type(), bits);
  }
  Value toBits(Value number) {
    return b.createOrFold<arith::BitcastOp>(b.getI32Type(), number);
  }
  Value toByte(Value bits) {
    return b.createOrFold<arith::TruncIOp>(b.getI8Type(), bits);
  }
  Value selectIf(Compare predicate, Value x, uint32_t y, Value yes, Value no) {
    Value holds = b.createOrFold<arith::CmpIOp>(predicate, x, word(y));
    return b.createOrFold<arith::SelectOp>(holds, yes, no);
  }

  ImplicitLocOpBuilder &b;
};

} // namespace

bool tercet::isSmallFloat(Type element) {
  return isa<Float8E4M3FNType, Float8E4M3FNUZType, Float8E5M2Type,
             Float8E5M2FNUZType, Float8E8M0FNUType, Float4E2M1FNType>(element);
}

/// Powers of two, which have no fraction and no sign: an exponent of f32, of
/// which the first is that of its subnormals.
static Value decodePower(Words &w, Value code) {
  using Compare = Words::Compare;
  Value bits = w.b.createOrFold<arith::ExtUIOp>(w.b.getI32Type(), code);
  Value power =
      w.selectIf(Compare::eq, bits, 0, w.word(1u << (kF32Fraction - 1)),
                 w.shiftLeft(bits, kF32Fraction));
  return w.toFloat(
      w.selectIf(Compare::eq, bits, 0xff, w.toBits(w.number(NAN)), power));
}

/// Of the magnitude, as the exponent to which `rounding` takes it. What is
/// below the first power is that, or without saturation NaN.
static Value encodePower(Words &w, Value number, StringRef rounding,
                         bool saturates) {
  using Compare = Words::Compare;
  constexpr uint32_t kFractionMask = (1u << kF32Fraction) - 1, kNaN = 0xff;
  Value bits = w.mask(w.toBits(number), ~kF32Sign);
  uint32_t added = rounding == "down"      ? 0
                   : rounding == "nearest" ? (kFractionMask + 1) / 2
                                           : kFractionMask;
  Value code = w.shiftRight(w.add(bits, w.word(added)), kF32Fraction);
  // 2^-127 itself is a subnormal of f32.
  constexpr uint32_t kLeast = 1u << (kF32Fraction - 1);
  if (rounding != "down")
    code = w.selectIf(Compare::ule, bits, kLeast, w.word(0), code);
  if (saturates)
    code = w.selectIf(Compare::eq, code, kNaN, w.word(kNaN - 1), code);
  else
    code = w.selectIf(Compare::ult, bits, kLeast, w.word(kNaN), code);
  return w.toByte(w.selectIf(Compare::ugt, bits, kF32Inf, w.word(kNaN), code));
}

Value tercet::decodeSmallFloat(ImplicitLocOpBuilder &b, Value code,
                               FloatType type) {
  Words w(b);
  if (isa<Float8E8M0FNUType>(type))
    return decodePower(w, code);
  Format format(type);
  using Compare = Words::Compare;
  Value bits = b.createOrFold<arith::ExtUIOp>(b.getI32Type(), code);
  Value magnitude = w.mask(bits, format.magnitudeMask());
  Value sign =
      w.shiftLeft(w.mask(bits, 1u << (format.width - 1)), 32 - format.width);
  // With its fraction in place a code is an f32 of another bias, subnormal if
  // the code is: the product is exact.
  Value other =
      w.toFloat(w.shiftLeft(magnitude, kF32Fraction - format.numFraction));
  Value scaled = b.createOrFold<arith::MulFOp>(
      other, w.number(std::ldexp(1.0, kF32Bias - format.bias())));
  Value result = w.toBits(scaled);
  if (format.inf)
    result = w.selectIf(Compare::eq, magnitude, *format.inf,
                        w.toBits(w.number(INFINITY)), result);
  Value nan = w.toBits(w.number(NAN));
  if (format.nan && format.hasNegativeZero)
    result = w.selectIf(Compare::ugt, magnitude,
                        format.inf.value_or(format.largest), nan, result);
  else if (format.nan)
    result = w.selectIf(Compare::eq, bits, *format.nan, nan, result);
  return w.toFloat(w.merge(result, sign));
}

Value tercet::encodeSmallFloat(ImplicitLocOpBuilder &b, Value number,
                               FloatType type, bool saturates,
                               StringRef rounding) {
  Words w(b);
  if (isa<Float8E8M0FNUType>(type))
    return encodePower(w, number, rounding, saturates);
  Format format(type);
  using Compare = Words::Compare;
  Value bits = w.toBits(number), size = b.createOrFold<math::AbsFOp>(number);
  Value sizeBits = w.mask(bits, ~kF32Sign);

  // Half of the last bit that stays, less one if that bit is even, carries.
  int dropped = kF32Fraction - format.numFraction;
  Value isOdd = w.mask(w.shiftRight(sizeBits, dropped), 1);
  Value rounded =
      w.add(w.add(sizeBits, w.word((1u << (dropped - 1)) - 1)), isOdd);
  Value normal =
      w.sub(w.shiftRight(rounded, dropped),
            w.word((kF32Bias - format.bias()) << format.numFraction));
  // A sum whose last bit is the least subnormal has the code in its last bits.
  Value unit = w.number(
      std::ldexp(1.0, format.minExponent - format.numFraction + kF32Fraction));
  Value subnormal = w.sub(w.toBits(b.createOrFold<arith::AddFOp>(size, unit)),
                          w.toBits(unit));
  Value least = w.number(std::ldexp(1.0, format.minExponent));
  Value code = b.createOrFold<arith::SelectOp>(
      b.createOrFold<arith::CmpFOp>(arith::CmpFPredicate::OLT, size, least),
      subnormal, normal);

  Value sign =
      w.mask(w.shiftRight(bits, 32 - format.width), 1u << (format.width - 1));
  auto withSign = [&](uint32_t magnitude) {
    return w.merge(w.word(magnitude), sign);
  };
  Value result = w.merge(code, sign);
  if (!format.hasNegativeZero)
    result = w.selectIf(Compare::eq, code, 0, w.word(0), result);
  if (!format.nan) { // NaN is -0
    result = w.selectIf(Compare::sgt, code, format.largest,
                        withSign(format.largest), result);
    return w.toByte(w.selectIf(Compare::sgt, sizeBits, kF32Inf,
                               w.word(format.magnitudeMask() + 1), result));
  }

  // Where -0 would be is NaN in types without it.
  Value nan =
      format.hasNegativeZero ? withSign(*format.nan) : w.word(*format.nan);
  Value beyond = saturates    ? withSign(format.largest)
                 : format.inf ? withSign(*format.inf)
                              : nan;
  result = w.selectIf(Compare::sgt, code, format.largest, beyond, result);
  result = w.selectIf(Compare::sgt, sizeBits, kF32Inf, nan, result);
  return w.toByte(result);
}
