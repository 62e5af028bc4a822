// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Passes/Passes.h"
#include "compiler/Target/Backend.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace tercet {
#define GEN_PASS_DEF_ADDDOTPEAK
#include "compiler/Passes/Passes.h.inc"

namespace {

/// Independent sums: more than two dot products a cycle of latency five need,
/// as the two ports do not take turns exactly. Sums in i16 have a latency of
/// one, and fewer registers.
constexpr int64_t kNumSums = 14, kNumChainedSums = 6;

/// Words of q that dot products take in turns: each from memory, as in a
/// matmul. To make one of a scalar would take the dot products' ports.
constexpr int64_t kNumWords = 64;

/// As much as the dot_block of a matmul has, 224 kB with the sums.
constexpr int64_t kBlockTokens = 128, kBlockColumns = 1024, kBlockPlanes = 4;

struct AddDotPeak : impl::AddDotPeakBase<AddDotPeak> {
  using Base::Base;

  void runOnOperation() override {
    if (getOperation().lookupSymbol("evaluate"))
      return; // a graph has no roofline
    llvm::Expected<TargetSpec> spec = parseTarget(target);
    if (!spec) {
      getOperation().emitError(llvm::toString(spec.takeError()));
      return signalPassFailure();
    }
    ternary::Schedule schedule = getBackend(*spec).getSchedule(
        ternary::Packing::I2, {64, kBlockColumns}, *spec);
    ImplicitLocOpBuilder b(getOperation().getLoc(), &getContext());
    b.setInsertionPointToEnd(getOperation().getBody());
    Type i64 = b.getI64Type();
    auto function =
        func::FuncOp::create(b, "dot_peak", b.getFunctionType({i64}, {i64}));
    b.setInsertionPointToStart(function.addEntryBlock());
    Value iterations = function.getArgument(0);
    auto [scalar, products] = schedule.blocks
                                  ? buildBlocks(b, iterations)
                                  : buildDots(b, iterations, schedule);
    // The number of products, except that one sum in 2^32 counts one more.
    Value magic = arith::ConstantIntOp::create(b, b.getI32Type(), 0x5bd1e995);
    Value odd = arith::ExtUIOp::create(
        b, i64,
        arith::CmpIOp::create(b, arith::CmpIPredicate::eq, scalar, magic));
    Value count = arith::MulIOp::create(
        b, iterations, arith::ConstantIntOp::create(b, i64, products));
    func::ReturnOp::create(b, ValueRange{arith::AddIOp::create(b, count, odd)});
  }

  /// What depends on all products, and how many there are in an iteration.
  struct Work {
    Value result;
    int64_t products;
  };

  static Value allocate(ImplicitLocOpBuilder &b, ArrayRef<int64_t> shape,
                        Type element) {
    return memref::AllocaOp::create(b, MemRefType::get(shape, element),
                                    b.getI64IntegerAttr(64));
  }

  /// Blocks of a matrix unit that stay in the second-level cache.
  Work buildBlocks(ImplicitLocOpBuilder &b, Value iterations) {
    Value q = allocate(b, {kBlockTokens, kBlockColumns}, b.getI8Type());
    Value codes =
        allocate(b, {kBlockPlanes, kBlockColumns / 4, 64}, b.getI8Type());
    Value acc = allocate(b, {kBlockPlanes, kBlockTokens, ternary::kRowGroup},
                         b.getI32Type());
    Value zero = arith::ConstantIndexOp::create(b, 0);
    Value one = arith::ConstantIndexOp::create(b, 1);
    Value tokens = arith::ConstantIndexOp::create(b, kBlockTokens);
    Value end = arith::IndexCastOp::create(b, b.getIndexType(), iterations);
    scf::ForOp::create(b, zero, end, one, ValueRange(),
                       [&](OpBuilder &, Location, Value, ValueRange) {
                         ternary::DotBlockOp::create(b, q, zero, zero, tokens,
                                                     codes, acc);
                         scf::YieldOp::create(b);
                       });
    return {memref::LoadOp::create(b, acc, ValueRange{zero, zero, zero}),
            kBlockPlanes * ternary::kRowGroup * kBlockTokens * kBlockColumns};
  }

