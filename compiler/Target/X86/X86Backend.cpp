// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// x86: vpdpbusd where there is VNNI, pmaddubsw from SSSE3 on, in the widest
// registers that have it, and pmaddwd anywhere.

#include "compiler/Target/Backend.h"
#include "compiler/Target/VectorSlices.h"
#include "compiler/Target/X86/AMX.h"
#include "tercet/artifact.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;

namespace tercet {
namespace {

/// The dot products that x86 has, by preference.
enum class DotKind { AVX512VNNI, AVXVNNI, AVX512BW, AVX2, SSSE3, SSE2 };

DotKind getDotKind(const TargetSpec &target) {
  if (target.has(TERCET_CPU_AVX512VNNI | TERCET_CPU_AVX512VL))
    return DotKind::AVX512VNNI;
  if (target.has(TERCET_CPU_AVXVNNI))
    return DotKind::AVXVNNI;
  if (target.has(TERCET_CPU_AVX512BW | TERCET_CPU_AVX512VL))
    return DotKind::AVX512BW;
  if (target.has(TERCET_CPU_AVX2))
    return DotKind::AVX2;
  return target.has(TERCET_CPU_SSSE3) ? DotKind::SSSE3 : DotKind::SSE2;
}

/// 32-bit lanes of its registers.
int64_t getLanes(DotKind kind) {
  switch (kind) {
  case DotKind::AVX512VNNI:
  case DotKind::AVX512BW:
    return 16;
  case DotKind::AVXVNNI:
  case DotKind::AVX2:
    return 8;
  case DotKind::SSSE3:
  case DotKind::SSE2:
    return 4;
  }
  llvm_unreachable("unknown dot product");
}

/// Whether a dot product goes through 16 bits, which chains pay for.
bool isPaired(DotKind kind) {
  return kind == DotKind::AVX512BW || kind == DotKind::AVX2 ||
         kind == DotKind::SSSE3;
}

/// Whether tables of 64 and 128 bytes are one instruction.
bool hasByteTables(const TargetSpec &target) {
  return target.has(TERCET_CPU_AVX512VBMI | TERCET_CPU_AVX512VL);
}

bool isZen(const TargetSpec &target) {
  return llvm::StringRef(target.tuneCpu).starts_with("znver");
}

/// Whether the CPU's own prefetchers keep memory busy with what one tile after
/// the other asks for. Zen 4 gets 33 of 33 GB/s so, and software only gets in
/// their way; Zen 5 gains 12-18 % by it, 5 % more from twice as far ahead. A
/// core of Sapphire Rapids gets half of its 20 GB/s, and all with several
/// streams and software's prefetches.
bool prefetchesAhead(const TargetSpec &target) { return isZen(target); }

int64_t getPrefetch(const TargetSpec &target) {
  return target.tuneCpu == "znver4"   ? 0
         : target.tuneCpu == "znver5" ? 8192
                                      : 4096;
}

Value intrinsic(OpBuilder &b, Location loc, const Twine &name, Type type,
                ValueRange operands) {
  return LLVM::CallIntrinsicOp::create(
             b, loc, type, b.getStringAttr("llvm.x86." + name), operands)
      ->getResult(0);
}

/// vpermb, or vpermi2b for the tables of two registers; both ignore the bits of
/// an index that are beyond the table.
struct LowerLookupToVBMI : OpRewritePattern<ternary::LookupOp> {
  LowerLookupToVBMI(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    auto type = op.getType();
    int64_t width = type.getNumElements();
    int64_t size = cast<VectorType>(op.getTable().getType()).getNumElements();
    if (!type.getElementType().isInteger(8) || width != 64 ||
        (size != 64 && size != 128))
      return b.notifyMatchFailure(op, "not a table of one or two registers");
    Location loc = op.getLoc();
    if (size == 64) {
      b.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
          op, type, b.getStringAttr("llvm.x86.avx512.permvar.qi.512"),
          ValueRange{op.getTable(), op.getIndices()});
      return success();
    }
    auto half = [&](int64_t offset) -> Value {
      return vector::ExtractStridedSliceOp::create(
          b, loc, op.getTable(), /*offsets=*/ArrayRef<int64_t>{offset},
          /*sizes=*/ArrayRef<int64_t>{64}, /*strides=*/ArrayRef<int64_t>{1});
    };
    b.replaceOpWithNewOp<LLVM::CallIntrinsicOp>(
        op, type, b.getStringAttr("llvm.x86.avx512.vpermi2var.qi.512"),
        ValueRange{half(0), op.getIndices(), half(64)});
    return success();
  }
};

Value splatBytes(OpBuilder &b, Location loc, VectorType type, uint8_t value) {
  return arith::ConstantOp::create(
      b, loc, DenseElementsAttr::get(type, b.getI8IntegerAttr(int8_t(value))));
}

Value lookUp(OpBuilder &b, Location loc, ArrayRef<uint8_t> table,
             Value indices) {
  auto tableType = VectorType::get(table.size(), b.getI8Type());
  ArrayRef raw(reinterpret_cast<const char *>(table.data()), table.size());
  return ternary::LookupOp::create(
      b, loc, cast<VectorType>(indices.getType()),
      arith::ConstantOp::create(
          b, loc, DenseElementsAttr::getFromRawBuffer(tableType, raw)),
      indices);
}

/// A negative number has the digits of the positive one with the other sign:
/// codes of `ones`, fields that are all one, twice minus the codes.
Value mirrorFields(OpBuilder &b, Location loc, Value fields, Value isNegative,
                   uint8_t ones) {
  Value twice =
      splatBytes(b, loc, cast<VectorType>(fields.getType()), 2 * ones);
  return arith::SelectOp::create(
      b, loc, isNegative, arith::SubIOp::create(b, loc, twice, fields), fields);
}

/// vpermw: a table of 32 words in one register. It ignores the bits of an index
/// that are beyond the table.
struct LowerLookupToVpermw : OpRewritePattern<ternary::LookupOp> {
  LowerLookupToVpermw(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    auto type = VectorType::get(32, b.getI16Type());
    if (op.getType() != type || op.getTable().getType() != type)
      return b.notifyMatchFailure(op, "not words of one register");
    b.replaceOp(op, intrinsic(b, op.getLoc(), "avx512.permvar.hi.512", type,
                              {op.getTable(), op.getIndices()}));
    return success();
  }
};

/// Two tables: the fields of the planes 0..3 by the low seven bits, which a
/// negative sum has with the other signs, and plane 4 by the low six, where one
/// register is enough.
struct LowerUnpackT5ToLookup : OpRewritePattern<ternary::UnpackT5Op> {
  LowerUnpackT5ToLookup(MLIRContext *context)
      : OpRewritePattern(context, /*benefit=*/1) {}
  LogicalResult matchAndRewrite(ternary::UnpackT5Op op,
                                PatternRewriter &b) const override {
    auto type = cast<VectorType>(op.getBytes().getType());
    if (type.getNumElements() != 64)
      return b.notifyMatchFailure(op, "not a whole register");
    Location loc = op.getLoc();
    Value isNegative =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, op.getBytes(),
                              splatBytes(b, loc, type, 0));
    std::array<uint8_t, 128> fieldTable = {};
    std::array<uint8_t, 64> lastTable;
    for (auto [byte, fields] : llvm::enumerate(fieldTable)) {
      std::array<int8_t, 5> trits = ternary::getT5Trits(byte);
      for (unsigned plane = 0; plane < 4; ++plane)
        fields |= (trits[plane] + 1) << (2 * plane);
      lastTable[byte % 64] = trits[4] + 1;
    }
    Value fields =
        mirrorFields(b, loc, lookUp(b, loc, fieldTable, op.getBytes()),
                     isNegative, 0b01010101);
    b.replaceOp(op, {fields, lookUp(b, loc, lastTable, op.getBytes())});
    return success();
  }
};

