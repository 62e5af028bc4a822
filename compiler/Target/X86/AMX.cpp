// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// AMX-INT8: eight tiles of up to 16 rows of 64 bytes. tdpbsud adds the product
// of a tile of q (16 tokens by 64 columns, signed) and a tile of codes (a
// panel: 16 vectors of 16 rows by 4 columns, unsigned) to a tile of sums. Two
// by two tiles of sums reuse what is loaded. Tiles come from the second-level
// cache at half the rate of the multiplications, which leaves time for the work
// of the op's region.

#include "compiler/Target/X86/AMX.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;

namespace tercet {
namespace {

/// Tokens of a tile, and of two.
constexpr int64_t kTileTokens = 16, kPairTokens = 32;
constexpr int64_t kTileBytes = 64 * 16;

class DotBlockEmitter {
public:
  DotBlockEmitter(ternary::DotBlockOp op, OpBuilder &builder, int64_t rowStride)
      : op(op), b(op.getLoc(), builder), rowStride(rowStride) {}

  void emit();

private:
  // Numbers of the tiles.
  static int64_t sums(int64_t half, int64_t plane) { return 2 * half + plane; }
  static int64_t tokens(int64_t half) { return 4 + half; }
  static int64_t codes(int64_t plane) { return 6 + plane; }

  Value createConfig();
  void loadConfig(Value config, Value count);
  Value emitPair(Value token, int64_t numHalves, Value done);
  void loadSums(Value token, int64_t numHalves, int64_t plane,
                int64_t numPlanes);
  void multiplyPanel(Value panel, Value column, Value token, int64_t numHalves,
                     int64_t firstPlane, int64_t numPlanes);
  Value workBesides(Value done);
  int64_t getWorkAtOnce();
  int64_t getNumPlanes() {
    return cast<MemRefType>(op.getAcc().getType()).getDimSize(0);
  }
  Value getSums(Value token, int64_t half, int64_t plane) {
    int64_t allTokens = cast<MemRefType>(op.getAcc().getType()).getDimSize(1);
    int64_t start = (plane * allTokens + half * kTileTokens) * 64;
    return address(op.getAcc(), add(mul(token, 64), index(start)));
  }

  Value index(int64_t value) {
    return arith::ConstantIndexOp::create(b, value);
  }
  Value add(Value x, Value y) { return arith::AddIOp::create(b, x, y); }
  Value mul(Value x, int64_t y) {
    return arith::MulIOp::create(b, x, index(y));
  }
  Value isBelow(Value x, Value y) {
    return arith::CmpIOp::create(b, arith::CmpIPredicate::ult, x, y);
  }
  Value tile(int64_t number) {
    return LLVM::ConstantOp::create(b, b.getI8Type(), number);
  }
  Value address(Value memref, Value bytes) {
    Value base = memref::ExtractAlignedPointerAsIndexOp::create(b, memref);
    Value sum = arith::IndexCastOp::create(b, b.getI64Type(), add(base, bytes));
    return LLVM::IntToPtrOp::create(
        b, LLVM::LLVMPointerType::get(b.getContext()), sum);
  }
  void call(StringRef name, ValueRange operands) {
    LLVM::CallIntrinsicOp::create(b, b.getStringAttr("llvm.x86." + name),
                                  operands);
  }
  Value stride(int64_t bytes) {
    return LLVM::ConstantOp::create(b, b.getI64Type(), bytes);
  }

