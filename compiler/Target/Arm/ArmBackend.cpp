// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// 64-bit Arm: usdot and usmmla where there is i8mm, sdot where there is
// dotprod, and smull anywhere. All registers are 128 bits.

#include "compiler/Target/Backend.h"
#include "compiler/Target/VectorSlices.h"
#include "tercet/artifact.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;

namespace tercet {
namespace {

/// The dot products that Arm has, by preference.
enum class DotKind { I8MM, Dotprod, NEON };

DotKind getDotKind(const TargetSpec &target) {
  if (target.has(TERCET_CPU_NEON_I8MM))
    return DotKind::I8MM;
  return target.has(TERCET_CPU_NEON_DOTPROD) ? DotKind::Dotprod : DotKind::NEON;
}

constexpr int64_t kRegisterBytes = 16;

/// A register of i8, i16 or i32.
VectorType registerOf(Type element) {
  return VectorType::get(8 * kRegisterBytes / element.getIntOrFloatBitWidth(),
                         element);
}

/// Elements of a register.
int64_t getLanes(VectorType type) {
  return 8 * kRegisterBytes / type.getElementTypeBitWidth();
}

bool isWholeRegisters(VectorType type) {
  int64_t bits = type.getNumElements() * type.getElementTypeBitWidth();
  return bits % (8 * kRegisterBytes) == 0;
}

Value intrinsic(OpBuilder &b, Location loc, const Twine &name, Type type,
                ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(
             b, loc, type, b.getStringAttr("llvm.aarch64.neon." + name),
             operands)
      ->getResult(0);
}

Value splat(OpBuilder &b, Location loc, Type element, int64_t value) {
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(registerOf(element),
                             b.getIntegerAttr(element, value)));
}

Value splatByte(OpBuilder &b, Location loc, uint8_t value) {
  return splat(b, loc, b.getI8Type(), int8_t(value));
}

//===----------------------------------------------------------------------===//
// Fields of bytes
//===----------------------------------------------------------------------===//

/// Says of bytes that an intrinsic returns that they are not above `largest`.
void setLargest(OpBuilder &b, Value bytes, uint8_t largest) {
  NamedAttribute range(LLVM::LLVMDialect::getRangeAttrName(),
                       LLVM::ConstantRangeAttr::get(b.getContext(), APInt(8, 0),
                                                    APInt(8, largest + 1)));
  cast<LLVM::CallIntrinsicOp>(bytes.getDefiningOp())
      .setResAttrsAttr(b.getArrayAttr(b.getDictionaryAttr(range)));
}

//===----------------------------------------------------------------------===//
// Dot products
//===----------------------------------------------------------------------===//

/// Lowers an op of whole registers, `acc` and what is multiplied, register by
/// register.
template <typename OpTy> class LowerRegisters : public OpRewritePattern<OpTy> {
public:
  LowerRegisters(MLIRContext *context)
      : OpRewritePattern<OpTy>(context, /*benefit=*/1) {}

  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &b) const override {
    Value replaced = op->getOperand(0);
    auto type = cast<VectorType>(replaced.getType());
    if (!isWholeRegisters(type))
      return b.notifyMatchFailure(op, "not whole registers");
    b.replaceOp(
        op, replaceSlices(b, op.getLoc(), replaced,
                          registerOf(type.getElementType()).getNumElements(),
                          op->getOperands().drop_front(),
                          [&](Value first, ValueRange others) {
                            return emit(b, op, first, others);
                          }));
    return success();
  }

protected:
  /// What takes the place of `first`, a register of the first operand.
  virtual Value emit(OpBuilder &b, OpTy op, Value first,
                     ValueRange others) const = 0;
};

struct LowerDotToUsdot : LowerRegisters<ternary::DotOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotOp op, Value acc,
             ValueRange codesAndQ) const override {
    return intrinsic(b, op.getLoc(), "usdot.v4i32.v16i8", acc.getType(),
                     {acc, codesAndQ[0], codesAndQ[1]});
  }
};

