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

/// acc + codes . q in one instruction.
struct LowerDotToVNNI : OpRewritePattern<ternary::DotOp> {
  LowerDotToVNNI(MLIRContext *context, int64_t maxLanes)
      : OpRewritePattern(context, /*benefit=*/2), maxLanes(maxLanes) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    int64_t lanes = op.getType().getNumElements();
    if (lanes > maxLanes || (lanes != 4 && lanes != 8 && lanes != 16))
      return b.notifyMatchFailure(op, "no vpdpbusd of this width");
    std::string name = "llvm.x86.avx512.vpdpbusd." + std::to_string(32 * lanes);
    b.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, op.getType(), b.getStringAttr(name), op->getOperands());
    return success();
  }
  int64_t maxLanes;
};

/// vpmaddubsw saturates at 16 bits: 2 * 127 * 2 fits, so the codes must be
/// shifted down (LayoutAttr without in_place).
struct LowerDotToMaddubs : OpRewritePattern<ternary::DotOp> {
  LowerDotToMaddubs(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    if (op.getType().getNumElements() != 8)
      return b.notifyMatchFailure(op, "not 256 bits");
    Location loc = op.getLoc();
    auto pairs = VectorType::get(16, b.getI16Type());
    Value ones = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(pairs, b.getI16IntegerAttr(1)));
    auto intrinsic = [&](StringRef name, Type type, ValueRange operands) {
      return LLVM::CallIntrinsicOp::create(b, loc, type, b.getStringAttr(name),
                                           operands)
          ->getResult(0);
    };
    Value products = intrinsic("llvm.x86.avx2.pmadd.ub.sw", pairs,
                               {op.getCodes(), op.getQ()});
    Value sums =
        intrinsic("llvm.x86.avx2.pmadd.wd", op.getType(), {products, ones});
    b.replaceOpWithNewOp<arith::AddIOp>(op, op.getAcc(), sums);
    return success();
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
      patterns.add<LowerDotToMaddubs>(patterns.getContext());
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
