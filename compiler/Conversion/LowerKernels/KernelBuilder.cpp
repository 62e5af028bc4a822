// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace mlir;
using namespace tercet;

/// `type` with the shape of `like`.
static Type withElement(Value like, Type type) {
  if (auto vector = dyn_cast<VectorType>(like.getType()))
    return vector.clone(type);
  return type;
}

//===----------------------------------------------------------------------===//
// Constants and indices
//===----------------------------------------------------------------------===//

Value KernelBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, value);
}

Value KernelBuilder::scalar(float value) {
  return arith::ConstantOp::create(*this, getF32FloatAttr(value));
}

Value KernelBuilder::splat(float value) {
  return arith::ConstantOp::create(*this,
                                   DenseElementsAttr::get(floats(), value));
}

Value KernelBuilder::splatInt(int64_t value, VectorType type) {
  return arith::ConstantOp::create(
      *this, DenseElementsAttr::get(
                 type, getIntegerAttr(type.getElementType(), value)));
}

Value KernelBuilder::trueBit() {
  return arith::ConstantOp::create(*this, getBoolAttr(true));
}

Value KernelBuilder::laneNumbers() {
  return arith::ConstantOp::create(
      *this, DenseElementsAttr::get(ints(), ArrayRef(llvm::to_vector(
                                                llvm::seq<int32_t>(kLanes)))));
}

Value KernelBuilder::addIndex(Value a, Value b) {
  return createOrFold<arith::AddIOp>(a, b);
}
Value KernelBuilder::subIndex(Value a, Value b) {
  return createOrFold<arith::SubIOp>(a, b);
}
Value KernelBuilder::mulIndex(Value a, Value b) {
  return createOrFold<arith::MulIOp>(a, b);
}
Value KernelBuilder::ceilDivIndex(Value a, Value b) {
  return divIndex(subIndex(addIndex(a, b), index(1)), b);
}
Value KernelBuilder::divIndex(Value a, Value b) {
  return createOrFold<arith::DivUIOp>(a, b);
}
Value KernelBuilder::remIndex(Value a, Value b) {
  return createOrFold<arith::RemUIOp>(a, b);
}
Value KernelBuilder::minIndex(Value a, Value b) {
  return createOrFold<arith::MinUIOp>(a, b);
}
Value KernelBuilder::maxIndex(Value a, Value b) {
  return createOrFold<arith::MaxUIOp>(a, b);
}
Value KernelBuilder::isEqual(Value a, Value b) {
  return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::eq, a, b);
}
Value KernelBuilder::isLess(Value a, Value b) {
  return createOrFold<arith::CmpIOp>(arith::CmpIPredicate::ult, a, b);
}
Value KernelBuilder::toIndex(Value i32) {
  return arith::IndexCastOp::create(*this, getIndexType(), i32);
}
Value KernelBuilder::toI32(Value index) {
  return arith::IndexCastOp::create(*this, getI32Type(), index);
}

//===----------------------------------------------------------------------===//
// Arithmetic
//===----------------------------------------------------------------------===//

Value KernelBuilder::add(Value a, Value b) {
  return arith::AddFOp::create(*this, a, b);
}
Value KernelBuilder::sub(Value a, Value b) {
  return arith::SubFOp::create(*this, a, b);
}
Value KernelBuilder::mul(Value a, Value b) {
  return arith::MulFOp::create(*this, a, b);
}
Value KernelBuilder::div(Value a, Value b) {
  return arith::DivFOp::create(*this, a, b);
}
// math.fma and not vector.fma: the latter becomes llvm.fmuladd, which targets
// without fma round twice.
Value KernelBuilder::fma(Value a, Value b, Value c) {
  return math::FmaOp::create(*this, a, b, c);
}
Value KernelBuilder::neg(Value a) { return arith::NegFOp::create(*this, a); }
Value KernelBuilder::abs(Value a) { return math::AbsFOp::create(*this, a); }
Value KernelBuilder::sqrt(Value a) { return math::SqrtOp::create(*this, a); }
Value KernelBuilder::roundEven(Value a) {
  return math::RoundEvenOp::create(*this, a);
}

