// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The correctness fallback for any LLVM target: the vector-level ops as plain
// vector arithmetic. Several times slower than a real dot product.

#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "llvm/TargetParser/Triple.h"

using namespace mlir;

namespace tercet {
namespace {

Value splat(OpBuilder &b, Location loc, VectorType type, int64_t value) {
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(type,
                             b.getIntegerAttr(type.getElementType(), value)));
}

/// (v >> 2p) & 3, or v & (3 << 2p) in place.
struct LowerUnpack : OpRewritePattern<ternary::UnpackOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::UnpackOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = op.getType();
    int64_t shift = 2 * op.getPlane();
    Value bytes = op.getBytes();
    if (!op.getInPlace() && shift != 0)
      bytes = arith::ShRUIOp::create(b, loc, bytes, splat(b, loc, type, shift));
    // As a signed byte: 3 << 6 is -64.
    int64_t mask = op.getInPlace() ? int8_t(3 << shift) : 3;
    b.replaceOpWithNewOp<arith::AndIOp>(op, bytes, splat(b, loc, type, mask));
    return success();
  }
};

/// `value` where v compares with `bound` like that, `other` elsewhere.
Value choose(OpBuilder &b, Location loc, arith::CmpIPredicate predicate,
             Value v, int64_t bound, Value value, Value other) {
  Value holds = arith::CmpIOp::create(
      b, loc, predicate, v,
      splat(b, loc, cast<VectorType>(v.getType()), int8_t(bound)));
  return arith::SelectOp::create(b, loc, holds, value, other);
}

/// 0, `unit` or twice that: above neither, the first or both bounds.
Value chooseThird(OpBuilder &b, Location loc, Value v, int64_t first,
                  int64_t second, int64_t unit) {
  auto constant = [&](int64_t value) {
    return splat(b, loc, cast<VectorType>(v.getType()), int8_t(value));
  };
  return choose(b, loc, arith::CmpIPredicate::sgt, v, second,
                constant(2 * unit),
                choose(b, loc, arith::CmpIPredicate::sgt, v, first,
                       constant(unit), constant(0)));
}

/// The fields of v = sum_p d_p 3^p, digit by digit from the most significant:
/// d_p is whether v is beyond half of 3^p, on either side.
Value emitFields(OpBuilder &b, Location loc, Value v, int64_t numPlanes) {
  int64_t weight = 1;
  for (int64_t plane = 1; plane < numPlanes; ++plane)
    weight *= 3;
  Value fields;
  for (int64_t plane = numPlanes - 1; plane >= 0; --plane, weight /= 3) {
    int64_t bound = weight / 2, field = int64_t(1) << (2 * plane);
    Value code = chooseThird(b, loc, v, -bound - 1, bound, field);
    fields = fields ? arith::OrIOp::create(b, loc, fields, code) : code;
    Value up = arith::AddIOp::create(
        b, loc, v, splat(b, loc, cast<VectorType>(v.getType()), weight));
    v = arith::SubIOp::create(
        b, loc, up, chooseThird(b, loc, v, -bound - 1, bound, weight));
  }
  return fields;
}

/// The last plane is how often 21 goes into the low six bits. What is left
/// gives u.
struct LowerUnpackT5 : OpRewritePattern<ternary::UnpackT5Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::UnpackT5Op op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    Value bytes = op.getBytes();
    auto type = cast<VectorType>(bytes.getType());
    auto constant = [&](int64_t value) {
      return splat(b, loc, type, int8_t(value));
    };
    Value low = arith::AndIOp::create(b, loc, bytes, constant(63));
    Value last = chooseThird(b, loc, low, 20, 41, 1);
    Value half = arith::SubIOp::create(b, loc, low,
                                       chooseThird(b, loc, low, 20, 41, 21));
    Value odd = arith::AndIOp::create(
        b, loc, arith::ShRUIOp::create(b, loc, bytes, constant(6)),
        constant(1));
    Value magnitude = arith::AddIOp::create(
        b, loc, arith::AddIOp::create(b, loc, half, half), odd);
    Value u = choose(b, loc, arith::CmpIPredicate::slt, bytes, 0,
                     arith::SubIOp::create(b, loc, constant(0), magnitude),
                     magnitude);
    b.replaceOp(op, {emitFields(b, loc, u, 4), last});
    return success();
  }
};

