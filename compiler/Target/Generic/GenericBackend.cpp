// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The correctness fallback for any LLVM target: the vector-level ops as plain
// vector arithmetic. Several times slower than a real dot product.

#include "compiler/Target/Backend.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

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

/// Byte j of every 32-bit lane, widened by shifts: no shuffle on any target.
struct LowerDot : OpRewritePattern<ternary::DotOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(ternary::DotOp op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = op.getType();
    Value codes = vector::BitCastOp::create(b, loc, type, op.getCodes());
    Value q = vector::BitCastOp::create(b, loc, type, op.getQ());
    Value acc = op.getAcc();
    for (int64_t j = 0; j < 4; ++j) {
      Value up = splat(b, loc, type, 24 - 8 * j);
      Value down = splat(b, loc, type, 24);
      Value code = arith::ShRUIOp::create(
          b, loc, arith::ShLIOp::create(b, loc, codes, up), down);
      Value activation = arith::ShRSIOp::create(
          b, loc, arith::ShLIOp::create(b, loc, q, up), down);
      acc = arith::AddIOp::create(
          b, loc, acc, arith::MulIOp::create(b, loc, code, activation));
    }
    b.replaceOp(op, acc);
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
    Value indices = arith::AndIOp::create(
        b, loc, op.getIndices(), splat(b, loc, type, int8_t(size - 1)));
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

class GenericBackend : public Backend {
public:
  llvm::StringRef getName() const override { return "Generic"; }
  llvm::StringRef getDescription() const override {
    return "any LLVM target, plain vector arithmetic (correct, not fast)";
  }
  bool supports(const TargetSpec &target) const override { return true; }
  ternary::LayoutAttr selectLayout(MLIRContext *context, MatmulShape shape,
                                   const TargetSpec &target) const override {
    return ternary::LayoutAttr::get(context, ternary::Packing::I2,
                                    /*tileRows=*/64, /*lanes=*/4, /*unroll=*/1,
                                    /*tokens=*/2, /*prefetch=*/0,
                                    /*inPlace=*/false);
  }
  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {}
};

} // namespace

void populateGenericVectorLowerings(RewritePatternSet &patterns) {
  patterns.add<LowerUnpack, LowerDot, LowerLookup>(patterns.getContext(),
                                                   /*benefit=*/0);
}

const Backend &getGenericBackend() {
  static const GenericBackend kBackend;
  return kBackend;
}

} // namespace tercet
