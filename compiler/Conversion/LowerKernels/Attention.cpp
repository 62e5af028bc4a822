// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include "compiler/Conversion/LowerKernels/KernelBuilder.h"

#include "compiler/Support/KVCacheLayout.h"
#include "dialect/Ternary/Ternary.h"

using namespace mlir;
using namespace tercet;
using namespace tercet::ternary;

using Values = KernelBuilder::Values;

namespace {

/// One item: a token and a KV head with all its query heads, which share every
/// load of a key or value. Three passes: scores of 16 keys in lanes, softmax,
/// values with d in lanes. Scores pass through scratch, one row a query head:
///
///   [query head of the group][context rounded up to 16 | 1 / l, 15 unused]
///
/// The 16 floats at the end also keep the rows of a power-of-two context out of
/// each other's cache sets.
class AttentionKernel {
public:
  AttentionKernel(AttentionOp op, KernelBuilder &b);
  void emit();

private:
  void emitScores(Value firstBlock, int64_t numBlocks, int64_t firstHead,
                  int64_t numHeads);
  void emitSoftmax(Value queryHead);
  void emitValues(int64_t firstHead, int64_t numHeads, int64_t firstVector,
                  int64_t numVectors);

  /// Heads of a register tile: more do not fit beside several vectors each.
  static constexpr int64_t kMaxHeads = 4;

  Value visible(Value block);
  /// First column of a query head in a row of q and outs.
  Value queryColumn(int64_t queryHead);
  Value inCache(bool value, Value offset, int64_t lanes = kLanes);

  AttentionOp op;
  KernelBuilder &b;
  int64_t numKVHeads, headDim, groupSize, scoreColumns, scoreStride;
  Value cache, scratch;
  Value token, head, slot, position, numBlocks;
};

} // namespace

AttentionKernel::AttentionKernel(AttentionOp op, KernelBuilder &b)
    : op(op), b(b) {
  KVCacheType type = op.getCache().getType();
  numKVHeads = type.getHeads();
  headDim = type.getHeadDim();
  groupSize = getNumColumns(op.getQ()) / (numKVHeads * headDim);
  scoreColumns = llvm::alignTo(type.getCapacity(), kKeysPerBlock);
  scoreStride = scoreColumns + kLanes;
}

/// Lanes of a block whose key is not after the token.
Value AttentionKernel::visible(Value block) {
  Value first = b.toI32(b.mulIndex(block, kKeysPerBlock));
  Value keys = b.addInt(b.broadcast(first), b.laneNumbers());
  return b.lessOrEqual(keys, b.broadcast(b.toI32(position)));
}

Value AttentionKernel::queryColumn(int64_t queryHead) {
  return b.addIndex(b.mulIndex(head, groupSize * headDim), queryHead * headDim);
}

Value AttentionKernel::inCache(bool value, Value offset, int64_t lanes) {
  return b.load(cache, {slot, op.getLayer(), head, b.index(value), offset},
                lanes);
}

void AttentionKernel::emitScores(Value firstBlock, int64_t numBlocks,
                                 int64_t firstHead, int64_t numHeads) {
  Values chains = b.loop(
      b.index(0), b.index(headDim), 1, Values(numHeads * numBlocks, b.zeros()),
      [&](Value d, ValueRange carried) {
        Values keys, sums;
        for (int64_t i = 0; i < numBlocks; ++i) {
          Value block =
              b.mulIndex(b.addIndex(firstBlock, i), headDim * kKeysPerBlock);
          keys.push_back(
              inCache(false, b.addIndex(block, b.mulIndex(d, kKeysPerBlock))));
        }
        for (int64_t h = 0; h < numHeads; ++h) {
          Value column = b.addIndex(queryColumn(firstHead + h), d);
          Value query = b.broadcast(b.loadScalar(op.getQ(), {token, column}));
          for (int64_t i = 0; i < numBlocks; ++i)
            sums.push_back(b.fma(query, keys[i], carried[h * numBlocks + i]));
        }
        return sums;
      });
  Value hidden = b.splat(-std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < numBlocks; ++i) {
    Value block = b.addIndex(firstBlock, i);
    Value mask = visible(block);
    for (int64_t h = 0; h < numHeads; ++h) {
      Value scores = b.mul(chains[h * numBlocks + i],
                           b.splat(op.getScale().convertToFloat()));
      Value offset = b.addIndex(b.mulIndex(block, kKeysPerBlock),
                                (firstHead + h) * scoreStride);
      b.store(b.select(mask, scores, hidden), scratch, offset);
    }
  }
}

