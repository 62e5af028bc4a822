// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The vocabulary of kernels: 16-lane vectors, loops, rows of memrefs. Kernel
// files see no dialect but this one, and so read as the algorithm they are.

#ifndef TERCET_COMPILER_CONVERSION_LOWERKERNELS_KERNELBUILDER_H
#define TERCET_COMPILER_CONVERSION_LOWERKERNELS_KERNELBUILDER_H

#include "compiler/Conversion/LowerKernels/LowerKernels.h"

#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace tercet {
struct KVCacheLayout;

/// Lanes of every float vector; what a narrower ISA lacks, LLVM splits.
inline constexpr int64_t kLanes = 16;

/// Builds the body of one kernel. Names follow the arithmetic: `fma(a, b, c)`
/// is a * b + c rounded once; a Value may be a scalar or a vector.
class KernelBuilder : public mlir::ImplicitLocOpBuilder {
public:
  using Value = mlir::Value;
  using ValueRange = mlir::ValueRange;
  using Values = llvm::SmallVector<Value>;

  KernelBuilder(mlir::Operation *op, mlir::OpBuilder &builder,
                KernelOptions options = {})
      : ImplicitLocOpBuilder(op->getLoc(), builder), options(options) {}

  const KernelOptions options;

  // Types.
  mlir::VectorType floats() {
    return mlir::VectorType::get(kLanes, getF32Type());
  }
  mlir::VectorType ints() {
    return mlir::VectorType::get(kLanes, getI32Type());
  }

  // Constants. Floats and ints are splats of 16 lanes, or of `type`.
  Value index(int64_t value);
  Value scalar(float value);
  Value splat(float value);
  Value splatInt(int32_t value) { return splatInt(value, ints()); }
  Value splatInt(int64_t value, mlir::VectorType type);
  Value trueBit();
  Value zeros() { return splat(0); }
  /// 0, 1, ..., 15 : vector<16xi32>
  Value laneNumbers();

  // Indices.
  Value addIndex(Value a, Value b);
  Value addIndex(Value a, int64_t b) { return addIndex(a, index(b)); }
  Value subIndex(Value a, Value b);
  Value mulIndex(Value a, int64_t b) { return mulIndex(a, index(b)); }
  Value mulIndex(Value a, Value b);
  Value ceilDivIndex(Value a, Value b);
  Value divIndex(Value a, Value b);
  Value divIndex(Value a, int64_t b) { return divIndex(a, index(b)); }
  Value remIndex(Value a, Value b);
  Value remIndex(Value a, int64_t b) { return remIndex(a, index(b)); }
  Value minIndex(Value a, Value b);
  Value maxIndex(Value a, Value b);
  /// Unsigned a < b, of scalars.
  Value isLess(Value a, Value b);
  /// Of floats, lane by lane; false if one is NaN.
  Value isAtLeast(Value a, Value b);
  /// Of integers.
  Value isEqual(Value a, Value b);
  Value toIndex(Value i32);
  Value toI32(Value index);

  // Floats.
  Value add(Value a, Value b);
  Value sub(Value a, Value b);
  Value mul(Value a, Value b);
  Value div(Value a, Value b);
  Value fma(Value a, Value b, Value c);
  Value neg(Value a);
  Value abs(Value a);
  Value sqrt(Value a);
  Value roundEven(Value a);
  /// a > b ? a : b
  Value max(Value a, Value b);
  /// a < b ? a : b
  Value min(Value a, Value b);
  /// numerics.md, "exp", of a vector.
  Value exp(Value x);
  /// bf16, the bits of one in an i16, or finite f16 to f32.
  Value widen(Value a);
  /// f32 to the bits of a bf16, half to even. Not arith.truncf: AVX512-BF16 has
  /// an instruction for it that flushes denormals.
  Value roundToBF16(Value a);

  // Integers and bits.
  Value addInt(Value a, Value b);
  Value subInt(Value a, Value b);
  Value andInt(Value a, Value b);
  Value shiftLeft(Value a, int32_t bits);
  /// Of the sign.
  Value shiftRight(Value a, int32_t bits);
  /// Signed a <= b, lane by lane.
  Value lessOrEqual(Value a, Value b);
  Value select(Value condition, Value a, Value b);
  Value toInt(Value floats);
  Value toFloat(Value ints);
  Value truncateToI8(Value ints);
  /// i8 to i32, signed.
  Value extendI8(Value bytes);
  /// ternary.dot of codes that use all 8 bits.
  Value dot(Value acc, Value codes, Value q);
  Value bitcast(mlir::Type type, Value a);

  // Lanes.
  Value broadcast(Value scalar);
  /// Elements of a row that are loaded at once, where an fma takes each of them
  /// for all lanes; otherwise 1.
  int64_t numBroadcastLanes() { return options.multipliesLanes ? 4 : 1; }
  /// Element `lane` of `numLanes` in a row of a memref.
  Value broadcastLane(Value memref, ValueRange indices, int64_t lane,
                      int64_t numLanes);
  Value fromElements(ValueRange scalars);
  Value extract(Value vector, int64_t lane);
  /// Lane j with lane j + w for w = 8, 4, 2, 1, to a scalar.
  Value foldLanes(Value vector,
                  llvm::function_ref<Value(Value, Value)> combine);
  /// numerics.md, "Sum over 16 lanes": the fixed tree, to a scalar.
  Value sumLanes(Value floats);
  Value maxLanes(Value floats);
  Value sumIntLanes(Value ints);