  ternary::DotBlockOp op;
  ImplicitLocOpBuilder b;
  int64_t rowStride; ///< of q, in bytes
};

} // namespace

/// The 64 bytes of a configuration live on the stack of the function, outside
/// of its loops.
Value DotBlockEmitter::createConfig() {
  OpBuilder::InsertionGuard guard(b);
  auto function = op->getParentOfType<FunctionOpInterface>();
  b.setInsertionPointToStart(&function.getFunctionBody().front());
  return LLVM::AllocaOp::create(
      b, LLVM::LLVMPointerType::get(b.getContext()), b.getI8Type(),
      LLVM::ConstantOp::create(b, b.getI64Type(), 64), /*alignment=*/64);
}

/// Palette 1, all tiles of 64 bytes a row. The first 16 of `count` tokens are
/// the rows of one half of the tiles, what follows those of the other one,
/// which has 16 where it is not used.
void DotBlockEmitter::loadConfig(Value config, Value count) {
  auto bytes = VectorType::get(64, b.getI8Type());
  constexpr int64_t kRowBytes = 16, kRows = 48; // where they begin
  std::array<int8_t, 64> fixed = {1}, isFirst = {}, isSecond = {};
  for (int64_t number = 0; number < 8; ++number)
    fixed[kRowBytes + 2 * number] = 64;
  for (int64_t plane = 0; plane < 2; ++plane) {
    fixed[kRows + codes(plane)] = 16;
    isFirst[kRows + sums(0, plane)] = isSecond[kRows + sums(1, plane)] = 1;
  }
  isFirst[kRows + tokens(0)] = isSecond[kRows + tokens(1)] = 1;

  auto constant = [&](ArrayRef<int8_t> values) -> Value {
    return arith::ConstantOp::create(b, DenseElementsAttr::get(bytes, values));
  };
  auto where = [&](ArrayRef<int8_t> flags, Value rows) -> Value {
    Value byte = arith::IndexCastOp::create(b, b.getI8Type(), rows);
    return arith::MulIOp::create(b, constant(flags),
                                 vector::BroadcastOp::create(b, bytes, byte));
  };
  Value half = index(kTileTokens);
  Value first = arith::MinUIOp::create(b, count, half);
  Value isOne = isBelow(count, index(kTileTokens + 1));
  Value rest =
      arith::MinUIOp::create(b, arith::SubIOp::create(b, count, first), half);
  Value second = arith::SelectOp::create(b, isOne, half, rest);
  Value value =
      add(constant(fixed), add(where(isFirst, first), where(isSecond, second)));
  LLVM::StoreOp::create(b, value, config, /*alignment=*/64);
  call("ldtilecfg", config);
}

void DotBlockEmitter::multiplyPanel(Value panel, Value column, Value token,
                                    int64_t numHalves, int64_t firstPlane,
                                    int64_t numPlanes) {
  Value q = add(mul(add(op.getFirst(), token), rowStride),
                add(op.getColumn(), column));
  for (int64_t half = 0; half < numHalves; ++half)
    call("tileloadd64",
         {tile(tokens(half)),
          address(op.getQ(), add(q, index(half * kTileTokens * rowStride))),
          stride(rowStride)});
  int64_t planeBytes =
      cast<MemRefType>(op.getCodes().getType()).getDimSize(1) * 64;
  for (int64_t plane = 0; plane < numPlanes; ++plane) {
    Value at =
        add(mul(panel, kTileBytes), index((firstPlane + plane) * planeBytes));
    call("tileloadd64",
         {tile(codes(plane)), address(op.getCodes(), at), stride(64)});
    for (int64_t half = 0; half < numHalves; ++half)
      call("tdpbsud",
           {tile(sums(half, plane)), tile(tokens(half)), tile(codes(plane))});
  }
}

/// Zeros before the first column.
void DotBlockEmitter::loadSums(Value token, int64_t numHalves, int64_t plane,
                               int64_t numPlanes) {
  auto forEachTile = [&](llvm::function_ref<void(int64_t, int64_t)> body) {
    return [=, this](OpBuilder &branch, Location) {
      OpBuilder::InsertionGuard guard(b);
      b.restoreInsertionPoint(branch.saveInsertionPoint());
      for (int64_t half = 0; half < numHalves; ++half)
        for (int64_t i = 0; i < numPlanes; ++i)
          body(half, i);
      scf::YieldOp::create(b);
    };
  };
  auto clear = [&](int64_t half, int64_t i) {
    call("tilezero", tile(sums(half, i)));
  };
  auto load = [&](int64_t half, int64_t i) {
    call("tileloadd64",
         {tile(sums(half, i)), getSums(token, half, plane + i), stride(64)});
  };
  Value isFirst = arith::CmpIOp::create(b, arith::CmpIPredicate::eq,
                                        op.getColumn(), index(0));
  scf::IfOp::create(b, isFirst, forEachTile(clear), forEachTile(load));
}

/// Iterations of the work after each panel: as many as leave none of it over
/// with all tokens of acc.
int64_t DotBlockEmitter::getWorkAtOnce() {
  int64_t allTokens = cast<MemRefType>(op.getAcc().getType()).getDimSize(1);
  int64_t panels = op.getNumColumns() / ternary::kPanelColumns;
  return llvm::divideCeil(op.getWork(), panels * (getNumPlanes() / 2) *
                                            (allTokens / kPairTokens));
}

/// Some of what is not done yet; returns how much is done then.
Value DotBlockEmitter::workBesides(Value done) {
  int64_t count = getWorkAtOnce();
  Value next = add(done, index(count));
  Value fits = arith::CmpIOp::create(b, arith::CmpIPredicate::ule, next,
                                     index(op.getWork()));
  scf::IfOp::create(b, fits, [&](OpBuilder &branch, Location loc) {
    for (int64_t i = 0; i < count; ++i)
      op.cloneWork(branch, branch.createOrFold<arith::AddIOp>(
                               loc, done,
                               arith::ConstantIndexOp::create(branch, loc, i)));
    scf::YieldOp::create(branch, loc);
  });
  return arith::SelectOp::create(b, fits, next, done);
}

/// All planes, two at a time, by one or two tiles of tokens. Full tiles leave
/// time to work besides.
Value DotBlockEmitter::emitPair(Value token, int64_t numHalves, Value done) {
  int64_t columns = op.getNumColumns(), allPlanes = getNumPlanes();
  int64_t wholePanels = columns / ternary::kPanelColumns;
  for (int64_t plane = 0; plane < allPlanes; plane += 2) {
    int64_t numPlanes = std::min<int64_t>(2, allPlanes - plane);
    bool works = op.getWork() && numHalves == 2 && numPlanes == 2;
    loadSums(token, numHalves, plane, numPlanes);
    auto loop = scf::ForOp::create(b, index(0), index(wholePanels), index(1),
                                   works ? ValueRange(done) : ValueRange());
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      Value panel = loop.getInductionVar();
      multiplyPanel(panel, mul(panel, ternary::kPanelColumns), token, numHalves,
                    plane, numPlanes);
      if (works)
        scf::YieldOp::create(b, workBesides(loop.getRegionIterArg(0)));
    }
    if (works)
      done = loop.getResult(0);
    if (columns % ternary::kPanelColumns)
      multiplyPanel(index(wholePanels), index(columns - ternary::kPanelColumns),
                    token, numHalves, plane, numPlanes);
    for (int64_t half = 0; half < numHalves; ++half)
      for (int64_t i = 0; i < numPlanes; ++i)
        call("tilestored64", {tile(sums(half, i)),
                              getSums(token, half, plane + i), stride(64)});
  }
  return done;
}