/// Codes are signed bytes, of which wide ones are 128 less: 128 sum q is added.
/// It is the same for every vector of codes that meets q.
struct LowerDotToSdot : LowerRegisters<ternary::DotOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotOp op, Value acc,
             ValueRange codesAndQ) const override {
    Location loc = op.getLoc();
    Value codes = codesAndQ[0], q = codesAndQ[1];
    auto sdot = [&](Value acc, Value left, Value right) {
      return intrinsic(b, loc, "sdot.v4i32.v16i8", acc.getType(),
                       {acc, left, right});
    };
    if (!op.getWide())
      return sdot(acc, codes, q);
    Value biased = arith::XOrIOp::create(b, loc, codes, splatByte(b, loc, 128));
    Value sum = sdot(splat(b, loc, b.getI32Type(), 0), q, splatByte(b, loc, 1));
    Value bias =
        arith::ShLIOp::create(b, loc, sum, splat(b, loc, b.getI32Type(), 7));
    return sdot(arith::AddIOp::create(b, loc, acc, bias), biased, q);
  }
};

struct LowerDotSignedToSdot : LowerRegisters<ternary::DotSignedOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotSignedOp op, Value acc,
             ValueRange codesAndQ) const override {
    return intrinsic(b, op.getLoc(), "sdot.v4i32.v16i8", acc.getType(),
                     {acc, codesAndQ[0], codesAndQ[1]});
  }
};

/// The register, as words, of which a register of bytes has these words, if it
/// has them.
Value matchWords(Value bytes, ArrayRef<int64_t> words) {
  auto cast = bytes.getDefiningOp<vector::BitCastOp>();
  auto shuffle =
      cast ? cast.getSource().getDefiningOp<vector::ShuffleOp>() : nullptr;
  if (!shuffle || shuffle.getMask() != words ||
      shuffle.getV1().getType() != shuffle.getType())
    return {};
  return shuffle.getV1();
}

Value toBytes(OpBuilder &b, Location loc, Value words) {
  VectorType type = registerOf(b.getI8Type());
  auto cast = words.getDefiningOp<vector::BitCastOp>();
  if (cast && cast.getSource().getType() == type)
    return cast.getSource();
  return vector::BitCastOp::create(b, loc, type, words);
}

/// The dot product of registers that alone adds to this one, if there is one.
ternary::DotOp findNextDot(ternary::DotOp op) {
  auto next =
      op->hasOneUse() ? dyn_cast<ternary::DotOp>(*op->user_begin()) : nullptr;
  bool isPair = next && next.getAcc() == op.getResult() &&
                op.getType() == registerOf(Builder(op).getI32Type());
  return isPair ? next : nullptr;
}

/// Two dot products in a row of two rows by two tokens: the first four of their
/// eight columns, then the last four.
struct LowerDotsToUsmmla : OpRewritePattern<ternary::DotOp> {
  LowerDotsToUsmmla(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    ternary::DotOp next = findNextDot(op);
    if (!next)
      return b.notifyMatchFailure(op, "no pair of dot products");
    Value codes = matchWords(op.getCodes(), {0, 0, 2, 2});
    Value q = matchWords(op.getQ(), {0, 2, 0, 2});
    if (!codes || !q || matchWords(next.getCodes(), {1, 1, 3, 3}) != codes ||
        matchWords(next.getQ(), {1, 3, 1, 3}) != q)
      return b.notifyMatchFailure(op, "no two rows by two tokens");
    Location loc = op.getLoc();
    b.setInsertionPoint(next);
    b.replaceOp(next, intrinsic(b, loc, "usmmla.v4i32.v16i8", op.getType(),
                                {op.getAcc(), toBytes(b, loc, codes),
                                 toBytes(b, loc, q)}));
    b.eraseOp(op);
    return success();
  }
};

/// acc + the sums of two neighbours each: sadalp.
Value addPairs(OpBuilder &b, Location loc, Value acc, Value pairs) {
  return arith::AddIOp::create(
      b, loc, acc,
      intrinsic(b, loc, "saddlp.v4i32.v8i16", acc.getType(), pairs));
}

struct LowerAddPairsToSadalp : LowerRegisters<ternary::AddPairsOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::AddPairsOp op, Value acc,
             ValueRange pairs) const override {
    return addPairs(b, op.getLoc(), acc, pairs[0]);
  }
};

/// A vector of bytes, and which four of them a register has in every lane, if
/// it has such.
std::optional<std::pair<Value, int64_t>> matchLane(Value bytes) {
  auto cast = bytes.getDefiningOp<vector::BitCastOp>();
  auto broadcast =
      cast ? cast.getSource().getDefiningOp<vector::BroadcastOp>() : nullptr;
  auto extract = broadcast
                     ? broadcast.getSource().getDefiningOp<vector::ExtractOp>()
                     : nullptr;
  auto words = extract ? extract.getSource().getDefiningOp<vector::BitCastOp>()
                       : nullptr;
  if (!words || extract.hasDynamicPosition() ||
      words.getSourceVectorType().getElementType() !=
          cast.getResultVectorType().getElementType())
    return {};
  return std::pair(words.getSource(), 4 * extract.getStaticPosition()[0]);
}