// Compare and select, which is what maxps does; maximumf and maxnumf have
// other rules for NaN and zeros.
Value KernelBuilder::max(Value a, Value b) {
  return select(arith::CmpFOp::create(*this, arith::CmpFPredicate::OGT, a, b),
                a, b);
}
Value KernelBuilder::min(Value a, Value b) {
  return select(arith::CmpFOp::create(*this, arith::CmpFPredicate::OLT, a, b),
                a, b);
}

Value KernelBuilder::isAtLeast(Value a, Value b) {
  return arith::CmpFOp::create(*this, arith::CmpFPredicate::OGE, a, b);
}

Value KernelBuilder::exp(Value x) {
  x = min(max(x, splat(-87)), splat(88));
  Value n = roundEven(mul(x, splat(0x1.715476p+0f)));
  Value r = fma(n, splat(-0x1.62e400p-1f), x);
  r = fma(n, splat(-0x1.7f7d1cp-20f), r);
  Value p = splat(0x1.6d43b4p-10f);
  for (float c :
       {0x1.120be8p-7f, 0x1.5554e8p-5f, 0x1.5554dcp-3f, 0.5f, 1.0f, 1.0f})
    p = fma(p, r, splat(c));
  Value exponent = shiftLeft(addInt(toInt(n), splatInt(127)), 23);
  return mul(p, bitcast(floats(), exponent));
}

Value KernelBuilder::widen(Value a) {
  if (getElementTypeOrSelf(a).isF32())
    return a;
  if (getElementTypeOrSelf(a).isInteger(16)) {
    Value high = arith::ExtUIOp::create(*this, withElement(a, getI32Type()), a);
    return bitcast(withElement(a, getF32Type()), shiftLeft(high, 16));
  }
  if (auto type = dyn_cast<VectorType>(a.getType());
      type && type.getElementType().isF16() && !options.widensF16) {
    // Exponent and fraction where an f32 has them, and the exponent's bias
    // changed by a product, which is exact. LLVM would call a function.
    Value bits = bitcast(type.clone(getI16Type()), a);
    bits = arith::ExtSIOp::create(*this, type.clone(getI32Type()), bits);
    auto wide = cast<VectorType>(bits.getType());
    bits = andInt(shiftLeft(bits, 13), splatInt(int32_t(0x8fffe000), wide));
    VectorType floats = type.clone(getF32Type());
    Value factor = arith::ConstantOp::create(
        *this, DenseElementsAttr::get(floats, 0x1p112f));
    return mul(bitcast(floats, bits), factor);
  }
  return arith::ExtFOp::create(*this, withElement(a, getF32Type()), a);
}

Value KernelBuilder::roundToBF16(Value a) {
  Value bits = bitcast(ints(), a), half = splatInt(16);
  Value odd = andInt(arith::ShRUIOp::create(*this, bits, half), splatInt(1));
  bits = addInt(bits, addInt(odd, splatInt(0x7fff)));
  return arith::TruncIOp::create(*this, withElement(a, getI16Type()),
                                 arith::ShRUIOp::create(*this, bits, half));
}

Value KernelBuilder::addInt(Value a, Value b) {
  return arith::AddIOp::create(*this, a, b);
}
Value KernelBuilder::subInt(Value a, Value b) {
  return arith::SubIOp::create(*this, a, b);
}
Value KernelBuilder::andInt(Value a, Value b) {
  return arith::AndIOp::create(*this, a, b);
}
Value KernelBuilder::shiftLeft(Value a, int32_t bits) {
  return arith::ShLIOp::create(*this, a,
                               splatInt(bits, cast<VectorType>(a.getType())));
}
Value KernelBuilder::shiftRight(Value a, int32_t bits) {
  return arith::ShRSIOp::create(*this, a,
                                splatInt(bits, cast<VectorType>(a.getType())));
}
Value KernelBuilder::lessOrEqual(Value a, Value b) {
  return arith::CmpIOp::create(*this, arith::CmpIPredicate::sle, a, b);
}
Value KernelBuilder::select(Value condition, Value a, Value b) {
  return arith::SelectOp::create(*this, condition, a, b);
}
Value KernelBuilder::toInt(Value a) {
  return arith::FPToSIOp::create(*this, withElement(a, getI32Type()), a);
}
Value KernelBuilder::toFloat(Value a) {
  return arith::SIToFPOp::create(*this, withElement(a, getF32Type()), a);
}
Value KernelBuilder::truncateToI8(Value a) {
  return arith::TruncIOp::create(*this, withElement(a, getI8Type()), a);
}
Value KernelBuilder::extendI8(Value a) {
  return arith::ExtSIOp::create(*this, withElement(a, getI32Type()), a);
}
Value KernelBuilder::dot(Value acc, Value codes, Value q) {
  if (options.maxDotCode != 128)
    return ternary::DotOp::create(*this, acc.getType(), acc, codes, q,
                                  /*wide=*/options.maxDotCode < 255);
  // The highest bit apart: two products of 127 or 128 with q fit 16 bits.
  for (int8_t bits : {int8_t(127), int8_t(-128)}) {
    Value mask = arith::ConstantOp::create(
        *this, DenseElementsAttr::get(cast<ShapedType>(codes.getType()), bits));
    acc = ternary::DotOp::create(*this, acc, andInt(codes, mask), q);
  }
  return acc;
}
Value KernelBuilder::bitcast(Type type, Value a) {
  return isa<VectorType>(type)
             ? vector::BitCastOp::create(*this, type, a).getResult()
             : arith::BitcastOp::create(*this, type, a).getResult();
}

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