/// Whether so many lanes of 32 bits are an xmm, ymm or zmm.
bool hasRegister(int64_t lanes) {
  return lanes == 4 || lanes == 8 || lanes == 16;
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
      if (!hasRegister(lanes))
        return b.notifyMatchFailure(op, "no instruction of this width");
      b.replaceOp(op, emit(b, op.getLoc(), op.getAcc(), op.getCodes(),
                           op.getQ(), op.getWide()));
      return success();
    }
    if (lanes % maxLanes)
      return b.notifyMatchFailure(op, "not whole vectors");
    b.replaceOp(op, replaceSlices(b, op.getLoc(), op.getAcc(), maxLanes,
                                  {op.getCodes(), op.getQ()},
                                  [&](Value acc, ValueRange operands) {
                                    return emit(b, op.getLoc(), acc,
                                                operands[0], operands[1],
                                                op.getWide());
                                  }));
    return success();
  }

protected:
  virtual Value emit(OpBuilder &b, Location loc, Value acc, Value codes,
                     Value q, bool wide) const = 0;

private:
  int64_t maxLanes;
};

/// acc + codes . q in one instruction.
struct LowerDotToVNNI : LowerDot {
  using LowerDot::LowerDot;
  Value emit(OpBuilder &b, Location loc, Value acc, Value codes, Value q,
             bool wide) const override {
    auto type = cast<VectorType>(acc.getType());
    return intrinsic(b, loc,
                     "avx512.vpdpbusd." + Twine(32 * type.getNumElements()),
                     type, {acc, codes, q});
  }
};