/// Even bytes, then odd ones: smull multiplies either half of a register. The
/// shuffle takes a lane for all of them as well, and so any load may bring it.
Value separate(OpBuilder &b, Location loc, Value bytes) {
  SmallVector<int64_t> mask;
  std::optional<std::pair<Value, int64_t>> lane = matchLane(bytes);
  for (int64_t i = 0; i < kRegisterBytes; ++i) {
    int64_t from = 2 * i % kRegisterBytes + 2 * i / kRegisterBytes;
    mask.push_back(lane ? lane->second + from % 4 : from);
  }
  Value from = lane ? lane->first : bytes;
  return vector::ShuffleOp::create(b, loc, from, from, mask);
}

/// What `separate` has separated.
Value rejoin(OpBuilder &b, Location loc, Value bytes) {
  SmallVector<int64_t> mask;
  for (int64_t i = 0; i < kRegisterBytes; ++i)
    mask.push_back(i / 2 + i % 2 * kRegisterBytes / 2);
  return vector::ShuffleOp::create(b, loc, bytes, bytes, mask);
}

/// The distance of a shift that is the same in all lanes.
template <typename ShiftTy> std::optional<int64_t> matchShift(ShiftTy shift) {
  DenseElementsAttr distance;
  if (!shift || !matchPattern(shift.getRhs(), m_Constant(&distance)) ||
      !distance.isSplat())
    return {};
  return distance.getSplatValue<APInt>().getZExtValue();
}

/// Bits `mask` of `bytes`, which are shifted left first, or right if `left` is
/// negative.
struct Field {
  Value bytes;
  int64_t left = 0;
  uint8_t mask = 0xff;

  uint8_t shifted(uint8_t byte) const {
    return left < 0 ? byte >> -left : byte << left;
  }
};

std::optional<Field> matchField(Value value) {
  auto masked = value.getDefiningOp<arith::AndIOp>();
  DenseElementsAttr mask;
  if (!masked || !matchPattern(masked.getRhs(), m_Constant(&mask)) ||
      !mask.isSplat())
    return {};
  Field field = {masked.getLhs()};
  field.mask = mask.getSplatValue<APInt>().getZExtValue();
  auto left = field.bytes.getDefiningOp<arith::ShLIOp>();
  auto right = field.bytes.getDefiningOp<arith::ShRUIOp>();
  if (auto distance = matchShift(left))
    field = {left.getLhs(), *distance, field.mask};
  else if (auto distance = matchShift(right))
    field = {right.getLhs(), -*distance, field.mask};
  return field;
}

/// The bits of two fields, one of which is shifted as it is inserted beside the
/// other: before (v & 15) | ((w << 4) & 48), after (v sli w, 4) & 63. For dot
/// products that begin with `separate`, so do they: LLVM drops the two shuffles
/// in a row, and fields of the same bytes share one.
class LowerFieldsToInsertion : public OpRewritePattern<arith::OrIOp> {
public:
  LowerFieldsToInsertion(MLIRContext *context, bool separates)
      : OpRewritePattern(context), separates(separates) {}

