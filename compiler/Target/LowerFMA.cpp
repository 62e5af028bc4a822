// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// fma of f32 for targets that have no such instruction, to the same bits.
//
// The product p of two f32 is exact in f64: 48 bits, and no exponent is out of
// range. s = p + c rounds to f64, and r = f32(s) rounds again. Two roundings
// give the result of one unless s, but not p + c, is half-way between two f32:
// rounding is monotonic, and a number half-way is an f64, so that s is on the
// same side of it as p + c or on it.
//
// s is seldom half-way. If it is and r is normal, the 29 bits that f32 does not
// have are 2^28. If r is subnormal, or 2^-126 from below, more bits are lost;
// all such r are suspects. r = 0 is none: then |s| <= 2^-150, while c is a
// multiple of 2^-149, so that either c is 0 or |p| is about |c|, at least
// 2^-151; p + c has no bit below the last of p, at least 2^-198, and is exact.
//
// Where a lane is suspect, all are done again with s rounded to odd: what is
// not an f64 becomes the neighbour whose last bit is set, which is never
// half-way between two f32. Rounding that to f32 is rounding p + c, since f64
// has more than two bits beyond any f32, subnormal ones included (Boldo and
// Melquiond, Emulation of FMA and correctly rounded sums: proved algorithms
// using rounding to odd, 2008).

#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace tercet {
namespace {

Value splat(ImplicitLocOpBuilder &b, Type type, uint64_t bits) {
  auto vector = cast<VectorType>(type);
  unsigned width = vector.getElementTypeBitWidth();
  return arith::ConstantOp::create(
      b, DenseElementsAttr::get(vector, APInt(width, bits, /*isSigned=*/false,
                                              /*implicitTrunc=*/true)));
}

Value bitcast(ImplicitLocOpBuilder &b, Type element, Value v) {
  auto type = cast<VectorType>(v.getType());
  return vector::BitCastOp::create(b, type.clone(element), v);
}

/// The least of lanes that are 4 or fewer registers of 4 apart.
template <typename MinOp> Value foldToFour(ImplicitLocOpBuilder &b, Value v) {
  auto lanes = [&] { return cast<VectorType>(v.getType()).getNumElements(); };
  while (lanes() > 4 && lanes() % 2 == 0) {
    int64_t half = lanes() / 2;
    v = MinOp::create(
        b, vector::ExtractStridedSliceOp::create(b, v, 0, half, 1),
        vector::ExtractStridedSliceOp::create(b, v, half, half, 1));
  }
  return v;
}

/// Whether any lane of `sum` may be half-way between two f32, `rounded` being
/// its f32.
Value isAnySuspect(ImplicitLocOpBuilder &b, Value sum, Value rounded) {
  Type i32 = b.getI32Type();
  Value bits = bitcast(b, i32, rounded);
  Type ints = bits.getType();
  // Half-way: the lowest i32 there is, once the bits that f32 has are gone.
  Value low = arith::TruncIOp::create(b, ints, bitcast(b, b.getI64Type(), sum));
  Value tie = foldToFour<arith::MinSIOp>(
      b, arith::ShLIOp::create(b, low, splat(b, ints, 3)));
  // Subnormal or 2^-126: without the sign, and with 0 made the largest.
  Value magnitude = arith::AddIOp::create(
      b, arith::AddIOp::create(b, bits, bits), splat(b, ints, ~0u));
  Value small = foldToFour<arith::MinUIOp>(b, magnitude);
  Value isSuspect = arith::OrIOp::create(
      b,
      arith::CmpIOp::create(b, arith::CmpIPredicate::eq, tie,
                            splat(b, tie.getType(), 1u << 31)),
      arith::CmpIOp::create(b, arith::CmpIPredicate::ult, small,
                            splat(b, small.getType(), 1u << 24)));
  return vector::ReductionOp::create(b, vector::CombiningKind::OR, isSuspect);
}

/// product + addend rounded to odd, `sum` being its nearest f64.
Value roundToOdd(ImplicitLocOpBuilder &b, Value product, Value addend,
                 Value sum) {
  auto sub = [&](Value x, Value y) { return arith::SubFOp::create(b, x, y); };
  // The error of the sum, exactly (Knuth's TwoSum).
  Value addendPart = sub(sum, product);
  Value error = arith::AddFOp::create(b, sub(product, sub(sum, addendPart)),
                                      sub(addend, addendPart));
  Value zero = arith::ConstantOp::create(
      b, cast<TypedAttr>(b.getZeroAttr(sum.getType())));
  // Towards zero, if the sum was rounded away from it; then the last bit.
  Value isBeyond = arith::CmpFOp::create(
      b, arith::CmpFPredicate::OLT, arith::MulFOp::create(b, error, sum), zero);
  // Of infinity and NaN the error is NaN: neither.
  Value isInexact =
      arith::CmpFOp::create(b, arith::CmpFPredicate::ONE, error, zero);
  Value bits = bitcast(b, b.getI64Type(), sum);
  Type longs = bits.getType();
  bits = arith::AddIOp::create(b, bits,
                               arith::ExtSIOp::create(b, longs, isBeyond));
  bits = arith::OrIOp::create(b, bits,
                              arith::ExtUIOp::create(b, longs, isInexact));
  return bitcast(b, b.getF64Type(), bits);
}

/// Vectors only: a scalar is left to the C library, which is as exact.
struct LowerFMA : OpRewritePattern<math::FmaOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::FmaOp op,
                                PatternRewriter &rewriter) const override {
    auto type = dyn_cast<VectorType>(op.getType());
    if (!type || type.getRank() != 1 || type.isScalable() ||
        !type.getElementType().isF32())
      return rewriter.notifyMatchFailure(op, "no vector of f32");
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    auto widen = [&](Value v) -> Value {
      return arith::ExtFOp::create(b, type.clone(b.getF64Type()), v);
    };
    auto narrow = [&](Value v) -> Value {
      return arith::TruncFOp::create(b, type, v);
    };
    Value product =
        arith::MulFOp::create(b, widen(op.getA()), widen(op.getB()));
    Value addend = widen(op.getC());
    Value sum = arith::AddFOp::create(b, product, addend);
    Value rounded = narrow(sum);
    Value isSuspect = LLVM::ExpectOp::create(
        b, isAnySuspect(b, sum, rounded),
        arith::ConstantOp::create(b, b.getBoolAttr(false)));
    auto choice = scf::IfOp::create(
        b, isSuspect,
        [&](OpBuilder &, Location loc) {
          Value exact = narrow(roundToOdd(b, product, addend, sum));
          scf::YieldOp::create(b, exact);
        },
        [&](OpBuilder &, Location loc) { scf::YieldOp::create(b, rounded); });
    rewriter.replaceOp(op, choice);
    return success();
  }
};

} // namespace

void populateFMALowering(RewritePatternSet &patterns) {
  patterns.add<LowerFMA>(patterns.getContext());
}

} // namespace tercet