Value KernelBuilder::broadcast(Value scalar) {
  return vector::BroadcastOp::create(
      *this, VectorType::get(kLanes, scalar.getType()), scalar);
}

Value KernelBuilder::broadcastLane(Value memref, ValueRange indices,
                                   int64_t lane, int64_t numLanes) {
  if (numLanes == 1)
    return broadcast(loadScalar(memref, indices));
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  Value vector = vector::LoadOp::create(
      *this, VectorType::get(numLanes, element), memref, indices);
  return broadcast(extract(vector, lane));
}

Value KernelBuilder::fromElements(ValueRange scalars) {
  auto type = VectorType::get(scalars.size(), scalars[0].getType());
  return vector::FromElementsOp::create(*this, type, scalars);
}

Value KernelBuilder::extract(Value vector, int64_t lane) {
  return vector::ExtractOp::create(*this, vector, lane);
}

Value KernelBuilder::foldLanes(Value vector,
                               function_ref<Value(Value, Value)> combine) {
  for (int64_t width = kLanes / 2; width >= 1; width /= 2)
    vector = combine(
        vector::ExtractStridedSliceOp::create(*this, vector, 0, width, 1),
        vector::ExtractStridedSliceOp::create(*this, vector, width, width, 1));
  return extract(vector, 0);
}

Value KernelBuilder::sumLanes(Value floats) {
  return foldLanes(floats, [&](Value a, Value b) { return add(a, b); });
}

Value KernelBuilder::maxLanes(Value floats) {
  return foldLanes(floats, [&](Value a, Value b) { return max(a, b); });
}

Value KernelBuilder::sumIntLanes(Value ints) {
  return vector::ReductionOp::create(*this, vector::CombiningKind::ADD, ints);
}

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

Value KernelBuilder::dim(Value memref, int64_t dimension) {
  return createOrFold<memref::DimOp>(memref, dimension);
}

Value KernelBuilder::loadScalar(Value memref, ValueRange indices) {
  return memref::LoadOp::create(*this, memref, indices);
}

void KernelBuilder::storeScalar(Value value, Value memref, ValueRange indices) {
  memref::StoreOp::create(*this, value, memref, indices);
}

Value KernelBuilder::load(Value memref, ValueRange indices, int64_t lanes) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  auto type = VectorType::get(kLanes, element);
  if (lanes == kLanes)
    return vector::LoadOp::create(*this, type, memref, indices);
  Value mask = vector::ConstantMaskOp::create(
      *this, VectorType::get(kLanes, getI1Type()), ArrayRef<int64_t>(lanes));
  Value zero = arith::ConstantOp::create(*this, getZeroAttr(type));
  return vector::MaskedLoadOp::create(*this, type, memref, indices, mask, zero);
}

void KernelBuilder::store(Value vector, Value memref, ValueRange indices,
                          int64_t lanes) {
  if (lanes == kLanes) {
    vector::StoreOp::create(*this, vector, memref, indices);
    return;
  }
  // A masked store of one lane of truncated values writes all bytes of the wide
  // value with LLVM 22's AVX512 backend.
  if (lanes == 1)
    return storeScalar(extract(vector, 0), memref, indices);
  Value mask = vector::ConstantMaskOp::create(
      *this, VectorType::get(kLanes, getI1Type()), ArrayRef<int64_t>(lanes));
  vector::MaskedStoreOp::create(*this, memref, indices, mask, vector);
}