struct LowerUnpackT3 : OpRewritePattern<ternary::UnpackT3Op> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::UnpackT3Op op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto constant = [&](int64_t value) {
      return splat(b, loc, op.getType(), int8_t(value));
    };
    Value magnitude =
        arith::AndIOp::create(b, loc, op.getMagnitudes(), constant(15));
    Value v = choose(b, loc, arith::CmpIPredicate::slt, op.getSigns(), 0,
                     arith::SubIOp::create(b, loc, constant(0), magnitude),
                     magnitude);
    b.replaceOp(op, emitFields(b, loc, v, 3));
    return success();
  }
};

/// Byte j of every lane of 16 or 32 bits, widened by shifts: no shuffle on any
/// target.
template <typename OpTy> struct LowerDot : OpRewritePattern<OpTy> {
  using OpRewritePattern<OpTy>::OpRewritePattern;
  LogicalResult matchAndRewrite(OpTy op, PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getType());
    int64_t bits = type.getElementTypeBitWidth();
    Value codes = vector::BitCastOp::create(b, loc, type, op.getCodes());
    Value q = vector::BitCastOp::create(b, loc, type, op.getQ());
    Value acc = op.getAcc();
    for (int64_t j = 0; j < bits / 8; ++j) {
      Value up = splat(b, loc, type, bits - 8 - 8 * j);
      Value down = splat(b, loc, type, bits - 8);
      Value code = arith::ShLIOp::create(b, loc, codes, up);
      if constexpr (std::is_same_v<OpTy, ternary::DotSignedOp>)
        code = arith::ShRSIOp::create(b, loc, code, down);
      else
        code = arith::ShRUIOp::create(b, loc, code, down);
      Value activation = arith::ShRSIOp::create(
          b, loc, arith::ShLIOp::create(b, loc, q, up), down);
      acc = arith::AddIOp::create(
          b, loc, acc, arith::MulIOp::create(b, loc, code, activation));
    }
    b.replaceOp(op, acc);
    return success();
  }
};

/// The two halves of every 32-bit lane.
struct LowerAddPairs : OpRewritePattern<ternary::AddPairsOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::AddPairsOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = op.getType();
    Value half = splat(b, loc, type, 16);
    Value both = vector::BitCastOp::create(b, loc, type, op.getPairs());
    Value low = arith::ShRSIOp::create(
        b, loc, arith::ShLIOp::create(b, loc, both, half), half);
    Value high = arith::ShRSIOp::create(b, loc, both, half);
    b.replaceOpWithNewOp<arith::AddIOp>(
        op, arith::AddIOp::create(b, loc, op.getAcc(), low), high);
    return success();
  }
};

/// One element at a time.
struct LowerLookup : OpRewritePattern<ternary::LookupOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = op.getType();
    int64_t size = cast<VectorType>(op.getTable().getType()).getNumElements();
    int64_t mask =
        type.getElementType().isInteger(8) ? int8_t(size - 1) : size - 1;
    Value indices = arith::AndIOp::create(b, loc, op.getIndices(),
                                          splat(b, loc, type, mask));
    SmallVector<Value> elements;
    for (int64_t i = 0; i < type.getNumElements(); ++i) {
      Value index = vector::ExtractOp::create(b, loc, indices, i);
      index = arith::IndexCastUIOp::create(b, loc, b.getIndexType(), index);
      elements.push_back(vector::ExtractOp::create(b, loc, op.getTable(),
                                                   OpFoldResult(index)));
    }
    b.replaceOpWithNewOp<vector::FromElementsOp>(op, type, elements);
    return success();
  }
};