/// The intrinsic on registers of so many 32-bit lanes: each has three names.
llvm::StringRef chooseName(int64_t lanes, llvm::StringRef sse,
                           llvm::StringRef avx2, llvm::StringRef avx512) {
  return lanes == 4 ? sse : lanes == 8 ? avx2 : avx512;
}

/// acc + the sums of two products of 16-bit numbers each.
Value addProducts(OpBuilder &b, Location loc, Value acc, Value left,
                  Value right) {
  int64_t lanes = cast<VectorType>(acc.getType()).getNumElements();
  llvm::StringRef name = chooseName(lanes, "sse2.pmadd.wd", "avx2.pmadd.wd",
                                    "avx512.pmaddw.d.512");
  return arith::AddIOp::create(
      b, loc, acc, intrinsic(b, loc, name, acc.getType(), {left, right}));
}

/// Vectors as long as registers, of at most `maxLanes` lanes of 32 bits.
template <typename OpTy> class LowerRegister : public OpRewritePattern<OpTy> {
public:
  LowerRegister(MLIRContext *context, int64_t maxLanes)
      : OpRewritePattern<OpTy>(context, /*benefit=*/2), maxLanes(maxLanes) {}

protected:
  bool isRegister(VectorType type) const {
    int64_t lanes = type.getNumElements() * type.getElementTypeBitWidth() / 32;
    return hasRegister(lanes) && lanes <= maxLanes;
  }

private:
  int64_t maxLanes;
};

/// pshufb, which looks up each 16 bytes in their own part of a table, and gives
/// zero where bit 7 of an index is set.
struct LowerLookupToShuffle : LowerRegister<ternary::LookupOp> {
  using LowerRegister::LowerRegister;
  LogicalResult matchAndRewrite(ternary::LookupOp op,
                                PatternRewriter &b) const override {
    auto type = op.getType();
    Value table = op.getTable();
    if (table.getType() != VectorType::get(16, b.getI8Type()) ||
        !isRegister(type))
      return b.notifyMatchFailure(op, "not 16 bytes, or no register");
    Location loc = op.getLoc();
    int64_t width = type.getNumElements();
    SmallVector<int64_t> repeated;
    for (int64_t i = 0; i < width; ++i)
      repeated.push_back(i % 16);
    table = vector::ShuffleOp::create(b, loc, table, table, repeated);
    Value indices = arith::AndIOp::create(b, loc, op.getIndices(),
                                          splatBytes(b, loc, type, 15));
    b.replaceOp(op, intrinsic(b, loc,
                              chooseName(width / 4, "ssse3.pshuf.b.128",
                                         "avx2.pshuf.b", "avx512.pshuf.b.512"),
                              type, {table, indices}));
    return success();
  }
};

/// One table of magnitudes.
struct LowerUnpackT3ToLookup : LowerRegister<ternary::UnpackT3Op> {
  using LowerRegister::LowerRegister;
  LogicalResult matchAndRewrite(ternary::UnpackT3Op op,
                                PatternRewriter &b) const override {
    Location loc = op.getLoc();
    auto type = cast<VectorType>(op.getFields().getType());
    if (!isRegister(type))
      return b.notifyMatchFailure(op, "no register");
    std::array<uint8_t, 16> table = {};
    for (unsigned magnitude = 0; magnitude <= 13; ++magnitude)
      for (auto [plane, trit] :
           llvm::enumerate(ternary::getT3Trits(magnitude, false)))
        table[magnitude] |= (trit + 1) << (2 * plane);
    Value isNegative =
        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt, op.getSigns(),
                              splatBytes(b, loc, type, 0));
    Value fields = lookUp(b, loc, table, op.getMagnitudes());
    b.replaceOp(op, mirrorFields(b, loc, fields, isNegative, 0b010101));
    return success();
  }
};