/// Bits of the lanes below `count`.
static Value maskFirst(KernelBuilder &b, Value count) {
  return vector::CreateMaskOp::create(b, VectorType::get(kLanes, b.getI1Type()),
                                      ValueRange(count));
}

Value KernelBuilder::loadFirst(Value count, Value memref, ValueRange indices) {
  Type element = cast<MemRefType>(memref.getType()).getElementType();
  auto type = VectorType::get(kLanes, element);
  Value zero = arith::ConstantOp::create(*this, getZeroAttr(type));
  return vector::MaskedLoadOp::create(*this, type, memref, indices,
                                      maskFirst(*this, count), zero);
}

Value KernelBuilder::selectFirst(Value count, Value a, Value b) {
  return select(maskFirst(*this, count), a, b);
}

void KernelBuilder::storeFirst(Value vector, Value count, Value memref,
                               ValueRange indices) {
  vector::MaskedStoreOp::create(*this, memref, indices, maskFirst(*this, count),
                                vector);
}

/// The bytes of a vector type.
static VectorType asBytes(VectorType type) {
  return VectorType::get(type.getNumElements() * type.getElementTypeBitWidth() /
                             8,
                         IntegerType::get(type.getContext(), 8));
}

Value KernelBuilder::loadBytes(VectorType type, Value bytes,
                               ValueRange indices) {
  return bitcast(type,
                 vector::LoadOp::create(*this, asBytes(type), bytes, indices));
}

void KernelBuilder::storeBytes(Value vector, Value bytes, ValueRange indices) {
  VectorType type = asBytes(cast<VectorType>(vector.getType()));
  vector::StoreOp::create(*this, bitcast(type, vector), bytes, indices);
}

void KernelBuilder::prefetch(Value memref, ValueRange indices,
                             CacheLevel into) {
  memref::PrefetchOp::create(*this, memref, indices, /*isWrite=*/false,
                             /*localityHint=*/into == FirstLevel ? 3 : 2,
                             /*isDataCache=*/true);
}

Value KernelBuilder::castCache(Value cache, MemRefType type) {
  return UnrealizedConversionCastOp::create(*this, type, cache).getResult(0);
}

Value KernelBuilder::blockOfCache(const KVCacheLayout &layout, Value layer,
                                  Value head, bool value) {
  Value pair = addIndex(mulIndex(layer, layout.numHeads), head);
  return addIndex(mulIndex(pair, 2 * layout.blockSize),
                  value ? layout.blockSize : 0);
}

Value KernelBuilder::workerScratch(int64_t numFloats) {
  return ternary::WorkerScratchOp::create(
      *this, MemRefType::get(numFloats, getF32Type()));
}

Value KernelBuilder::workerBytes(int64_t size) {
  return ternary::WorkerScratchOp::create(*this,
                                          MemRefType::get(size, getI8Type()));
}

