// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Target/Backend.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_ADDDOTPEAK
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Independent sums: enough for two dot products a cycle of latency five.
constexpr int64_t kNumSums = 10;

struct AddDotPeak : impl::AddDotPeakBase<AddDotPeak> {
  using Base::Base;

  void runOnOperation() override {
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec) {
      getOperation().emitError(llvm::toString(spec.takeError()));
      return signalPassFailure();
    }
    build(getBackend(*spec)
              .getSchedule(ternary::Packing::I2, {64, 64}, *spec)
              .lanes);
  }

  /// The codes differ from sum to sum and q from iteration to iteration, so
  /// that no dot product can be shared or hoisted; the result depends on all.
  void build(int64_t lanes) {
    ImplicitLocOpBuilder b(getOperation().getLoc(), &getContext());
    b.setInsertionPointToEnd(getOperation().getBody());
    Type i8 = b.getI8Type(), i32 = b.getI32Type(), i64 = b.getI64Type();
    auto bytes = VectorType::get(4 * lanes, i8),
         ints = VectorType::get(lanes, i32);
    auto function =
        func::FuncOp::create(b, "dot_peak", b.getFunctionType({i64}, {i64}));
    b.setInsertionPointToStart(function.addEntryBlock());
    Value iterations = function.getArgument(0);
    Value seed = arith::TruncIOp::create(b, i8, iterations);

    SmallVector<Value> codes, sums;
    for (int64_t i = 0; i < kNumSums; ++i) {
      Value offset = arith::ConstantIntOp::create(b, i8, i);
      codes.push_back(vector::BroadcastOp::create(
          b, bytes, arith::AddIOp::create(b, seed, offset)));
      sums.push_back(arith::ConstantOp::create(b, b.getZeroAttr(ints)));
    }
    Value zero = arith::ConstantIndexOp::create(b, 0);
    Value one = arith::ConstantIndexOp::create(b, 1);
    Value end = arith::IndexCastOp::create(b, b.getIndexType(), iterations);
    auto loop = scf::ForOp::create(
        b, zero, end, one, sums,
        [&](OpBuilder &, Location, Value iv, ValueRange carried) {
          Value q = vector::BroadcastOp::create(
              b, bytes,
              arith::TruncIOp::create(b, i8,
                                      arith::IndexCastOp::create(b, i64, iv)));
          SmallVector<Value> next;
          for (auto [sum, code] : llvm::zip(carried, codes))
            next.push_back(ternary::DotOp::create(b, sum, code, q));
          scf::YieldOp::create(b, next);
        });
    Value total = loop.getResult(0);
    for (Value sum : loop.getResults().drop_front())
      total = arith::XOrIOp::create(b, total, sum);
    Value scalar =
        vector::ReductionOp::create(b, vector::CombiningKind::XOR, total);
    // The number of products, except that one sum in 2^32 counts one more.
    Value magic = arith::ConstantIntOp::create(b, i32, 0x5bd1e995);
    Value odd = arith::ExtUIOp::create(
        b, i64,
        arith::CmpIOp::create(b, arith::CmpIPredicate::eq, scalar, magic));
    Value count = arith::MulIOp::create(
        b, iterations,
        arith::ConstantIntOp::create(b, i64, kNumSums * 4 * lanes));
    func::ReturnOp::create(b, ValueRange{arith::AddIOp::create(b, count, odd)});
  }
};

} // namespace
} // namespace tercet