/// vpmaddubsw saturates at 16 bits: 2 * 128 * 127 fits.
struct LowerDotPairsToMaddubs : LowerRegister<ternary::DotPairsOp> {
  using LowerRegister::LowerRegister;
  LogicalResult matchAndRewrite(ternary::DotPairsOp op,
                                PatternRewriter &b) const override {
    auto type = op.getType();
    if (!isRegister(type))
      return b.notifyMatchFailure(op, "no instruction of this width");
    Value products =
        intrinsic(b, op.getLoc(),
                  chooseName(type.getNumElements() / 2, "ssse3.pmadd.ub.sw.128",
                             "avx2.pmadd.ub.sw", "avx512.pmaddubs.w.512"),
                  type, {op.getCodes(), op.getQ()});
    b.replaceOpWithNewOp<arith::AddIOp>(op, op.getAcc(), products);
    return success();
  }
};

/// A product with one is a widening.
struct LowerAddPairsToMadd : LowerRegister<ternary::AddPairsOp> {
  using LowerRegister::LowerRegister;
  LogicalResult matchAndRewrite(ternary::AddPairsOp op,
                                PatternRewriter &b) const override {
    if (!isRegister(op.getType()))
      return b.notifyMatchFailure(op, "no instruction of this width");
    auto type = cast<VectorType>(op.getPairs().getType());
    Value ones = arith::ConstantOp::create(
        b, op.getLoc(), DenseElementsAttr::get(type, b.getI16IntegerAttr(1)));
    b.replaceOp(op,
                addProducts(b, op.getLoc(), op.getAcc(), op.getPairs(), ones));
    return success();
  }
};

/// acc + codes . q in 32 bits: even and odd bytes are 16-bit numbers, whose
/// products pmaddwd adds.
struct LowerDotToMadd : LowerDot {
  using LowerDot::LowerDot;
  Value emit(OpBuilder &b, Location loc, Value acc, Value codes, Value q,
             bool wide) const override {
    int64_t lanes = cast<VectorType>(acc.getType()).getNumElements();
    auto pairs = VectorType::get(2 * lanes, b.getI16Type());
    auto splat = [&](int64_t value) -> Value {
      return arith::ConstantOp::create(
          b, loc, DenseElementsAttr::get(pairs, b.getI16IntegerAttr(value)));
    };
    Value eight = splat(8);
    codes = vector::BitCastOp::create(b, loc, pairs, codes);
    q = vector::BitCastOp::create(b, loc, pairs, q);
    Value evenQ = arith::ShRSIOp::create(
        b, loc, arith::ShLIOp::create(b, loc, q, eight), eight);
    Value oddQ = arith::ShRSIOp::create(b, loc, q, eight);
    Value evenCodes = arith::AndIOp::create(b, loc, codes, splat(255));
    Value oddCodes = arith::ShRUIOp::create(b, loc, codes, eight);
    acc = addProducts(b, loc, acc, evenCodes, evenQ);
    return addProducts(b, loc, acc, oddCodes, oddQ);
  }
};

/// acc + codes . q, half-way in 16 bits (getMaxDotCode) unless codes are wide.
struct LowerDotToPairs : LowerDotToMadd {
  using LowerDotToMadd::LowerDotToMadd;
  Value emit(OpBuilder &b, Location loc, Value acc, Value codes, Value q,
             bool wide) const override {
    if (wide)
      return LowerDotToMadd::emit(b, loc, acc, codes, q, wide);
    int64_t lanes = cast<VectorType>(acc.getType()).getNumElements();
    Value zero = arith::ConstantOp::create(
        b, loc, b.getZeroAttr(VectorType::get(2 * lanes, b.getI16Type())));
    return ternary::AddPairsOp::create(
        b, loc, acc, ternary::DotPairsOp::create(b, loc, zero, codes, q));
  }
};

