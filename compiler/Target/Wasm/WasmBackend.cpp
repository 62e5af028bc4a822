// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// WebAssembly with vectors of 128 bits: i32x4.dot_i16x8_s and i8x16.swizzle.

#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "llvm/ADT/STLExtras.h"

using namespace mlir;

namespace tercet {
namespace {

Value intrinsic(OpBuilder &b, Location loc, StringRef name, Type type,
                ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(
             b, loc, type, b.getStringAttr("llvm.wasm." + name), operands)
      ->getResult(0);
}

/// acc + the sums of two products of 16-bit numbers each.
Value addProducts(OpBuilder &b, Location loc, Value acc, Value left,
                  Value right) {
  return arith::AddIOp::create(
      b, loc, acc, intrinsic(b, loc, "dot", acc.getType(), {left, right}));
}

Value splatPairs(OpBuilder &b, Location loc, int64_t value) {
  return arith::ConstantOp::create(
      b, loc,
      DenseElementsAttr::get(VectorType::get(8, b.getI16Type()),
                             b.getI16IntegerAttr(value)));
}

/// acc + codes . q: even and odd bytes are 16-bit numbers.
struct LowerDot : OpRewritePattern<ternary::DotOp> {
  LowerDot(MLIRContext *context) : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    if (op.getType().getNumElements() != 4)
      return b.notifyMatchFailure(op, "no vector of 128 bits");
    Location loc = op.getLoc();
    auto pairs = VectorType::get(8, b.getI16Type());
    Value eight = splatPairs(b, loc, 8);
    Value codes = vector::BitCastOp::create(b, loc, pairs, op.getCodes());
    Value q = vector::BitCastOp::create(b, loc, pairs, op.getQ());
    Value evenCodes =
        arith::AndIOp::create(b, loc, codes, splatPairs(b, loc, 255));
    Value evenQ = arith::ShRSIOp::create(
        b, loc, arith::ShLIOp::create(b, loc, q, eight), eight);
    Value sum = addProducts(b, loc, op.getAcc(), evenCodes, evenQ);
    Value oddCodes = arith::ShRUIOp::create(b, loc, codes, eight);
    Value oddQ = arith::ShRSIOp::create(b, loc, q, eight);
    b.replaceOp(op, addProducts(b, loc, sum, oddCodes, oddQ));
    return success();
  }
};

/// A product with one is a widening.
struct LowerAddPairs : OpRewritePattern<ternary::AddPairsOp> {
  LowerAddPairs(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::AddPairsOp op,
                                PatternRewriter &b) const override {
    if (op.getType().getNumElements() != 4)
      return b.notifyMatchFailure(op, "no vector of 128 bits");
    Location loc = op.getLoc();
    b.replaceOp(op, addProducts(b, loc, op.getAcc(), op.getPairs(),
                                splatPairs(b, loc, 1)));
    return success();
  }
};

/// i8x16.swizzle gives zero for an index beyond the table.
struct LowerLookup : OpRewritePattern<ternary::LookupOp> {
  LowerLookup(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    auto bytes = VectorType::get(16, b.getI8Type());
    if (op.getType() != bytes || op.getTable().getType() != bytes)
      return b.notifyMatchFailure(op, "not 16 bytes");
    Location loc = op.getLoc();
    Value mask = arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(bytes, b.getI8IntegerAttr(15)));
    Value indices = arith::AndIOp::create(b, loc, op.getIndices(), mask);
    b.replaceOp(op,
                intrinsic(b, loc, "swizzle", bytes, {op.getTable(), indices}));
    return success();
  }
};

class WasmBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "Wasm"; }
  llvm::StringRef getDescription() const override {
    return "wasm32+simd128: vectors of 128 bits, dot products of 16 bits";
  }
  bool supports(const TargetSpec &target) const override {
    return llvm::StringRef(target.triple).starts_with("wasm32") &&
           llvm::is_contained(target.llvmFeatures, "+simd128");
  }

  /// Engines compile to 16 registers on x86. Codes and q are widened beside the
  /// sums of 4 planes, of one token or of one part of a vector.
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    bool isTable = packing == ternary::Packing::L3;
    return {.lanes = 4,
            .chain = isTable ? ternary::kMaxTableChain : 1,
            .inPlace = !isTable,
            .parts = 1};
  }

  bool hasFMA(const TargetSpec &target) const override { return false; }

  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {
    patterns.add<LowerDot, LowerAddPairs, LowerLookup>(patterns.getContext());
    // LLVM's WebAssembly has no code for a single bf16.
    arith::populateExpandBFloat16Patterns(patterns);
  }
};

} // namespace

const Backend &getWasmBackend() {
  static const WasmBackend kBackend;
  return kBackend;
}

} // namespace tercet