  LogicalResult matchAndRewrite(arith::OrIOp op,
                                PatternRewriter &b) const override {
    if (op.getType() != registerOf(b.getI8Type()))
      return b.notifyMatchFailure(op, "no register of bytes");
    std::optional<Field> low = matchField(op.getLhs()),
                         high = matchField(op.getRhs());
    if (!low || !high || low->mask & high->mask)
      return b.notifyMatchFailure(op, "no two fields");
    Location loc = op.getLoc();
    uint8_t both = low->mask | high->mask;
    uint8_t kept =
        high->left > 0 ? llvm::maskTrailingOnes<uint8_t>(high->left) : 0;
    uint8_t inserted = low->left < 0 ? low->shifted(0xff) : 0;
    bool insertsHigh = low->left == 0 && kept && (both & kept) == low->mask;
    bool insertsLow = inserted && (both & inserted) == low->mask;
    if (!insertsHigh && !insertsLow && !separates)
      return b.notifyMatchFailure(op, "no shift of one beside the other");
    if (separates)
      for (Field *field : {&*low, &*high})
        field->bytes = separate(b, loc, field->bytes);

    auto insert = [&](StringRef instruction, Value into, Value bytes,
                      int64_t distance) {
      return intrinsic(
          b, loc, instruction + ".v16i8", op.getType(),
          {into, bytes,
           arith::ConstantIntOp::create(b, loc, b.getI32Type(), distance)});
    };
    auto mask = [&](Value bytes, uint8_t bits) -> Value {
      return arith::AndIOp::create(b, loc, bytes, splatByte(b, loc, bits));
    };
    Value codes;
    if (insertsHigh) {
      codes = mask(insert("vsli", low->bytes, high->bytes, high->left), both);
    } else if (insertsLow) {
      codes = insert("vsri", shift(b, loc, high->bytes, high->left), low->bytes,
                     -low->left);
      if ((high->shifted(0xff) | inserted) == both)
        setLargest(b, codes, both);
      else
        codes = mask(codes, both);
    } else {
      codes = arith::AddIOp::create(
          b, loc, mask(shift(b, loc, low->bytes, low->left), low->mask),
          mask(shift(b, loc, high->bytes, high->left), high->mask));
    }
    b.replaceOp(op, separates ? rejoin(b, loc, codes) : codes);
    return success();
  }

private:
  static Value shift(OpBuilder &b, Location loc, Value bytes, int64_t left) {
    if (left == 0)
      return bytes;
    Value distance = splatByte(b, loc, std::abs(left));
    return left > 0
               ? arith::ShLIOp::create(b, loc, bytes, distance).getResult()
               : arith::ShRUIOp::create(b, loc, bytes, distance).getResult();
  }

  const bool separates;
};

/// The bits that codes may have.
uint8_t getBits(Value codes) {
  DenseElementsAttr mask;
  if (auto masked = codes.getDefiningOp<arith::AndIOp>())
    if (matchPattern(masked.getRhs(), m_Constant(&mask)) && mask.isSplat())
      return mask.getSplatValue<APInt>().getZExtValue();
  if (auto both = codes.getDefiningOp<arith::OrIOp>())
    return getBits(both.getLhs()) | getBits(both.getRhs());
  if (auto sum = codes.getDefiningOp<arith::AddIOp>()) {
    uint8_t left = getBits(sum.getLhs()), right = getBits(sum.getRhs());
    return left & right ? 0xff : left | right;
  }
  if (auto shuffle = codes.getDefiningOp<vector::ShuffleOp>())
    return getBits(shuffle.getV1()) | getBits(shuffle.getV2());
  if (auto call = codes.getDefiningOp<LLVM::CallIntrinsicOp>())
    if (ArrayAttr results = call.getResAttrsAttr())
      if (auto range = cast<DictionaryAttr>(results[0])
                           .getAs<LLVM::ConstantRangeAttr>(
                               LLVM::LLVMDialect::getRangeAttrName()))
        return llvm::maskTrailingOnes<uint8_t>(
            (range.getUpper() - 1).getActiveBits());
  return 0xff;
}

/// The products of even bytes, then of odd ones: of pairs in the same lanes.
std::array<Value, 2> multiply(OpBuilder &b, Location loc, Value codes,
                              Value q) {
  codes = separate(b, loc, codes);
  q = separate(b, loc, q);
  auto multiplyHalf = [&](int64_t first) {
    auto half = [&](Value v) -> Value {
      return vector::ExtractStridedSliceOp::create(b, loc, v, first,
                                                   kRegisterBytes / 2, 1);
    };
    return intrinsic(b, loc, "smull.v8i16", registerOf(b.getI16Type()),
                     {half(codes), half(q)});
  };
  return {multiplyHalf(0), multiplyHalf(kRegisterBytes / 2)};
}

/// smull and smlal2.
struct LowerDotPairsToSmull : LowerRegisters<ternary::DotPairsOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotPairsOp op, Value acc,
             ValueRange codesAndQ) const override {
    Location loc = op.getLoc();
    for (Value products : multiply(b, loc, codesAndQ[0], codesAndQ[1]))
      acc = arith::AddIOp::create(b, loc, acc, products);
    return acc;
  }
};

/// A product of signed bytes fits 16 bits, two of them may not.
struct LowerDotSignedToSmull : LowerRegisters<ternary::DotSignedOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotSignedOp op, Value acc,
             ValueRange codesAndQ) const override {
    Location loc = op.getLoc();
    for (Value products : multiply(b, loc, codesAndQ[0], codesAndQ[1]))
      acc = addPairs(b, loc, acc, products);
    return acc;
  }
};

