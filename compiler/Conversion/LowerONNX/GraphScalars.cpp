// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Scalars: what is loaded, computed with and stored.

#include "compiler/Conversion/LowerONNX/GraphBuilder.h"
#include "compiler/Conversion/LowerONNX/SmallFloat.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace tercet;

Type tercet::getStorageType(Type element) {
  MLIRContext *context = element.getContext();
  unsigned width = element.getIntOrFloatBitWidth();
  if (width <= 8)
    return IntegerType::get(context, 8);
  if (isa<IntegerType>(element))
    return IntegerType::get(context, width);
  return element;
}

Type tercet::getComputeType(Type element) {
  if (isa<FloatType>(element) && element.getIntOrFloatBitWidth() < 32)
    return Float32Type::get(element.getContext());
  return element.isInteger(1) ? element : getStorageType(element);
}

Value GraphBuilder::number(double value, Type type) {
  TypedAttr attribute;
  if (isa<FloatType>(type))
    attribute = getFloatAttr(type, value);
  else
    attribute = getIntegerAttr(type, int64_t(value));
  return arith::ConstantOp::create(*this, attribute);
}

Value GraphBuilder::lowest(Type element) { return extreme(element, true); }
Value GraphBuilder::highest(Type element) { return extreme(element, false); }

Value GraphBuilder::extreme(Type element, bool isLowest) {
  if (auto type = dyn_cast<FloatType>(element))
    return arith::ConstantOp::create(
        *this, getFloatAttr(
                   type, APFloat::getInf(type.getFloatSemantics(), isLowest)));
  Type stored = getStorageType(element);
  unsigned width = stored.getIntOrFloatBitWidth();
  bool isUnsigned = element.isUnsignedInteger();
  APInt value = isLowest ? (isUnsigned ? APInt::getZero(width)
                                       : APInt::getSignedMinValue(width))
                         : (isUnsigned ? APInt::getMaxValue(width)
                                       : APInt::getSignedMaxValue(width));
  return arith::ConstantOp::create(*this, getIntegerAttr(stored, value));
}

Value GraphBuilder::load(Value stored, Type element) {
  if (element.isInteger(1))
    return compare(Compare::NE, stored, number(0, stored.getType()));
  if (isSmallFloat(element))
    return decodeSmallFloat(*this, stored, cast<FloatType>(element));
  if (element.isF16() || element.isBF16())
    return createOrFold<arith::ExtFOp>(getF32Type(), stored);
  return stored;
}

Value GraphBuilder::store(Value computed, Type element) {
  Type stored = getStorageType(element);
  if (element.isInteger(1))
    return createOrFold<arith::ExtUIOp>(stored, computed);
  if (isSmallFloat(element))
    return encodeSmallFloat(*this, computed, cast<FloatType>(element),
                            getInt("saturate", 1),
                            getString("round_mode", "up"));
  if (element.isF16() || element.isBF16())
    return createOrFold<arith::TruncFOp>(stored, computed);
  return computed;
}

static bool isFloat(Value a) { return isa<FloatType>(a.getType()); }

Value GraphBuilder::add(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::AddFOp>(a, b)
                    : createOrFold<arith::AddIOp>(a, b);
}
Value GraphBuilder::sub(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::SubFOp>(a, b)
                    : createOrFold<arith::SubIOp>(a, b);
}
Value GraphBuilder::mul(Value a, Value b) {
  return isFloat(a) ? createOrFold<arith::MulFOp>(a, b)
                    : createOrFold<arith::MulIOp>(a, b);
}
Value GraphBuilder::div(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::DivFOp>(a, b);
  return isUnsigned ? createOrFold<arith::DivUIOp>(a, b)
                    : createOrFold<arith::DivSIOp>(a, b);
}
Value GraphBuilder::max(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::MaximumFOp>(a, b);
  return isUnsigned ? createOrFold<arith::MaxUIOp>(a, b)
                    : createOrFold<arith::MaxSIOp>(a, b);
}
Value GraphBuilder::min(Value a, Value b, bool isUnsigned) {
  if (isFloat(a))
    return createOrFold<arith::MinimumFOp>(a, b);
  return isUnsigned ? createOrFold<arith::MinUIOp>(a, b)
                    : createOrFold<arith::MinSIOp>(a, b);
}
Value GraphBuilder::neg(Value a) {
  return isFloat(a) ? createOrFold<arith::NegFOp>(a)
                    : sub(number(0, a.getType()), a);
}
Value GraphBuilder::abs(Value a) {
  return isFloat(a) ? createOrFold<math::AbsFOp>(a) : max(a, neg(a));
}
Value GraphBuilder::fma(Value a, Value b, Value c) {
  return isFloat(a) ? createOrFold<math::FmaOp>(a, b, c) : add(mul(a, b), c);
}
Value GraphBuilder::exp(Value a) { return math::ExpOp::create(*this, a); }
Value GraphBuilder::sigmoid(Value a) {
  Value one = number(1, a.getType());
  return div(one, add(one, exp(neg(a))));
}
Value GraphBuilder::select(Value condition, Value a, Value b) {
  return createOrFold<arith::SelectOp>(condition, a, b);
}