/// Of a core from its caches, 2560x2560 (KernelBench, docs/performance.md).
struct PackingRates {
  DotKind kind;
  ternary::Packing packing;
  MatmulRates zen4, zen5;
};

constexpr MatmulRates giga(double gemv, double gemm) {
  return {gemv * 1e9, gemm * 1e9};
}

/// Of AMX tiles, 128 tokens, from t5 as from i2 (an Intel core, L2 of 2 MB).
constexpr double kTilesGemm = 1200e9;

/// Zen 4 has no AVX-VNNI: its rates there are those of Zen 5.
constexpr PackingRates kRates[] = {
    {DotKind::AVX512VNNI, ternary::Packing::I2, giga(226, 230), giga(484, 529)},
    {DotKind::AVX512VNNI, ternary::Packing::T5, giga(148, 229), giga(347, 531)},
    {DotKind::AVX512VNNI, ternary::Packing::T3, giga(120, 219), giga(202, 520)},
    {DotKind::AVX512VNNI, ternary::Packing::L3, giga(209, 243), giga(293, 438)},
    {DotKind::AVX512BW, ternary::Packing::I2, giga(117, 170), giga(267, 456)},
    {DotKind::AVX512BW, ternary::Packing::T3, giga(77, 163), giga(154, 428)},
    {DotKind::AVX512BW, ternary::Packing::L3, giga(180, 251), giga(361, 526)},
    {DotKind::AVXVNNI, ternary::Packing::I2, giga(239, 243), giga(239, 243)},
    {DotKind::AVXVNNI, ternary::Packing::T3, giga(136, 201), giga(136, 201)},
    {DotKind::AVXVNNI, ternary::Packing::L3, giga(46, 59), giga(60, 75)},
    {DotKind::AVX2, ternary::Packing::I2, giga(116, 158), giga(136, 216)},
    {DotKind::AVX2, ternary::Packing::T3, giga(67, 166), giga(79, 210)},
    {DotKind::AVX2, ternary::Packing::L3, giga(46, 59), giga(59, 74)},
    {DotKind::SSSE3, ternary::Packing::I2, giga(56, 77), giga(65, 94)},
    {DotKind::SSSE3, ternary::Packing::L3, giga(23, 30), giga(30, 37)},
    {DotKind::SSE2, ternary::Packing::I2, giga(15, 15), giga(37, 36)},
};

class X86Backend : public Backend {
public:
  llvm::StringRef getName() const override { return "X86"; }
  llvm::StringRef getDescription() const override {
    return "x86-64: SSE2, SSSE3, AVX2, AVX-512, AVX-VNNI, AVX512-VNNI";
  }
  bool supports(const TargetSpec &target) const override {
    return llvm::StringRef(target.triple).starts_with("x86_64");
  }

  /// t5 needs byte tables, l3 a table of words: Intel's cores have half the
  /// vpermw of Zen 4.
  std::optional<MatmulRates>
  getRates(ternary::Packing packing, const TargetSpec &target,
           const CpuDescription &cpu) const override {
    using ternary::Packing;
    DotKind kind = getDotKind(target);
    if (packing == Packing::T5 && !hasByteTables(target))
      return std::nullopt;
    bool isAMD = cpu.vendor == "AuthenticAMD";
    bool isZen5 = target.tuneCpu == "znver5" || (isAMD && cpu.family >= 26);
    bool looksUpWords = packing == Packing::L3 && getLanes(kind) == 16;
    double factor = looksUpWords && !isAMD ? 0.5 : 1;
    for (const PackingRates &row : kRates)
      if (row.kind == kind && row.packing == packing) {
        const MatmulRates &rates = isZen5 ? row.zen5 : row.zen4;
        bool usesTiles =
            target.has(TERCET_CPU_AMXINT8) && packing != Packing::L3;
        return MatmulRates{factor * rates.gemv,
                           usesTiles ? kTilesGemm : factor * rates.gemm};
      }
    return std::nullopt;
  }

  /// A core of Zen 4 has one port for vpdpbusd of 512 bits, of Zen 5 two, and
  /// as many again for masks. Intel's have two, for all vectors.
  bool masksBesideDots(const TargetSpec &target) const override {
    return isZen(target) && target.has(TERCET_CPU_AVX512VNNI);
  }