/// Tiles are released at the end: as long as they are in use, a switch to
/// another thread has to save them.
void DotBlockEmitter::emit() {
  Value config = createConfig();
  loadConfig(config, index(kPairTokens));
  auto loop = scf::ForOp::create(b, index(0), op.getCount(), index(kPairTokens),
                                 ValueRange(index(0)));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value token = loop.getInductionVar(), done = loop.getRegionIterArg(0);
    Value left = arith::SubIOp::create(b, op.getCount(), token);
    scf::IfOp::create(b, isBelow(left, index(kPairTokens)),
                      [&](OpBuilder &then, Location) {
                        OpBuilder::InsertionGuard guard(b);
                        b.restoreInsertionPoint(then.saveInsertionPoint());
                        loadConfig(config, left);
                        scf::YieldOp::create(b);
                      });
    auto emitHalves = [&](int64_t numHalves) {
      return [this, token, numHalves, done](OpBuilder &branch, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(branch.saveInsertionPoint());
        scf::YieldOp::create(b, emitPair(token, numHalves, done));
      };
    };
    auto halves = scf::IfOp::create(b, isBelow(left, index(kTileTokens + 1)),
                                    emitHalves(1), emitHalves(2));
    scf::YieldOp::create(b, halves.getResults());
  }
  call("tilerelease", {});
  if (op.getWork())
    scf::ForOp::create(b, loop.getResult(0), index(op.getWork()), index(1),
                       ValueRange(),
                       [&](OpBuilder &body, Location loc, Value i, ValueRange) {
                         op.cloneWork(body, i);
                         scf::YieldOp::create(body, loc);
                       });
}

namespace {
struct LowerDotBlockToAMX : OpRewritePattern<ternary::DotBlockOp> {
  LowerDotBlockToAMX(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/2) {}
  LogicalResult matchAndRewrite(ternary::DotBlockOp op,
                                PatternRewriter &b) const override {
    SmallVector<int64_t> strides;
    int64_t offset;
    auto type = cast<MemRefType>(op.getQ().getType());
    if (failed(type.getStridesAndOffset(strides, offset)) || offset != 0 ||
        ShapedType::isDynamic(strides[0]))
      return b.notifyMatchFailure(op, "rows of q at unknown places");
    DotBlockEmitter(op, b, strides[0]).emit();
    b.eraseOp(op);
    return success();
  }
};
} // namespace

void populateAMXLowerings(RewritePatternSet &patterns) {
  patterns.add<LowerDotBlockToAMX>(patterns.getContext());
}

} // namespace tercet