  /// The codes differ from sum to sum and q from iteration to iteration, so
  /// that no dot product can be shared or hoisted; the result depends on all.
  /// Where dot products are chained in i16, an iteration is a whole chain.
  Work buildDots(ImplicitLocOpBuilder &b, Value iterations,
                 const ternary::Schedule &schedule) {
    int64_t lanes = schedule.lanes, chain = schedule.chain;
    int64_t numSums = chain == 1 ? kNumSums : kNumChainedSums;
    Type i8 = b.getI8Type(), i64 = b.getI64Type();
    auto bytes = VectorType::get(4 * lanes, i8),
         ints = VectorType::get(lanes, b.getI32Type()),
         pairs = VectorType::get(2 * lanes, b.getI16Type());
    Value seed = arith::TruncIOp::create(b, i8, iterations);

    SmallVector<Value> codes, sums;
    for (int64_t i = 0; i < numSums; ++i) {
      Value offset = arith::ConstantIntOp::create(b, i8, i);
      codes.push_back(vector::BroadcastOp::create(
          b, bytes, arith::AddIOp::create(b, seed, offset)));
      sums.push_back(arith::ConstantOp::create(b, b.getZeroAttr(ints)));
    }
    Value zero = arith::ConstantIndexOp::create(b, 0);
    Value one = arith::ConstantIndexOp::create(b, 1);
    Value end = arith::IndexCastOp::create(b, b.getIndexType(), iterations);
    Value words = allocate(b, {4 * kNumWords}, i8);
    scf::ForOp::create(
        b, zero, arith::ConstantIndexOp::create(b, 4 * kNumWords), one,
        ValueRange(), [&](OpBuilder &, Location, Value i, ValueRange) {
          Value byte = arith::TruncIOp::create(
              b, i8, arith::IndexCastOp::create(b, i64, i));
          memref::StoreOp::create(b, arith::AddIOp::create(b, byte, seed),
                                  words, ValueRange{i});
          scf::YieldOp::create(b);
        });
    auto loadQ = [&](Value i) -> Value {
      Value word = arith::RemUIOp::create(
          b, i, arith::ConstantIndexOp::create(b, kNumWords));
      Value q = vector::LoadOp::create(
          b, VectorType::get(4, i8), words,
          ValueRange{arith::MulIOp::create(
              b, word, arith::ConstantIndexOp::create(b, 4))});
      q = vector::BitCastOp::create(b, VectorType::get(1, b.getI32Type()), q);
      q = vector::BroadcastOp::create(b, ints,
                                      vector::ExtractOp::create(b, q, 0));
      return vector::BitCastOp::create(b, bytes, q);
    };
    /// A loop that adds one dot product to each sum in a step; q changes from
    /// step to step.
    auto addDots = [&](Value begin, Value end, ValueRange sums, auto addDot) {
      return scf::ForOp::create(
          b, begin, end, one, sums,
          [&](OpBuilder &, Location, Value iv, ValueRange carried) {
            Value q = loadQ(iv);
            SmallVector<Value> next;
            for (auto [sum, code] : llvm::zip(carried, codes))
              next.push_back(addDot(sum, code, q));
            scf::YieldOp::create(b, next);
          });
    };
    auto loop =
        chain == 1
            ? addDots(zero, end, sums,
                      [&](Value sum, Value code, Value q) -> Value {
                        return ternary::DotOp::create(b, sum, code, q);
                      })
            : scf::ForOp::create(
                  b, zero, end, one, sums,
                  [&](OpBuilder &, Location, Value iv, ValueRange carried) {
                    Value none =
                        arith::ConstantOp::create(b, b.getZeroAttr(pairs));
                    Value last = arith::AddIOp::create(
                        b, iv, arith::ConstantIndexOp::create(b, chain));
                    auto chained = addDots(
                        iv, last, SmallVector<Value>(numSums, none),
                        [&](Value sum, Value code, Value q) -> Value {
                          return ternary::DotPairsOp::create(b, sum, code, q);
                        });
                    SmallVector<Value> next;
                    for (auto [sum, pairSum] :
                         llvm::zip(carried, chained.getResults()))
                      next.push_back(
                          ternary::AddPairsOp::create(b, sum, pairSum));
                    scf::YieldOp::create(b, next);
                  });
    Value total = loop.getResult(0);
    for (Value sum : loop.getResults().drop_front())
      total = arith::XOrIOp::create(b, total, sum);
    return {vector::ReductionOp::create(b, vector::CombiningKind::XOR, total),
            chain * numSums * 4 * lanes};
  }
};

} // namespace
} // namespace tercet