void AttentionKernel::emitSoftmax(Value queryHead) {
  Value row = b.mulIndex(queryHead, scoreStride);
  auto scoresOf = [&](Value block) {
    return b.addIndex(row, b.mulIndex(block, kKeysPerBlock));
  };
  Value largest = b.loop(
      b.index(0), numBlocks, 1,
      b.splat(-std::numeric_limits<float>::infinity()),
      [&](Value block, ValueRange carried) {
        return Values{b.max(b.load(scratch, scoresOf(block)), carried[0])};
      })[0];
  Value m = b.broadcast(b.maxLanes(largest));
  Value l = b.loop(b.index(0), numBlocks, 1, b.zeros(),
                   [&](Value block, ValueRange carried) {
                     Value t = b.load(scratch, scoresOf(block));
                     Value p = b.select(visible(block), b.exp(b.sub(t, m)),
                                        b.zeros());
                     b.store(p, scratch, scoresOf(block));
                     return Values{b.add(carried[0], p)};
                   })[0];
  b.storeScalar(b.div(b.scalar(1), b.sumLanes(l)), scratch,
                b.addIndex(row, scoreColumns));
}

void AttentionKernel::emitValues(int64_t firstHead, int64_t numHeads,
                                 int64_t firstVector, int64_t numVectors) {
  auto lanesOf = [&](int64_t v) {
    return std::min(kLanes, headDim - (firstVector + v) * kLanes);
  };
  Values chains = b.loop(
      b.index(0), b.addIndex(position, 1), 1,
      Values(numHeads * numVectors, b.zeros()),
      [&](Value key, ValueRange carried) {
        Values values, sums;
        for (int64_t v = 0; v < numVectors; ++v)
          values.push_back(inCache(
              true,
              b.addIndex(b.mulIndex(key, headDim), (firstVector + v) * kLanes),
              lanesOf(v)));
        for (int64_t h = 0; h < numHeads; ++h) {
          Value p = b.broadcast(b.loadScalar(
              scratch, b.addIndex(key, (firstHead + h) * scoreStride)));
          for (int64_t v = 0; v < numVectors; ++v)
            sums.push_back(b.fma(p, values[v], carried[h * numVectors + v]));
        }
        return sums;
      });
  for (int64_t h = 0; h < numHeads; ++h) {
    Value factor = b.broadcast(b.loadScalar(
        scratch, b.index((firstHead + h) * scoreStride + scoreColumns)));
    for (int64_t v = 0; v < numVectors; ++v)
      b.store(b.mul(chains[h * numVectors + v], factor), op.getOuts(),
              {token, b.addIndex(queryColumn(firstHead + h),
                                 (firstVector + v) * kLanes)},
              lanesOf(v));
  }
}

void AttentionKernel::emit() {
  Value numTokens = b.dim(op.getQ(), 0);
  Value numItems = b.mulIndex(numTokens, numKVHeads);
  cache = b.castCache(op.getCache(), getKVMemRefType(op.getCache().getType()));
  // Items of one KV head are neighbours: in a prefill, a worker reads the same
  // keys and values again from its own cache.
  b.parallel(numItems, [&](Value item) {
    token = b.remIndex(item, numTokens);
    head = b.divIndex(item, numTokens);
    slot = b.toIndex(b.loadScalar(op.getSlots(), token));
    position = b.toIndex(b.loadScalar(op.getPositions(), token));
    numBlocks = b.addIndex(b.divIndex(position, kKeysPerBlock), 1);
    scratch = b.workerScratch(groupSize * scoreStride);

    int64_t accumulators = b.options.accumulators;
    int64_t maxHeads = std::min(kMaxHeads, accumulators);
    int64_t firstHead = 0;
    for (int64_t numHeads : splitEvenly(groupSize, maxHeads)) {
      int64_t tileBlocks = std::min<int64_t>(
          8, llvm::bit_floor<uint64_t>(accumulators / numHeads));
      b.blockedLoop(numBlocks, tileBlocks, [&](Value block, int64_t count) {
        emitScores(block, count, firstHead, numHeads);
      });
      firstHead += numHeads;
    }
    b.loop(b.index(0), b.index(groupSize), 1,
           [&](Value queryHead) { emitSoftmax(queryHead); });
    firstHead = 0;
    for (int64_t numHeads : splitEvenly(groupSize, maxHeads)) {
      int64_t firstVector = 0;
      for (int64_t numVectors : splitEvenly(llvm::divideCeil(headDim, kLanes),
                                            accumulators / numHeads)) {
        emitValues(firstHead, numHeads, firstVector, numVectors);
        firstVector += numVectors;
      }
      firstHead += numHeads;
    }
  });
}

void tercet::populateAttentionPatterns(RewritePatternSet &patterns,
                                       KernelOptions options) {
  patterns.add<KernelPattern<AttentionOp>>(
      patterns.getContext(),
      +[](AttentionOp op, KernelBuilder &b) { AttentionKernel(op, b).emit(); },
      options);
}