/// Where a dot product begins with `separate`, the planes of a vector share it:
/// LLVM drops the two shuffles in a row.
struct LowerUnpackOfSeparated : LowerRegisters<ternary::UnpackOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::UnpackOp op, Value bytes,
             ValueRange) const override {
    Location loc = op.getLoc();
    int64_t shift = 2 * op.getPlane();
    Value codes = separate(b, loc, bytes);
    uint8_t mask = 3 << shift;
    if (!op.getInPlace() && shift != 0) {
      codes = arith::ShRUIOp::create(b, loc, codes, splatByte(b, loc, shift));
      mask = 3;
    }
    return rejoin(
        b, loc, arith::AndIOp::create(b, loc, codes, splatByte(b, loc, mask)));
  }
};

/// Two dot products in a row, the first of which is widened with the second:
/// 16 bits have room for both.
struct LowerDotsToSmull : OpRewritePattern<ternary::DotOp> {
  LowerDotsToSmull(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    ternary::DotOp next = findNextDot(op);
    if (!next)
      return b.notifyMatchFailure(op, "no pair of dot products");
    int64_t largest = getBits(op.getCodes()) + getBits(next.getCodes());
    if (2 * largest * -INT8_MIN > INT16_MAX)
      return b.notifyMatchFailure(op, "too large for 16 bits");
    Location loc = op.getLoc();
    b.setInsertionPoint(next);
    Value pairs = splat(b, loc, b.getI16Type(), 0);
    for (ternary::DotOp dot : {op, next})
      pairs = ternary::DotPairsOp::create(b, loc, pairs, dot.getCodes(),
                                          dot.getQ());
    b.replaceOp(next, ternary::AddPairsOp::create(b, loc, op.getAcc(), pairs));
    b.eraseOp(op);
    return success();
  }
};

/// acc + codes . q half-way in 16 bits, or if codes are wide with products of
/// 16 bits: 255 * -128 fits.
struct LowerDotToSmull : LowerRegisters<ternary::DotOp> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::DotOp op, Value acc,
             ValueRange codesAndQ) const override {
    Location loc = op.getLoc();
    VectorType pairs = registerOf(b.getI16Type());
    if (!op.getWide())
      return ternary::AddPairsOp::create(
          b, loc, acc,
          ternary::DotPairsOp::create(b, loc, splat(b, loc, b.getI16Type(), 0),
                                      codesAndQ[0], codesAndQ[1]));
    Value eight = splat(b, loc, b.getI16Type(), 8);
    Value codes = vector::BitCastOp::create(b, loc, pairs, codesAndQ[0]);
    Value q = vector::BitCastOp::create(b, loc, pairs, codesAndQ[1]);
    Value evenCodes = arith::AndIOp::create(b, loc, codes,
                                            splat(b, loc, b.getI16Type(), 255));
    Value evenQ = arith::ShRSIOp::create(
        b, loc, arith::ShLIOp::create(b, loc, q, eight), eight);
    Value oddCodes = arith::ShRUIOp::create(b, loc, codes, eight);
    Value oddQ = arith::ShRSIOp::create(b, loc, q, eight);
    acc =
        addPairs(b, loc, acc, arith::MulIOp::create(b, loc, evenCodes, evenQ));
    return addPairs(b, loc, acc, arith::MulIOp::create(b, loc, oddCodes, oddQ));
  }
};

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// The registers of a vector that are not one, or nothing.
std::optional<int64_t> countRegisters(VectorType type) {
  if (type.getRank() != 1 || !type.getElementType().isIntOrFloat() ||
      !isWholeRegisters(type) || type.getNumElements() == getLanes(type))
    return {};
  return type.getNumElements() / getLanes(type);
}