Value GraphBuilder::compare(Compare predicate, Value a, Value b,
                            bool isUnsigned) {
  using F = arith::CmpFPredicate;
  using I = arith::CmpIPredicate;
  static constexpr F floats[] = {F::OEQ, F::UNE, F::OLT,
                                 F::OLE, F::OGT, F::OGE};
  static constexpr I ints[] = {I::eq, I::ne, I::slt, I::sle, I::sgt, I::sge};
  static constexpr I unsigneds[] = {I::eq,  I::ne,  I::ult,
                                    I::ule, I::ugt, I::uge};
  int i = int(predicate);
  if (isFloat(a))
    return createOrFold<arith::CmpFOp>(floats[i], a, b);
  return createOrFold<arith::CmpIOp>(isUnsigned ? unsigneds[i] : ints[i], a, b);
}

Value GraphBuilder::castScalar(Value a, Type from, Type to) {
  if (from == to)
    return a;
  Type target = getComputeType(to);
  bool fromUnsigned = from.isUnsignedInteger() || from.isInteger(1);
  if (to.isInteger(1))
    return compare(Compare::NE, a, number(0, a.getType()));
  if (isa<FloatType>(from) && isa<FloatType>(to)) {
    if (a.getType() == target)
      return a;
    return target.isF64() ? createOrFold<arith::ExtFOp>(target, a)
                          : createOrFold<arith::TruncFOp>(target, a);
  }
  if (isa<FloatType>(to))
    return fromUnsigned ? createOrFold<arith::UIToFPOp>(target, a)
                        : createOrFold<arith::SIToFPOp>(target, a);
  unsigned width = to.getIntOrFloatBitWidth();
  Value result = a;
  if (isa<FloatType>(from)) {
    // Values outside an unsigned type wrap around, as in C where that is
    // defined; those outside of i64 are unspecified.
    bool isWide = width > 32 || (width == 32 && to.isUnsignedInteger());
    Type wide = isWide ? getI64Type() : getI32Type();
    result = to.isUnsignedInteger(64) ? createOrFold<arith::FPToUIOp>(wide, a)
                                      : createOrFold<arith::FPToSIOp>(wide, a);
  }
  unsigned fromWidth = result.getType().getIntOrFloatBitWidth(),
           toWidth = target.getIntOrFloatBitWidth();
  if (fromWidth > toWidth)
    result = createOrFold<arith::TruncIOp>(target, result);
  else if (fromWidth < toWidth)
    result = fromUnsigned ? createOrFold<arith::ExtUIOp>(target, result)
                          : createOrFold<arith::ExtSIOp>(target, result);
  if (width < toWidth) { // i4 and i2, kept in a byte
    Value bits = number(toWidth - width, target);
    result = createOrFold<arith::ShLIOp>(result, bits);
    result = to.isUnsignedInteger()
                 ? createOrFold<arith::ShRUIOp>(result, bits)
                 : createOrFold<arith::ShRSIOp>(result, bits);
  }
  return result;
}

Value GraphBuilder::toIndex(Value integer) {
  // An extent that went through a tensor of shapes is that extent again: equal
  // extents have to be the same value.
  if (auto cast = integer.getDefiningOp<arith::IndexCastOp>();
      cast && cast.getIn().getType().isIndex())
    return cast.getIn();
  return createOrFold<arith::IndexCastOp>(getIndexType(), integer);
}
