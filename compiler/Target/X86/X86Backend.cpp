// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// x86 from AVX2 on: vpdpbusd where there is VNNI, vpmaddubsw elsewhere.

#include "compiler/Target/Backend.h"
#include "tercet/artifact.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace tercet {
namespace {

/// The dot products that x86 has, by preference.
enum class DotKind { AVX512VNNI, AVXVNNI, AVX2 };

DotKind getDotKind(const TargetSpec &target) {
  if (target.has(TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX512VL))
    return DotKind::AVX512VNNI;
  return target.has(TERCET_CPU_AVXVNNI) ? DotKind::AVXVNNI : DotKind::AVX2;
}

/// ternary.dot by instructions on at most `maxLanes` lanes of the accumulator;
/// a wider one is several of them.
class LowerDot : public OpRewritePattern<ternary::DotOp> {
public:
  LowerDot(MLIRContext *context, int64_t maxLanes)
      : OpRewritePattern(context, /*benefit=*/2), maxLanes(maxLanes) {}

  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    int64_t lanes = op.getType().getNumElements();
    if (lanes <= maxLanes) {
      if (!hasWidth(lanes))
        return b.notifyMatchFailure(op, "no instruction of this width");
      b.replaceOp(op,
                  emit(b, op.getLoc(), op.getAcc(), op.getCodes(), op.getQ()));
      return success();
    }
    if (lanes % maxLanes)
      return b.notifyMatchFailure(op, "not whole vectors");
    Value result = op.getAcc();
    for (int64_t lane = 0; lane < lanes; lane += maxLanes) {
      auto slice = [&](Value v, int64_t scale) -> Value {
        return vector::ExtractStridedSliceOp::create(
            b, op.getLoc(), v, lane * scale, maxLanes * scale, 1);
      };
      Value sum = emit(b, op.getLoc(), slice(op.getAcc(), 1),
                       slice(op.getCodes(), 4), slice(op.getQ(), 4));
      result = vector::InsertStridedSliceOp::create(b, op.getLoc(), sum, result,
                                                    lane, 1);
    }
    b.replaceOp(op, result);
    return success();
  }

protected:
  virtual bool hasWidth(int64_t lanes) const = 0;
  virtual Value emit(OpBuilder &b, Location loc, Value acc, Value codes,
                     Value q) const = 0;

  static Value intrinsic(OpBuilder &b, Location loc, const Twine &name,
                         Type type, ValueRange operands) {
    return LLVM::CallIntrinsicOp::create(
               b, loc, type, b.getStringAttr("llvm.x86." + name), operands)
        ->getResult(0);
  }

private:
  int64_t maxLanes;
};

/// acc + codes . q in one instruction.
struct LowerDotToVNNI : LowerDot {
  using LowerDot::LowerDot;
  bool hasWidth(int64_t lanes) const override {
    return lanes == 4 || lanes == 8 || lanes == 16;
  }
  Value emit(OpBuilder &b, Location loc, Value acc, Value codes,
             Value q) const override {
    auto type = cast<VectorType>(acc.getType());
    return intrinsic(b, loc,
                     "avx512.vpdpbusd." + Twine(32 * type.getNumElements()),
                     type, {acc, codes, q});
  }
};

/// vpmaddubsw saturates at 16 bits: 2 * 128 * 127 fits (dotSaturates).
struct LowerDotToMaddubs : LowerDot {
  using LowerDot::LowerDot;
  bool hasWidth(int64_t lanes) const override { return lanes == 8; }
  Value emit(OpBuilder &b, Location loc, Value acc, Value codes,
             Value q) const override {
    auto pairs = VectorType::get(16, b.getI16Type());
    Value ones = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(pairs, b.getI16IntegerAttr(1)));
    Value products = intrinsic(b, loc, "avx2.pmadd.ub.sw", pairs, {codes, q});
    Value sums =
        intrinsic(b, loc, "avx2.pmadd.wd", acc.getType(), {products, ones});
    return arith::AddIOp::create(b, loc, acc, sums);
  }
};

class X86Backend : public Backend {
public:
  llvm::StringRef getName() const override { return "X86"; }
  llvm::StringRef getDescription() const override {
    return "x86-64 with AVX2, AVX-VNNI or AVX512-VNNI";
  }
  bool supports(const TargetSpec &target) const override {
    return llvm::StringRef(target.triple).starts_with("x86_64") &&
           target.has(TERCET_CPU_AVX2 | TERCET_CPU_FMA);
  }

  /// Register budgets: 32 zmm hold 4 planes x 6 tokens (24 accumulators), 16
  /// ymm hold 4 planes x 2 tokens. One accumulator set fits 16 ymm.
  ternary::LayoutAttr selectLayout(MLIRContext *context, MatmulShape shape,
                                   const TargetSpec &target) const override {
    DotKind kind = getDotKind(target);
    bool wide = kind == DotKind::AVX512VNNI;
    return ternary::LayoutAttr::get(
        context, ternary::Packing::I2, /*tileRows=*/64,
        /*lanes=*/wide ? 16 : 8, /*unroll=*/wide ? 4 : 1,
        /*tokens=*/wide ? 6 : 2, /*prefetch=*/4096,
        /*inPlace=*/kind != DotKind::AVX2);
  }

  int64_t getFloatAccumulators(const TargetSpec &target) const override {
    return target.has(TERCET_CPU_AVX512VL) ? 16 : 4;
  }

  bool dotSaturates(const TargetSpec &target) const override {
    return getDotKind(target) == DotKind::AVX2;
  }

  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {
    switch (getDotKind(target)) {
    case DotKind::AVX512VNNI:
      patterns.add<LowerDotToVNNI>(patterns.getContext(), /*maxLanes=*/16);
      break;
    case DotKind::AVXVNNI:
      patterns.add<LowerDotToVNNI>(patterns.getContext(), /*maxLanes=*/8);
      break;
    case DotKind::AVX2:
      patterns.add<LowerDotToMaddubs>(patterns.getContext(), /*maxLanes=*/8);
      break;
    }
  }
};

} // namespace

const Backend &getX86Backend() {
  static const X86Backend kBackend;
  return kBackend;
}

} // namespace tercet
