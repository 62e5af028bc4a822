// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// AMX-INT8: eight tiles of up to 16 rows of 64 bytes. tdpbsud adds the product
// of a tile of q (16 tokens by 64 columns, signed) and a tile of codes (a
// panel: 16 vectors of 16 rows by 4 columns, unsigned) to a tile of sums. Two
// by two tiles of sums reuse what is loaded; both operands stream from the
// second-level cache at the rate of the multiplications.

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
  void emitPair(Value token, int64_t numHalves);
  void multiplyPanel(Value panel, Value column, Value token, int64_t numHalves,
                     int64_t firstPlane, int64_t numPlanes);

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
  Value q = add(mul(add(op.getFirst(), token), rowStride), column);
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

/// All planes, two at a time, by one or two tiles of tokens.
void DotBlockEmitter::emitPair(Value token, int64_t numHalves) {
  int64_t columns = cast<MemRefType>(op.getQ().getType()).getDimSize(1);
  auto accType = cast<MemRefType>(op.getAcc().getType());
  int64_t allPlanes = accType.getDimSize(0);
  int64_t wholePanels = columns / ternary::kPanelColumns;
  for (int64_t plane = 0; plane < allPlanes; plane += 2) {
    int64_t numPlanes = std::min<int64_t>(2, allPlanes - plane);
    for (int64_t half = 0; half < numHalves; ++half)
      for (int64_t i = 0; i < numPlanes; ++i)
        call("tilezero", tile(sums(half, i)));
    auto loop = scf::ForOp::create(b, index(0), index(wholePanels), index(1));
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(loop.getBody());
      Value panel = loop.getInductionVar();
      multiplyPanel(panel, mul(panel, ternary::kPanelColumns), token, numHalves,
                    plane, numPlanes);
    }
    if (columns % ternary::kPanelColumns)
      multiplyPanel(index(wholePanels), index(columns - ternary::kPanelColumns),
                    token, numHalves, plane, numPlanes);
    for (int64_t half = 0; half < numHalves; ++half)
      for (int64_t i = 0; i < numPlanes; ++i) {
        int64_t start =
            ((plane + i) * accType.getDimSize(1) + half * kTileTokens) * 64;
        call("tilestored64",
             {tile(sums(half, i)),
              address(op.getAcc(), add(mul(token, 64), index(start))),
              stride(64)});
      }
  }
}

/// Tiles are released at the end: as long as they are in use, a switch to
/// another thread has to save them.
void DotBlockEmitter::emit() {
  Value config = createConfig();
  loadConfig(config, index(kPairTokens));
  auto loop =
      scf::ForOp::create(b, index(0), op.getCount(), index(kPairTokens));
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value token = loop.getInductionVar();
    Value left = arith::SubIOp::create(b, op.getCount(), token);
    scf::IfOp::create(b, isBelow(left, index(kPairTokens)),
                      [&](OpBuilder &then, Location) {
                        OpBuilder::InsertionGuard guard(b);
                        b.restoreInsertionPoint(then.saveInsertionPoint());
                        loadConfig(config, left);
                        scf::YieldOp::create(b);
                      });
    auto emitHalves = [&](int64_t numHalves) {
      return [this, token, numHalves](OpBuilder &branch, Location) {
        OpBuilder::InsertionGuard guard(b);
        b.restoreInsertionPoint(branch.saveInsertionPoint());
        emitPair(token, numHalves);
        scf::YieldOp::create(b);
      };
    };
    scf::IfOp::create(b, isBelow(left, index(kTileTokens + 1)), emitHalves(1),
                      emitHalves(2));
  }
  call("tilerelease", {});
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