/// Register by register: LLVM then sees the addresses of all, and lets
/// instructions with two of them step to the next.
template <typename OpTy> struct SplitMemory : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &b) const override {
    VectorType type = op.getVectorType();
    std::optional<int64_t> numRegisters = countRegisters(type);
    if (!numRegisters)
      return b.notifyMatchFailure(op, "not several registers");
    Location loc = op.getLoc();
    int64_t lanes = getLanes(type);
    auto part = VectorType::get(lanes, type.getElementType());
    Value whole;
    if constexpr (std::is_same_v<OpTy, vector::LoadOp>)
      whole = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
    for (int64_t i = 0; i < *numRegisters; ++i) {
      SmallVector<Value> indices(op.getIndices());
      indices.back() = arith::AddIOp::create(
          b, loc, indices.back(),
          arith::ConstantIndexOp::create(b, loc, i * lanes));
      if constexpr (std::is_same_v<OpTy, vector::LoadOp>) {
        Value loaded =
            vector::LoadOp::create(b, loc, part, op.getBase(), indices);
        whole = vector::InsertStridedSliceOp::create(b, loc, loaded, whole,
                                                     i * lanes, 1);
      } else {
        Value stored = vector::ExtractStridedSliceOp::create(
            b, loc, op.getValueToStore(), i * lanes, lanes, 1);
        vector::StoreOp::create(b, loc, stored, op.getBase(), indices);
      }
    }
    if constexpr (std::is_same_v<OpTy, vector::LoadOp>)
      b.replaceOp(op, whole);
    else
      b.eraseOp(op);
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Loops
//===----------------------------------------------------------------------===//

/// From 0, by 1: LLVM then counts down to 0, which needs no comparison.
struct CountByOne : OpRewritePattern<scf::ForOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(scf::ForOp op,
                                PatternRewriter &b) const override {
    std::optional<APInt> count = op.getStaticTripCount();
    if (!count || matchPattern(op.getStep(), m_One()))
      return b.notifyMatchFailure(op, "no constant count, or by 1");
    Location loc = op.getLoc();
    Type type = op.getInductionVar().getType();
    auto constant = [&](int64_t value) -> Value {
      return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, value));
    };
    Value number = op.getInductionVar();
    b.setInsertionPointToStart(op.getBody());
    auto distance = arith::MulIOp::create(b, loc, number, op.getStep());
    Value first = arith::AddIOp::create(b, loc, op.getLowerBound(), distance);
    b.replaceAllUsesExcept(number, first, distance);
    b.setInsertionPoint(op);
    b.modifyOpInPlace(op, [&] {
      op.setLowerBound(constant(0));
      op.setUpperBound(constant(count->getSExtValue()));
      op.setStep(constant(1));
    });
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Maxima
//===----------------------------------------------------------------------===//

/// a > b ? a : b with a magnitude a, and b what a loop has carried of these
/// since +0. fmaxnm differs in the sign of zeros, which is none of these's, and
/// for NaN, which b never is. Register by register: LLVM then keeps the order
/// of loads that are pairs.
struct LowerLargestToFmaxnm : OpRewritePattern<arith::SelectOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::SelectOp op,
                                PatternRewriter &b) const override {
    Value magnitude = op.getTrueValue(), largest = op.getFalseValue();
    auto type = dyn_cast<VectorType>(op.getType());
    auto compare = op.getCondition().getDefiningOp<arith::CmpFOp>();
    if (!type || !isWholeRegisters(type) || !compare ||
        compare.getPredicate() != arith::CmpFPredicate::OGT ||
        compare.getLhs() != magnitude || compare.getRhs() != largest ||
        !magnitude.getDefiningOp<math::AbsFOp>())
      return b.notifyMatchFailure(op, "no maximum of a magnitude");
    auto carried = dyn_cast<BlockArgument>(largest);
    auto loop = carried
                    ? dyn_cast<scf::ForOp>(carried.getOwner()->getParentOp())
                    : nullptr;
    if (!loop || carried == loop.getInductionVar() ||
        !matchPattern(loop.getTiedLoopInit(carried)->get(), m_PosZeroFloat()) ||
        loop.getTiedLoopYieldedValue(carried)->get() != op.getResult())
      return b.notifyMatchFailure(op, "not of all magnitudes");
    b.replaceOp(op, replaceSlices(b, op.getLoc(), largest, getLanes(type),
                                  magnitude.getDefiningOp()->getOperands(),
                                  [&](Value first, ValueRange others) -> Value {
                                    Value abs = math::AbsFOp::create(
                                        b, op.getLoc(), others[0]);
                                    return arith::MaxNumFOp::create(
                                        b, op.getLoc(), abs, first);
                                  }));
    return success();
  }
};

//===----------------------------------------------------------------------===//
// Tables
//===----------------------------------------------------------------------===//

/// tbl in one register.
Value lookUp(OpBuilder &b, Location loc, Value table, Value indices) {
  indices = arith::AndIOp::create(b, loc, indices, splatByte(b, loc, 15));
  return intrinsic(b, loc, "tbl1.v16i8", indices.getType(), {table, indices});
}