/// One vector of 16 rows, a token and a plane at a time.
struct LowerDotBlock : OpRewritePattern<ternary::DotBlockOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::DotBlockOp op,
                                PatternRewriter &rewriter) const override {
    ImplicitLocOpBuilder b(op.getLoc(), rewriter);
    auto codesType = cast<MemRefType>(op.getCodes().getType());
    auto ints = VectorType::get(16, b.getI32Type());
    auto bytes = VectorType::get(64, b.getI8Type());
    auto index = [&](int64_t value) -> Value {
      return arith::ConstantIndexOp::create(b, value);
    };
    Value zero = index(0), one = index(1);
    Value none = arith::ConstantOp::create(b, b.getZeroAttr(ints));
    auto addVector = [&](Value plane, Value token, Value vector, Value sum) {
      // Vector 16 c + j begins at column min(64 c, B - 64) + 4 j.
      Value sixteen = index(16);
      Value panel =
          arith::MulIOp::create(b, arith::DivUIOp::create(b, vector, sixteen),
                                index(ternary::kPanelColumns));
      Value start = arith::MinUIOp::create(
          b, panel, index(op.getNumColumns() - ternary::kPanelColumns));
      start = arith::AddIOp::create(b, start, op.getColumn());
      Value within = arith::MulIOp::create(
          b, arith::RemUIOp::create(b, vector, sixteen), index(4));
      Value q = vector::LoadOp::create(
          b, VectorType::get(4, b.getI8Type()), op.getQ(),
          ValueRange{token, arith::AddIOp::create(b, start, within)});
      Value word = vector::ExtractOp::create(
          b,
          vector::BitCastOp::create(b, VectorType::get(1, b.getI32Type()), q),
          0);
      q = vector::BitCastOp::create(b, bytes,
                                    vector::BroadcastOp::create(b, ints, word));
      Value codes = vector::LoadOp::create(b, bytes, op.getCodes(),
                                           ValueRange{plane, vector, zero});
      return ternary::DotOp::create(b, sum, codes, q).getResult();
    };
    scf::buildLoopNest(
        b, b.getLoc(), {zero, zero},
        {index(codesType.getDimSize(0)), op.getCount()}, {one, one},
        [&](OpBuilder &, Location, ValueRange at) {
          Value token = arith::AddIOp::create(b, op.getFirst(), at[1]);
          Value before = vector::LoadOp::create(b, ints, op.getAcc(),
                                                ValueRange{at[0], at[1], zero});
          Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                                op.getColumn(), zero);
          Value begin = arith::SelectOp::create(b, isFirst, none, before);
          auto sum = scf::ForOp::create(
              b, zero, index(codesType.getDimSize(1)), one, begin,
              [&](OpBuilder &, Location, Value vector, ValueRange sum) {
                scf::YieldOp::create(b,
                                     addVector(at[0], token, vector, sum[0]));
              });
          vector::StoreOp::create(b, sum.getResult(0), op.getAcc(),
                                  ValueRange{at[0], at[1], zero});
        });
    if (op.getWork())
      scf::ForOp::create(b, zero, index(op.getWork()), one, ValueRange(),
                         [&](OpBuilder &body, Location, Value i, ValueRange) {
                           op.cloneWork(body, i);
                           scf::YieldOp::create(b);
                         });
    rewriter.eraseOp(op);
    return success();
  }
};

class GenericBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "Generic"; }
  llvm::StringRef getDescription() const override {
    return "any LLVM target, plain vector arithmetic (correct, not fast)";
  }
  bool supports(const TargetSpec &target) const override { return true; }
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    return {.lanes = 4, .tokens = 2};
  }
  bool hasFMA(const TargetSpec &target) const override {
    llvm::Triple triple(target.triple);
    return triple.isAArch64() || triple.isRISCV();
  }
  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {}
};

} // namespace

void populateGenericVectorLowerings(RewritePatternSet &patterns) {
  patterns
      .add<LowerUnpack, LowerUnpackT5, LowerUnpackT3, LowerDot<ternary::DotOp>,
           LowerDot<ternary::DotSignedOp>, LowerDot<ternary::DotPairsOp>,
           LowerAddPairs, LowerLookup, LowerDotBlock>(patterns.getContext(),
                                                      /*benefit=*/0);
}

const Backend &getGenericBackend() {
  static const GenericBackend kBackend;
  return kBackend;
}

} // namespace tercet