  /// A Sapphire Rapids core, 20 GB/s: with one stream 14 GB/s of i2, which it
  /// computes with at 57, with two 18 of t5, at 30 (docs/performance.md).
  double getOverlap(int64_t numStreams, const TargetSpec &target,
                    const CpuDescription &cpu) const override {
    if (prefetchesAhead(target) || cpu.vendor == "AuthenticAMD" ||
        numStreams >= 8)
      return 1;
    return numStreams == 1 ? 0 : 0.8;
  }

  VectorRegisters getRegisters(const TargetSpec &target) const override {
    return {target.has(TERCET_CPU_AVX512VL) ? 32 : 16,
            getLanes(getDotKind(target))};
  }

  /// Register budgets. i2: 32 zmm hold 4 planes x 6 tokens (24 accumulators),
  /// 16 ymm or xmm hold 4 planes x 2 tokens or x 2 parts of a vector: all that
  /// ymm have, but xmm have four. Without pmaddubsw, codes and q take twice the
  /// registers. t5: tables and masks take a third of 32 zmm, and leave two sets
  /// of 5 accumulators; unpacked codes leave 5 planes x 5 tokens. t3: a table,
  /// two masks, signs and what they are subtracted from leave 16 ymm one part
  /// of a GEMV, both with vpdpbusd, or 3 planes x 2 tokens.
  ternary::Schedule getSchedule(ternary::Packing packing, MatmulShape shape,
                                const TargetSpec &target) const override {
    DotKind kind = getDotKind(target);
    bool wide = getLanes(kind) == 16;
    ternary::Schedule schedule = {.lanes = getLanes(kind),
                                  .unroll = wide ? 4 : 1,
                                  .tokens = wide ? 6 : 2,
                                  .prefetch = getPrefetch(target),
                                  .chain = isPaired(kind) ? 64 : 1,
                                  .inPlace = !isPaired(kind)};
    if (getLanes(kind) == 4)
      schedule.parts = 2;
    if (kind == DotKind::SSE2)
      schedule.tokens = schedule.parts = 1;
    if (packing == ternary::Packing::T3) {
      schedule.unroll = 1;
      if (!wide && kind != DotKind::AVXVNNI)
        schedule.parts = 1;
      if (kind != DotKind::SSE2)
        schedule.tokens = wide ? 4 : 2;
    }
    // l3: the sums of 8 tiles, which are as many streams, or of 4 tiles and 4
    // tokens, with their codes and tables fill 32 zmm. 16 smaller registers
    // hold those of 2 vectors beside what pshufb needs.
    if (packing == ternary::Packing::L3) {
      schedule.unroll = !wide ? 1 : prefetchesAhead(target) ? 4 : 8;
      schedule.tokens = wide ? 4 : 2;
      schedule.chain = ternary::kMaxTableChain;
      schedule.inPlace = false;
    }
    if (packing == ternary::Packing::T5) {
      schedule.unroll = wide ? 2 : 1;
      schedule.tokens = !wide ? 1 : masksBesideDots(target) ? 4 : 5;
    }
    schedule.blocks =
        target.has(TERCET_CPU_AMXINT8) && packing != ternary::Packing::L3;
    if (prefetchesAhead(target))
      return schedule;
    // As many streams as keep memory busy; groups of columns are too short.
    if ((kind == DotKind::AVX512VNNI || kind == DotKind::AVXVNNI) &&
        packing != ternary::Packing::T3 && packing != ternary::Packing::L3 &&
        !shape.group)
      schedule.unroll = 8;
    if (schedule.chain == 1)
      schedule.streams = schedule.unroll;
    // What is fetched beyond the end of a tile beside others is in vain, and
    // short streams have no more.
    if (packing == ternary::Packing::L3 || schedule.streams >= 4)
      schedule.prefetch = 1024;
    return schedule;
  }

  bool dotsBytes(const TargetSpec &target) const override {
    return getDotKind(target) == DotKind::AVX512VNNI;
  }

  bool prefetchesKeys(const TargetSpec &target) const override {
    return !prefetchesAhead(target);
  }

  bool widensF16(const TargetSpec &target) const override {
    return target.has(TERCET_CPU_F16C);
  }

  /// Eight streams of bf16, where their sums find registers.
  int64_t getHeadTileRows(ternary::Packing packing,
                          const TargetSpec &target) const override {
    bool fits = packing == ternary::Packing::BF16Pairs &&
                getDotKind(target) == DotKind::AVX512VNNI;
    return fits && !prefetchesAhead(target) ? 32 : 64;
  }