  // Memory. With lanes < 16 other lanes load as zero and are not stored.
  Value dim(Value memref, int64_t dimension);
  Value loadScalar(Value memref, ValueRange indices);
  void storeScalar(Value value, Value memref, ValueRange indices);
  Value load(Value memref, ValueRange indices, int64_t lanes = kLanes);
  void store(Value vector, Value memref, ValueRange indices,
             int64_t lanes = kLanes);
  /// Lanes below `count`, others zero.
  Value loadFirst(Value count, Value memref, ValueRange indices);
  /// `a` in lanes below `count`, `b` in others.
  Value selectFirst(Value count, Value a, Value b);
  /// Stores lanes below `count`, an index that may be outside 0..16.
  void storeFirst(Value vector, Value count, Value memref, ValueRange indices);
  /// `type` from bytes at any alignment.
  Value loadBytes(mlir::VectorType type, Value bytes, ValueRange indices);
  void storeBytes(Value vector, Value bytes, ValueRange indices);
  enum CacheLevel { FirstLevel, SecondLevel };
  void prefetch(Value memref, ValueRange indices, CacheLevel into = FirstLevel);
  Value castCache(Value cache, mlir::MemRefType type);
  /// Where a head's block of keys or values begins in a row of the cache.
  Value blockOfCache(const KVCacheLayout &layout, Value layer, Value head,
                     bool value);
  Value workerScratch(int64_t numFloats);
  Value workerBytes(int64_t size);
  /// Part of them from a byte on, as `type`.
  Value view(mlir::MemRefType type, Value bytes, Value offset);
  Value view(mlir::MemRefType type, Value bytes, int64_t offset) {
    return view(type, bytes, index(offset));
  }

  // Control flow.
  void parallel(Value items, llvm::function_ref<void(Value item)> body);
  /// Items: the entries of a memref of i32, or without one 0 .. count - 1.
  void parallelGroups(Value groups, int64_t count,
                      llvm::function_ref<void(Value group)> body);
  /// Items of several kinds in one parallel loop. `body` gets the number of an
  /// item among its like.
  struct Items {
    int64_t count;
    llvm::function_ref<void(Value item)> body;
  };
  void parallel(llvm::ArrayRef<Items> kinds);
  using LoopBody = llvm::function_ref<Values(Value iv, ValueRange carried)>;
  /// A loop that LLVM must not unroll; returns the carried values. Without
  /// `hoist`, memory that every iteration loads and stores stays memory: LLVM
  /// would otherwise carry it in registers, more than there are.
  Values loop(Value begin, Value end, int64_t step, ValueRange inits,
              LoopBody body, bool hoist = true) {
    return loop(begin, end, index(step), inits, body, hoist);
  }
  Values loop(Value begin, Value end, Value step, ValueRange inits,
              LoopBody body, bool hoist = true);
  void loop(Value begin, Value end, int64_t step,
            llvm::function_ref<void(Value iv)> body, bool hoist = true) {
    loop(begin, end, index(step), body, hoist);
  }
  void loop(Value begin, Value end, Value step,
            llvm::function_ref<void(Value iv)> body, bool hoist = true);
  /// A loop over what `broadcastLane` multiplies, as many elements at once as
  /// there are lanes, then one by one. `body` gets the first of them.
  using LaneBody = llvm::function_ref<Values(
      Value first, int64_t lane, int64_t numLanes, ValueRange carried)>;
  Values forEachLane(Value begin, Value end, ValueRange inits, LaneBody body);
  void ifThen(Value condition, llvm::function_ref<void()> body);
  /// Blocks of `size` iterations, then of each smaller power of two: a rest of
  /// r takes at most log2(r) + 1 blocks. `body` gets the first iteration and
  /// how many there are.
  void blockedLoop(Value end, int64_t size,
                   llvm::function_ref<void(Value iv, int64_t count)> body);
  /// The vectors of a row of `count` columns: a loop over the full ones and a
  /// tail of fewer lanes.
  using RowBody = llvm::function_ref<Values(Value column, int64_t lanes,
                                            ValueRange carried)>;
  Values forEachVector(int64_t count, ValueRange inits, RowBody body);
  void
  forEachVector(int64_t count,
                llvm::function_ref<void(Value column, int64_t lanes)> body);
};

/// Replaces OpTy on memrefs by what `emit` builds.
template <typename OpTy> struct KernelPattern : mlir::OpRewritePattern<OpTy> {
  using Emit = void (*)(OpTy, KernelBuilder &);
  KernelPattern(mlir::MLIRContext *context, Emit emit,
                KernelOptions options = {})
      : mlir::OpRewritePattern<OpTy>(context), emit(emit), options(options) {}

  llvm::LogicalResult
  matchAndRewrite(OpTy op, mlir::PatternRewriter &rewriter) const override {
    if (llvm::any_of(op->getOperandTypes(), llvm::IsaPred<mlir::TensorType>))
      return rewriter.notifyMatchFailure(op, "not bufferised");
    KernelBuilder builder(op, rewriter, options);
    emit(op, builder);
    rewriter.eraseOp(op);
    return llvm::success();
  }

  Emit emit;
  KernelOptions options;
};

/// `count` divided into parts of at most `limit`, as equal as they can be.
inline llvm::SmallVector<int64_t> splitEvenly(int64_t count, int64_t limit) {
  int64_t numParts = llvm::divideCeil(count, limit);
  llvm::SmallVector<int64_t> parts;
  for (int64_t i = 0; i < numParts; ++i)
    parts.push_back(count * (i + 1) / numParts - count * i / numParts);
  return parts;
}

/// Columns of an activation row.
inline int64_t getNumColumns(mlir::Value activations) {
  return llvm::cast<mlir::ShapedType>(activations.getType()).getShape().back();
}

} // namespace tercet

#endif // TERCET_COMPILER_CONVERSION_LOWERKERNELS_KERNELBUILDER_H