Value KernelBuilder::view(MemRefType type, Value bytes, Value offset) {
  return memref::ViewOp::create(*this, type, bytes, offset, ValueRange());
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

void KernelBuilder::parallel(Value items,
                             llvm::function_ref<void(Value)> body) {
  auto parallel = scf::ParallelOp::create(
      *this, ValueRange(index(0)), ValueRange(items), ValueRange(index(1)),
      [](OpBuilder &, Location, ValueRange) {});
  InsertionGuard guard(*this);
  setInsertionPoint(parallel.getBody()->getTerminator());
  body(parallel.getInductionVars()[0]);
}

void KernelBuilder::parallelGroups(Value groups, int64_t count,
                                   llvm::function_ref<void(Value)> body) {
  if (!groups)
    return parallel(index(count), body);
  parallel(dim(groups, 0),
           [&](Value item) { body(toIndex(loadScalar(groups, item))); });
}

static void emitItem(KernelBuilder &b, ArrayRef<KernelBuilder::Items> kinds,
                     Value item) {
  const KernelBuilder::Items &first = kinds.front();
  if (kinds.size() == 1)
    return first.body(item);
  Value count = b.index(first.count);
  auto choice = scf::IfOp::create(b, b.isLess(item, count),
                                  /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(choice.thenBlock());
  first.body(item);
  b.setInsertionPointToStart(choice.elseBlock());
  emitItem(b, kinds.drop_front(), b.subIndex(item, count));
}

void KernelBuilder::parallel(ArrayRef<Items> kinds) {
  SmallVector<Items> present;
  int64_t count = 0;
  for (const Items &items : kinds)
    if (items.count > 0) {
      present.push_back(items);
      count += items.count;
    }
  parallel(index(count), [&](Value item) { emitItem(*this, present, item); });
}

KernelBuilder::Values KernelBuilder::loop(Value begin, Value end, Value step,
                                          ValueRange inits, LoopBody body,
                                          bool hoist) {
  auto loop =
      scf::ForOp::create(*this, begin, end, step, inits,
                         [](OpBuilder &, Location, Value, ValueRange) {});
  auto unroll = LLVM::LoopUnrollAttr::get(
      getContext(), /*disable=*/getBoolAttr(true), {}, {}, {}, {}, {}, {});
  LLVM::LoopLICMAttr licm;
  if (!hoist)
    licm = LLVM::LoopLICMAttr::get(getContext(), getBoolAttr(true), {});
  loop->setDiscardableAttr(
      "loop_annotation",
      LLVM::LoopAnnotationAttr::get(getContext(), {}, {}, {}, unroll, {}, licm,
                                    {}, {}, {}, {}, {}, {}, {}, {}, {}));
  InsertionGuard guard(*this);
  setInsertionPointToEnd(loop.getBody());
  scf::YieldOp::create(*this,
                       body(loop.getInductionVar(), loop.getRegionIterArgs()));
  return llvm::to_vector_of<Value>(loop.getResults());
}

void KernelBuilder::loop(Value begin, Value end, Value step,
                         llvm::function_ref<void(Value)> body, bool hoist) {
  auto withoutValues = [&](Value iv, ValueRange) {
    body(iv);
    return Values();
  };
  loop(begin, end, step, ValueRange(), withoutValues, hoist);
}

KernelBuilder::Values KernelBuilder::forEachLane(Value begin, Value end,
                                                 ValueRange inits,
                                                 LaneBody body) {
  Values carried(inits);
  auto emitLoop = [&](Value loopEnd, int64_t numLanes) {
    carried = loop(begin, loopEnd, numLanes, carried,
                   [&](Value first, ValueRange before) {
                     Values carried(before);
                     for (int64_t lane = 0; lane < numLanes; ++lane)
                       carried = body(first, lane, numLanes, carried);
                     return carried;
                   });
    begin = loopEnd;
  };
  if (int64_t numLanes = numBroadcastLanes(); numLanes > 1)
    emitLoop(addIndex(begin, mulIndex(divIndex(subIndex(end, begin), numLanes),
                                      numLanes)),
             numLanes);
  emitLoop(end, 1);
  return carried;
}

void KernelBuilder::ifThen(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(*this, condition, /*withElseRegion=*/false);
  InsertionGuard guard(*this);
  setInsertionPointToStart(op.thenBlock());
  body();
}

void KernelBuilder::blockedLoop(Value end, int64_t size,
                                llvm::function_ref<void(Value, int64_t)> body) {
  for (Value begin = index(0); size >= 1;
       size = size == 1 ? 0 : llvm::bit_floor<uint64_t>(size - 1)) {
    Value count = mulIndex(divIndex(subIndex(end, begin), size), size);
    Value blocksEnd = addIndex(begin, count);
    loop(begin, blocksEnd, size, [&](Value iv) { body(iv, size); });
    begin = blocksEnd;
  }
}

KernelBuilder::Values
KernelBuilder::forEachVector(int64_t count, ValueRange inits, RowBody body) {
  int64_t full = count / kLanes * kLanes;
  Values carried(inits.begin(), inits.end());
  if (full)
    carried = loop(index(0), index(full), kLanes, carried,
                   [&](Value column, ValueRange carried) {
                     return body(column, kLanes, carried);
                   });
  if (full < count)
    carried = body(index(full), count - full, carried);
  return carried;
}

void KernelBuilder::forEachVector(
    int64_t count, llvm::function_ref<void(Value, int64_t)> body) {
  forEachVector(count, ValueRange(),
                [&](Value column, int64_t lanes, ValueRange) {
                  body(column, lanes);
                  return Values();
                });
}