struct LowerLookupToTbl : OpRewritePattern<ternary::LookupOp> {
  LowerLookupToTbl(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    Value table = op.getTable();
    if (table.getType() != registerOf(b.getI8Type()) ||
        !isWholeRegisters(op.getType()))
      return b.notifyMatchFailure(op, "no table of 16 bytes");
    b.replaceOp(op,
                replaceSlices(b, op.getLoc(), op.getIndices(), kRegisterBytes,
                              {}, [&](Value indices, ValueRange) {
                                return lookUp(b, op.getLoc(), table, indices);
                              }));
    return success();
  }
};

/// The bytes whose upper halves are `nibbles`, if there are such.
Value matchUpperNibbles(Value nibbles) {
  auto shift = nibbles.getDefiningOp<arith::ShRUIOp>();
  return matchShift(shift) == 4 ? shift.getLhs() : Value();
}

/// Bytes, and which bit of them is bit 7 of `signs`.
std::pair<Value, int64_t> matchSigns(Value signs) {
  if (auto words = signs.getDefiningOp<vector::BitCastOp>())
    if (auto shift = words.getSource().getDefiningOp<arith::ShLIOp>())
      if (auto distance = matchShift(shift); distance && *distance < 8)
        if (auto bytes = shift.getLhs().getDefiningOp<vector::BitCastOp>();
            bytes && bytes.getSource().getType() == signs.getType())
          return {bytes.getSource(), 7 - *distance};
  return {signs, 7};
}

/// Magnitude and sign are an index into a table of 32 bytes, of which bit 4 is
/// the sign. It is inserted above the magnitude, or the magnitude below it.
struct LowerUnpackT3ToTbl : LowerRegisters<ternary::UnpackT3Op> {
  using LowerRegisters::LowerRegisters;
  Value emit(OpBuilder &b, ternary::UnpackT3Op op, Value magnitudes,
             ValueRange signs) const override {
    Location loc = op.getLoc();
    Type type = magnitudes.getType();
    auto insert = [&](StringRef instruction, Value into, Value inserted) {
      Value four = arith::ConstantIntOp::create(b, loc, b.getI32Type(), 4);
      return intrinsic(b, loc, instruction + ".v16i8", type,
                       {into, inserted, four});
    };
    Value index;
    if (Value bytes = matchUpperNibbles(magnitudes)) {
      auto [source, bit] = matchSigns(signs[0]);
      Value distance = splatByte(b, loc, std::abs(bit - 4));
      Value moved =
          bit > 4 ? arith::ShRUIOp::create(b, loc, source, distance).getResult()
                  : arith::ShLIOp::create(b, loc, source, distance).getResult();
      index = insert(
          "vsri",
          arith::AndIOp::create(b, loc, moved, splatByte(b, loc, 1 << 4)),
          bytes);
    } else {
      index = insert(
          "vsli", magnitudes,
          arith::ShRUIOp::create(b, loc, signs[0], splatByte(b, loc, 7)));
    }
    auto halfOfTable = [&](bool isNegative) -> Value {
      std::array<uint8_t, kRegisterBytes> table = {};
      for (unsigned magnitude = 0; magnitude <= 13; ++magnitude)
        for (auto [plane, trit] :
             llvm::enumerate(ternary::getT3Trits(magnitude, isNegative)))
          table[magnitude] |= (trit + 1) << (2 * plane);
      ArrayRef raw(reinterpret_cast<const char *>(table.data()), table.size());
      return arith::ConstantOp::create(
          b, loc,
          DenseElementsAttr::getFromRawBuffer(registerOf(b.getI8Type()), raw));
    };
    Value fields = intrinsic(b, loc, "tbl2.v16i8", type,
                             {halfOfTable(false), halfOfTable(true), index});
    // Nothing is above plane 2.
    setLargest(b, fields, 2 * 0b010101);
    return fields;
  }
};

class ArmBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "Arm"; }
  llvm::StringRef getDescription() const override {
    return "64-bit Arm: NEON, dotprod, i8mm";
  }
  bool supports(const TargetSpec &target) const override {
    return llvm::Triple(target.triple).isAArch64();
  }

  /// 10^9 multiply-accumulates per second at 3 GHz, as llvm-mca predicts inner
  /// loops on Neoverse N1, or where i8mm is on Cortex-A720. Nobody measured
  /// them. t5 has no instructions here, and l3 takes more of them than i2.
  std::optional<MatmulRates>
  getRates(ternary::Packing packing, const TargetSpec &target,
           const CpuDescription &cpu) const override {
    bool isI2 = packing == ternary::Packing::I2;
    if (!isI2 && packing != ternary::Packing::T3)
      return std::nullopt;
    switch (getDotKind(target)) {
    case DotKind::NEON:
      return isI2 ? MatmulRates{24e9, 24e9} : MatmulRates{18e9, 24e9};
    case DotKind::Dotprod:
      return isI2 ? MatmulRates{48e9, 77e9} : MatmulRates{32e9, 70e9};
    case DotKind::I8MM:
      return isI2 ? MatmulRates{55e9, 131e9} : MatmulRates{32e9, 70e9};
    }
    llvm_unreachable("unknown dot product");
  }

  VectorRegisters getRegisters(const TargetSpec &target) const override {
    return {32, 4};
  }

  /// 32 registers hold the sums of 4 planes x 4 tokens beside their q, or with
  /// usmmla, which takes half as many operands, of 3 pairs of tokens. A GEMV
  /// has the sums of a whole vector. What unpacks t3 leaves room for those of
  /// half a vector or of fewer tokens, and l3 for those of half a vector and 3
  /// tokens.
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    bool isNEON = getDotKind(target) == DotKind::NEON;
    ternary::Schedule schedule = {.lanes = 4,
                                  .unroll = isNEON ? 2 : 8,
                                  .tokens = dotsTiles(target) ? 6 : 4,
                                  .chain = isNEON ? ternary::kMaxChain : 1,
                                  .inPlace = !isNEON,
                                  .parts = isNEON ? 2 : 0};
    if (shape.group) // whose chains take registers
      schedule.unroll /= 2;
    if (packing == ternary::Packing::T3) {
      schedule.unroll = 1;
      schedule.tokens = isNEON ? 4 : 6;
      schedule.parts = isNEON ? 2 : 0;
    }
    if (packing == ternary::Packing::L3) {
      schedule.unroll = 1;
      schedule.tokens = 3;
      schedule.parts = 2;
      schedule.chain = ternary::kMaxTableChain;
      schedule.inPlace = false;
    }
    return schedule;
  }

  /// The sums of 4 parts of a vector x 2 digits x 2 tokens are half of the
  /// registers. What smull needs beside its operands leaves room for one token.
  ternary::CodeLayoutAttr
  selectHeadLayout(MLIRContext *context, ternary::CodeFormat format,
                   const TargetSpec &target) const override {
    bool isNEON = getDotKind(target) == DotKind::NEON;
    return ternary::CodeLayoutAttr::get(context, format, /*tileRows=*/16,
                                        /*lanes=*/4, /*parts=*/4,
                                        /*tokens=*/isNEON ? 1 : 2,
                                        /*prefetch=*/0);
  }

  int64_t getMaxDotCode(const TargetSpec &target) const override {
    return getDotKind(target) == DotKind::I8MM ? 255 : 127;
  }
  bool shiftsBytes(const TargetSpec &target) const override { return true; }
  bool dotsLanes(const TargetSpec &target) const override {
    return getDotKind(target) != DotKind::NEON;
  }
  bool multipliesLanes(const TargetSpec &target) const override { return true; }
  /// What smull multiplies is shuffled, with masks that are loaded.
  bool separatesKinds(const TargetSpec &target) const override {
    return getDotKind(target) == DotKind::NEON;
  }
  bool widensF16(const TargetSpec &target) const override { return true; }
  bool interleavesBytes(const TargetSpec &target) const override {
    return true;
  }
  bool dotsTiles(const TargetSpec &target) const override {
    return getDotKind(target) == DotKind::I8MM;
  }
  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {
    MLIRContext *context = patterns.getContext();
    patterns.add<LowerLookupToTbl, LowerUnpackT3ToTbl, LowerAddPairsToSadalp,
                 LowerDotPairsToSmull, CountByOne, LowerLargestToFmaxnm,
                 SplitMemory<vector::LoadOp>, SplitMemory<vector::StoreOp>>(
        context);
    patterns.add<LowerFieldsToInsertion>(
        context, /*separates=*/getDotKind(target) == DotKind::NEON);
    switch (getDotKind(target)) {
    case DotKind::I8MM:
      patterns.add<LowerDotToUsdot, LowerDotsToUsmmla>(context);
      break;
    case DotKind::Dotprod:
      patterns.add<LowerDotToSdot, LowerDotSignedToSdot>(context);
      break;
    case DotKind::NEON:
      patterns.add<LowerDotsToSmull, LowerDotToSmull, LowerDotSignedToSmull,
                   LowerUnpackOfSeparated>(context);
      break;
    }
  }
};

} // namespace

const Backend &getArmBackend() {
  static const ArmBackend kBackend;
  return kBackend;
}

} // namespace tercet