  /// GB/s of a core: Sapphire Rapids 20 of 20 by four tiles of 64 rows, 13 by
  /// one; Ice Lake 12.7 by four, 14.0 by eight of 32.
  ternary::Schedule getHeadSchedule(ternary::Packing packing, int64_t tileRows,
                                    const TargetSpec &target) const override {
    ternary::Schedule schedule = {
        .unroll = 2, .tokens = 4, .prefetch = getPrefetch(target)};
    if (prefetchesAhead(target))
      return schedule;
    bool holdsEight =
        tileRows <= 32 && getDotKind(target) == DotKind::AVX512VNNI;
    schedule.unroll = 1;
    schedule.streams = holdsEight ? 8 : 4;
    return schedule;
  }

  /// 32 zmm hold the sums of 4 row groups x 2 digits x 2 tokens; beside what
  /// unpacks q6, those of 2 row groups, of four tokens too. 16 ymm hold those
  /// of one row group, but only half of it beside what vpmaddubsw needs. q4's
  /// bytes have the most dot products: four chains of vpdpbusd would wait for
  /// each other.
  ternary::CodeLayoutAttr
  selectHeadLayout(MLIRContext *context, ternary::CodeFormat format,
                   const TargetSpec &target) const override {
    auto layout = [&](int64_t tileRows, int64_t lanes, int64_t parts,
                      int64_t tokens) {
      return ternary::CodeLayoutAttr::get(context, format, tileRows, lanes,
                                          parts, tokens, getPrefetch(target));
    };
    switch (getDotKind(target)) {
    case DotKind::AVX512VNNI:
      return format == ternary::CodeFormat::Q6 ? layout(32, 16, 2, 4)
                                               : layout(64, 16, 4, 2);
    case DotKind::AVXVNNI:
      return format == ternary::CodeFormat::Q4 ? layout(32, 8, 4, 1)
                                               : layout(16, 8, 2, 1);
    case DotKind::AVX512BW:
    case DotKind::AVX2:
      return layout(16, 8, 1, 1);
    case DotKind::SSSE3:
    case DotKind::SSE2:
      return layout(16, 4, 1, 1);
    }
    llvm_unreachable("unknown dot product");
  }

  /// Without an instruction for it an fma is thirty, whose lanes do not wait
  /// for each other: more of them make code larger, not faster.
  int64_t getFloatAccumulators(const TargetSpec &target) const override {
    return target.has(TERCET_CPU_AVX512VL) ? 16 : hasFMA(target) ? 4 : 1;
  }

  bool hasFMA(const TargetSpec &target) const override {
    return target.has(TERCET_CPU_FMA);
  }

  int64_t getMaxDotCode(const TargetSpec &target) const override {
    return isPaired(getDotKind(target)) ? 128 : 255;
  }

  void populateVectorLowerings(RewritePatternSet &patterns,
                               const TargetSpec &target) const override {
    if (hasByteTables(target))
      patterns.add<LowerLookupToVBMI, LowerUnpackT5ToLookup>(
          patterns.getContext());
    if (target.has(TERCET_CPU_AMXINT8))
      populateAMXLowerings(patterns);
    DotKind kind = getDotKind(target);
    int64_t maxLanes = getLanes(kind);
    if (maxLanes == 16)
      patterns.add<LowerLookupToVpermw>(patterns.getContext());
    if (kind != DotKind::SSE2)
      patterns.add<LowerLookupToShuffle, LowerUnpackT3ToLookup>(
          patterns.getContext(), maxLanes);
    switch (kind) {
    case DotKind::AVX512VNNI:
    case DotKind::AVXVNNI:
      patterns.add<LowerDotToVNNI>(patterns.getContext(), maxLanes);
      break;
    case DotKind::AVX512BW:
    case DotKind::AVX2:
    case DotKind::SSSE3:
      patterns
          .add<LowerDotToPairs, LowerDotPairsToMaddubs, LowerAddPairsToMadd>(
              patterns.getContext(), maxLanes);
      break;
    case DotKind::SSE2:
      patterns.add<LowerDotToMadd>(patterns.getContext(), maxLanes);
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
