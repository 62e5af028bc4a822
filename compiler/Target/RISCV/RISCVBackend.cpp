// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// RISC-V with the vector unit, whose registers have 128 bits or more: vectors
// of fixed length run on any of them, LLVM sets vl to what they need.

#include "compiler/Target/Backend.h"
#include "tercet/artifact.h"

#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

namespace tercet {
namespace {

/// acc + codes . q by way of 16 bits, in which two products of codes up to 128
/// fit (getMaxDotCode): half as many operations as in 32 bits.
///   %pairs = ternary.dot_pairs %zero, %codes, %q
///   %sum = ternary.add_pairs %acc, %pairs
/// The generic lowering of both is what the unit does best: it has no dot
/// product, and vmul and vmacc take 16 bits as they take 8.
struct LowerDotToPairs : OpRewritePattern<ternary::DotOp> {
  LowerDotToPairs(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    if (op.getWide())
      return b.notifyMatchFailure(op, "two products may not fit 16 bits");
    Location loc = op.getLoc();
    auto pairs =
        VectorType::get(2 * op.getType().getNumElements(), b.getI16Type());
    Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(pairs));
    Value sums =
        ternary::DotPairsOp::create(b, loc, zero, op.getCodes(), op.getQ());
    b.replaceOp(op, ternary::AddPairsOp::create(b, loc, op.getAcc(), sums));
    return success();
  }
};

class RISCVBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "RISCV"; }
  llvm::StringRef getDescription() const override {
    return "riscv64+v: vectors of 128 bits and more, products in 16 bits";
  }
  bool supports(const TargetSpec &target) const override {
    return target.has(TERCET_CPU_RVV);
  }

  /// Groups of two registers of 128 bits: there are 16 of them.
  VectorRegisters getRegisters(const TargetSpec &target) const override {
    return {16, 8};
  }

  /// 4 planes x 2 tokens of sums, the codes of a plane, and q twice, as even
  /// and odd bytes, are in groups of registers.
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    bool isTable = packing == ternary::Packing::L3;
    return {.lanes = 8,
            .tokens = 2,
            .chain = isTable ? ternary::kMaxTableChain : 64,
            .parts = 1};
  }

  ternary::CodeLayoutAttr
  selectHeadLayout(MLIRContext *context, ternary::CodeFormat format,
                   const TargetSpec &target) const override {
    return ternary::CodeLayoutAttr::get(context, format, /*tileRows=*/16,
                                        /*lanes=*/8, /*parts=*/1, /*tokens=*/1,
                                        /*prefetch=*/0);
  }

  int64_t getMaxDotCode(const TargetSpec &target) const override { return 128; }

  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {
    patterns.add<LowerDotToPairs>(patterns.getContext());
  }
};

} // namespace

const Backend &getRISCVBackend() {
  static const RISCVBackend kBackend;
  return kBackend;
}

} // namespace tercet
